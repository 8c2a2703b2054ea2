//! Checking whether containers are well, while they run.
//!
//! A check is an exec session that nobody sees. What is written down, and told, is only what changes. A
//! container that is paused is not checked: it could not answer. Nor is one that somebody stops: it is to
//! end in peace, and to stay so.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tare_runtime::{Signal, signal};
use tare_spawn::Cause;
use tare_specgen::{ExecRequest, HealthCheck, OnFailure};
use tokio::time::{Instant, sleep, timeout};

use super::blocking::brief;
use super::container::{Container, Life, Now, Pace, Running};
use super::exec::nothing_to_read;
use super::jobs::Origin;
use super::restart::Restart;
use super::stop::{KILL_TIMEOUT, Needed, Stop};
use super::{Engine, Error, Pending};

/// Whether a container is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Nobody looks, or it does not run.
    #[default]
    None,
    /// Nobody knows yet.
    Starting,
    /// The last check said so.
    Healthy,
    /// So many checks in a row failed.
    Unhealthy,
}

impl Health {
    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }

    /// Whether there is nothing to write down.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// What the checks of a container have said so far. Pure.
#[derive(Debug)]
struct Checks {
    health: Health,
    failed: u32,
    /// Whether what is to be done with an unhealthy one was begun.
    acted: bool,
}

impl Checks {
    fn new(health: Health) -> Self {
        let health = if health.is_none() { Health::Starting } else { health };
        // Of what another daemon has begun, nothing came: it runs.
        Self { health, failed: 0, acted: false }
    }

    /// After one more check, `since` its start.
    fn hear(&mut self, check: &HealthCheck, well: bool, since: Duration) {
        let excused = self.health == Health::Starting
            && since < Duration::from_micros(check.start_period_usec);
        match well {
            true => (self.health, self.failed) = (Health::Healthy, 0),
            false if excused => {}
            false => self.failed = self.failed.saturating_add(1),
        }
        if self.failed >= check.retries {
            self.health = Health::Unhealthy;
        }
        self.acted &= self.health == Health::Unhealthy;
    }

    /// Whether, after a check, something is still to be done.
    fn want_action(&self) -> bool {
        self.health == Health::Unhealthy && !self.acted
    }
}

impl Engine {
    /// Checks a container again and again, as long as it runs, if it is to be checked.
    pub(super) fn watch_health(&self, container: &Arc<Container>, running: &Arc<Running>) {
        let check = match self.effective(container) {
            Ok(effective) => effective.health,
            Err(error) => return tracing::warn!("{}", error.chain()),
        };
        let Some(check) = check else { return };
        let (engine, container, running) = (self.clone(), container.clone(), running.clone());
        tokio::spawn(async move {
            engine.check_again_and_again(&container, &running, &check).await;
        });
    }

    async fn check_again_and_again(
        &self,
        container: &Arc<Container>,
        running: &Arc<Running>,
        check: &HealthCheck,
    ) {
        // A daemon that takes it over has more patience than it need have.
        let begun = Instant::now();
        let known = container.record().map_or(Health::None, |record| record.health);
        let mut checks = Checks::new(known);
        self.know_health(container, running, checks.health).await;
        loop {
            // A check that is under way ends with the container, and takes away what it has made.
            tokio::select! {
                () = sleep(Duration::from_micros(check.interval_usec)) => {}
                () = running.init.ended() => return,
            }
            let Some(well) = self.check_once(container, running, check).await else { continue };
            checks.hear(check, well, begun.elapsed());
            let counts = self.know_health(container, running, checks.health).await;
            if counts && checks.want_action() {
                checks.acted = self.act_on(container, running, check.on_failure).await;
            }
        }
    }

    /// Writes down and tells how a container is, if that is news; whether it counts at all: what was
    /// found out of one that ends meanwhile does not.
    async fn know_health(&self, container: &Container, running: &Running, health: Health) -> bool {
        let Ok(mut life) = container.lock().await else { return false };
        if !is_let_run(&life, running) {
            return false;
        }
        let Now::Running { record, .. } = &mut life.now else { return false };
        if record.health == health {
            return true;
        }
        record.health = health;
        if let Err(error) = self.write_record(record).await {
            // The next daemon finds it out anew.
            tracing::warn!("{}", error.chain());
        }
        container.show(&life);
        drop(life);
        let (name, health) = (container.name(), health.as_str());
        tracing::info!(container = %name, container_id = %container.id, "Container '{name}' is {health}");
        true
    }

    /// Whether a container is well; nothing if it cannot be asked now.
    async fn check_once(
        &self,
        container: &Arc<Container>,
        running: &Arc<Running>,
        check: &HealthCheck,
    ) -> Option<bool> {
        if !is_let_run(&*container.lock().await.ok()?, running) {
            return None;
        }
        let request = ExecRequest::new(check.command.clone());
        let checked = self.run_unseen(container, request, check.timeout_usec).await;
        match checked {
            Ok(well) => Some(well),
            Err(
                Error::NotRunning(_)
                | Error::InvalidState { .. }
                | Error::Changed(_)
                | Error::ShuttingDown,
            ) => None,
            Err(error) if is_of_the_service(&error) => {
                tracing::warn!(container_id = %container.id, "no check: {}", error.chain());
                None
            }
            Err(error) => {
                tracing::debug!(container_id = %container.id, "a check: {}", error.chain());
                Some(false)
            }
        }
    }

