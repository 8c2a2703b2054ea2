//! The commands.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;

use futures_util::StreamExt;
use serde_json::Value;
use zbus::{Connection, OwnedObjectPath, Variant};

use crate::cli::{Arguments, Command, ContainerCommand, Create, ImageCommand, Logs, Run};
use crate::client::{self, JobProxy, ManagerProxy, Options};
use crate::output::{number, say, text};
use crate::{
    Failure, Outcome, attach, checkpoint, env, events, exec, files, health, ids, images, job, look,
    mount, network, secret, security, update, volume,
};

/// `Stop`: as long as the container's own settings say.
const OWN_TIMEOUT: u64 = u64::MAX;
/// `Remove`: kill it first.
const KILL_FIRST: u64 = 1;
/// `GenerateSpec`: only what the options change.
const WITHOUT_DEFAULTS: u64 = 1;
/// `Remove`: also the volumes that were made for it alone.
const WITH_VOLUMES: u64 = 2;

pub(crate) async fn run(arguments: Arguments) -> Outcome {
    let connection = client::connect(arguments.address.as_deref()).await?;
    let bus = &connection;
    match arguments.command {
        Command::Import(command) => images::import(bus, command).await,
        Command::Images => images::list(bus).await,
        Command::Pull(command) => images::pull(bus, command).await,
        Command::Push(command) => images::push(bus, command).await,
        Command::Export { format, output, images } => {
            images::export(bus, format, output.as_deref(), &images).await
        }
        Command::Rmi { force, images } => images::remove(bus, force, &images).await,
        Command::Tag { image, names } => images::tag(bus, &image, &names).await,
        Command::Untag { image, names } => images::untag(bus, &image, names).await,
        Command::History { image } => images::history(bus, &image).await,
        Command::Image(ImageCommand::Prune { all, dry_run }) => {
            images::prune(bus, all, dry_run).await
        }
        Command::Image(ImageCommand::Inspect { image }) => images::inspect(bus, &image).await,
        Command::Create(command) => create(bus, *command).await,
        Command::Run(command) => run_new(bus, *command).await,
        Command::Attach { no_stdin, container } => attach::attach(bus, &container, no_stdin).await,
        Command::Spec { changes, container } => spec(bus, changes, *container).await,
        Command::Init { containers } => init(bus, &containers).await,
        Command::Container(ContainerCommand::Cleanup { containers }) => {
            clean_up(bus, &containers).await
        }
        Command::Start { containers } => start(bus, &containers).await,
        Command::Stop { time, containers } => stop(bus, time, &containers).await,
        Command::Restart { time, containers } => restart(bus, time, &containers).await,
        Command::Pause { containers } => pause(bus, &containers).await,
        Command::Unpause { containers } => unpause(bus, &containers).await,
        Command::Rename { container, name } => rename(bus, &container, &name).await,
        Command::Update(command) => update::update(bus, command).await,
        Command::Kill { signal, containers } => kill(bus, signal, &containers).await,
        Command::Rm { force, volumes, containers } => {
            remove(bus, force, volumes, &containers).await
        }
        Command::Ps { all } => list(bus, all).await,
        Command::Wait { container } => wait(bus, &container).await,
        Command::Inspect { container } => look::inspect(bus, &container).await,
        Command::Top { container } => look::top(bus, &container).await,
        Command::Stats { containers } => look::stats(bus, &containers).await,
        Command::Exec(command) => exec::exec(bus, command).await,
        Command::Events { since, no_stream } => events::show(bus, since, no_stream).await,
        Command::Logs(command) => logs(bus, command).await,
        Command::Diff { container } => files::changes(bus, &container).await,
        Command::Commit(command) => files::commit(bus, command).await,
        Command::Cp { from, to } => files::copy(bus, &from, &to).await,
        Command::Container(ContainerCommand::Export { output, container }) => {
            files::export(bus, output, &container).await
        }
        Command::Container(ContainerCommand::Mount { container }) => {
            files::mount(bus, &container).await
        }
        Command::Container(ContainerCommand::Unmount { container }) => {
            files::unmount(bus, &container).await
        }
        Command::Container(ContainerCommand::Prune { dry_run }) => {
            images::prune_kind(bus, "containers", dry_run).await
        }
        Command::Network(command) => network::run(bus, command).await,
        Command::Secret(command) => secret::run(bus, command).await,
        Command::Volume(command) => volume::run(bus, command).await,
        Command::Checkpoint(command) => checkpoint::take(bus, command).await,
        Command::Restore { from, name: None, container, .. } => {
            checkpoint::restore(bus, &container, from.as_deref()).await
        }
        Command::Restore { from, name: Some(name), publish, container } => {
            checkpoint::restore_as(bus, &container, from.as_deref(), &name, &publish).await
        }
        Command::Checkpoints(command) => checkpoint::run(bus, command).await,
    }
}

