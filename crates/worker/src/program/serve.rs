//! One connection: what is asked on it is done side by side.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::answers::Answers;
use super::registry::{Repository, of_stream};
use super::sys;
use crate::message::{Ask, Failure, FailureKind, Place};
use crate::packet::{self, Kind, invalid};

/// Does what is asked, until nobody asks any more.
pub(super) async fn serve(manager: OwnedFd) -> io::Result<()> {
    let manager = sys::watched(manager, Interest::READABLE)?;
    let mut repository = None;
    while let Some((ask, mut beside)) = next(&manager).await? {
        let file = (beside.len() > 1).then(|| beside.pop()).flatten().map(File::from);
        let answers = beside.pop().ok_or_else(|| invalid("nobody would hear an answer"))?;
        let answers = Answers::new(answers)?;
        match ask {
            Ask::Open(place) => {
                let opened = open(&place).map(|opened| repository = Some(Arc::new(opened)));
                let _ = answers.end(opened).await;
            }
            ask => {
                tokio::spawn(answer(repository.clone(), ask, file, answers));
            }
        }
    }
    Ok(())
}

/// What is asked next, and what came with it.
async fn next(manager: &AsyncFd<OwnedFd>) -> io::Result<Option<(Ask, Vec<OwnedFd>)>> {
    let mut room = packet::room();
    let receive = |socket: &OwnedFd| match packet::receive(socket, &mut room)? {
        Some(packet) if packet.kind == Kind::Said => {
            Ok(Some((serde_json::from_slice(packet.content)?, packet.fds)))
        }
        Some(_) => Err(invalid("bytes that nobody asked for")),
        None => Ok(None),
    };
    manager.async_io(Interest::READABLE, receive).await
}

fn open(place: &Place) -> Result<Repository, Failure> {
    if place.is_understood() {
        Repository::new(place)
    } else {
        Err(question("it was asked in another version: restart tared"))
    }
}

async fn answer(
    repository: Option<Arc<Repository>>,
    ask: Ask,
    file: Option<File>,
    answers: Answers,
) {
    let work = async {
        let done = match &repository {
            Some(repository) => act(repository, ask, file, &answers).await,
            None => Err(question("no repository was named")),
        };
        let _ = answers.end(done).await;
    };
    tokio::select! {
        () = work => {}
        () = answers.nobody_listens() => {}
    }
}

async fn act(
    repository: &Repository,
    ask: Ask,
    file: Option<File>,
    answers: &Answers,
) -> Result<(), Failure> {
    let file = || file.ok_or_else(|| question("no file is beside what was asked"));
    match ask {
        Ask::Open(_) => Err(question("a repository was named")),
        Ask::Manifest(by) => {
            let bytes = repository.manifest(&by).await?;
            answers.bytes(bytes.as_ref()).await.map_err(unheard)
        }
        Ask::Blob { digest, from } => {
            let (from, pieces) = repository.blob(&digest, from).await?;
            answers.begin(from).await.map_err(unheard)?;
            pass_on(pieces, answers).await
        }
        Ask::SignIn {} => repository.sign_in().await,
        Ask::HasBlob { digest } => repository.has_blob(&digest).await,
        Ask::PutBlob { digest, size } => repository.put_blob(&digest, size, file()?).await,
        Ask::PutManifest { tag, kind } => repository.put_manifest(&tag, &kind, file()?).await,
    }
}

async fn pass_on<B: AsRef<[u8]>>(
    pieces: impl Stream<Item = io::Result<B>>,
    answers: &Answers,
) -> Result<(), Failure> {
    let mut pieces = std::pin::pin!(pieces);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(of_stream)?;
        answers.bytes(piece.as_ref()).await.map_err(unheard)?;
    }
    Ok(())
}

fn question(what: &str) -> Failure {
    Failure::new(FailureKind::Question, what)
}

/// Nobody will hear this, either.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn unheard(error: io::Error) -> Failure {
    question(&error.to_string())
}
