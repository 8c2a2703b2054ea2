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
