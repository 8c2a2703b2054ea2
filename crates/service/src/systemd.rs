//! systemd: a scope for each container, and its word when one is to stop.
//!
//! A scope is made of a process that is there already, so what conmon and the container are children
//! of does not matter. systemd asks the one who registered a scope to stop it (`RequestStop`), as
//! long as that one is on the bus; after that it sends the stop signal itself.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use zbus::fdo::DBusProxy;
use zbus::message::Type;
use zbus::{
    Connection, Fd, MatchRule, Message, MessageStream, ObjectPath, OwnedObjectPath, Variant, proxy,
};

use crate::bus::Bus;
use crate::effects;
use crate::engine::scope::{Answer, Scope, ServiceManager};

/// Its name on the bus.
const NAME: &str = "org.freedesktop.systemd1";
/// What begins the paths of its units.
const UNITS: &str = "/org/freedesktop/systemd1/unit/";
/// Where containers are among its slices.
const SLICE: &str = "machine.slice";
/// What is stopped before, and started after, containers go away and come.
const OURSELVES: &str = "tared.service";
/// How long it may take to make a scope, and one of the same name to go away.
const TIMEOUT: Duration = Duration::from_secs(25);
/// First and longest pause between two tries to get a name that is in use.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        aux: &[(&str, &[(&str, Variant<'_>)])],
    ) -> zbus::Result<OwnedObjectPath>;

    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    fn abandon_scope(&self, name: &str) -> zbus::Result<()>;

    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, unit: &str, result: &str);

    #[zbus(property(emits_changed_signal = "const"))]
    fn control_group(&self) -> zbus::Result<String>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn system_state(&self) -> zbus::Result<String>;
}

/// systemd, on the bus the daemon is called over.
#[derive(Debug)]
pub struct Systemd {
    manager: ManagerProxy<'static>,
    /// As whom systemd knows us.
    us: String,
    /// The group all its units are in, without a `/` at its end.
    root: String,
    jobs: Jobs,
}

/// Names of scopes that are to stop.
pub type StopRequests = UnboundedReceiver<String>;

impl Systemd {
    /// systemd, if it is what runs this host and the daemon is on the system bus; and whom it asks to
    /// stop.
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub async fn find(bus: &Bus) -> zbus::Result<Option<(Self, StopRequests)>> {
        if *bus != Bus::System || !sd_notify::booted()? {
            return Ok(None);
        }
        // One of its own, so that no call to the daemon is in the way of what is said here.
        let connection = bus.builder(None).build().await?;
        let manager = ManagerProxy::new(&connection).await?;
        let us = connection.unique_name().map(ToString::to_string).unwrap_or_default();
        let root = manager.control_group().await?.trim_end_matches('/').into();
        let jobs = Jobs::follow(&manager).await?;
        let requests = stop_requests(connection).await?;
        Ok(Some((Self { manager, us, root, jobs }, requests)))
    }

    async fn make(&self, scope: &Scope) -> io::Result<()> {
        let end = Instant::now() + TIMEOUT;
        let mut finished = self.jobs.watch(&scope.name);
        let ask = async { timeout_at(end, self.ask_in_turn(scope, end)).await? };
        let job = effects::ask_manager(format!("have {} made", scope.name), ask).await?;
        let hear = async { timeout_at(end, finished.end_of(&job)).await? };
        effects::ask_manager(format!("hear that {} is made", scope.name), hear).await
    }

