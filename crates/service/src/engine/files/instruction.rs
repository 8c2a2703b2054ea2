//! What is said of an image that is made of a container, in the words of a Dockerfile.

use std::str::FromStr;

use serde_json::{Map, Value, json};

/// Longest instruction, in bytes.
const LONGEST: usize = 64 << 10;

/// One change of an image's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// `CMD`, `ENTRYPOINT`: a program with arguments.
    Arguments(&'static str, Vec<String>),
    /// `USER`, `WORKDIR`, `STOPSIGNAL`.
    Text(&'static str, String),
    /// `ENV`, in place of one of that name.
    Env(String, String),
    Label(String, String),
    /// `EXPOSE`, `VOLUME`: members of a set.
    Member(&'static str, String),
}

/// Why a text is no instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInstruction {
    /// Not one of those that change a configuration.
    #[error("must be CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR")]
    Unknown,
    /// It has no value, or not one of its form.
    #[error("has no value, or none of the form it needs")]
    Value,
    /// It is too long, or has a NUL.
    #[error("is longer than 65536 bytes, or has a NUL")]
    Text,
}

impl FromStr for Instruction {
    type Err = InvalidInstruction;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use InvalidInstruction::{Text, Unknown, Value};
        if text.len() > LONGEST || text.contains('\0') {
            return Err(Text);
        }
        // `KEY VALUE`, or as podman has it, too, `KEY=VALUE`.
        let split = text.trim().split_once([' ', '\t', '=']);
        let (word, value) = split.ok_or(Unknown)?;
        let value = value.trim();
        let pair = || {
            let (key, value) = value.split_once(['=', ' ']).ok_or(Value)?;
            let named = !key.is_empty() && !key.contains(char::is_whitespace);
            named.then(|| (key.to_owned(), unquoted(value).to_owned())).ok_or(Value)
        };
        let kind = match word.to_ascii_uppercase().as_str() {
            "CMD" => Kind::Arguments("Cmd", arguments(value).ok_or(Value)?),
            "ENTRYPOINT" => Kind::Arguments("Entrypoint", arguments(value).ok_or(Value)?),
            "USER" => Kind::Text("User", value.into()),
            "WORKDIR" if value.starts_with('/') => Kind::Text("WorkingDir", value.into()),
            "STOPSIGNAL" if !value.is_empty() => Kind::Text("StopSignal", value.into()),
            "ENV" => pair().map(|(key, value)| Kind::Env(key, value))?,
            "LABEL" => pair().map(|(key, value)| Kind::Label(key, value))?,
            "EXPOSE" if is_port(value) => Kind::Member("ExposedPorts", with_protocol(value)),
            "VOLUME" if value.starts_with('/') => Kind::Member("Volumes", value.into()),
            "WORKDIR" | "STOPSIGNAL" | "EXPOSE" | "VOLUME" => return Err(Value),
            _ => return Err(Unknown),
        };
        Ok(Self(kind))
    }
}

fn unquoted(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(text)
}

/// A list as JSON, or a line for a shell.
fn arguments(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') {
        return serde_json::from_str(text).ok();
    }
    (!text.is_empty()).then(|| vec!["/bin/sh".into(), "-c".into(), text.into()])
}

fn is_port(text: &str) -> bool {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    port.parse::<u16>().is_ok_and(|port| port > 0) && matches!(protocol, "tcp" | "udp" | "sctp")
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.into() } else { format!("{port}/tcp") }
}

impl Instruction {
    /// Changes the part of a configuration that says how to run an image.
    pub(super) fn apply(&self, run: &mut Map<String, Value>) {
        match &self.0 {
            Kind::Arguments(key, list) => {
                run.insert((*key).into(), json!(list));
            }
            Kind::Text(key, text) => {
                run.insert((*key).into(), json!(text));
            }
            Kind::Env(name, value) => set_env(run, name, value),
            Kind::Label(key, value) => {
                member(run, "Labels").insert(key.clone(), json!(value));
            }
            Kind::Member(set, name) => {
                member(run, set).insert(name.clone(), json!({}));
            }
        }
    }
}

/// A dictionary in the configuration, made if it is not there.
pub(super) fn member<'m>(run: &'m mut Map<String, Value>, key: &str) -> &'m mut Map<String, Value> {
    let value = run.entry(key).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made one")
}

/// Sets an environment variable, in its place if it is there.
pub(super) fn set_env(run: &mut Map<String, Value>, name: &str, value: &str) {
    let list = run.entry("Env").or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    let list = list.as_array_mut().expect("it was made one");
    let is_it = |entry: &Value| {
        entry.as_str().and_then(|entry| entry.split_once('=')).is_some_and(|(key, _)| key == name)
    };
    let entry = json!(format!("{name}={value}"));
    match list.iter_mut().find(|entry| is_it(entry)) {
        Some(there) => *there = entry,
        None => list.push(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_a_configuration() {
        let mut run = json!({"Env": ["PATH=/bin", "A=1"], "Cmd": ["x"], "Labels": null});
        for text in [
            "CMD [\"sh\", \"-c\", \"echo a\"]",
            "entrypoint echo \"hi there\"",
            "ENV A=2 3",
            "ENV B \"quoted\"",
            "LABEL version=\"1 2\"",
            "USER www",
            "WORKDIR /srv",
            "STOPSIGNAL INT",
            "EXPOSE 80",
            "EXPOSE 53/udp",
            "VOLUME /data",
            "CMD=[\"sh\"]",
        ] {
            text.parse::<Instruction>().unwrap().apply(run.as_object_mut().unwrap());
        }
        let want = json!({
            "Env": ["PATH=/bin", "A=2 3", "B=quoted"],
            "Cmd": ["sh"],
            "Entrypoint": ["/bin/sh", "-c", "echo \"hi there\""],
            "Labels": {"version": "1 2"},
            "User": "www", "WorkingDir": "/srv", "StopSignal": "INT",
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "Volumes": {"/data": {}},
        });
        assert_eq!(run, want);
    }

    #[test]
    fn what_is_none_is_refused() {
        use InvalidInstruction::{Text, Unknown, Value};
        for (text, want) in [
            ("", Unknown),
            ("CMD", Unknown),
            ("RUN rm -r /", Unknown),
            ("CMD [1]", Value),
            ("CMD [", Value),
            ("ENV A", Value),
            ("ENV =x", Value),
            ("EXPOSE 0", Value),
            ("EXPOSE 80/icmp", Value),
            ("WORKDIR srv", Value),
            ("VOLUME x", Value),
            ("USER a\0b", Text),
        ] {
            assert_eq!(text.parse::<Instruction>().unwrap_err(), want, "{text:?}");
        }
    }
}
