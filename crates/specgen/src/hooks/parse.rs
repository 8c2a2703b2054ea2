//! The two forms of a hook's file.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::when::{Pattern, When};
use super::{HookProgram, HookStage, MAX_HOOK_FILE};
use crate::error::Cause;
use crate::text::{AbsolutePath, Argument, EnvVar, InvalidText, Problem};

#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) program: HookProgram,
    pub(super) when: When,
    pub(super) stages: Vec<HookStage>,
}

/// Reads one file: version 1.0.0, or 0.1.0, which names no version.
pub(super) fn parse(json: &[u8]) -> Result<Hook, Cause> {
    if json.len() > MAX_HOOK_FILE {
        return Err(wrong("is larger than 64 KiB").into());
    }
    let version: Version = serde_json::from_slice(json)?;
    let hook = match version.version.as_deref() {
        Some("1.0.0") => serde_json::from_slice::<Current>(json)?.hook()?,
        None | Some("0.1.0") => serde_json::from_slice::<Old>(json)?.hook(),
        Some(_) => return Err(wrong("has a version that is neither 1.0.0 nor 0.1.0").into()),
    };
    if hook.stages.is_empty() {
        return Err(wrong("names no stage").into());
    }
    Ok(hook)
}

fn wrong(rule: &'static str) -> InvalidText {
    InvalidText::new("it", Problem::Form(rule))
}

#[derive(Deserialize)]
struct Version {
    version: Option<String>,
}

/// Version 1.0.0: all conditions that are given must hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Current {
    #[serde(rename = "version")]
    _version: String,
    hook: Program,
    when: Conditions,
    stages: Vec<HookStage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    path: AbsolutePath,
    #[serde(default)]
    args: Vec<Argument>,
    #[serde(default)]
    env: Vec<EnvVar>,
    timeout: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Conditions {
    always: Option<bool>,
    #[serde(default)]
    annotations: BTreeMap<String, Pattern>,
    #[serde(default)]
    commands: Vec<Pattern>,
    has_bind_mounts: Option<bool>,
}

impl Current {
    fn hook(self) -> Result<Hook, regex::Error> {
        let Program { path, args, env, timeout } = self.hook;
        let annotations = self.when.annotations.into_iter();
        let annotations = annotations.map(|(key, value)| Ok((key.try_into()?, value)));
        let when = When {
            always: self.when.always,
            annotations: annotations.collect::<Result<_, _>>()?,
            commands: self.when.commands,
            has_bind_mounts: self.when.has_bind_mounts,
            any: false,
        };
        let program = HookProgram { path, args, env, timeout };
        Ok(Hook { program, when, stages: self.stages })
    }
}

/// Version 0.1.0: any condition that holds is enough, and some keys have two names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Old {
    #[serde(rename = "version")]
    _version: Option<String>,
    hook: AbsolutePath,
    #[serde(default)]
    arguments: Vec<Argument>,
    #[serde(default, alias = "stage")]
    stages: Vec<HookStage>,
    #[serde(default, alias = "cmd")]
    cmds: Vec<Pattern>,
    #[serde(default, alias = "annotation")]
    annotations: Vec<Pattern>,
    #[serde(default)]
    hasbindmounts: Option<bool>,
}

impl Old {
    fn hook(self) -> Hook {
        let mut args = Vec::new();
        if !self.arguments.is_empty() {
            args.push(self.hook.as_str().parse().expect("a path is an argument"));
            args.extend(self.arguments);
        }
        let when = When {
            always: None,
            // Its patterns are for values, whatever the key is.
            annotations: self.annotations.into_iter().map(|v| (Pattern::anything(), v)).collect(),
            commands: self.cmds,
            has_bind_mounts: self.hasbindmounts,
            any: true,
        };
        let program = HookProgram { path: self.hook, args, env: Vec::new(), timeout: None };
        Hook { program, when, stages: self.stages }
    }
}
