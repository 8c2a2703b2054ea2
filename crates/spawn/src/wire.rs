//! What is said over the socket of `tare-spawn`.
//!
//! A message is one packet: JSON, with descriptors beside it. The asker says which versions of this
//! protocol it speaks and is told which one counts, then asks one thing and is answered; only
//! [`Call::Prepare`] and [`Call::Checkpoint`] are followed by a second question. A connection is for one call, so that no call
//! waits for another, and whoever ends leaves nothing half said.
//!
//! The protocol grows by verbs and by fields that may be missing. What is not known is refused: to
//! leave out what was asked for could be dangerous.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::undo::Failure;
use crate::{
    Attach, CgroupPath, Checkpoint, Create, Deleted, Exec, Extent, Force, Leftover, Limits,
    LiveFile, MAX_KEPT, MAX_MOUNTS, OciRuntime, Place, Profile, ProfileName, Rejection, Swapped,
    Target, UserMap,
};

/// The newest version of the protocol that is spoken here.
pub(crate) const VERSION: u32 = 8;
/// The oldest.
pub(crate) const OLDEST: u32 = 1;
/// From this version on, what conmon keeps comes beside [`Call::Prepare`].
pub(crate) const KEEPS: u32 = 2;
/// From this version on, processes that are run in containers can have terminals.
pub(crate) const TERMINALS: u32 = 3;
/// From this version on, containers can have terminals, and can be attached to.
pub(crate) const ATTACHES: u32 = 4;
/// From this version on, containers can be checkpointed and restored.
pub(crate) const CHECKPOINTS: u32 = 5;
/// From this version on, it is said whose the containers are that are attached to.
pub(crate) const OWNERS: u32 = 6;
/// From this version on, user namespaces are made.
pub(crate) const USERS: u32 = 7;
/// From this version on, containers can log into the journal.
pub(crate) const JOURNALS: u32 = 8;
/// Longest message, in bytes: the longest question has two paths, of 4 KiB and 512 bytes, each byte
/// escaped by at most six; the longest answer is a failure, cut to fit.
pub(crate) const MAX_MESSAGE: usize = 64 << 10;
/// Most descriptors beside a message: a container's mounts.
pub(crate) const MAX_FDS: usize = 3 + MAX_MOUNTS;
/// Longest text of somebody else that is repeated in an answer, in bytes.
const MAX_QUOTE: usize = 200;
/// Longest text of a leftover in an answer, in bytes, and how many there can be.
const MAX_LEFTOVERS: (usize, usize) = (512, 3);

/// What the asker says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hello {
    /// The oldest version it speaks.
    pub(crate) oldest: u32,
    /// The newest.
    pub(crate) newest: u32,
}

/// What it is told then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// The version that counts.
    pub(crate) version: u32,
    /// Where files are looked for; see [`Layout`](crate::Layout).
    pub(crate) run_dir: PathBuf,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", content = "args", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Call {
    /// [`Spawner::prepare`](crate::Spawner::prepare), with what conmon keeps.
    Prepare(Create),
    /// [`Prepared::create`](crate::Prepared::create), with a mount for each place. Comes after
    /// [`Prepare`](Self::Prepare), on the same connection.
    Create { places: Vec<Place> },
    /// [`Spawner::start`](crate::Spawner::start), with conmon.
    Start(Target),
    /// [`Spawner::delete`](crate::Spawner::delete), with conmon if that is known.
    Delete { target: Target, force: Force },
    /// [`Spawner::exec`](crate::Spawner::exec), with conmon and three files.
    Exec(Exec),
    /// [`Spawner::attach`](crate::Spawner::attach), with the container's first process, and with pipes for
    /// those of its three streams that are passed on.
    Attach { attach: Attach, streams: [bool; 3] },
    /// [`Spawner::version`](crate::Spawner::version).
    Version { runtime: OciRuntime },
    /// [`Spawner::limits`](crate::Spawner::limits).
    Limits {},
    /// [`Spawner::cleanup_cgroup`](crate::Spawner::cleanup_cgroup).
    CleanupCgroup { cgroup: CgroupPath, extent: Extent },
    /// [`Spawner::make_cgroup`](crate::Spawner::make_cgroup).
    MakeCgroup { cgroup: CgroupPath },
    /// [`Spawner::remove_empty_cgroup`](crate::Spawner::remove_empty_cgroup).
    RemoveEmptyCgroup { cgroup: CgroupPath },
    /// [`Spawner::load_profile`](crate::Spawner::load_profile).
    LoadProfile { profile: Profile },
    /// [`Spawner::unload_profile`](crate::Spawner::unload_profile).
    UnloadProfile { name: ProfileName },
    /// [`Spawner::swap_file`](crate::Spawner::swap_file), with the container's first process.
    SwapFile { target: Target, file: LiveFile },
    /// [`Spawner::checkpoint`](crate::Spawner::checkpoint), with conmon and a directory.
    Checkpoint(Checkpoint),
    /// [`Dumped::commit`](crate::Dumped::commit). Comes after [`Checkpoint`](Self::Checkpoint), on the
    /// same connection.
    Commit {},
    /// [`Spawner::make_users`](crate::Spawner::make_users).
    MakeUsers(UserMap),
}

