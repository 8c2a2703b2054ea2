//! The point where a test makes a step fail; nothing at all without the cargo feature `fault`.

use std::fmt;
use std::io;

/// Asked before every step; an error it returns is taken for the kernel's answer.
#[cfg(feature = "fault")]
static HOOK: std::sync::OnceLock<fn(&dyn fmt::Display) -> io::Result<()>> =
    std::sync::OnceLock::new();

/// Sets the process-wide hook; the first one set stays.
#[cfg(feature = "fault")]
pub fn set_hook(hook: fn(&dyn fmt::Display) -> io::Result<()>) {
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
#[inline(always)]
#[expect(clippy::unnecessary_wraps, clippy::inline_always, reason = "same shape as with `fault`")]
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
#[inline(always)]
#[expect(clippy::unnecessary_wraps, clippy::inline_always, reason = "same shape as with `fault`")]
pub(crate) fn leaves_out(_step: &dyn fmt::Display) -> io::Result<bool> {
    Ok(false)
}
