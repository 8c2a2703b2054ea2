//! From the command line to the end of the daemon.

use std::error::Error as _;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;

use crate::bus::{Bus, PrivateBus};
use crate::config::Sources;
use crate::dbus::Service;
use crate::effects;
use crate::engine::scope::ServiceManager;
use crate::engine::{Engine, Means, Pending, Zones};
use crate::firewalld::Firewalld;
use crate::instance::{DEFAULT_RUN, DEFAULT_STATE, Instance};
use crate::journal::{self, LogControl};
use crate::names;
use crate::spawner;
use crate::systemd::{StopRequests, Systemd};
use crate::workers::Workers;

/// Jobs that are at work when the daemon is asked to end get this long.
const JOBS_TIMEOUT: Duration = Duration::from_secs(60);

/// Keeps OCI containers and is called over D-Bus.
#[derive(Debug, Parser)]
#[command(name = "tared", version)]
struct Arguments {
    /// The bus to be called over: system, session, private (one of its own, whose address is
    /// printed; only root and whoever called sudo may use it), or unix:path=PATH.
    #[arg(long, default_value = "system")]
    bus: Bus,
    /// Where images, containers and the database are kept.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE)]
    state: PathBuf,
    /// Where everything is kept that dies with the boot.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_RUN)]
    runtime: PathBuf,
    /// Read this file of settings, and no other.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to log: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LevelFilter,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What `tared` does.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = journal::start(arguments.log_level);
    match run(&arguments, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            tracing::error!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that must happen on the main thread: the private bus ends with the thread that
/// starts it.
fn run(arguments: &Arguments, log: LogControl) -> Result<(), Failure> {
    usual_umask();
    raise_file_limit();
    let sources = match &arguments.config {
        Some(file) => Sources::only(file.clone()),
        None => Sources::system(),
    };
    let config = sources.load()?;
    let instance = Instance::open(&arguments.state, &arguments.runtime)?;
    let private = match arguments.bus {
        Bus::Private => Some(PrivateBus::start(instance.run_dir(), invoker())?),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(32)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Before anybody is told that it is ready: from then on it can be asked to end.
        let signals = Signals::new()?;
        let spawner = spawner::choose(&config.runtime.spawner, &arguments.bus, instance.run_dir())?;
        let (manager, stop_requests) = Systemd::find(&arguments.bus).await?.unzip();
        let manager = manager.map(|systemd| Arc::new(systemd) as Arc<dyn ServiceManager>);
        let names = names::choose(&config.network.names, &arguments.bus, instance.run_dir())?;
        let zones = Firewalld::find().await.map(|it| Arc::new(it) as Arc<dyn Zones>);
        let workers =
            Workers::choose(&config.registries.worker, &arguments.bus, instance.run_dir());
        let means = Means { spawner, manager, names, zones, workers };
        let (engine, told) = Engine::open(instance, config, means).await?;
        let started =
            Service::start(&arguments.bus, private.as_ref(), engine.clone(), told, log).await;
        let service = match started {
            Ok(service) => service,
            Err(error) => {
                engine.leave().await;
                return Err(error.into());
            }
        };
        if let Some(requests) = stop_requests {
            tokio::spawn(obey(engine.clone(), requests));
        }
        if let Err(error) = announce(private.as_ref()) {
            engine.leave().await;
            return Err(error);
        }
        let ended = serve(&engine, service, &sources, signals).await;
        if private.is_some() {
            // All who called leave it, too.
            engine.unmount_all_abandoned().await;
        }
        ended
    })
}

/// Containers inherit it, and what their runtime makes in them has to be readable; whoever starts the
/// daemon may have another. What is not for everybody's eyes is in directories that are not.
fn usual_umask() {
    rustix::process::umask(Mode::from_raw_mode(0o022));
}

/// As many descriptors as may be: a few are held for each container that runs.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = effects::limit_files(raised) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}

/// Who may use a private bus beside root: whoever called sudo.
fn invoker() -> u32 {
    std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok()).unwrap_or(0)
}

/// Says that it is ready: to systemd, and on standard output where the private bus is.
fn announce(private: Option<&PrivateBus>) -> Result<(), Failure> {
    if let Some(bus) = private {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", bus.address())?;
        out.flush()?;
    }
    sd_notify::notify(&[sd_notify::NotifyState::Ready])?;
    tracing::info!("ready");
    Ok(())
}

/// What the daemon is told by signals.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}

/// Stops the containers that the service manager wants stopped.
async fn obey(engine: Engine, mut requests: StopRequests) {
    while let Some(scope) = requests.recv().await {
        match engine.stop_scope(&scope) {
            Ok(Some(job)) => job.run(),
            Ok(None) => tracing::warn!("{scope} is to stop, but is not of a container here"),
            Err(error) => tracing::error!("{scope} cannot be stopped: {}", error.chain()),
        }
    }
}

/// Until it is asked to end, or the bus goes away.
async fn serve(
    engine: &Engine,
    service: Service,
    sources: &Sources,
    mut signals: Signals,
) -> Result<(), Failure> {
    let ended = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break Ok(()),
            _ = signals.interrupt.recv() => break Ok(()),
            _ = signals.reload.recv() => reload_settings(engine, sources),
            // A failure, so that it is started again; but the host is left as after any end.
            () = service.closed() => break Err("the bus went away".into()),
        }
    };
    tracing::info!("ending");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    engine.refuse_changes();
    match engine.stop_with_host().await {
        Ok(jobs) => jobs.into_iter().for_each(Pending::run),
        Err(error) => tracing::error!("containers are left to the end: {}", error.chain()),
    }
    if tokio::time::timeout(JOBS_TIMEOUT, engine.idle()).await.is_err() {
        tracing::warn!("some jobs did not end in time");
    }
    if ended.is_ok() {
        service.leave().await;
    }
    engine.leave().await;
    ended
}

fn reload_settings(engine: &Engine, sources: &Sources) {
    match sources.load() {
        Ok(config) => {
            engine.set_config(config);
            engine.ask_by_settings();
            tracing::info!("settings read again");
        }
        Err(error) => {
            let cause = error.source().map(|e| format!(": {e}")).unwrap_or_default();
            tracing::error!("the old settings stay: {error}{cause}");
        }
    }
}