/// All verbs.
const VERBS: [&str; 17] = [
    "prepare",
    "create",
    "start",
    "delete",
    "exec",
    "attach",
    "version",
    "limits",
    "cleanup-cgroup",
    "make-cgroup",
    "remove-empty-cgroup",
    "load-profile",
    "unload-profile",
    "swap-file",
    "checkpoint",
    "commit",
    "make-users",
];

impl Call {
    /// Reads a question.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Rejection> {
        serde_json::from_slice(text).map_err(|error| match serde_json::from_slice(text) {
            Ok(Head { verb }) if !VERBS.contains(&verb.as_str()) => {
                Rejection::UnknownVerb { verb: quote(&verb) }
            }
            _ => malformed(&error),
        })
    }

    /// How many descriptors come with it.
    pub(crate) fn descriptors(&self) -> RangeInclusive<usize> {
        match self {
            Self::Create { places } => places.len()..=places.len(),
            Self::Start(_) | Self::SwapFile { .. } => 1..=1,
            Self::Delete { .. } => 0..=1,
            Self::Exec(_) => 4..=4,
            Self::Attach { streams, .. } => {
                let given = 1 + streams.iter().filter(|given| **given).count();
                given..=given
            }
            Self::Checkpoint(_) => 2..=2,
            Self::Prepare(_) => 0..=MAX_KEPT,
            Self::Version { .. }
            | Self::Limits {}
            | Self::CleanupCgroup { .. }
            | Self::MakeCgroup { .. }
            | Self::RemoveEmptyCgroup { .. }
            | Self::LoadProfile { .. }
            | Self::UnloadProfile { .. }
            | Self::MakeUsers(_)
            | Self::Commit {} => 0..=0,
        }
    }

    /// Whether it may be asked again where nobody knows whether it was done.
    pub(crate) fn is_repeatable(&self) -> bool {
        !matches!(
            self,
            Self::Prepare(_)
                | Self::Create { .. }
                | Self::Start(_)
                | Self::Exec(_)
                | Self::Attach { .. }
                | Self::SwapFile { .. }
                | Self::Checkpoint(_)
                | Self::Commit {}
        )
    }
}

/// The part of a question that tells what it is.
#[derive(Deserialize)]
struct Head {
    verb: String,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// To [`Hello`].
    Welcome(Welcome),
    /// It was done.
    Done(Answer),
    /// It was tried, and failed.
    Failed(Failure),
    /// It was not understood, or not listened to.
    Rejected(Rejection),
}

/// What came of a call. Pids have their pidfds beside the message, in the same order.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Nothing,
    Prepared {
        supervisor: u32,
    },
    Created {
        supervisor: u32,
        init: u32,
    },
    Deleted(Deleted),
    /// With the other side of its terminal last, if it has one.
    Execed {
        supervisor: Option<u32>,
        process: Option<u32>,
    },
    Swapped(Swapped),
    Version(String),
    Limits(Limits),
    /// With the namespace beside it.
    Users,
}

impl Reply {
    /// The reply to a failure, cut so that it fits into a message.
    pub(crate) fn failed(mut failure: Failure) -> Self {
        let (longest, most) = MAX_LEFTOVERS;
        failure.leftovers.truncate(most);
        for Leftover { undo, source } in &mut failure.leftovers {
            shorten(undo, longest);
            if source.raw_os_error().is_none() {
                let mut text = source.to_string();
                shorten(&mut text, longest);
                *source = io::Error::other(text);
            }
        }
        Self::Failed(failure)
    }
}

