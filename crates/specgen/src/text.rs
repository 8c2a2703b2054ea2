//! Texts that cannot be wrong: each type is checked once, when it is parsed.

use std::fmt;

/// Longest argument or environment entry, in bytes: the kernel's `MAX_ARG_STRLEN` (32 pages of
/// 4 KiB) less the NUL that ends it.
pub const MAX_ARGUMENT: usize = 32 * 4096 - 1;

/// Longest path, in bytes: the kernel's `PATH_MAX` less the NUL that ends it.
pub const MAX_PATH: usize = 4095;

/// Longest label or annotation key, in bytes: far beyond any in use, and short enough to be shown.
pub const MAX_KEY: usize = 1024;

/// Why a text is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {problem}")]
pub struct InvalidText {
    what: &'static str,
    problem: Problem,
}

impl InvalidText {
    pub(crate) const fn new(what: &'static str, problem: Problem) -> Self {
        Self { what, problem }
    }

    /// What the text should have been, as in "hostname".
    pub const fn what(&self) -> &'static str {
        self.what
    }
}

/// What is the matter with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Empty,
    TooLong { max: usize },
    Byte { at: usize },
    Form(&'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong { max } => write!(f, "is longer than {max} bytes"),
            Self::Byte { at } => write!(f, "has a forbidden byte at offset {at}"),
            Self::Form(rule) => f.write_str(rule),
        }
    }
}

pub(crate) use crate::macros::{number_type, string_form, switch, text_type, word_type};

/// Whether a part of a request is as if nobody had said anything.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Checks the length in bytes, then every byte (given with its offset).
pub(crate) fn check_bytes(
    text: &str,
    max: usize,
    allowed: impl Fn(usize, u8) -> bool,
) -> Result<(), Problem> {
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    if text.len() > max {
        return Err(Problem::TooLong { max });
    }
    match text.bytes().enumerate().find(|&(at, byte)| !allowed(at, byte)) {
        Some((at, _)) => Err(Problem::Byte { at }),
        None => Ok(()),
    }
}

/// Checks every character beyond ASCII too: some terminals obey the control characters among them.
pub(crate) fn check_chars(text: &str, allowed: impl Fn(char) -> bool) -> Result<(), Problem> {
    let bad = text.char_indices().find(|(_, it)| !allowed(*it));
    bad.map_or(Ok(()), |(at, _)| Err(Problem::Byte { at }))
}

fn check_no_nul(text: &str, max: usize) -> Result<(), Problem> {
    if text.len() > max {
        return Err(Problem::TooLong { max });
    }
    text.bytes().position(|byte| byte == 0).map_or(Ok(()), |at| Err(Problem::Byte { at }))
}

text_type! {
    /// One argument of a command: any text without NUL, 0 to [`MAX_ARGUMENT`] bytes.
    ///
    /// See execve(2).
    Argument, "argument", |text| check_no_nul(text, MAX_ARGUMENT)
}

text_type! {
    /// One environment entry `NAME=value`, at most [`MAX_ARGUMENT`] bytes.
    ///
    /// The name has at least one byte and neither `=`, white space nor control characters; the
    /// value is any text without NUL, line breaks included. A bare `NAME` is refused, so that no
    /// entry can ask for a value out of somebody else's environment.
    EnvVar, "environment entry", check_env
}

fn check_env(text: &str) -> Result<(), Problem> {
    check_no_nul(text, MAX_ARGUMENT)?;
    let Some((name, _)) = text.split_once('=') else {
        return Err(Problem::Form("is not of the form NAME=value"));
    };
    check_bytes(name, MAX_ARGUMENT, |_, byte| byte > b' ' && byte != 0x7f)
}

impl EnvVar {
    /// What stands before the first `=`.
    pub fn name(&self) -> &str {
        self.0.split_once('=').map_or(self.as_str(), |(name, _)| name)
    }

    /// What stands after the first `=`.
    pub fn value(&self) -> &str {
        self.0.split_once('=').map_or("", |(_, value)| value)
    }
}

text_type! {
    /// An absolute path: starts with `/`, has no `..` part and no control characters, 1 to
    /// [`MAX_PATH`] bytes.
    AbsolutePath, "path", check_absolute
}

fn check_absolute(text: &str) -> Result<(), Problem> {
    check_bytes(text, MAX_PATH, |_, byte| !byte.is_ascii_control())?;
    check_chars(text, |it| !it.is_control())?;
    if !text.starts_with('/') {
        return Err(Problem::Form("is not absolute"));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(Problem::Form("has a \"..\" part"));
    }
    Ok(())
}

text_type! {
    /// The directory a process starts in: an [`AbsolutePath`] that is not below `/proc`.
    ///
    /// `/proc/self/fd/N` as working directory led out of the container in runc (CVE-2024-21626).
    WorkingDir, "working directory", check_working_dir
}

fn check_working_dir(text: &str) -> Result<(), Problem> {
    check_absolute(text)?;
    match text.split('/').find(|part| !matches!(*part, "" | ".")) {
        Some("proc") => Err(Problem::Form("is below /proc")),
        _ => Ok(()),
    }
}

impl WorkingDir {
    /// The root directory, which is where a process starts when nobody says otherwise.
    pub fn root() -> Self {
        Self("/".to_owned())
    }
}

text_type! {
    /// Key of a label: 1 to [`MAX_KEY`] bytes without control characters.
    LabelKey, "label key", |text| check_bytes(text, MAX_KEY, |_, byte| !byte.is_ascii_control())
}

