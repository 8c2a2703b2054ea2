//! Reads what conmon and the runtimes say, which is text of uncertain quality.

use serde::Deserialize;

/// Longest message that is passed on, in bytes.
const MAX_MESSAGE: usize = 4 << 10;

/// One line on conmon's sync pipe, API version 1.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Word {
    /// A pid; negative if the runtime failed.
    pub(crate) data: i32,
    /// What the runtime printed then.
    #[serde(default)]
    pub(crate) message: String,
}

impl Word {
    /// Reads a line. `None` if it is none; conmon escapes less than JSON demands.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_str(&String::from_utf8_lossy(line)).ok()
    }
}

/// What a runtime logs with `--log-format=json`.
#[derive(Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    msg: String,
}

/// The last thing said in a program's output that explains a failure, in one line: the last error
/// logged, or else the end of the output.
pub(crate) fn last_words(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let logged = text.lines().rev().filter_map(|line| serde_json::from_str::<LogLine>(line).ok());
    let error = { logged }.find(|line| line.level != "warning" && line.level != "debug");
    let words = one_line(error.as_ref().map_or(&text, |line| &line.msg));
    if words.is_empty() { "it said nothing".into() } else { words }
}

/// The end of `text`, on one line and without control characters.
fn one_line(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line: String =
        lines.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let start = line.len().saturating_sub(MAX_MESSAGE);
    let start = (start..=line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    line[start..].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_of_conmon_are_read() {
        let word = |data, message: &str| Some(Word { data, message: message.into() });
        for (line, want) in [
            (r#"{"data": 7965}"#, word(7965, "")),
            (r#"{"data": -1, "message": "no\n\/x\u001b"}"#, word(-1, "no\n/x\u{1b}")),
            ("", None),
            ("{\"data\": -1, \"message\": \"raw \x01\"}", None),
            (r#"{"pid": 3}"#, None),
        ] {
            assert_eq!(Word::parse(line.as_bytes()), want, "{line:?}");
        }
    }

    #[test]
    fn the_last_error_explains() {
        for (output, want) in [
            (
                "{\"level\":\"warning\",\"msg\":\"cgroup\",\"time\":\"x\"}\n\
                 {\"level\":\"error\",\"msg\":\"runc create failed: no\",\"time\":\"x\"}\n",
                "runc create failed: no",
            ),
            ("{\"msg\":\"error opening file\",\"level\":\"error\"}", "error opening file"),
            ("one\n\n  two \n", "one; two"),
            ("a\x1b[31mb\r\n", "a [31mb"),
            ("", "it said nothing"),
            ("{\"level\":\"warning\",\"msg\":\"w\"}", "{\"level\":\"warning\",\"msg\":\"w\"}"),
        ] {
            assert_eq!(last_words(output.as_bytes()), want, "{output:?}");
        }
    }

    proptest! {
        #[test]
        fn words_are_bounded_and_on_one_line(output in proptest::collection::vec(any::<u8>(), 0..9000)) {
            let words = last_words(&output);
            prop_assert!(words.len() <= MAX_MESSAGE);
            prop_assert!(!words.chars().any(char::is_control));
        }
    }
}
