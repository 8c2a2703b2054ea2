//! A config.json as fields that can be compared one by one, wherever in a list they are.

use std::collections::BTreeMap;

use serde_json::Value;

/// Fields by where they are, as in `mounts./proc.type`.
pub(crate) type Fields = BTreeMap<String, Value>;

/// What tells the members of a list apart, where the order means nothing.
const KEYS: [&str; 4] = ["destination", "path", "type", "names"];
/// Lists of words in which the order means nothing, by the ends of where they are.
const SETS: [&str; 12] = [
    ".bounding",
    ".effective",
    ".permitted",
    ".inheritable",
    ".ambient",
    ".options",
    "maskedPaths",
    "readonlyPaths",
    "process.env",
    ".additionalGids",
    ".architectures",
    "resources.devices",
];

/// All fields of a configuration; `id` and what it is part of are made the same for all containers.
pub(crate) fn fields(config: &Value) -> Fields {
    let mut fields = Fields::new();
    add(&mut fields, "", config);
    fields
}

fn add(fields: &mut Fields, at: &str, value: &Value) {
    let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match value {
        // What is not so is written by some, and left out by others.
        Value::Null | Value::Bool(false) => {}
        Value::Object(members) => {
            for (key, member) in members {
                add(fields, &below(key), member);
            }
        }
        Value::Array(members) if at.ends_with("seccomp.syscalls") => {
            for rule in members {
                add_rule(fields, at, rule);
            }
        }
        Value::Array(members) if SETS.iter().any(|set| at.ends_with(set)) => {
            for member in members {
                fields.insert(below(&word(member)), Value::Bool(true));
            }
        }
        Value::Array(members) => {
            for (number, member) in members.iter().enumerate() {
                let key = KEYS.iter().find_map(|key| member.get(key)).map(word);
                add(fields, &below(&key.unwrap_or_else(|| number.to_string())), member);
            }
        }
        simple => {
            fields.insert(at.to_owned(), simple.clone());
        }
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// Rules of seccomp come in any grouping: what counts is what holds for each call.
fn add_rule(fields: &mut Fields, at: &str, rule: &Value) {
    let mut what = rule.clone();
    let Some(what) = what.as_object_mut() else { return };
    let names = what.remove("names");
    what.retain(|_, value| !value.is_null());
    // The second value is for comparisons under a mask alone.
    let arguments = what.get_mut("args").and_then(Value::as_array_mut);
    for argument in arguments.into_iter().flatten().filter_map(Value::as_object_mut) {
        argument.retain(|key, value| key != "valueTwo" || *value != 0);
    }
    let said = Value::from(what.clone()).to_string();
    for name in names.as_ref().and_then(Value::as_array).into_iter().flatten() {
        fields.insert(format!("{at}.{}.{said}", word(name)), Value::Bool(true));
    }
}
