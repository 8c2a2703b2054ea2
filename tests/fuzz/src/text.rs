//! What people are shown.

use std::error::Error;

/// That a text is no more than one line, whoever's words are in it.
pub(crate) fn assert_plain(text: &str) {
    assert!(!text.chars().any(char::is_control), "it has control characters: {text:?}");
}

/// That each of an error and its causes is one plain line.
pub(crate) fn assert_told_plainly(error: &dyn Error) {
    let mut next = Some(error);
    while let Some(error) = next {
        assert_plain(&error.to_string());
        next = error.source();
    }
}
