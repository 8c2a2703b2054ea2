//! From what callers send to requests of the engine.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use tare_runtime::Signal;
use tare_runtime::log::{Filter, Stream, Streams};
use tare_specgen::{Argument, ExecRequest, NetworkMode, Request};

use super::error::ApiError;
use super::options::{Dict, Options};
use crate::engine::jobs::JobView;
use crate::engine::view;
use crate::engine::{Reference, RootfsConfig, Stdio, Which, Whom};

/// Options of `CreateContainer`.
pub(crate) fn create(options: Dict) -> Result<Request, ApiError> {
    let mut o = Options::new(options);
    let mut request = Request::default();
    request.command = list(&mut o, "Command")?.unwrap_or_default();
    request.entrypoint = list(&mut o, "Entrypoint")?;
    request.env = list(&mut o, "Env")?.unwrap_or_default();
    request.working_dir = text(&mut o, "WorkingDir")?;
    request.user = text(&mut o, "User")?;
    request.hostname = text(&mut o, "Hostname")?;
    request.labels = map(&mut o, "Labels", str::parse)?;
    request.annotations = map(&mut o, "Annotations", str::parse)?;
    request.hosts = map(&mut o, "Hosts", str::parse)?;
    request.rootfs_access = o.boolean("ReadOnlyRootfs")?.unwrap_or_default().into();
    request.new_privileges = o.boolean("NoNewPrivileges")?.unwrap_or_default().into();
    request.stop_signal = match o.number::<i32>("StopSignal")? {
        Some(number) => Some(parsed("StopSignal", &number.to_string())?),
        None => None,
    };
    request.stop_timeout_usec = o.number("StopTimeoutUSec")?;
    request.network_mode =
        text::<NetworkMode>(&mut o, "NetworkMode")?.unwrap_or(NetworkMode::Private);
    request.dns = match o.strings("DNS")? {
        Some(servers) => servers
            .iter()
            .map(|server| server.parse())
            .collect::<Result<_, std::net::AddrParseError>>()
            .map_err(|error| wrong("DNS", &error))?,
        None => Vec::new(),
    };
    request.dns_search = list(&mut o, "DNSSearch")?.unwrap_or_default();
    request.dns_options = list(&mut o, "DNSOptions")?.unwrap_or_default();
    request.cap_add = list(&mut o, "CapAdd")?.unwrap_or_default();
    request.cap_drop = list(&mut o, "CapDrop")?.unwrap_or_default();
    request.shm_size = match o.number::<u64>("ShmSize")? {
        Some(bytes) => Some(bytes.try_into().map_err(|error| wrong("ShmSize", &error))?),
        None => None,
    };
    request.seccomp = text(&mut o, "Seccomp")?.unwrap_or_default();
    o.finish()?;
    Ok(request)
}

/// Options of `ImportImage`.
pub(crate) fn import(options: Dict) -> Result<(Option<Reference>, RootfsConfig), ApiError> {
    let mut o = Options::new(options);
    let reference = match o.string("Reference")? {
        Some(reference) => Some(reference.parse::<Reference>()?),
        None => None,
    };
    match o.string("Format")?.as_deref() {
        None | Some("auto" | "rootfs") => {}
        Some(other) => {
            return Err(wrong("Format", &format_args!("'{}' is not known", other.escape_debug())));
        }
    }
    let config = RootfsConfig {
        entrypoint: o.strings("Entrypoint")?.unwrap_or_default(),
        command: o.strings("Command")?.unwrap_or_default(),
        env: o.strings("Env")?.unwrap_or_default(),
        working_dir: o.string("WorkingDir")?,
        user: o.string("User")?,
        labels: o.string_map("Labels")?.unwrap_or_default(),
    };
    o.finish()?;
    Ok((reference, config))
}

/// Arguments and options of `Exec`.
pub(crate) fn exec(argv: &[String], options: Dict) -> Result<(ExecRequest, [Stdio; 3]), ApiError> {
    let argv = argv.iter().map(|argument| parsed::<Argument>("argv", argument));
    let mut request = ExecRequest::new(argv.collect::<Result<_, _>>()?);
    let mut o = Options::new(options);
    request.env = list(&mut o, "Env")?.unwrap_or_default();
    request.working_dir = text(&mut o, "WorkingDir")?;
    request.user = text(&mut o, "User")?;
    let detached = o.boolean("Detach")?.unwrap_or_default();
    let mut stdio = |key| {
        Ok::<_, ApiError>(match o.fd(key)? {
            Some(fd) => Stdio::Given(stream(key, fd.into())?),
            None if detached => Stdio::Null,
            None => Stdio::Pipe,
        })
    };
    let stdio = [stdio("Stdin")?, stdio("Stdout")?, stdio("Stderr")?];
    o.finish()?;
    Ok((request, stdio))
}

