//! The place where a test makes an effect fail, of this crate or of a leaf; nothing at all without
//! the feature `fault`.

#[cfg(feature = "fault")]
pub use hooked::{Hook, LEFT_OUT, set_hook};
#[cfg(feature = "fault")]
pub(crate) use hooked::{leaves_out, point, point_aside};

#[cfg(feature = "fault")]
mod hooked {
    use std::sync::OnceLock;
    use std::{fmt, io};

    /// Gets the name of the crate whose effect it is, without `tare-`, and the effect in words.
    pub type Hook = fn(&'static str, &dyn fmt::Display) -> io::Result<()>;

    /// The error by which a hook has an effect silently not happen, of this crate or of a leaf, where
    /// nothing is made by it. No kernel answers that: the number (`ERESTARTSYS`) is one it keeps to
    /// itself.
    pub const LEFT_OUT: i32 = 512;

    static HOOK: OnceLock<Hook> = OnceLock::new();

    /// Has `hook` asked before every effect of this crate and of all leaves, in the whole process;
    /// only the first call counts. What `hook` returns as an error becomes the effect's failure.
    pub fn set_hook(hook: Hook) {
        if HOOK.set(hook).is_ok() {
            tare_names::fault::set_hook(|step| ask("names", step));
            tare_netns::fault::set_hook(|step| ask("netns", step));
            tare_runtime::fault::set_hook(|step| ask("runtime", step));
            tare_spawn::fault::set_hook(|step| ask("spawn", step));
            tare_storage::fault::set_hook(|step| ask("storage", step));
        }
    }

    pub(crate) fn point(effect: &dyn fmt::Display) -> io::Result<()> {
        ask("service", effect)
    }

    /// The same before an effect that makes nothing: whether it is to be left out without a word.
    pub(crate) fn leaves_out(effect: &dyn fmt::Display) -> io::Result<bool> {
        match point(effect) {
            Err(error) if error.raw_os_error() == Some(LEFT_OUT) => Ok(true),
            asked => asked.map(|()| false),
        }
    }

    /// The same where nothing may block: a thread is there to be held up.
    pub(crate) async fn point_aside(effect: String) -> io::Result<()> {
        let asked = tokio::task::spawn_blocking(move || point(&effect)).await;
        asked.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }

    fn ask(part: &'static str, step: &dyn fmt::Display) -> io::Result<()> {
        HOOK.get().map_or(Ok(()), |hook| hook(part, step))
    }
}

#[cfg(not(feature = "fault"))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "the same signature with and without the feature")]
pub(crate) fn point(_effect: &dyn std::fmt::Display) -> std::io::Result<()> {
    Ok(())
}

#[cfg(not(feature = "fault"))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "the same signature with and without the feature")]
pub(crate) fn leaves_out(_effect: &dyn std::fmt::Display) -> std::io::Result<bool> {
    Ok(false)
}

#[cfg(not(feature = "fault"))]
#[inline]
#[expect(clippy::unused_async, reason = "the same signature with and without the feature")]
pub(crate) async fn point_aside(_effect: String) -> std::io::Result<()> {
    Ok(())
}
