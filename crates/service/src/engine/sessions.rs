//! Exec sessions that run, and how they end: also those that an earlier daemon began.
//!
//! A session is written down before it is begun, and until it is forgotten. Its exit code is in a file
//! that conmon writes, whether or not this daemon is there; it is written down before the bundle of
//! the container goes, and the file with it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tare_runtime::identity::{self, Identity};
use tare_runtime::{Signal, signal};
use tare_spawn::{CgroupPath, Execed, Extent, Incarnation as Number, Layout, Started};

use super::blocking::brief;
use super::clock::Usec;
use super::container::Container;
use super::end::learn_exit;
use super::object::{End, Visible};
use super::records::volatile::{self, Session, SessionKey, SessionStage as Stage};
use super::view::{ExecSession, Exit};
use super::watched::Watched;
use super::{Engine, Error, spawn_id};
use crate::effects;

/// An exec session that has ended is seen for this long.
const LINGER: Duration = Duration::from_secs(60);
/// How long conmon may take to write the exit code after the process has ended.
const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(10);

/// What there is of a session.
#[derive(Debug)]
pub(super) enum Remains {
    /// It runs, as far as anybody can tell.
    Living {
        /// Its conmon.
        supervisor: Option<Watched>,
        /// The process itself.
        process: Option<Watched>,
    },
    /// It has ended, which nobody was told yet.
    News(Exit),
    /// It has ended, and that was told.
    Told(Exit),
}

/// The sessions that an earlier daemon left.
#[derive(Debug, Default)]
pub(super) struct Recalled {
    sessions: Vec<(Session, Remains)>,
    /// Of these it is only known that they were: they are left alone, and go with their container.
    unread: Vec<SessionKey>,
}

impl Engine {
    /// Writes down how far a session has come.
    pub(super) async fn write_session(&self, session: &Session) -> Result<(), Error> {
        let session = session.clone();
        Ok(self.run.run(move |c| volatile::put(c, &session)).await?)
    }

    /// A session that was not begun after all, or that nobody is shown any more.
    pub(super) async fn forget_session(&self, key: &SessionKey) {
        let key = key.clone();
        if let Err(error) = self.run.run(move |c| volatile::forget_session(c, &key)).await {
            tracing::warn!("a session stays recorded: {error}");
        }
    }

    /// A session that has been begun: it is seen from now on, and its end is watched for.
    pub(super) async fn session_begun(
        &self,
        container: &Arc<Container>,
        mut session: Session,
        execed: Execed,
    ) {
        let (supervisor, process) = self.session_recorded(&mut session, execed).await;
        let living = Remains::Living { supervisor, process };
        self.follow(container.clone(), session, living);
    }

    /// A session that has been begun is written down, and its processes are watched.
    pub(super) async fn session_recorded(
        &self,
        session: &mut Session,
        execed: Execed,
    ) -> (Option<Watched>, Option<Watched>) {
        let identity = |started: &Option<Started>| {
            started.as_ref().and_then(|started| Identity::of(started.pidfd.as_fd()).ok())
        };
        let (supervisor, process) = (identity(&execed.supervisor), identity(&execed.process));
        session.stage = Stage::Begun { supervisor, process };
        if let Err(error) = self.write_session(session).await {
            // It runs, and is served; only another daemon will not know it.
            tracing::warn!("a session is not recorded: {}", error.chain());
        }
        let watch = |started: Started| Watched::new(started.pidfd).ok();
        (execed.supervisor.and_then(watch), execed.process.and_then(watch))
    }

    /// Shows a session, waits for its end, and forgets it some time after that.
    fn follow(&self, container: Arc<Container>, session: Session, remains: Remains) {
        if session.unseen {
            return self.give_up_unseen(session, remains);
        }
        let shown = Arc::new(Visible::new(seen(&session, &remains), self.events.clone()));
        let process = match &remains {
            Remains::Living { process, .. } => process.as_ref().map(Watched::pidfd),
            Remains::News(_) | Remains::Told(_) => None,
        };
        container.add_session(shown.clone(), process);
        let number = session.key.number;
        if container.running().is_some_and(|running| running.number() == session.incarnation) {
            container.seen.show(|view| view.processes.push(number));
        }
        let engine = self.clone();
        tokio::spawn(async move {
            let news = match remains {
                Remains::Living { supervisor, process } => {
                    let process = process.map(Arc::new);
                    Some(engine.wait_for_end(&session, supervisor, process).await)
                }
                Remains::News(exit) => Some(exit),
                Remains::Told(_) => None,
            };
            container.let_go_of_session(number);
            if let Some(exit) = news {
                let end = End { exit, at: Usec::now() };
                shown.end(end, |view| (view.pid, view.exit) = (0, Some(exit)));
            }
            engine.clean_session(&session).await;
            tokio::time::sleep(LINGER).await;
            container.seen.show(|view| view.processes.retain(|other| *other != number));
            // It may have gone with its container.
            if let Some(shown) = container.take_session(number) {
                shown.remove();
            }
            engine.forget_session(&session.key).await;
        });
    }

    /// A check that an earlier daemon began: whoever wanted to know is not there any more.
    fn give_up_unseen(&self, session: Session, remains: Remains) {
        let engine = self.clone();
        tokio::spawn(async move {
            if let Remains::Living { process: Some(process), .. } = &remains {
                let _ = signal::send(process.as_fd(), Signal::KILL);
                process.ended().await;
            }
            engine.clean_session(&session).await;
            engine.forget_session(&session.key).await;
        });
    }

