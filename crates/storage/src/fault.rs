//! The place where a test makes a step fail; nothing at all without the feature `fault`.

#[cfg(feature = "fault")]
pub(crate) use hooked::point;
#[cfg(feature = "fault")]
pub use hooked::set_hook;

#[cfg(feature = "fault")]
mod hooked {
    use std::sync::OnceLock;
    use std::{fmt, io};

    type Hook = fn(&dyn fmt::Display) -> io::Result<()>;

    static HOOK: OnceLock<Hook> = OnceLock::new();

    /// Has `hook` asked before every step of this crate, in the whole process; only the first call
    /// counts. What `hook` returns as an error becomes the step's failure.
    pub fn set_hook(hook: Hook) {
        let _ = HOOK.set(hook);
    }

    pub(crate) fn point(step: &dyn fmt::Display) -> io::Result<()> {
        HOOK.get().map_or(Ok(()), |hook| hook(step))
    }
}

#[cfg(not(feature = "fault"))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "the same signature with and without the feature")]
pub(crate) fn point(_step: &dyn std::fmt::Display) -> std::io::Result<()> {
    Ok(())
}
