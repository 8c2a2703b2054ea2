//! What happened, told in order to whoever shows it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::jobs::{JobView, LogLine};
use super::object::Change;
use super::view::{Checkpoint, Container, ExecSession, Image, Network, Secret, Volume};

/// One change of the world, after it has become true.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// What became of a container.
    Container(Change<Container>),
    /// What became of an image.
    Image(Change<Image>),
    /// What became of a network.
    Network(Change<Network>),
    /// What became of a volume.
    Volume(Change<Volume>),
    /// What became of a secret.
    Secret(Change<Secret>),
    /// What became of a checkpoint.
    Checkpoint(Change<Checkpoint>),
    /// What became of an exec session.
    Process(Change<ExecSession>),
    /// What became of a job.
    Job(Change<JobView>),
    /// A job has something to say to the one who started it.
    JobLogged {
        /// Its number.
        id: u32,
        /// Unique name on the bus of the one who started it.
        to: String,
        /// What.
        line: LogLine,
    },
    /// A job is finished; its object stays for a while.
    JobFinished(Arc<JobView>),
    /// The service may be degraded for other reasons than before.
    Tainted,
    /// Answered when all that was told before has been shown.
    Barrier(oneshot::Sender<()>),
}

/// The engine's end of the channel.
///
/// It does not bound: the other end must drain it without waiting for anybody who could wait for
/// the engine.
#[derive(Clone, Debug)]
pub struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    /// Both ends.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Tells; nobody listening is no error, there is then nobody to show it to.
    pub fn tell(&self, event: Event) {
        let _ = self.0.send(event);
    }

    /// Returns when everything told so far has been shown.
    pub async fn shown(&self) {
        let (sender, shown) = oneshot::channel();
        self.tell(Event::Barrier(sender));
        let _ = shown.await;
    }
}