/// Options of `CreateContainer`.
fn options(command: Create) -> Result<Options<'static>, Failure> {
    let mut options = Options::new();
    if !command.command.is_empty() {
        options.insert("Command", command.command.into());
    }
    if !command.env.is_empty() {
        options.insert("Env", command.env.into());
    }
    let (devices, by_name) = volume::devices(&command.device);
    let lists = [
        ("CapAdd", command.cap_add),
        ("CapDrop", command.cap_drop),
        ("GroupAdd", command.group_add),
        ("HooksDirs", command.hooks_dir),
        ("CDIDevices", by_name),
    ];
    for (key, list) in lists {
        if !list.is_empty() {
            options.insert(key, list.into());
        }
    }
    for (key, number) in [("Memory", command.memory), ("PidsMax", command.pids_limit)] {
        if let Some(number) = number {
            options.insert(key, number.into());
        }
    }
    let texts = [
        ("User", command.user),
        ("WorkingDir", command.workdir),
        ("PIDMode", command.pid),
        ("IPCMode", command.ipc),
        ("UTSMode", command.uts),
        ("CgroupMode", command.cgroupns),
        ("TimeMode", command.timens),
        ("UserNamespace", command.userns),
        ("Timezone", command.tz),
        ("LogDriver", command.log_driver),
        ("RestartPolicy", command.restart),
        ("SpecPatch", command.spec_patch),
        ("Runtime", command.runtime),
        ("CgroupParent", command.cgroup_parent),
        ("MAC", command.mac_address),
        ("SELinuxLabel", security::selinux_label(&command.security_opt)?),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            options.insert(key, value.into());
        }
    }
    let switches = [
        ("TTY", command.tty),
        ("OpenStdin", command.interactive),
        ("ReadOnlyRootfs", command.read_only),
        ("Privileged", command.privileged),
        ("AutoRemove", command.rm),
        ("Init", command.init),
    ];
    for (key, on) in switches {
        if on {
            options.insert(key, true.into());
        }
    }
    if let Some(file) = env::option(&command.env_file)? {
        options.insert("EnvFile", file);
    }
    if let Some(wanted) = command.passwd {
        options.insert("PasswdEntry", wanted.into());
    }
    if let Some(health) = health::option(command.health) {
        options.insert("Healthcheck", health);
    }
    for (key, ranges) in [("UIDMap", command.uidmap), ("GIDMap", command.gidmap)] {
        if !ranges.is_empty() {
            options.insert(key, ids::map(&ranges)?.into());
        }
    }
    options.extend(network::of_container(&command.network, &command.publish)?);
    let mut rows = mount::options(&command.volume, &command.mount, &command.tmpfs)?;
    rows.insert("Devices", devices);
    let secrets =
        command.secret.iter().map(|said| secret::option(said)).collect::<Result<_, _>>()?;
    rows.insert("Secrets", secrets);
    for (key, rows) in rows {
        if !rows.is_empty() {
            options.insert(key, rows.into());
        }
    }
    Ok(options)
}

async fn create(bus: &Connection, mut command: Create) -> Outcome {
    let (name, image) = (command.name.take().unwrap_or_default(), command.image.clone());
    let manager = ManagerProxy::new(bus).await?;
    let path = manager.create_container(&name, &image, options(command)?).await?;
    say_id(&path)
}

/// What it would take goes to those who look, not into the document.
async fn spec(bus: &Connection, changes: bool, command: Create) -> Outcome {
    let image = command.image.clone();
    let flags = if changes { WITHOUT_DEFAULTS } else { 0 };
    let manager = ManagerProxy::new(bus).await?;
    let (spec, warnings, action) = manager.generate_spec(&image, options(command)?, flags).await?;
    let action = format!("creating it needs {action}");
    for note in warnings.into_iter().chain([action]) {
        let told = writeln!(std::io::stderr(), "tarectl: {note}");
        told.map_err(Failure::io("cannot write"))?;
    }
    let spec: Value = serde_json::from_str(&spec)
        .map_err(|error| Failure::Usage(format!("the service sent no JSON: {error}")))?;
    say(&format!("{spec:#}"))?;
    Ok(ExitCode::SUCCESS)
}

async fn run_new(bus: &Connection, command: Run) -> Outcome {
    let Run { detach, mut container } = command;
    let (name, image) = (container.name.take().unwrap_or_default(), container.image.clone());
    let want = attach::Want { input: container.interactive, tty: container.tty };
    if detach || !(want.input || want.tty) {
        return start_new(bus, &name, &image, options(container)?).await;
    }
    attach::run(bus, &name, &image, options(container)?, want).await
}

async fn start_new(bus: &Connection, name: &str, image: &str, options: Options<'_>) -> Outcome {
    let manager = ManagerProxy::new(bus).await?;
    let job = job::run(bus, || manager.run_container(name, image, options)).await?;
    let mut output = JobProxy::builder(bus).path(job).build().await?.output().await?;
    match output.remove("Container") {
        Some(container) => say_id(&OwnedObjectPath::try_from(container)?),
        None => Err(Failure::Usage("the job has no container".into())),
    }
}

