//! Changes to config.json that somebody who may do so asks for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text::{InvalidText, Problem, string_form};

/// Largest patch, in bytes.
pub const MAX_SPEC_PATCH: usize = 1 << 20;

/// A JSON merge patch (RFC 7396): an object, at most [`MAX_SPEC_PATCH`] bytes.
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
        match serde_json::from_str(text) {
            Ok(patch @ Value::Object(_)) => Ok(Self(patch)),
            _ => Err(wrong("is no JSON object")),
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
        *target = Value::Object(serde_json::Map::new());
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

#[cfg(test)]
mod tests {
    use super::*;

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
        for bad in ["", "[]", "1", "null", "{", &format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20))] {
            assert!(bad.parse::<SpecPatch>().is_err());
        }
    }
}