/// Writes a message.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(message)?)
}

/// Reads a message.
pub(crate) fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, Rejection> {
    serde_json::from_slice(text).map_err(|error| malformed(&error))
}

fn malformed(error: &serde_json::Error) -> Rejection {
    Rejection::Malformed { why: quote(&error.to_string()) }
}

/// Text of unknown quality, on one line and short.
fn quote(text: &str) -> String {
    let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
    shorten(&mut text, MAX_QUOTE);
    text
}

fn shorten(text: &mut String, longest: usize) {
    let end = (0..=longest.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
}

/// An [`io::Error`] in a message: by its number where it has one, else by its text.
pub(crate) mod io_error {
    use std::io;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Told {
        Number(i32),
        Text(String),
    }

    pub(crate) fn serialize<S: Serializer>(error: &io::Error, to: S) -> Result<S::Ok, S::Error> {
        let told = error.raw_os_error().map(Told::Number);
        told.unwrap_or_else(|| Told::Text(error.to_string())).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<io::Error, D::Error> {
        Ok(match Told::deserialize(from)? {
            Told::Number(number) => io::Error::from_raw_os_error(number),
            Told::Text(text) => io::Error::other(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cause, MAX_PROFILE, Refusal, Streams};
    use proptest::prelude::*;
    use std::time::Duration;

    fn target() -> Target {
        let id = "ab".repeat(32).parse().unwrap();
        Target { id, incarnation: crate::Incarnation(3), runtime: OciRuntime::Crun }
    }

    fn create(log_path: &str) -> Create {
        Create {
            id: target().id,
            incarnation: target().incarnation,
            runtime: OciRuntime::Crun,
            cgroup: "/tare/x".parse().unwrap(),
            log: crate::Log::File(log_path.into()),
            stdin: crate::Stdin::Null,
            restore: None,
        }
    }

    fn profile(rules: &str) -> Profile {
        let flags = "flags=(attach_disconnected, mediate_deleted)";
        format!("profile \"tare-default\" {flags} {{\n{rules}}}\n").try_into().unwrap()
    }

    fn exec(cgroup: CgroupPath) -> Exec {
        Exec { target: target(), session: 1, cgroup, streams: Streams::Given }
    }

    fn attach(owner: Option<u32>) -> Attach {
        Attach { target: target(), stdin: crate::Stdin::Open, owner }
    }

    fn users() -> UserMap {
        let range = crate::IdRange { inside: 0, outside: 100_000, size: 65_536 };
        UserMap { uids: vec![range], gids: vec![range] }
    }

    fn calls() -> Vec<Call> {
        let cgroup: CgroupPath = "/tare/x".parse().unwrap();
        vec![
            Call::Prepare(create("/var/log/c")),
            Call::Create { places: vec![Place::Rootfs, Place::Shm, Place::Mount(7)] },
            Call::Start(target()),
            Call::Delete { target: target(), force: Force::Kill },
            Call::Exec(exec(cgroup.clone())),
            Call::Attach { attach: attach(None), streams: [false, true, true] },
            Call::Version { runtime: OciRuntime::Runc },
            Call::Limits {},
            Call::CleanupCgroup { cgroup: cgroup.clone(), extent: Extent::Below },
            Call::MakeCgroup { cgroup: cgroup.clone() },
            Call::RemoveEmptyCgroup { cgroup },
            Call::LoadProfile { profile: profile("") },
            Call::UnloadProfile { name: profile("").name().clone() },
            Call::SwapFile { target: target(), file: LiveFile::ResolvConf },
            Call::Checkpoint(Checkpoint {
                target: target(),
                after: crate::After::GoesOn,
                extras: crate::Extras { file_locks: true, ..Default::default() },
            }),
            Call::Commit {},
            Call::MakeUsers(users()),
        ]
    }

    #[test]
    fn each_verb_is_read_as_it_is_written() {
        let mut verbs = Vec::new();
        for call in calls() {
            let text = encode(&call).unwrap();
            assert_eq!(Call::parse(&text), Ok(call));
            verbs.push(serde_json::from_slice::<Head>(&text).unwrap().verb);
        }
        assert_eq!(verbs, VERBS);
    }

    /// Version 1, as it is on the wire: an older `tare-spawn` goes on while `tared` is upgraded.
    #[test]
    fn the_first_version_stays_as_it_is() {
        let id = "ab".repeat(32);
        let target = format!(r#"{{"id":"{id}","incarnation":3,"runtime":"crun"}}"#);
        let range = r#"{"inside":0,"outside":100000,"size":65536}"#;
        let text = |call: &Call| String::from_utf8(encode(call).unwrap()).unwrap();
        for (call, want) in calls().iter().zip([
            format!(
                r#"{{"verb":"prepare","args":{{"id":"{id}","incarnation":3,"runtime":"crun","cgroup":"/tare/x","log_path":"/var/log/c","stdin":"null"}}}}"#
            ),
            r#"{"verb":"create","args":{"places":["rootfs","shm",{"mount":7}]}}"#.into(),
            format!(r#"{{"verb":"start","args":{target}}}"#),
            format!(r#"{{"verb":"delete","args":{{"target":{target},"force":"kill"}}}}"#),
            format!(r#"{{"verb":"exec","args":{{"target":{target},"session":1,"cgroup":"/tare/x"}}}}"#),
            format!(r#"{{"verb":"attach","args":{{"attach":{{"target":{target},"stdin":"open"}},"streams":[false,true,true]}}}}"#),
            r#"{"verb":"version","args":{"runtime":"runc"}}"#.into(),
            r#"{"verb":"limits","args":{}}"#.into(),
            r#"{"verb":"cleanup-cgroup","args":{"cgroup":"/tare/x","extent":"below"}}"#.into(),
            r#"{"verb":"make-cgroup","args":{"cgroup":"/tare/x"}}"#.into(),
            r#"{"verb":"remove-empty-cgroup","args":{"cgroup":"/tare/x"}}"#.into(),
            r#"{"verb":"load-profile","args":{"profile":"profile \"tare-default\" flags=(attach_disconnected, mediate_deleted) {\n}\n"}}"#.into(),
            r#"{"verb":"unload-profile","args":{"name":"tare-default"}}"#.into(),
            format!(r#"{{"verb":"swap-file","args":{{"target":{target},"file":"resolv-conf"}}}}"#),
            format!(
                r#"{{"verb":"checkpoint","args":{{"target":{target},"after":"goes-on","extras":{{"tcp_established":false,"file_locks":true,"external_unix_sockets":false}}}}}}"#
            ),
            r#"{"verb":"commit","args":{}}"#.into(),
            format!(r#"{{"verb":"make-users","args":{{"uids":[{range}],"gids":[{range}]}}}}"#),
        ]) {
            assert_eq!(text(call), want);
        }
    }

    #[test]
    fn what_the_journal_is_told_is_said_in_place_of_a_path() {
        let journal = crate::JournalLog { name: "web".into() };
        let with = Create { log: crate::Log::Journal(journal), ..create("") };
        let text = encode(&Call::Prepare(with.clone())).unwrap();
        let want = r#""log_path":{"name":"web"}"#;
        assert!(String::from_utf8_lossy(&text).contains(want));
        assert_eq!(Call::parse(&text), Ok(Call::Prepare(with)));
    }

    #[test]
    fn that_a_process_has_a_terminal_is_said() {
        let with = Exec { streams: Streams::Terminal, ..exec("/tare/x".parse().unwrap()) };
        let text = encode(&Call::Exec(with.clone())).unwrap();
        assert!(String::from_utf8_lossy(&text).contains(r#""streams":"terminal""#));
        assert_eq!(Call::parse(&text), Ok(Call::Exec(with)));
    }

    #[test]
    fn whose_a_container_is_is_said_to_who_attaches() {
        let with = Call::Attach { attach: attach(Some(7)), streams: [false; 3] };
        let text = encode(&with).unwrap();
        assert!(String::from_utf8_lossy(&text).contains(r#""stdin":"open","owner":7}"#));
        assert_eq!(Call::parse(&text), Ok(with));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let id = "ab".repeat(32);
        let unknown =
            |text: &str| matches!(Call::parse(text.as_bytes()), Err(Rejection::UnknownVerb { .. }));
        let malformed =
            |text: &str| matches!(Call::parse(text.as_bytes()), Err(Rejection::Malformed { .. }));
        assert!(unknown(r#"{"verb":"run","args":{"argv":["/bin/sh"]}}"#));
        assert!(unknown(r#"{"verb":"","args":{}}"#));
        for text in [
            "",
            "{",
            "[]",
            "\u{0}",
            r#"{"args":{}}"#,
            r#"{"verb":"limits"}"#,
            r#"{"verb":"limits","args":{"more":1}}"#,
            r#"{"verb":"limits","args":{},"more":1}"#,
            r#"{"verb":"limits","args":{}}{}"#,
            r#"{"verb":"version","args":{"runtime":"sh"}}"#,
            r#"{"verb":"cleanup-cgroup","args":{"cgroup":"/a/../b","extent":"whole"}}"#,
            r#"{"verb":"create","args":{"places":["etc"]}}"#,
            r#"{"verb":"load-profile","args":{"profile":"profile other {}"}}"#,
            r#"{"verb":"unload-profile","args":{"name":"docker-default"}}"#,
            &format!(
                r#"{{"verb":"swap-file","args":{{"target":{{"id":"{id}","incarnation":3,"runtime":"crun"}},"file":"/etc/passwd"}}}}"#
            ),
            &format!(
                r#"{{"verb":"start","args":{{"id":"../{id}","incarnation":3,"runtime":"crun"}}}}"#
            ),
            &format!(
                r#"{{"verb":"start","args":{{"id":"{id}","incarnation":-1,"runtime":"crun"}}}}"#
            ),
            &format!(
                r#"{{"verb":"start","args":{{"id":"{id}","incarnation":1,"runtime":"crun","argv":[]}}}}"#
            ),
        ] {
            assert!(malformed(text), "{text}");
        }
    }

    #[test]
    fn failures_are_told_as_they_are() {
        let os = || io::Error::from_raw_os_error(libc::EBUSY);
        for cause in [
            Cause::Refused(Refusal::NoBundle),
            Cause::Runtime { message: "no".into() },
            Cause::Timeout { limit: Duration::from_secs(60) },
            Cause::Gone,
            Cause::Step { step: "make it".into(), source: os() },
            Cause::Step { step: "make it".into(), source: io::Error::other("because") },
        ] {
            let said =
                format!("{cause:?}").replace("Custom { kind: Other, error: \"because\" }", "");
            let leftovers = vec![Leftover { undo: "unmake it".into(), source: os() }];
            let reply = Reply::failed(Failure { cause, leftovers });
            match decode(&encode(&reply).unwrap()).unwrap() {
                Reply::Failed(Failure { cause, leftovers }) => {
                    let told = format!("{cause:?}");
                    assert_eq!(
                        told.replace("Custom { kind: Other, error: \"because\" }", ""),
                        said
                    );
                    assert_eq!(leftovers[0].source.raw_os_error(), Some(libc::EBUSY));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_longest_question_and_answer_fit() {
        let escaped = |length| "\u{1}".repeat(length);
        let mut longest = create(&escaped(libc::PATH_MAX.unsigned_abs() as usize));
        longest.cgroup = format!("/{}/{0}", "c".repeat(255)).parse().unwrap();
        assert!(encode(&Call::Prepare(longest)).unwrap().len() <= MAX_MESSAGE);
        let rules = "  deny \"\",\n".repeat(MAX_PROFILE / 12 - 10);
        let longest = Call::LoadProfile { profile: profile(&rules) };
        assert!(encode(&longest).unwrap().len() <= MAX_MESSAGE);
        let leftover =
            |_| Leftover { undo: escaped(9999), source: io::Error::other(escaped(9999)) };
        let leftovers = (0..99).map(leftover).collect();
        let cause = Cause::Step { step: escaped(512), source: io::Error::other(escaped(4096)) };
        let reply = Reply::failed(Failure { cause, leftovers });
        assert!(encode(&reply).unwrap().len() <= MAX_MESSAGE);
        let mut short = String::from("\u{e9}\u{e9}");
        shorten(&mut short, 3);
        assert_eq!(short, "\u{e9}");
    }

    proptest! {
        #[test]
        fn a_damaged_question_is_refused_or_means_what_it_says(
            which in 0..VERBS.len(),
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut text = encode(&calls()[which]).unwrap();
            let at = at.index(text.len());
            text[at] = byte;
            if let Ok(call) = Call::parse(&text) {
                let said: serde_json::Value = serde_json::from_slice(&text).unwrap();
                prop_assert_eq!(serde_json::to_value(&call).unwrap(), said);
            }
        }
    }
}