    /// Asks for a scope, again and again while there is still one of its name.
    async fn ask_in_turn(&self, scope: &Scope, end: Instant) -> io::Result<OwnedObjectPath> {
        let mut pause = PAUSES.0;
        loop {
            match self.ask(scope).await {
                Err(error) if is_name_in_use(&error) && Instant::now() < end => sleep(pause).await,
                result => return result.map_err(io::Error::other),
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Has a scope stopped, or not started, whatever has become of it by now.
    async fn stop(&self, name: &str) -> io::Result<()> {
        // Else it is we who are asked to stop it. One that is not there yet is not ours to leave.
        let _ = self.manager.abandon_scope(name).await;
        match self.manager.stop_unit(name, "replace").await {
            Err(error) if !is_not_there(&error) => Err(io::Error::other(error)),
            _ => Ok(()),
        }
    }

    async fn ask(&self, scope: &Scope) -> zbus::Result<OwnedObjectPath> {
        let properties = [
            ("Description", Variant::from(scope.description.as_str())),
            ("Slice", Variant::from(scope.slice.as_deref().unwrap_or(SLICE))),
            ("PIDFDs", Variant::from(vec![Fd::from(&scope.process)])),
            ("Delegate", Variant::from(true)),
            ("Controller", Variant::from(self.us.as_str())),
            // It counts its own.
            ("TasksMax", Variant::from(u64::MAX)),
            ("TimeoutStopUSec", Variant::from(usec(scope.stop_timeout))),
            ("KillSignal", Variant::from(scope.stop_signal)),
            // Nobody looks at one that failed.
            ("CollectMode", Variant::from("inactive-or-failed")),
            // When the host goes down, the network is there until the container has ended, and the
            // daemon is asked first: it stops all of them, each in its own way.
            ("After", Variant::from(vec!["network.target"])),
            ("Before", Variant::from(vec![OURSELVES])),
        ];
        self.manager.start_transient_unit(&scope.name, "fail", &properties, &[]).await
    }
}

impl ServiceManager for Systemd {
    fn group(&self, slice: Option<&str>, scope: &str) -> String {
        format!("{}{}/{scope}", self.root, slice_group(slice.unwrap_or(SLICE)))
    }

    fn groups(&self) -> String {
        format!("{}{}", self.root, slice_group(SLICE))
    }

    fn register(&self, scope: Scope) -> Answer<'_, io::Result<()>> {
        Box::pin(async move { self.make(&scope).await })
    }

    fn take_back<'a>(&'a self, scope: &'a str) -> Answer<'a, io::Result<()>> {
        let stop = async { timeout(TIMEOUT, self.stop(scope)).await? };
        Box::pin(effects::ask_manager(format!("have {scope} stopped"), stop))
    }

    fn is_stopping(&self) -> Answer<'_, bool> {
        Box::pin(async {
            match self.manager.system_state().await {
                Ok(state) => state == "stopping",
                Err(error) => {
                    tracing::warn!("systemd does not say whether the host goes down: {error}");
                    false
                }
            }
        })
    }
}

/// Where a slice is below the root of all: `a-b.slice` is in `a.slice`. See systemd.slice(5).
fn slice_group(slice: &str) -> String {
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    if name == "-" {
        return String::new();
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    ends.flat_map(|end| ["/", &name[..end], ".slice"]).collect()
}

fn usec(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Whether there is a unit of that name, of a container that has just ended.
fn is_name_in_use(error: &zbus::Error) -> bool {
    is_named(error, "org.freedesktop.systemd1.UnitExists")
}

/// Whether there is no such unit.
fn is_not_there(error: &zbus::Error) -> bool {
    is_named(error, "org.freedesktop.systemd1.NoSuchUnit")
}

fn is_named(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(found, _, _) if found.as_str() == name)
}

impl Watch {
    /// Waits for the end of a job.
    async fn end_of(&mut self, job: &OwnedObjectPath) -> io::Result<()> {
        while let Some((ended, result)) = self.ends.recv().await {
            if ended == *job {
                return judge(&result);
            }
        }
        Err(io::Error::other("systemd is not heard any more"))
    }
}

fn judge(result: &str) -> io::Result<()> {
    match result {
        "done" => Ok(()),
        other => Err(io::Error::other(format!("the scope's job ended with '{other}'"))),
    }
}

/// A job of systemd, and how it ended.
type Ended = (OwnedObjectPath, String);

/// Who waits for jobs of which unit.
#[derive(Clone, Debug, Default)]
struct Jobs(Arc<Mutex<HashMap<String, UnboundedSender<Ended>>>>);

/// The jobs of one unit that end while this is there.
#[derive(Debug)]
struct Watch {
    jobs: Jobs,
    unit: String,
    ends: UnboundedReceiver<Ended>,
}

impl Jobs {
    async fn follow(manager: &ManagerProxy<'static>) -> zbus::Result<Self> {
        let (jobs, mut removed) = (Self::default(), manager.receive_job_removed().await?);
        let ours = jobs.clone();
        tokio::spawn(async move {
            while let Some(signal) = removed.next().await {
                match signal.args() {
                    Ok(args) => ours.tell(args.unit, (args.job.into(), args.result.into())),
                    Err(error) => tracing::warn!("systemd says what nobody understands: {error}"),
                }
            }
            // Whoever waits is told that nothing will come.
            ours.all().clear();
        });
        Ok(jobs)
    }

    /// From before a job is asked for, so that its end is not missed.
    fn watch(&self, unit: &str) -> Watch {
        let (sender, ends) = unbounded_channel();
        self.all().insert(unit.into(), sender);
        Watch { jobs: self.clone(), unit: unit.into(), ends }
    }

    fn tell(&self, unit: &str, ended: Ended) {
        if let Some(waits) = self.all().get(unit) {
            // It may have stopped waiting.
            let _ = waits.send(ended);
        }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, UnboundedSender<Ended>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.jobs.all().remove(&self.unit);
    }
}

/// What systemd wants stopped.
async fn stop_requests(connection: Connection) -> zbus::Result<StopRequests> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .interface("org.freedesktop.systemd1.Scope")
        .member("RequestStop")
        .build()?;
    let mut signals = MessageStream::for_match_rule(rule, &connection, None).await?;
    let bus = DBusProxy::new(&connection).await?;
    let (sender, requests) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(signal)) = signals.next().await {
            if let Some(scope) = scope_of(&signal)
                && is_from_systemd(&bus, &signal).await
            {
                // Nobody listening means that the daemon is ending.
                let _ = sender.send(scope);
            }
        }
    });
    Ok(requests)
}

