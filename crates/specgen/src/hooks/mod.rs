//! OCI hooks: which of those that a host has configured a container gets.
//!
//! The files are those of the containers project, `oci-hooks(5)`. A hook is a program that runs as
//! root on the host: files are taken from directories that root alone can write to, which whoever
//! reads them makes sure of. Nothing is run here.

mod parse;
mod when;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::effective::Effective;
use crate::error::Error;
use crate::mount::MountRequest;
use crate::text::{AbsolutePath, Argument, word_type};

use parse::{Hook, parse};

/// Largest file of a hook that is read, in bytes.
pub const MAX_HOOK_FILE: usize = 64 << 10;

/// Most seconds a hook before the creation may take when its file says nothing, as in podman.
pub const PRECREATE_TIMEOUT_SEC: u32 = 10;

word_type! {
    /// When in the life of a container a hook runs.
    HookStage, "hook stage",
    /// Before the runtime is called: reads config.json, and writes it anew. The service runs it.
    #[default]
    "precreate" => Precreate,
    /// Deprecated in the runtime-spec, but what most hooks use.
    "prestart" => Prestart,
    /// After the namespaces are made.
    "createRuntime" => CreateRuntime,
    /// The same, inside the container's namespaces.
    "createContainer" => CreateContainer,
    /// Just before the process.
    "startContainer" => StartContainer,
    /// Just after the process has started.
    "poststart" => Poststart,
    /// After the container is deleted.
    "poststop" => Poststop,
}

/// All hooks of a host, in the order in which they run.
#[derive(Clone, Debug, Default)]
pub struct Hooks(Vec<Hook>);

impl Hooks {
    /// Reads hooks: `directories` in order of rising preference, each with the names of its files
    /// and what is in them.
    ///
    /// Only names that end in `.json` count. A file in a later directory masks one of the same name
    /// in an earlier one, and hooks run in the order of their names in lower case.
    ///
    /// # Errors
    /// [`Error::Hook`] that names the file.
    pub fn parse<'a>(
        directories: impl IntoIterator<Item = Vec<(&'a str, &'a [u8])>>,
    ) -> Result<Self, Error> {
        let mut files = BTreeMap::new();
        for (name, content) in directories.into_iter().flatten() {
            if Path::new(name).extension().is_some_and(|extension| extension == "json") {
                files.insert((name.to_lowercase(), name), content);
            }
        }
        let hook = |((_, name), content): ((String, &str), &[u8])| {
            parse(content).map_err(|source| Error::hook(name, source))
        };
        files.into_iter().map(hook).collect::<Result<_, _>>().map(Self)
    }

    /// Those whose conditions hold for this container.
    pub fn select(&self, effective: &Effective) -> OciHooks {
        let annotations: Vec<_> = effective
            .request
            .annotations
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let command = effective.argv.first().map(Argument::as_str);
        let binds = effective.request.mounts.iter().any(MountRequest::needs_source);
        let mut hooks = OciHooks::default();
        for hook in &self.0 {
            if hook.when.holds(&annotations, command, binds) {
                for stage in &hook.stages {
                    hooks.of(*stage).push(hook.program.clone());
                }
            }
        }
        hooks
    }
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HookProgram {
    /// The program.
    pub path: AbsolutePath,
    /// Its arguments, the first of which is its name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Argument>,
    /// Its whole environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<crate::text::EnvVar>,
    /// Seconds after which it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
}

/// The hooks of one container by stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OciHooks {
    /// Not for the runtime: each is given config.json, and what it writes is given to the next; the
    /// last one's counts.
    #[serde(skip)]
    pub precreate: Vec<HookProgram>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prestart: Vec<HookProgram>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    create_runtime: Vec<HookProgram>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    create_container: Vec<HookProgram>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    start_container: Vec<HookProgram>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    poststart: Vec<HookProgram>,
    /// Those that run when the container is gone; the runtime runs them too, if it can.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<HookProgram>,
}

impl OciHooks {
    fn of(&mut self, stage: HookStage) -> &mut Vec<HookProgram> {
        match stage {
            HookStage::Precreate => &mut self.precreate,
            HookStage::Prestart => &mut self.prestart,
            HookStage::CreateRuntime => &mut self.create_runtime,
            HookStage::CreateContainer => &mut self.create_container,
            HookStage::StartContainer => &mut self.start_container,
            HookStage::Poststart => &mut self.poststart,
            HookStage::Poststop => &mut self.poststop,
        }
    }

    /// The same hooks, with each program where `find` says that it is; what a program is told that it is
    /// called stays. Those of the stage `startContainer` are the container's own, and not asked about.
    ///
    /// A hook runs as root on the host: `find` is to follow links, and to refuse what others than root can
    /// put another program in the place of.
    ///
    /// # Errors
    /// What `find` says of the first that it refuses.
    pub fn relocated<E>(
        mut self,
        find: impl Fn(&AbsolutePath) -> Result<AbsolutePath, E>,
    ) -> Result<Self, E> {
        let of_host = [
            &mut self.precreate,
            &mut self.prestart,
            &mut self.create_runtime,
            &mut self.create_container,
            &mut self.poststart,
            &mut self.poststop,
        ];
        for program in of_host.into_iter().flatten() {
            let path = find(&program.path)?;
            if program.args.is_empty() {
                // No path is longer than an argument may be.
                program.args.extend(program.path.as_str().parse().ok());
            }
            program.path = path;
        }
        Ok(self)
    }

    /// Adds those that come with CDI devices.
    pub(crate) fn add(&mut self, stage: HookStage, program: HookProgram) {
        self.of(stage).push(program);
    }

    /// Those of both, these first.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let join = |a: &Vec<HookProgram>, b: &Vec<HookProgram>| [a.as_slice(), b].concat();
        Self {
            precreate: join(&self.precreate, &other.precreate),
            prestart: join(&self.prestart, &other.prestart),
            create_runtime: join(&self.create_runtime, &other.create_runtime),
            create_container: join(&self.create_container, &other.create_container),
            start_container: join(&self.start_container, &other.start_container),
            poststart: join(&self.poststart, &other.poststart),
            poststop: join(&self.poststop, &other.poststop),
        }
    }

    /// Whether the runtime has none to run.
    pub(crate) fn is_empty_for_runtime(&self) -> bool {
        let lists = [
            &self.prestart,
            &self.create_runtime,
            &self.create_container,
            &self.start_container,
            &self.poststart,
            &self.poststop,
        ];
        lists.into_iter().all(Vec::is_empty)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
