//! Changes to config.json that somebody who may do so asks for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::document::MANAGER_ANNOTATION;
use crate::error::Error;
use crate::text::{InvalidText, Problem, string_form};

/// Largest patch, in bytes.
pub const MAX_SPEC_PATCH: usize = 1 << 20;

/// What whoever keeps the container has to rely on, to find and to end it. Who may change all else
/// may not make it lose the container.
const KEPT: [(&str, &str); 4] = [
    ("root", "path"),
    ("linux", "cgroupsPath"),
    ("process", "terminal"),
    ("annotations", MANAGER_ANNOTATION),
];

/// A JSON merge patch (RFC 7396): an object, at most [`MAX_SPEC_PATCH`] bytes, that changes neither
/// `root.path`, `linux.cgroupsPath`, `process.terminal` nor the annotation of the container manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpecPatch(Value);

impl FromStr for SpecPatch {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |rule| InvalidText::new("patch of config.json", Problem::Form(rule));
        if text.len() > MAX_SPEC_PATCH {
            return Err(wrong("is larger than 1 MiB"));
        }
        let Ok(Value::Object(patch)) = serde_json::from_str(text) else {
            return Err(wrong("is no JSON object"));
        };
        let keeps = |(object, member): &(&str, &str)| {
            let changed = patch.get(*object);
            changed.is_none_or(|it| it.as_object().is_some_and(|it| !it.contains_key(*member)))
        };
        if KEPT.iter().all(keeps) {
            Ok(Self(patch.into()))
        } else {
            Err(wrong(
                "changes root.path, linux.cgroupsPath, process.terminal or the annotation of the \
                 container manager",
            ))
        }
    }
}

string_form!(SpecPatch);

impl fmt::Display for SpecPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl SpecPatch {
    /// The document with the changes; its keys are in the order of the alphabet then.
    pub(crate) fn apply(&self, document: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
        let mut document = serde_json::from_slice(document)?;
        merge(&mut document, &self.0);
        serde_json::to_vec(&document)
    }
}

/// As deep as the patch, which the parser has bounded.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else { return };
    for (key, change) in changes {
        if change.is_null() {
            members.remove(key);
        } else {
            merge(members.entry(key.as_str()).or_insert(Value::Null), change);
        }
    }
}

/// What turns one config.json into another, as a JSON merge patch (RFC 7396): `{}` if they are the
/// same. Neither may hold `null`, which none that is generated does.
///
/// # Errors
///
/// [`Error::Encode`] if one of them is no JSON.
pub fn spec_difference(from: &[u8], to: &[u8]) -> Result<Vec<u8>, Error> {
    let parse = |document| serde_json::from_slice::<Value>(document).map_err(Error::encode);
    let difference = difference(&parse(from)?, parse(to)?);
    serde_json::to_vec(&difference.unwrap_or_else(|| Map::new().into())).map_err(Error::encode)
}

fn difference(from: &Value, to: Value) -> Option<Value> {
    match (from, to) {
        (from, to) if *from == to => None,
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            let mut changes: Map<_, _> = gone.map(|key| (key.clone(), Value::Null)).collect();
            for (key, value) in new {
                let change = match old.get(&key) {
                    Some(old) => difference(old, value),
                    None => Some(value),
                };
                changes.extend(change.map(|change| (key, change)));
            }
            Some(changes.into())
        }
        (_, to) => Some(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn document() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![any::<bool>().prop_map(Value::from), any::<u8>().prop_map(Value::from)];
        let value = leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        });
        prop::collection::btree_map("[a-d]", value, 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn a_difference_is_the_patch_from_one_to_the_other(from in document(), to in document()) {
            let (from, to) = (from.to_string().into_bytes(), to.to_string().into_bytes());
            let patch = String::from_utf8(spec_difference(&from, &to).unwrap()).unwrap();
            prop_assert_eq!(patch == "{}", from == to, "{}", patch);
            let patched = patch.parse::<SpecPatch>().unwrap().apply(&from).unwrap();
            prop_assert_eq!(String::from_utf8(patched), String::from_utf8(to));
        }
    }

    /// The examples of RFC 7396, appendix A, that have an object as patch.
    #[test]
    fn patches_of_the_standard() {
        for (target, patch, want) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let patch: SpecPatch = patch.parse().unwrap();
            let got = String::from_utf8(patch.apply(target.as_bytes()).unwrap()).unwrap();
            assert_eq!(got, want, "{target} {patch}");
        }
        for bad in [
            r#"{"root":null}"#,
            r#"{"root":{"path":"/"}}"#,
            r#"{"linux":{"cgroupsPath":null}}"#,
            r#"{"linux":[]}"#,
            r#"{"process":{"terminal":true}}"#,
            r#"{"annotations":{"org.opencontainers.image.x":"y","io.container.manager":"z"}}"#,
        ] {
            let error = bad.parse::<SpecPatch>().unwrap_err().to_string();
            assert!(error.contains("cgroupsPath"), "{bad}: {error}");
        }
        for bad in ["", "[]", "1", "null", "{", &format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20))] {
            assert!(bad.parse::<SpecPatch>().is_err());
        }
    }
}
