//! `config.dump`.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::shown;
use crate::{ContainerId, ContainerName, Document, Error, ImageId, InvalidId, Unsupported, json};

/// What is taken from `config.dump`: who the container was, its image, and who can restore it.
///
/// podman puts more than a hundred fields into it. A restore must not get its mounts, its labels
/// or the image to pull from whoever wrote the archive, so the others are not even read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigDump {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// The image it was made from; to be found in one's own store by this, and by nothing else.
    pub image_id: ImageId,
    /// The OCI runtime that ran it; no other can restore it.
    pub runtime: Runtime,
    image_name: Box<str>,
}

/// An OCI runtime that can restore checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// crun.
    Crun,
    /// runc.
    Runc,
}

/// The fields, before they are believed.
#[derive(Deserialize)]
struct Fields {
    id: String,
    name: String,
    #[serde(default, rename = "rootfsImageID")]
    image_id: String,
    #[serde(default, rename = "rootfsImageName")]
    image_name: String,
    runtime: String,
    #[serde(default)]
    pod: String,
    #[serde(default, rename = "Dependencies")]
    dependencies: Option<Vec<IgnoredAny>>,
}

impl ConfigDump {
    /// Longest document, in bytes. The largest part of a real one is a command line, which the
    /// kernel bounds at 2 MiB.
    pub const MAX_LEN: usize = 4 << 20;

    /// Reads the document.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], [`Error::Parse`], [`Error::Id`], [`Error::Name`]; and
    /// [`Error::Unsupported`] for a container in a pod, one that depends on others, one without an
    /// image, and for runtimes other than crun and runc.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let fields: Fields = json::parse(Document::Config, Self::MAX_LEN, bytes)?;
        let config = Self {
            id: id("id", &fields.id)?,
            name: fields.name.parse().map_err(|source| Error::Name { field: "name", source })?,
            image_id: match fields.image_id.as_str() {
                "" => return Err(Error::Unsupported(Unsupported::NoImage)),
                text => id("rootfsImageID", text)?,
            },
            runtime: runtime(&fields.runtime)?,
            image_name: shown(fields.image_name.as_bytes()).into(),
        };
        if !fields.pod.is_empty() {
            return Err(Error::Unsupported(Unsupported::Pod));
        }
        if fields.dependencies.is_some_and(|others| !others.is_empty()) {
            return Err(Error::Unsupported(Unsupported::Dependencies));
        }
        Ok(config)
    }

    /// What its image was called where the container was made, shortened and escaped. To be shown
    /// to a person; it may be empty, and it says nothing about what to use here.
    pub fn image_name(&self) -> &str {
        &self.image_name
    }
}

fn id<T: std::str::FromStr<Err = InvalidId>>(field: &'static str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|source| Error::Id { field, source })
}

fn runtime(name: &str) -> Result<Runtime, Error> {
    match name {
        "crun" => Ok(Runtime::Crun),
        "runc" => Ok(Runtime::Runc),
        other => Err(Error::Unsupported(Unsupported::Runtime(shown(other.as_bytes())))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, InvalidName};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Fields of one that is accepted.
    fn fields() -> Value {
        json!({
            "id": "1".repeat(64),
            "name": "web-1",
            "rootfsImageID": "2".repeat(64),
            "rootfsImageName": "docker.io/library/busybox:latest",
            "runtime": "crun",
            "createdTime": "2025-01-02T03:04:05Z",
            "Dependencies": null,
            "mounts": ["/proc"],
        })
    }

    fn with(field: &str, value: Value) -> Result<ConfigDump, Error> {
        let mut fields = fields();
        fields[field] = value;
        ConfigDump::parse(fields.to_string().as_bytes())
    }

    #[test]
    fn the_few_fields_are_read_and_the_rest_is_not() {
        let config = with("Dependencies", json!([])).unwrap();
        assert_eq!(config.id.as_str(), "1".repeat(64));
        assert_eq!(config.name.as_str(), "web-1");
        assert_eq!(config.image_id.as_str(), "2".repeat(64));
        assert_eq!(config.image_name(), "docker.io/library/busybox:latest");
        assert_eq!(config.runtime, Runtime::Crun);
        assert_eq!(with("runtime", json!("runc")).unwrap().runtime, Runtime::Runc);
        assert_eq!(with("rootfsImageName", json!("a\u{1b}b")).unwrap().image_name(), r"a\x1bb");
    }

    #[test]
    fn ids_and_names_are_not_believed() {
        for (field, value) in [
            ("id", json!("../../../../escape_id")),
            ("id", json!("")),
            ("rootfsImageID", json!(format!("sha256:{}", "2".repeat(64)))),
        ] {
            let error = with(field, value).unwrap_err();
            assert!(matches!(error, Error::Id { field: f, .. } if f == field), "{error:?}");
        }
        let error = with("name", json!("bad name/..\nx")).unwrap_err();
        let Error::Name { field: "name", source: InvalidName::Byte { at: 3 } } = error else {
            panic!("{error:?}")
        };
    }

    #[test]
    fn what_cannot_be_restored_here_says_so() {
        for (field, value, why) in [
            ("pod", json!("p"), Unsupported::Pod),
            ("Dependencies", json!(["1"]), Unsupported::Dependencies),
            ("rootfsImageID", json!(""), Unsupported::NoImage),
            ("runtime", json!("kata"), Unsupported::Runtime("kata".into())),
            ("runtime", json!("/tmp/crun"), Unsupported::Runtime("/tmp/crun".into())),
            ("runtime", json!(""), Unsupported::Runtime(String::new())),
        ] {
            let error = with(field, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let Error::Unsupported(found) = error else { panic!("{field}: {error:?}") };
            assert_eq!(found, why);
        }
    }

    #[test]
    fn another_shape_is_refused() {
        for field in ["id", "name", "runtime"] {
            let mut fields = fields();
            fields.as_object_mut().unwrap().remove(field);
            let error = ConfigDump::parse(fields.to_string().as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Parse { .. }), "without {field}: {error:?}");
            assert!(matches!(with(field, json!(7)), Err(Error::Parse { .. })), "{field} a number");
        }
        for text in ["", "[]", "null", r#"{"id":"1","id":"2"}"#, &"[".repeat(100_000)] {
            let error = ConfigDump::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Parse { .. }), "{error:?}");
        }
        let error = ConfigDump::parse(&vec![b' '; ConfigDump::MAX_LEN + 1]).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = ConfigDump::parse(&bytes);
        }
    }
}
