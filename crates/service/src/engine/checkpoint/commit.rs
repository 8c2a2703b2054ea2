//! The moment when a container may end for its checkpoint.

use std::time::Duration;

use tare_spawn::{After, Cause, Dumped};
use tokio::time::timeout;

use crate::engine::Error;
use crate::engine::blocking::unbounded;
use crate::engine::watched::Watched;

/// How long a process that CRIU has killed may take to be gone.
const END_GRACE: Duration = Duration::from_secs(1);

/// Why something failed.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// What became of a container that CRIU has written down.
#[derive(Debug)]
pub(super) enum Committed {
    /// What was asked for.
    AsAsked,
    /// Nobody knows: it may need its checkpoint.
    Perhaps(Source),
    /// It goes on, as if nothing had been.
    No(Source),
}

/// Has CRIU do with a container what was asked for.
pub(super) async fn commit(dumped: Box<dyn Dumped>, after: After, init: &Watched) -> Committed {
    match unbounded("checkpoint", move || Ok(dumped.commit())).await {
        Ok(Ok(())) => Committed::AsAsked,
        Ok(Err(error)) if may_have_ended(&error, after, init).await => {
            Committed::Perhaps(error.into())
        }
        Ok(Err(error)) => Committed::No(error.into()),
        // CRIU may have heard it before that.
        Err(Error::Bug(what)) => Committed::Perhaps(what.into()),
        // There was nobody to tell it.
        Err(error) => Committed::No(error.into()),
    }
}

/// Whether a container needs its checkpoint although something failed after CRIU was let go on.
/// Where the runtime says no, that was before the container ended or after; where nobody knows what
/// became of it, it may end yet.
async fn may_have_ended(error: &tare_spawn::Error, after: After, init: &Watched) -> bool {
    if !matches!(error.cause(), Some(Cause::Runtime { .. })) {
        return true;
    }
    after == After::Ends && timeout(END_GRACE, init.ended()).await.is_ok()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    #[derive(Debug)]
    struct Fake(fn() -> Result<(), Cause>);

    impl Dumped for Fake {
        fn commit(self: Box<Self>) -> Result<(), tare_spawn::Error> {
            let id = "ab".repeat(32).parse().unwrap();
            (self.0)().map_err(|cause| tare_spawn::Error::Checkpoint { id, cause })
        }
    }

    fn process(seconds: &str) -> (Child, Watched) {
        let child = Command::new("sleep").arg(seconds).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        (child, Watched::new(pidfd).unwrap())
    }

    #[tokio::test]
    async fn a_container_that_may_end_keeps_its_checkpoint() {
        let says_no: fn() -> _ = || Err(Cause::Runtime { message: "no".into() });
        let (mut lives, alive) = process("1000");
        let (mut ends, ended) = process("0");
        for (about, told, after, init, want) in [
            ("done", (|| Ok(())) as fn() -> _, After::Ends, &alive, "AsAsked"),
            ("no", says_no, After::Ends, &alive, "No"),
            ("no, to one that goes on", says_no, After::GoesOn, &ended, "No"),
            ("no, but too late", says_no, After::Ends, &ended, "Perhaps"),
            ("lost", || Err(Cause::Gone), After::Ends, &alive, "Perhaps"),
            ("a panic", || panic!("on purpose"), After::Ends, &alive, "Perhaps"),
        ] {
            let committed = commit(Box::new(Fake(told)), after, init).await;
            assert!(format!("{committed:?}").starts_with(want), "{about}: {committed:?}");
        }
        lives.kill().unwrap();
        for child in [&mut lives, &mut ends] {
            child.wait().unwrap();
        }
    }
}