/// A descriptor that a container may have. Through `/proc/self/fd` its root can open again what
/// stands behind it, with the rights of root on the host: so it must be something that is no more
/// than a stream when it is opened again. A file, a directory or a disk would be the host's.
fn stream(key: &str, fd: std::os::fd::OwnedFd) -> Result<std::os::fd::OwnedFd, ApiError> {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
    let kind = fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let usable = fcntl_getfl(&fd).is_ok_and(|flags| !flags.contains(OFlags::PATH));
    match kind {
        Ok(FileType::Fifo | FileType::Socket | FileType::CharacterDevice) if usable => Ok(fd),
        _ => Err(wrong(key, &"must be a pipe, a socket or a terminal")),
    }
}

/// Options of `OpenLogs`.
pub(crate) fn logs(options: Dict) -> Result<(Filter, Which), ApiError> {
    let mut o = Options::new(options);
    let filter = Filter {
        since_usec: o.number("Since")?,
        until_usec: o.number("Until")?,
        tail: o.number("Tail")?,
        streams: streams(o.strings("Streams")?)?,
    };
    let follow = o.boolean("Follow")?.unwrap_or_default();
    o.finish()?;
    Ok((filter, if follow { Which::Coming } else { Which::Present }))
}

fn streams(names: Option<Vec<String>>) -> Result<Streams, ApiError> {
    let Some(names) = names else { return Ok(Streams::Both) };
    let has = |name: &str| names.iter().any(|n| n == name);
    if let Some(other) = names.iter().find(|name| !matches!(name.as_str(), "stdout" | "stderr")) {
        let other = other.escape_debug();
        return Err(wrong("Streams", &format_args!("'{other}' is neither stdout nor stderr")));
    }
    match (has("stdout"), has("stderr")) {
        (true, false) => Ok(Streams::Only(Stream::Stdout)),
        (false, true) => Ok(Streams::Only(Stream::Stderr)),
        _ => Ok(Streams::Both),
    }
}

/// Arguments of `Kill`.
pub(crate) fn kill(whom: &str, signal: i32) -> Result<(Whom, Signal), ApiError> {
    let signal = Signal::from_number(signal)
        .map_err(|error| ApiError::invalid_args(format!("signal {signal}: {error}")))?;
    match whom {
        "init" => Ok((Whom::Init, signal)),
        "all" if i32::from(signal.number()) == 9 => Ok((Whom::All, signal)),
        "all" => Err(ApiError::invalid_args("all processes can only be sent signal 9 (SIGKILL)")),
        _ => Err(ApiError::invalid_args("whom must be init or all")),
    }
}

/// A time to stop in; the largest number stands for the container's own.
pub(crate) fn timeout(usec: u64) -> Option<Duration> {
    (usec != u64::MAX).then(|| Duration::from_micros(usec))
}

/// Filter of `ListContainers`.
#[derive(Debug)]
pub(crate) struct ContainerFilter {
    states: Option<HashSet<String>>,
    name: Option<Glob>,
    owner_uid: Option<u32>,
    image_id: Option<String>,
    limit: Option<u32>,
}

impl ContainerFilter {
    pub(crate) fn parse(filter: Dict) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self {
            states: o.strings("State")?.map(|states| states.into_iter().collect()),
            name: o.string("Name")?.map(Glob),
            owner_uid: o.number("OwnerUID")?,
            image_id: o.string("ImageId")?,
            limit: o.number("Limit")?,
        };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &view::Container) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(view.state.as_str()))
            && self.name.as_ref().is_none_or(|glob| glob.fits(view.name.as_str()))
            && self.owner_uid.is_none_or(|uid| uid == view.owner_uid)
            && self.image_id.as_ref().is_none_or(|id| *id == view.image_id.to_string())
    }

    pub(crate) fn limit(&self) -> usize {
        limit(self.limit)
    }
}

/// Filter of `ListImages`.
#[derive(Debug)]
pub(crate) struct ImageFilter {
    reference: Option<Glob>,
    dangling: Option<bool>,
    limit: Option<u32>,
}

impl ImageFilter {
    pub(crate) fn parse(filter: Dict) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self {
            reference: o.string("Reference")?.map(Glob),
            dangling: o.boolean("Dangling")?,
            limit: o.number("Limit")?,
        };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &view::Image) -> bool {
        let any = |glob: &Glob| view.references.iter().any(|reference| glob.fits(reference));
        self.reference.as_ref().is_none_or(any)
            && self.dangling.is_none_or(|dangling| dangling == view.references.is_empty())
    }

    pub(crate) fn limit(&self) -> usize {
        limit(self.limit)
    }
}

/// Filter of `ListJobs`.
#[derive(Debug)]
pub(crate) struct JobFilter {
    kind: Option<String>,
    state: Option<String>,
    started_by_uid: Option<u32>,
}

impl JobFilter {
    pub(crate) fn parse(filter: Dict) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self {
            kind: o.string("Type")?,
            state: o.string("State")?,
            started_by_uid: o.number("StartedByUID")?,
        };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &JobView) -> bool {
        self.kind.as_ref().is_none_or(|kind| kind == view.kind.as_str())
            && self.state.as_ref().is_none_or(|state| state == view.state.as_str())
            && self.started_by_uid.is_none_or(|uid| uid == view.started_by_uid)
    }
}

fn limit(limit: Option<u32>) -> usize {
    limit.map_or(usize::MAX, |limit| limit as usize)
}

