//! Programs of the host that the runtime runs for a container, from directories that root names.

use std::path::Path;

use tare_specgen::{AbsolutePath, Effective, Hooks, MAX_HOOK_FILE, OciHooks};

use super::trusted::{json_files, program};
use crate::engine::{Error, host};

/// The hooks that this container gets, as the files are now. Reads files.
///
/// # Errors
///
/// [`Error::HostFiles`], [`Error::InvalidSpec`], [`Error::PrecreateHook`].
pub(super) fn of(effective: &Effective) -> Result<OciHooks, Error> {
    let read = |dir: &AbsolutePath| {
        json_files(Path::new(dir.as_str()), MAX_HOOK_FILE)
            .map_err(|source| Error::HostFiles { option: "HooksDirs", source })
    };
    let directories: Vec<_> =
        effective.request.hooks_dirs.iter().map(read).collect::<Result<_, _>>()?;
    let hooks = Hooks::parse(directories.iter().map(|files| named(files)));
    let hooks = hooks.map_err(Error::InvalidSpec)?;
    let hooks = hooks.select(effective);
    // It would change what was asked about.
    if hooks.precreate.is_empty() { trusted("HooksDirs", hooks) } else { Err(Error::PrecreateHook) }
}

/// The same hooks, if their programs are root's alone; each where it really is.
///
/// # Errors
///
/// [`Error::HostFiles`], about the option they came with.
pub(super) fn trusted(option: &'static str, hooks: OciHooks) -> Result<OciHooks, Error> {
    hooks.relocated(|path| {
        let found = program(Path::new(path.as_str()));
        host::path(&found.map_err(|source| Error::HostFiles { option, source })?)
    })
}

fn named(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect()
}
