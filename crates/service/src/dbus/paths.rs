//! Object paths, from what never changes about a thing.

use std::fmt::Write as _;

use tare_netns::NetworkName;
use tare_runtime::ContainerId;
use zbus::{ObjectPath, OwnedObjectPath};

use crate::api::ApiError;
use crate::engine::Error;
use crate::engine::object::ObjectId;

/// Where the manager is, and below it everything else.
pub(crate) const ROOT: &str = "/org/tare/Containers1";

/// The object of a thing.
pub(crate) fn of(object: &ObjectId) -> OwnedObjectPath {
    path(match object {
        ObjectId::Container(id) => format!("{ROOT}/container/{id}"),
        ObjectId::Process(id, number) => format!("{ROOT}/container/{id}/process/_{number}"),
        ObjectId::Image(id) => format!("{ROOT}/image/sha256_{}", id.hex()),
        ObjectId::Network(name) => format!("{ROOT}/network/{}", escaped(name.as_str())),
        ObjectId::Volume(name) => format!("{ROOT}/volume/{}", escaped(name.as_str())),
        ObjectId::Secret(name) => format!("{ROOT}/secret/{}", escaped(name.as_str())),
        ObjectId::Checkpoint(id) => format!("{ROOT}/checkpoint/{id}"),
        ObjectId::Job(number) => format!("{ROOT}/job/_{number}"),
    })
}

/// The container whose object this is; one that is no container's names none.
pub(crate) fn container(path: &OwnedObjectPath) -> Result<ContainerId, ApiError> {
    match thing(path.as_str()) {
        Some(ObjectId::Container(id)) => Ok(id),
        _ => Err(Error::NoSuchContainer(path.to_string()).into()),
    }
}

/// The thing whose object this would be, if it is the path of one.
pub(crate) fn thing(path: &str) -> Option<ObjectId> {
    let (kind, rest) = path.strip_prefix(ROOT)?.strip_prefix('/')?.split_once('/')?;
    let thing = match kind {
        "container" => match rest.split_once("/process/_") {
            Some((id, number)) => ObjectId::Process(id.parse().ok()?, number.parse().ok()?),
            None => ObjectId::Container(rest.parse().ok()?),
        },
        "image" => ObjectId::Image(rest.replacen('_', ":", 1).parse().ok()?),
        "network" => ObjectId::Network(unescaped(rest)?.parse().ok()?),
        "volume" => ObjectId::Volume(unescaped(rest)?.parse().ok()?),
        "secret" => ObjectId::Secret(unescaped(rest)?.parse().ok()?),
        "checkpoint" => ObjectId::Checkpoint(rest.parse().ok()?),
        "job" => ObjectId::Job(rest.strip_prefix('_')?.parse().ok()?),
        _ => return None,
    };
    // One path for each, however it could be written.
    (of(&thing).as_str() == path).then_some(thing)
}

/// The network whose object this would be, if it is the path of one.
pub(crate) fn network(path: &str) -> Option<NetworkName> {
    match thing(path) {
        Some(ObjectId::Network(name)) => Some(name),
        _ => None,
    }
}

/// A name as part of a path, as `sd_bus_path_encode(3)` has it: what is neither a letter nor a
/// digit, and a digit in front, as `_` and two hex digits.
fn escaped(name: &str) -> String {
    let plain =
        |at: usize, byte: u8| byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit());
    let mut escaped = String::new();
    for (at, byte) in name.bytes().enumerate() {
        if plain(at, byte) {
            escaped.push(byte.into());
        } else {
            let _ = write!(escaped, "_{byte:02x}");
        }
    }
    if escaped.is_empty() { "_".into() } else { escaped }
}

fn unescaped(part: &str) -> Option<String> {
    let mut name = Vec::new();
    let mut rest = part.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        if *first == b'_' {
            let (digits, more) = rest.split_at_checked(2)?;
            name.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = more;
        } else {
            name.push(*first);
        }
    }
    String::from_utf8(name).ok()
}

/// No object.
pub(crate) fn none() -> OwnedObjectPath {
    path("/".into())
}

fn path(text: String) -> OwnedObjectPath {
    ObjectPath::try_from(text).expect("letters, digits and _ make a valid path").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_escaped_as_others_do() {
        for (name, path) in [
            ("web", "web"),
            ("my-net", "my_2dnet"),
            ("3x", "_33x"),
            ("a_b.c", "a_5fb_2ec"),
            ("", "_"),
        ] {
            assert_eq!(escaped(name), path);
        }
    }

    #[test]
    fn a_path_is_of_one_thing_or_of_none() {
        let (container, image) = ("1".repeat(64), format!("sha256:{}", "2".repeat(64)));
        for known in [
            ObjectId::Container(container.parse().unwrap()),
            ObjectId::Process(container.parse().unwrap(), 3),
            ObjectId::Image(image.parse().unwrap()),
            ObjectId::Network("my-net".parse().unwrap()),
            ObjectId::Volume("my.data".parse().unwrap()),
            ObjectId::Secret("my.key".parse().unwrap()),
            ObjectId::Checkpoint("3".repeat(64).parse().unwrap()),
            ObjectId::Job(4),
        ] {
            assert_eq!(thing(of(&known).as_str()), Some(known));
        }
        for other in
            ["", "/", "/network", "/network/", "/network/_", "/network/%2d", "/job/1", "/job/_01"]
        {
            assert_eq!(thing(&format!("{ROOT}{other}")), None, "{other}");
        }
        assert_eq!(thing("/org/tare/Containers2/job/_1"), None);
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_read_again(name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}") {
            let network = ObjectId::Network(name.parse().unwrap());
            prop_assert_eq!(thing(of(&network).as_str()), Some(network));
        }
    }
}
