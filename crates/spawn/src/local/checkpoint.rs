//! Checkpointing a container, in two parts: CRIU writes it down, and then does what becomes of it.
//!
//! Between the two CRIU waits in a script that it runs when all is written, while the processes of the
//! container stand still. What the script returns decides: they end, or go on as if nothing had been.
//! It hears of that through a named pipe; if whoever has that is killed, it hears the end of it, and
//! the container goes on.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::calls::{judge, programs};
use crate::argv::Programs;
use crate::launch::{Child, Deadline, Fd, Finished, wait_readable};
use crate::step::{Done, Step};
use crate::undo::{failed, run};
use crate::view;
use crate::{Cause, Checkpoint, ContainerId, Dumped, Error, Refusal, Settings};

/// How long CRIU may take to write down a container, or to end it: gigabytes may go to a slow disk.
const LIMIT: Duration = Duration::from_secs(240);
/// CRIU runs it at several moments, where it is at work. It waits no longer than whoever is to say how it
/// goes on may take, should that be killed before it has heard.
const HOOK: &str = "#!/bin/sh
[ \"$CRTOOLS_SCRIPT_ACTION\" = post-dump ] || exit 0
exec timeout 300 sh -c 'echo > dumped && read -r verdict < verdict && [ \"$verdict\" = commit ]'
";
const COMMIT: &str = "commit";
const GO_ON: &str = "go on";

/// A container that stands still, and CRIU, which waits.
#[derive(Debug)]
pub(super) struct StandsStill {
    id: ContainerId,
    runtime: Child,
    verdict: Fd,
    /// It is read when it is run.
    hook: Fd,
    is_over: bool,
}

pub(super) fn dump(
    settings: &Settings,
    request: &Checkpoint,
    supervisor: BorrowedFd<'_>,
    images: OwnedFd,
) -> Result<StandsStill, Error> {
    let dump = || -> Result<StandsStill, Cause> {
        let programs = programs(settings, &request.target)?;
        let dir = programs.layout.checkpoint();
        if !dir.is_dir() {
            return Err(Cause::Refused(Refusal::NoBundle));
        }
        let hook = hook()?;
        // Programs cannot be run from where our files are on many hosts.
        let at = format!("/proc/{}/fd/{}", std::process::id(), hook.as_raw_fd());
        let settings = format!("action-script {at}\n");
        run(&Step::WriteFile(dir.join("criu.conf"), settings.into()))?;
        let dumped = made(&Step::MakePipe(dir.join("dumped")))?;
        let verdict = made(&Step::MakePipe(dir.join("verdict")))?;
        let runtime = view::on_own_thread(|| {
            view::enter(supervisor)?;
            start(&programs, request, images)
        })?;
        let id = request.target.id.clone();
        let mut still = StandsStill { id, runtime, verdict, hook, is_over: false };
        still.wait_until(&dumped)?;
        Ok(still)
    };
    dump().map_err(|cause| Error::Checkpoint { id: request.target.id.clone(), cause })
}

/// What a CRIU that was left to itself may still run, by its number: that must not be another file before
/// this process ends.
static KEPT: OnceLock<Fd> = OnceLock::new();

fn hook() -> Result<Fd, Cause> {
    KEPT.get().map_or_else(|| made(&Step::MakeScript(HOOK)), |kept| Ok(kept.clone()))
}

fn made(step: &Step) -> Result<Fd, Cause> {
    match run(step)? {
        Done::Fd(made) => Ok(made),
        other => unreachable!("making gave {other:?}"),
    }
}

fn start(programs: &Programs<'_>, request: &Checkpoint, images: OwnedFd) -> Result<Child, Cause> {
    match run(&Step::Launch(programs.checkpoint(request, Arc::new(images))))? {
        Done::Child(child) => Ok(child),
        other => unreachable!("launching gave {other:?}"),
    }
}

impl StandsStill {
    /// Waits until CRIU has written all; an error if the runtime ends before that, or is too slow.
    fn wait_until(&mut self, dumped: &Fd) -> Result<(), Cause> {
        let deadline = Deadline::after(LIMIT);
        match wait_readable([&**dumped, &*self.runtime.pidfd], deadline) {
            Ok([true, _]) => Ok(()),
            Ok(_) => {
                self.finish()?;
                Err(Cause::Runtime { message: "it has ended, and not waited".into() })
            }
            Err(error) => Err(gave_up(error)),
        }
    }

    /// Waits for the end of the runtime.
    fn finish(&mut self) -> Result<(), Cause> {
        self.is_over = true;
        match self.runtime.finish(Deadline::after(LIMIT)) {
            // CRIU, which it has started, goes on without it.
            Ok(Finished { code: None, .. }) => {
                self.keep_hook();
                let killed = std::io::ErrorKind::Interrupted.into();
                Err(failed(&"learn from the runtime what became of it", killed))
            }
            Ok(finished) => judge(finished).map(drop),
            Err(error) => {
                self.keep_hook();
                let Child { pid, pidfd, .. } = &self.runtime;
                // CRIU, which it has started, is left to itself: if it was killed in the middle of its
                // work, so would be what it works on.
                run(&Step::Kill { pid: *pid, pidfd: pidfd.clone() })?;
                Err(gave_up(error))
            }
        }
    }

    fn keep_hook(&self) {
        if let Err(another) = KEPT.set(self.hook.clone()) {
            std::mem::forget(another);
        }
    }

    fn say(&self, word: &'static str) -> Result<(), Cause> {
        run(&Step::Say { pipe: self.verdict.clone(), word }).map(drop)
    }
}

impl Dumped for StandsStill {
    fn commit(mut self: Box<Self>) -> Result<(), Error> {
        let ended = self.say(COMMIT).and_then(|()| self.finish());
        ended.map_err(|cause| Error::Checkpoint { id: self.id.clone(), cause })
    }
}

impl Drop for StandsStill {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Err(error) = self.say(GO_ON) {
            tracing::error!(container_id = %self.id, "{error}");
        }
        // The runtime says that it failed, and that is what was wanted.
        match self.finish() {
            Ok(()) | Err(Cause::Runtime { .. }) => {}
            Err(error) => tracing::error!(container_id = %self.id, "{error}"),
        }
    }
}