    /// Waits for the end of a session, and writes it down.
    pub(super) async fn wait_for_end(
        &self,
        session: &Session,
        supervisor: Option<Watched>,
        process: Option<Arc<Watched>>,
    ) -> Exit {
        if let Some(process) = &process {
            process.ended().await;
        }
        if let Some(supervisor) = &supervisor {
            let _ = tokio::time::timeout(SUPERVISOR_TIMEOUT, supervisor.ended()).await;
        }
        let exit = self.session_exit(session, process.as_deref()).await;
        let ended = Session { stage: Stage::Ended { exit }, ..session.clone() };
        if let Err(error) = self.write_session(&ended).await {
            tracing::warn!("the end of a session is not recorded: {}", error.chain());
        }
        exit
    }

    async fn session_exit(&self, session: &Session, process: Option<&Watched>) -> Exit {
        let id = spawn_id(&session.key.container);
        let layout = Layout::new(self.instance.run_dir(), &id, Number(session.incarnation));
        let dir = layout.exec_exit_dir(session.key.number);
        learn_exit(&dir, &session.key.container, process).await
    }

    /// The session's group and files; those of a container that has ended meanwhile are gone.
    pub(super) async fn clean_session(&self, session: &Session) {
        let (spawner, group) = (self.spawner.clone(), self.session_group(session));
        let id = spawn_id(&session.key.container);
        let layout = Layout::new(self.instance.run_dir(), &id, Number(session.incarnation));
        let dir = layout.exec(session.key.number);
        let work = move || {
            if let Some(Err(error)) =
                group.map(|group| spawner.cleanup_cgroup(&group, Extent::Whole))
            {
                tracing::warn!("{error}");
            }
            if let Err(error) = effects::remove_dir(&dir) {
                tracing::warn!("cannot remove {}: {error}", dir.display());
            }
            Ok(())
        };
        let _: Result<(), Error> = brief(work).await;
    }

    /// Where the conmon of a session is, as long as its container runs; it went with that.
    fn session_group(&self, session: &Session) -> Option<CgroupPath> {
        let running = self.containers.get(&session.key.container)?.running()?;
        let same = running.number() == session.incarnation;
        same.then(|| running.cgroup.session(session.key.number))
    }

    /// The sessions that an earlier daemon left. How those ended that do not live is learnt here,
    /// before anything of their container is taken down.
    pub(super) async fn recall_sessions(&self) -> Result<Recalled, Error> {
        let mut recalled = Recalled::default();
        for found in self.run.run(volatile::all::<Session>).await? {
            match found {
                Ok(session) => {
                    recalled.sessions.extend(self.recall(&session).await.map(|it| (session, it)));
                }
                Err((key, error)) => {
                    self.host.taint_unreadable("an exec session", &error.into());
                    recalled.unread.push(key);
                }
            }
        }
        recalled.sessions.sort_by_key(|(session, _)| session.key.number);
        Ok(recalled)
    }

    /// What there is of a session; nothing if it is to be forgotten.
    async fn recall(&self, session: &Session) -> Option<Remains> {
        match session.stage {
            // Whoever asked for it has had no answer; its files go with the container.
            Stage::Beginning => {
                self.forget_session(&session.key).await;
                None
            }
            Stage::Begun { supervisor, process } => {
                Some(match (self.reopen(supervisor), self.reopen(process)) {
                    (None, None) => Remains::News(self.wait_for_end(session, None, None).await),
                    (supervisor, process) => Remains::Living { supervisor, process },
                })
            }
            Stage::Ended { exit } => Some(Remains::Told(exit)),
        }
    }

    /// Goes on with the sessions of containers that are still there.
    pub(super) async fn resume_sessions(&self, Recalled { sessions, unread }: Recalled) {
        for key in unread {
            self.keep_number(&key).await;
        }
        for (session, remains) in sessions {
            if let Some(container) = self.keep_number(&session.key).await {
                self.follow(container, session, remains);
            }
        }
    }

    /// A session's number is not given again while it is known. Its container, if that is there.
    async fn keep_number(&self, key: &SessionKey) -> Option<Arc<Container>> {
        let Some(container) = self.containers.get(&key.container) else {
            self.forget_session(key).await;
            return None;
        };
        if let Ok(mut life) = container.lock().await {
            life.session = life.session.max(key.number);
        }
        Some(container)
    }

    fn reopen(&self, identity: Option<Identity>) -> Option<Watched> {
        let identity = identity.filter(|_| self.same_boot)?;
        match identity::reopen(&identity) {
            Ok(pidfd) => pidfd.and_then(|pidfd| Watched::new(pidfd).ok()),
            Err(error) => {
                tracing::warn!("a process of a session cannot be looked for: {error}");
                None
            }
        }
    }
}

/// What is seen of a session at first.
fn seen(session: &Session, remains: &Remains) -> ExecSession {
    let process = match session.stage {
        Stage::Begun { process, .. } => process,
        Stage::Beginning | Stage::Ended { .. } => None,
    };
    ExecSession {
        container: session.key.container.clone(),
        number: session.key.number,
        pid: process.map_or(0, |process| process.pid),
        pidfd_id: process.map_or(0, |process| process.pidfd_inode),
        exit: match remains {
            Remains::Told(exit) => Some(*exit),
            Remains::Living { .. } | Remains::News(_) => None,
        },
        started: session.started,
        started_by_uid: session.started_by_uid,
        terminal: session.terminal,
    }
}