    /// Runs a process that nobody sees to its end; whether it ended well and in time.
    async fn run_unseen(
        &self,
        container: &Arc<Container>,
        request: ExecRequest,
        timeout_usec: u64,
    ) -> Result<bool, Error> {
        let stdio = nothing_to_read()?;
        let (record, execed) = self.begin_unseen(container, request, stdio).await?;
        let (supervisor, process) = execed;
        let ended = self.wait_for_end(&record, supervisor, process.clone());
        let in_time = timeout(Duration::from_micros(timeout_usec), ended).await;
        if let (Err(_), Some(process)) = (&in_time, &process) {
            let _ = signal::send(process.as_fd(), Signal::KILL);
            let _ = timeout(KILL_TIMEOUT, process.ended()).await;
        }
        self.clean_session(&record).await;
        self.forget_session(&record.key).await;
        Ok(in_time.is_ok_and(|exit| exit.code == 0))
    }

    /// Begins what its creator wants to be done with a container that is not well any more; whether
    /// that went.
    async fn act_on(
        &self,
        container: &Arc<Container>,
        running: &Arc<Running>,
        on_failure: OnFailure,
    ) -> bool {
        let view = container.view();
        let stop = Stop { container: view.clone(), timeout: None, needed: Needed::Nothing };
        let begun = match on_failure {
            OnFailure::Kill => {
                let (engine, whose, all) = (self.clone(), container.clone(), running.clone());
                brief(move || engine.kill_all(&whose, &all)).await
            }
            OnFailure::Stop => self.stop_for(stop, Origin::Host).map(Pending::run),
            OnFailure::Restart => {
                let restart = Restart { container: view, timeout: None };
                self.restart_for(restart, Origin::Host).map(Pending::run)
            }
            _ => Ok(()),
        };
        begun.inspect_err(|error| tracing::error!("{}", error.chain())).is_ok()
    }
}

/// Whether it runs, and nobody pauses or stops it.
fn is_let_run(life: &Life, running: &Running) -> bool {
    life.pace(running.number()) == Some(Pace::Free) && !life.is_stopped_by_somebody()
}

/// Whether that a check failed says nothing about the container.
fn is_of_the_service(error: &Error) -> bool {
    match error {
        Error::Runtime { source, .. } => {
            matches!(source.cause(), Some(Cause::NoAnswer | Cause::Timeout { .. }))
        }
        Error::Database(_) | Error::NoSpace(_) | Error::Host { .. } | Error::Bug(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_specgen::{Foreign, ImageDefaults, Request, effective};

    fn check(options: &str) -> HealthCheck {
        let request = format!(r#"{{"v":1,"Command":["a"],"Healthcheck":{options}}}"#);
        let request: Request = serde_json::from_str(&request).unwrap();
        let effective = effective(&request, &ImageDefaults::default(), &Foreign::default());
        effective.unwrap().health.unwrap()
    }

    #[test]
    fn so_many_failures_in_a_row_are_needed_and_one_success() {
        use Health::{Healthy, Starting, Unhealthy};
        let check = check(r#"{"Command":["x"],"Retries":2,"StartPeriodUSec":1000000}"#);
        let mut checks = Checks::new(Health::None);
        assert_eq!(checks.health, Starting);
        for (well, seconds, want) in [
            (false, 0, Starting),
            (false, 0, Starting),
            (false, 2, Starting),
            (false, 2, Unhealthy),
            (false, 2, Unhealthy),
            (true, 2, Healthy),
            // Also in its start period: it was well before.
            (false, 0, Healthy),
            (true, 0, Healthy),
            (false, 2, Healthy),
            (false, 2, Unhealthy),
        ] {
            checks.hear(&check, well, Duration::from_secs(seconds));
            assert_eq!(checks.health, want, "{checks:?}");
        }
        assert_eq!(Checks::new(Unhealthy).health, Unhealthy, "another daemon");
    }

    #[test]
    fn what_is_to_be_done_is_wanted_until_it_is_begun_and_again_after_it_was_well() {
        let check = check(r#"{"Command":["x"],"Retries":1}"#);
        // Another daemon said so, and ended before it did anything.
        let mut checks = Checks::new(Health::Unhealthy);
        for (well, wanted, begun) in [
            (false, true, false),
            (false, true, true),
            (false, false, false),
            (true, false, false),
            (false, true, true),
        ] {
            checks.hear(&check, well, Duration::ZERO);
            assert_eq!(checks.want_action(), wanted, "{checks:?}");
            checks.acted |= begun;
        }
    }

    #[test]
    fn trouble_of_the_service_is_no_illness() {
        let id: tare_spawn::ContainerId = "0".repeat(64).parse().unwrap();
        let failed = |cause| {
            let id = id.clone();
            let source = tare_spawn::Error::Exec { id, session: 1, cause, leftovers: Vec::new() };
            let source = Box::new(source);
            Error::Runtime { verb: "run a process in", name: "a".parse().unwrap(), source }
        };
        let said = || Cause::Runtime { message: "no".into() };
        assert!(is_of_the_service(&failed(Cause::NoAnswer)));
        assert!(is_of_the_service(&failed(Cause::Timeout { limit: Duration::ZERO })));
        assert!(is_of_the_service(&Error::Bug("x".into())));
        assert!(!is_of_the_service(&failed(said())));
    }
}