fn gave_up(error: std::io::Error) -> Cause {
    match error.kind() {
        std::io::ErrorKind::TimedOut => Cause::Timeout { limit: LIMIT },
        _ => failed(&"wait for the runtime", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::{Launch, Stdio};

    /// As if CRIU waited, and the runtime were this script.
    fn committed(script: &str) -> Result<(), Error> {
        let dir = tempfile::tempdir().unwrap();
        let verdict = made(&Step::MakePipe(dir.path().join("verdict"))).unwrap();
        let runtime = run(&Step::Launch(Launch {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: Vec::new(),
            cwd: dir.path().into(),
            stdio: Stdio::Captured,
            fds: Vec::new(),
            group: None,
        }));
        let Ok(Done::Child(runtime)) = runtime else { panic!("{runtime:?}") };
        let id = "ab".repeat(32).parse().unwrap();
        let hook = hook().unwrap();
        let still = StandsStill { id, runtime, verdict, hook, is_over: false };
        Box::new(still).commit()
    }

    #[test]
    fn a_runtime_that_is_killed_has_not_said_no_and_its_criu_may_go_on() {
        let hears = "read -r word < verdict && [ \"$word\" = commit ] && ";
        committed(&format!("{hears} exit 0")).unwrap();
        let no = committed(&format!("{hears} exit 3")).unwrap_err();
        assert!(KEPT.get().is_none());
        assert!(matches!(no.cause(), Some(Cause::Runtime { .. })), "{no:?}");
        let killed = committed(&format!("{hears} kill -KILL $$")).unwrap_err();
        assert!(matches!(killed.cause(), Some(Cause::Step { .. })), "{killed:?}");
        let kept = format!("/proc/self/fd/{}", KEPT.get().unwrap().as_raw_fd());
        assert_eq!(std::fs::read_to_string(kept).unwrap(), HOOK);
        assert!(Arc::ptr_eq(KEPT.get().unwrap(), &hook().unwrap()), "one is enough");
    }
}
