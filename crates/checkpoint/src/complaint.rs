//! What CRIU has to say when it fails.

/// Why CRIU did not do what it was asked, from its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// In CRIU's words, in one line and short.
    pub text: String,
    /// What it would have to be told, if that is all it takes.
    pub wants: Option<Extra>,
}

/// What CRIU takes along only if it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extra {
    /// TCP connections that are established.
    TcpEstablished,
    /// Locks on files.
    FileLocks,
    /// Unix sockets whose other end is outside of the container.
    ExternalUnixSockets,
}

/// The word of CRIU's option is in what it says, whatever else changes about that.
const EXTRAS: [(&str, Extra); 3] = [
    ("--tcp-established", Extra::TcpEstablished),
    ("--file-locks", Extra::FileLocks),
    ("--ext-unix-sk", Extra::ExternalUnixSockets),
];

/// Errors that say nothing: CRIU goes on after the first, and the others come after a reason.
const NO_REASONS: [&str; 3] = ["RLIMIT_NOFILE", "Dumping FAILED", "Restoring FAILED"];

impl Complaint {
    /// How much of the end of a log is worth to be read, in bytes.
    pub const MAX_LOG: usize = 1 << 20;
    /// Longest text, in bytes.
    pub const MAX_TEXT: usize = 512;

    /// The first error in a log that says something; later ones mostly follow from it. None if there
    /// is no error. What is in a log is written by CRIU, but may name what is in a container.
    pub fn find(log: &[u8]) -> Option<Self> {
        let errors = log.split(|byte| *byte == b'\n').filter_map(error);
        let text =
            errors.into_iter().find(|text| !NO_REASONS.iter().any(|no| text.contains(no)))?;
        let wants = EXTRAS.iter().find(|(word, _)| text.contains(word)).map(|(_, extra)| *extra);
        Some(Self { text, wants })
    }
}

/// The version of the CRIU that has written a log, which that begins with.
pub fn criu_version(log: &[u8]) -> Option<String> {
    const MAX_LINES: usize = 16;
    let version = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        let (_stamp, rest) = line.split_once(") Version: ")?;
        Some(shortened(rest.split_whitespace().next()?))
    };
    log.split(|byte| *byte == b'\n').take(MAX_LINES).find_map(version)
}

/// What an error in a line says: it looks like `(00.012345)    12: Error (criu/tty.c:34): text`.
fn error(line: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let (before, rest) = line.split_once("Error (")?;
    // Text of a container can come later in a line only.
    let is_stamp = |c: char| matches!(c, '(' | ')' | '.' | ':' | ' ') || c.is_ascii_digit();
    let (_place, text) = rest.split_once("): ")?;
    before.chars().all(is_stamp).then(|| shortened(text))
}

fn shortened(text: &str) -> String {
    let mut text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    let end = (0..=Complaint::MAX_TEXT.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(log: &str) -> Option<(String, Option<Extra>)> {
        Complaint::find(log.as_bytes()).map(|complaint| (complaint.text, complaint.wants))
    }

    #[test]
    fn the_first_error_that_says_something_is_the_reason() {
        let harmless =
            "(00.000017) Error (criu/rlimit.c:9): rlimit: Can't setup RLIMIT_NOFILE for self";
        let last = "(00.091234) Error (criu/cr-dump.c:2098): Dumping FAILED.";
        for (errors, want) in [
            (vec![], None),
            (
                vec![
                    "(00.07) Error (criu/sk-inet.c:188): inet: Connected TCP socket, consider using --tcp-established option.",
                ],
                Some((
                    "inet: Connected TCP socket, consider using --tcp-established option.",
                    Some(Extra::TcpEstablished),
                )),
            ),
            (
                vec![
                    "(00.07) Error (criu/file-lock.c:1): Some file locks are hold by dumping tasks! You can try --file-locks to dump them.",
                ],
                Some((
                    "Some file locks are hold by dumping tasks! You can try --file-locks to dump them.",
                    Some(Extra::FileLocks),
                )),
            ),
            (
                vec![
                    "(00.01)     12: Error (criu/tty.c:1): first",
                    "(00.02) Error (criu/x.c:2): second",
                ],
                Some(("first", None)),
            ),
            // A name that a container has chosen.
            (vec!["(00.01) Dumping path for -3 fd via self 9 [/Error (x): --file-locks]"], None),
        ] {
            let log = [&[harmless][..], &errors[..], &[last]].concat().join("\n");
            assert_eq!(find(&log), want.map(|(text, wants)| (text.to_string(), wants)));
        }
    }

    #[test]
    fn a_log_says_who_has_written_it() {
        let log = b"(00.000000) Version: 4.1.1 (gitid 0)\n(00.000007) Running on host Linux 6.12\n";
        assert_eq!(criu_version(log).unwrap(), "4.1.1");
        assert_eq!(criu_version(b"(00.0) Running\n"), None);
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_log_its_reason_is_a_short_line(log in any::<Vec<u8>>(), text in ".*") {
            let line = format!("(00.1) Error (criu/x.c:1): {text}{}", "\u{e9}".repeat(600));
            for log in [log.clone(), [&log, &b"\n"[..], line.as_bytes()].concat()] {
                if let Some(Complaint { text, .. }) = Complaint::find(&log) {
                    prop_assert!(text.len() <= Complaint::MAX_TEXT);
                    prop_assert!(!text.chars().any(char::is_control));
                }
            }
        }
    }
}
