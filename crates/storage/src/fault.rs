//! The place where a test makes a step fail; nothing at all without the feature `fault`.

#[cfg(feature = "fault")]
pub use hooked::{LEFT_OUT, set_hook};
#[cfg(feature = "fault")]
pub(crate) use hooked::{leaves_out, point};

#[cfg(feature = "fault")]
mod hooked {
    use std::sync::OnceLock;
    use std::{fmt, io};

    /// The error by which a hook has an effect silently not happen, where nothing is made by it. No
    /// kernel answers that: the number (`ERESTARTSYS`) is one it keeps to itself.
    pub const LEFT_OUT: i32 = 512;

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

    /// The same before an effect that makes nothing: whether it is to be left out without a word.
    pub(crate) fn leaves_out(step: &dyn fmt::Display) -> io::Result<bool> {
        match point(step) {
            Err(error) if error.raw_os_error() == Some(LEFT_OUT) => Ok(true),
            asked => asked.map(|()| false),
        }
    }
}

#[cfg(not(feature = "fault"))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "the same signature with and without the feature")]
pub(crate) fn point(_step: &dyn std::fmt::Display) -> std::io::Result<()> {
    Ok(())
}

#[cfg(not(feature = "fault"))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "the same signature with and without the feature")]
pub(crate) fn leaves_out(_step: &dyn std::fmt::Display) -> std::io::Result<bool> {
    Ok(false)
}