/// Anybody on the bus may send us a signal.
async fn is_from_systemd(bus: &DBusProxy<'_>, signal: &Message) -> bool {
    let Ok(name) = NAME.try_into() else { return false };
    let owner = bus.get_name_owner(name).await;
    let header = signal.header();
    owner.is_ok_and(|owner| header.sender().is_some_and(|sender| *sender == *owner.inner()))
}

fn scope_of(signal: &Message) -> Option<String> {
    unit_of(signal.header().path()?.as_str())
}

/// The unit that a path stands for; see `sd_bus_path_decode(3)`.
fn unit_of(path: &str) -> Option<String> {
    let mut name = Vec::new();
    let mut rest = path.strip_prefix(UNITS)?.bytes();
    while let Some(byte) = rest.next() {
        name.push(match byte {
            b'_' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_from_their_paths() {
        for (path, unit) in [
            ("tare_2d0123456789ab_2escope", Some("tare-0123456789ab.scope")),
            ("_74are", Some("tare")),
            ("", Some("")),
            ("a_2", None),
            ("a_zz", None),
            ("a_ff", None),
        ] {
            assert_eq!(unit_of(&format!("{UNITS}{path}")).as_deref(), unit, "{path}");
        }
        assert_eq!(unit_of("/org/freedesktop/systemd1/job/1"), None);
    }

    #[test]
    fn slices_are_in_those_that_their_names_begin_with() {
        for (slice, group) in [
            ("machine.slice", "/machine.slice"),
            ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
            ("-.slice", ""),
        ] {
            assert_eq!(slice_group(slice), group, "{slice}");
        }
    }

    #[test]
    fn times_beyond_all_measure_are_for_ever() {
        assert_eq!(usec(Duration::from_millis(3)), 3000);
        assert_eq!(usec(Duration::MAX), u64::MAX);
    }

    #[test]
    fn the_end_of_a_job_reaches_who_waits_for_its_unit() {
        let jobs = Jobs::default();
        let job = OwnedObjectPath::try_from("/job/1").unwrap();
        let mut watch = jobs.watch("a.scope");
        jobs.tell("b.scope", (job.clone(), "done".into()));
        jobs.tell("a.scope", (job.clone(), "failed".into()));
        assert_eq!(watch.ends.try_recv().unwrap(), (job, "failed".into()));
        assert!(watch.ends.try_recv().is_err());
        drop(watch);
        assert!(jobs.all().is_empty());
        judge("done").unwrap();
        assert!(judge("failed").unwrap_err().to_string().contains("failed"));
    }
}
