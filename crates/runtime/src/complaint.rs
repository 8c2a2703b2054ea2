/// Why the program that a container was to run could not be run: a mistake of whoever named it, and
/// not of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadCommand {
    /// There is no such program; a shell would say 127.
    NotFound,
    /// There is something, which cannot be executed; a shell would say 126.
    NotExecutable,
}

/// All words of a row in a message mean this. Those that are more precise come first.
const WORDS: &[(&[&str], BadCommand)] = &[
    // runc: a file, a directory
    (&["exec: ", "permission denied"], BadCommand::NotExecutable),
    (&["exec: ", "is a directory"], BadCommand::NotExecutable),
    // crun: a file, a directory
    (&["the path `", "is not executable"], BadCommand::NotExecutable),
    (&["the path `", "is not a regular file"], BadCommand::NotExecutable),
    // runc: not in $PATH, no such path
    (&["exec: ", "executable file not found"], BadCommand::NotFound),
    (&["exec: ", "no such file or directory"], BadCommand::NotFound),
    // crun: both
    (&["executable file `", "not found"], BadCommand::NotFound),
];

impl BadCommand {
    /// What crun or runc meant by an error message; `None` if it is about something else.
    ///
    /// Neither has a code for it, so that podman goes by their words too.
    pub fn from_message(message: &str) -> Option<Self> {
        let fits = |words: &[&str]| words.iter().all(|word| message.contains(word));
        WORDS.iter().find(|(words, _)| fits(words)).map(|(_, meaning)| *meaning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BadCommand::{NotExecutable, NotFound};

    #[test]
    fn both_runtimes_are_understood() {
        for (message, want) in [
            (
                r#"runc create failed: unable to start container process: exec: "/nonexistent": stat /nonexistent: no such file or directory"#,
                Some(NotFound),
            ),
            (
                r#"runc create failed: unable to start container process: exec: "nonexistent": executable file not found in $PATH"#,
                Some(NotFound),
            ),
            (
                r#"runc create failed: unable to start container process: exec: "/etc/passwd": permission denied"#,
                Some(NotExecutable),
            ),
            (
                r#"runc create failed: unable to start container process: exec: "/etc": is a directory"#,
                Some(NotExecutable),
            ),
            ("executable file `/nonexistent` not found: No such file or directory", Some(NotFound)),
            (
                "executable file `nonexistent` not found in $PATH: No such file or directory",
                Some(NotFound),
            ),
            (
                "the path `/etc/passwd` exists but it is not executable: Operation not permitted",
                Some(NotExecutable),
            ),
            ("the path `/etc` is not a regular file: Operation not permitted", Some(NotExecutable)),
            ("mount `proc` to `/proc`: Permission denied", None),
            ("error mounting /x to rootfs: no such file or directory", None),
            ("setrlimit (RLIM_MEMLOCK): Operation not permitted", None),
            ("", None),
        ] {
            assert_eq!(BadCommand::from_message(message), want, "{message}");
        }
    }
}