text_type! {
    /// Key of an annotation: 1 to [`MAX_KEY`] bytes without control characters, and none of those
    /// that OCI runtimes and their helpers take orders from (see [`RESERVED_ANNOTATIONS`]).
    AnnotationKey, "annotation key", check_annotation
}

/// Beginnings of annotation keys that change what a runtime does on the host, and are refused.
///
/// systemd unit properties (CVE-2024-3154), crun's own switches and its wasm handlers, a CRIU
/// configuration file by host path, CDI devices, Kata's hypervisor settings, and the two keys that
/// this crate writes itself.
pub const RESERVED_ANNOTATIONS: &[&str] = &[
    "org.systemd.property.",
    "run.oci.",
    "module.wasm.image/",
    "org.criu.",
    "cdi.k8s.io/",
    "io.katacontainers.",
    crate::document::MANAGER_ANNOTATION,
    crate::document::STOP_SIGNAL_ANNOTATION,
];

fn check_annotation(text: &str) -> Result<(), Problem> {
    check_bytes(text, MAX_KEY, |_, byte| !byte.is_ascii_control())?;
    if RESERVED_ANNOTATIONS.iter().any(|reserved| text.starts_with(reserved)) {
        return Err(Problem::Form("is reserved"));
    }
    Ok(())
}

number_type! {
    /// Size of `/dev/shm` in bytes: 4 KiB to 1 TiB; [`ShmSize::DEFAULT`] is 64 MiB as in podman.
    ///
    /// One page at least: tmpfs(5) rounds up to it, and takes 0 as "no limit". More than 1 TiB is a
    /// slip of the keyboard.
    ShmSize, "size of /dev/shm", 4096, 1 << 40, "is not within 4 KiB and 1 TiB"
}

impl ShmSize {
    /// 64 MiB.
    pub const DEFAULT: Self = Self(64 << 20);

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problem<T>(parsed: Result<T, InvalidText>) -> Option<Problem> {
        parsed.err().map(|error| error.problem)
    }

    #[test]
    fn environment_entries() {
        let bare = Problem::Form("is not of the form NAME=value");
        let cases = [
            ("plain", "A=b", None),
            ("empty value", "A=", None),
            ("line break in the value", "A=b\nc", None),
            ("second equals sign", "A=b=c", None),
            ("dots and dashes", "a.b-c=1", None),
            ("bare name", "HOME", Some(bare)),
            ("empty", "", Some(bare)),
            ("no name", "=x", Some(Problem::Empty)),
            ("NUL", "A=\0", Some(Problem::Byte { at: 2 })),
            ("line break in the name", "A\nB=c", Some(Problem::Byte { at: 1 })),
            ("space in the name", "A B=c", Some(Problem::Byte { at: 1 })),
        ];
        for (about, input, want) in cases {
            assert_eq!(problem(input.parse::<EnvVar>()), want, "{about}");
        }
        let entry = "A=b=c".parse::<EnvVar>().unwrap();
        assert_eq!((entry.name(), entry.value()), ("A", "b=c"));
    }

    #[test]
    fn paths_and_working_directories() {
        let below_proc = Problem::Form("is below /proc");
        let dots = Problem::Form("has a \"..\" part");
        let cases = [
            ("root", "/", None, None),
            ("trailing slash", "/srv/", None, None),
            ("relative", "srv", Some(Problem::Form("is not absolute")), None),
            ("up", "/srv/../etc", Some(dots), None),
            ("line of a passwd file", "/x\nevil:*:0:0::", Some(Problem::Byte { at: 2 }), None),
            ("carriage return", "/x\r", Some(Problem::Byte { at: 2 }), None),
            ("proc", "/proc", None, Some(below_proc)),
            ("an open file", "/proc/self/fd/7", None, Some(below_proc)),
            ("in disguise", "//./proc/self", None, Some(below_proc)),
            ("only named alike", "/process", None, None),
        ];
        for (about, input, path, dir) in cases {
            assert_eq!(problem(input.parse::<AbsolutePath>()), path, "{about}");
            assert_eq!(problem(input.parse::<WorkingDir>()), path.or(dir), "{about}");
        }
    }

    #[test]
    fn annotations_cannot_steer_the_runtime() {
        for key in [
            "org.systemd.property.ExecStop",
            "run.oci.hooks.stderr",
            "org.criu.config",
            "module.wasm.image/variant",
            "io.container.manager",
            "",
            "a\nb",
        ] {
            assert!(key.parse::<AnnotationKey>().is_err(), "{key:?}");
        }
        assert!("com.example.team".parse::<AnnotationKey>().is_ok());
    }

    #[test]
    fn sizes_of_shm() {
        for (bytes, good) in [(0, false), (4095, false), (4096, true), (1 << 40, true)] {
            assert_eq!(ShmSize::try_from(bytes).is_ok(), good, "{bytes}");
        }
        assert!(ShmSize::try_from((1 << 40) + 1).is_err());
    }

    #[test]
    fn lengths_are_bounded() {
        assert!("a".repeat(MAX_ARGUMENT).parse::<Argument>().is_ok());
        assert!("a".repeat(MAX_ARGUMENT + 1).parse::<Argument>().is_err());
        assert!(format!("/{}", "a".repeat(MAX_PATH)).parse::<AbsolutePath>().is_err());
    }

    proptest! {
        #[test]
        fn serde_checks_as_parsing_does(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(
                serde_json::from_str::<WorkingDir>(&json).ok(),
                text.parse::<WorkingDir>().ok()
            );
        }

        #[test]
        fn good_paths_have_one_line(text in any::<String>()) {
            if let Ok(path) = text.parse::<AbsolutePath>() {
                prop_assert_eq!(path.as_str().lines().count(), 1);
            }
        }
    }
}