fn say_id(path: &OwnedObjectPath) -> Outcome {
    say(path.as_str().rsplit('/').next().unwrap_or_default())?;
    Ok(ExitCode::SUCCESS)
}

async fn init(bus: &Connection, containers: &[String]) -> Outcome {
    for name in containers {
        let container = client::container(bus, name).await?;
        job::run(bus, || container.prepare(Options::new())).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn clean_up(bus: &Connection, containers: &[String]) -> Outcome {
    for name in containers {
        let container = client::container(bus, name).await?;
        job::run(bus, || container.cleanup(0)).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(bus: &Connection, containers: &[String]) -> Outcome {
    for name in containers {
        let container = client::container(bus, name).await?;
        job::run(bus, || container.start(0, Options::new())).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn stop(bus: &Connection, time: Option<u32>, containers: &[String]) -> Outcome {
    for name in containers {
        let container = client::container(bus, name).await?;
        job::run(bus, || container.stop(timeout_usec(time), 0)).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn restart(bus: &Connection, time: Option<u32>, containers: &[String]) -> Outcome {
    for name in containers {
        let container = client::container(bus, name).await?;
        job::run(bus, || container.restart(timeout_usec(time), 0)).await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn timeout_usec(seconds: Option<u32>) -> u64 {
    seconds.map_or(OWN_TIMEOUT, |seconds| u64::from(seconds) * 1_000_000)
}

async fn pause(bus: &Connection, containers: &[String]) -> Outcome {
    for name in containers {
        client::container(bus, name).await?.pause(0).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn unpause(bus: &Connection, containers: &[String]) -> Outcome {
    for name in containers {
        client::container(bus, name).await?.resume(0).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn kill(bus: &Connection, signal: i32, containers: &[String]) -> Outcome {
    for name in containers {
        client::container(bus, name).await?.kill("init", signal, 0).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn rename(bus: &Connection, container: &str, name: &str) -> Outcome {
    client::container(bus, container).await?.rename(name, 0).await?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(bus: &Connection, force: bool, volumes: bool, containers: &[String]) -> Outcome {
    let flag = |on, flag| if on { flag } else { 0 };
    let flags = flag(force, KILL_FIRST) | flag(volumes, WITH_VOLUMES);
    for name in containers {
        let container = client::container(bus, name).await?;
        job::run(bus, || container.remove(flags)).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(bus: &Connection, all: bool) -> Outcome {
    let mut filter = Options::new();
    if !all {
        filter.insert("State", vec!["starting", "running", "paused", "stopping"].into());
    }
    let (rows, _) = ManagerProxy::new(bus).await?.list_containers(filter).await?;
    say(&format!("{:<12}  {:<20}  {:<30}  {:<10}  PID", "ID", "NAME", "IMAGE", "STATE"))?;
    for row in &rows {
        let (id, name, image) = (text(row, "Id"), text(row, "Name"), text(row, "ImageReference"));
        let (state, pid) = (text(row, "State"), number(row, "PID"));
        say(&format!("{id:.12}  {name:<20}  {image:<30}  {state:<10}  {pid}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn wait(bus: &Connection, name: &str) -> Outcome {
    let container = client::container(bus, name).await?;
    let mut exited = container.receive_exited().await?;
    let code = match container.state().await?.as_str() {
        "exited" | "broken" => container.exit_code().await?,
        _ => match exited.next().await {
            Some(signal) => signal.args()?.exit_code,
            None => return Err(Failure::Usage("the bus went away".into())),
        },
    };
    say(&code.to_string())?;
    Ok(ExitCode::SUCCESS)
}

async fn logs(bus: &Connection, command: Logs) -> Outcome {
    let mut options = Options::from([("Follow", Variant::from(command.follow))]);
    if let Some(lines) = command.tail {
        options.insert("Tail", lines.into());
    }
    let stream = client::container(bus, &command.container).await?.open_logs(options).await?;
    let stream = File::from(std::os::fd::OwnedFd::from(stream));
    // The stream is the service's; nothing more is asked of the bus while it is read.
    tokio::task::spawn_blocking(move || print_lines(stream))
        .await
        .map_err(|error| Failure::Usage(error.to_string()))??;
    Ok(ExitCode::SUCCESS)
}

/// Each line to where the container wrote it.
fn print_lines(stream: File) -> Result<(), Failure> {
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(Failure::io("cannot read the log"))?;
        let line: Value = serde_json::from_str(&line)
            .map_err(|error| Failure::Usage(format!("the log has a line that is none: {error}")))?;
        if let Some(count) = line["dropped"].as_u64() {
            writeln!(std::io::stderr(), "tarectl: the journal did not take {count} lines here")
                .map_err(Failure::io("cannot write"))?;
            continue;
        }
        let text = line["msg"].as_str().unwrap_or_default();
        if line["stream"] == "stderr" {
            writeln!(std::io::stderr(), "{text}").map_err(Failure::io("cannot write"))?;
        } else {
            say(text)?;
        }
    }
    Ok(())
}
