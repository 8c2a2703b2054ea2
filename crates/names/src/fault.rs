//! Makes single effects fail on purpose, in tests.
//!
//! Without the cargo feature `fault`, which release builds lack, this does nothing.

use std::{fmt, io};

#[cfg(feature = "fault")]
static HOOK: std::sync::OnceLock<fn(&dyn fmt::Display) -> io::Result<()>> =
    std::sync::OnceLock::new();

/// Asks `hook` before every effect, for the life of the process; an error of its stands for one
/// of the effect. Only the first call counts.
#[cfg(feature = "fault")]
pub fn set_hook(hook: fn(&dyn fmt::Display) -> io::Result<()>) {
    // Setting it twice is a mistake of the test, which then sees the first hook.
    let _ = HOOK.set(hook);
}

/// The error by which a hook has an effect silently not happen, where nothing is made by it. No kernel
/// answers that: the number (`ERESTARTSYS`) is one it keeps to itself.
#[cfg(feature = "fault")]
pub const LEFT_OUT: i32 = 512;

#[cfg(feature = "fault")]
pub(crate) fn point(step: &dyn fmt::Display) -> io::Result<()> {
    HOOK.get().map_or(Ok(()), |hook| hook(step))
}

#[cfg(not(feature = "fault"))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "same signature as with the feature")]
pub(crate) fn point(_step: &dyn fmt::Display) -> io::Result<()> {
    Ok(())
}

/// The same before an effect that makes nothing: whether it is to be left out without a word.
#[cfg(feature = "fault")]
pub(crate) fn leaves_out(step: &dyn fmt::Display) -> io::Result<bool> {
    match point(step) {
        Err(error) if error.raw_os_error() == Some(LEFT_OUT) => Ok(true),
        asked => asked.map(|()| false),
    }
}

#[cfg(not(feature = "fault"))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "same signature as with the feature")]
pub(crate) fn leaves_out(_step: &dyn fmt::Display) -> io::Result<bool> {
    Ok(false)
}
