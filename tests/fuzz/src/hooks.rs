//! The file of an OCI hook.

use serde_json::{Value, json};
use tare_specgen::{Effective, HookProgram, Hooks, OciHooks};

use crate::Verdict;
use crate::config::{Container, document, of_plain_image};
use crate::text::{assert_plain, assert_told_plainly};

pub(crate) fn check(data: &[u8]) -> Verdict {
    let hooks = match Hooks::parse([vec![("hook.json", data)]]) {
        Ok(hooks) => hooks,
        Err(error) => {
            assert_told_plainly(&error);
            return Verdict::Refused;
        }
    };
    let effective = of_plain_image(json!({ "Annotations": { "a": "b" } })).unwrap();
    let selected = hooks.select(&effective);
    let mut files = Vec::new();
    for (stage, programs) in stages(&selected) {
        for program in programs.as_array().unwrap() {
            assert_program(program);
            files.push(json!({
                "version": "1.0.0",
                "hook": program,
                "when": { "always": true },
                "stages": [stage],
            }));
        }
    }
    assert_eq!(read(&files, &effective), selected, "written again they are the same");
    let mut container = Container::new();
    container.placement.hooks = selected;
    let config = document(&container.generate_of(&effective).unwrap());
    let given = serde_json::to_value(&container.placement.hooks).unwrap();
    let none = given.as_object().unwrap().is_empty();
    assert!(config["hooks"] == given || none && config["hooks"].is_null(), "{config}");
    Verdict::Taken
}

/// The programs of each stage as JSON.
fn stages(hooks: &OciHooks) -> Vec<(String, Value)> {
    let Value::Object(of_runtime) = serde_json::to_value(hooks).unwrap() else { unreachable!() };
    let ours = json_of(&hooks.precreate);
    of_runtime.into_iter().chain([("precreate".to_owned(), ours)]).collect()
}

fn json_of(programs: &[HookProgram]) -> Value {
    serde_json::to_value(programs).unwrap()
}

fn assert_program(program: &Value) {
    let path = program["path"].as_str().unwrap();
    assert_plain(path);
    assert!(path.starts_with('/') && !path.split('/').any(|part| part == ".."), "{path}");
    for list in ["args", "env"] {
        for text in crate::config::texts(&program[list]) {
            assert!(!text.contains('\0'), "{text:?}");
            assert!(list == "args" || text.contains('='), "{text:?}");
        }
    }
}

/// What a container gets of these files, each with a name of its own.
fn read(files: &[Value], effective: &Effective) -> OciHooks {
    let files = files.iter().enumerate();
    let files: Vec<_> =
        files.map(|(at, file)| (format!("{at:03}.json"), file.to_string())).collect();
    let directory: Vec<_> =
        files.iter().map(|(name, file)| (name.as_str(), file.as_bytes())).collect();
    Hooks::parse([directory]).unwrap().select(effective)
}