/// A pattern with `*` and `?`, as in a shell.
#[derive(Debug)]
struct Glob(String);

impl Glob {
    fn fits(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        // Where to go on if the rest does not fit: after the last star, one byte later.
        let (mut p, mut t, mut retry) = (0, 0, None);
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p + 1, t));
                    p += 1;
                }
                Some(byte) if *byte == b'?' || *byte == text[t] => (p, t) = (p + 1, t + 1),
                _ => {
                    let Some((after, from)) = retry else { return false };
                    retry = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

fn text<T>(o: &mut Options, key: &'static str) -> Result<Option<T>, ApiError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    o.string(key)?.map(|text| parsed(key, &text)).transpose()
}

fn list<T>(o: &mut Options, key: &'static str) -> Result<Option<Vec<T>>, ApiError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let texts = o.strings(key)?;
    texts.map(|texts| texts.iter().map(|text| parsed(key, text)).collect()).transpose()
}

fn map<K, V, E>(
    o: &mut Options,
    key: &'static str,
    value: impl Fn(&str) -> Result<V, E>,
) -> Result<std::collections::BTreeMap<K, V>, ApiError>
where
    K: FromStr + Ord,
    K::Err: std::fmt::Display,
    E: std::fmt::Display,
{
    let Some(pairs) = o.string_map(key)? else { return Ok(std::collections::BTreeMap::new()) };
    let pair = |(name, text): (String, String)| {
        let value = value(&text).map_err(|error| wrong(key, &error))?;
        Ok((parsed(key, &name)?, value))
    };
    pairs.into_iter().map(pair).collect()
}

fn parsed<T>(key: &str, text: &str) -> Result<T, ApiError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| wrong(key, &error))
}

fn wrong(key: &str, problem: &dyn std::fmt::Display) -> ApiError {
    ApiError::invalid_args(format!("option '{key}': {problem}"))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zbus::{DBusError, Variant};

    fn dict(pairs: &[(&str, Variant<'_>)]) -> Dict {
        let owned = |(key, value): &(&str, Variant<'_>)| {
            ((*key).to_string(), value.try_to_owned().unwrap())
        };
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn a_wrong_option_names_itself() {
        for (key, value) in [
            ("Env", Variant::from(vec!["NOVALUE"])),
            ("User", "a:b:c".into()),
            ("Hostname", "a b".into()),
            ("WorkingDir", "relative".into()),
            ("StopSignal", 99_i32.into()),
            ("CapAdd", vec!["CAP_NONSENSE"].into()),
            ("NetworkMode", "nonsense".into()),
            ("Seccomp", "nonsense".into()),
            ("DNS", vec!["nonsense"].into()),
            ("Command", vec!["a\0b"].into()),
        ] {
            let error = create(dict(&[(key, value)])).unwrap_err();
            assert_eq!(error.name().as_str(), "org.freedesktop.DBus.Error.InvalidArgs", "{key}");
            assert!(error.description().unwrap().contains(key), "{key}: {error:?}");
        }
    }

    #[test]
    fn no_options_are_the_safe_defaults() {
        let request = create(Dict::new()).unwrap();
        assert_eq!(request.network_mode, NetworkMode::Private);
        assert_eq!(request, Request::default());
    }

    #[test]
    fn all_processes_get_sigkill_or_nothing() {
        assert!(kill("all", 9).is_ok());
        assert!(kill("init", 15).is_ok());
        for (whom, signal) in [("all", 15), ("init", 0), ("init", 65), ("init", -1), ("some", 9)] {
            assert!(kill(whom, signal).is_err(), "{whom} {signal}");
        }
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("web", "web", true),
            ("web", "web1", false),
            ("web?", "web1", true),
            ("w*b*", "web-1", true),
            ("*-1", "a-1-1", true),
            ("*-1", "a-1-2", false),
            ("a*b*c", "abbbc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(Glob(pattern.into()).fits(text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_container_gets_streams_and_no_files_of_the_host() {
        use rustix::fs::{Mode, OFlags, open};
        let opened = |path: &str, flags| open(path, flags, Mode::empty()).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        for fd in [reader.into(), writer.into(), socket.into(), opened("/dev/null", OFlags::RDWR)] {
            stream("Stdin", fd).unwrap();
        }
        let file = tempfile::tempfile().unwrap();
        for (about, fd) in [
            ("file", file.into()),
            ("directory", opened("/", OFlags::RDONLY | OFlags::DIRECTORY)),
            ("path", opened("/dev/null", OFlags::PATH)),
            ("directory by path", opened("/", OFlags::PATH)),
        ] {
            assert!(stream("Stdin", fd).is_err(), "{about}");
        }
    }

    proptest! {
        #[test]
        fn a_text_fits_itself_and_any_star(text in "[a-z]{0,12}", at in 0_usize..13) {
            let at = at.min(text.len());
            prop_assert!(Glob(text.clone()).fits(&text));
            let starred = format!("{}*{}", &text[..at], &text[at..]);
            prop_assert!(Glob(starred).fits(&text));
        }
    }
}
