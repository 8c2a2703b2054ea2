//! What an image says about the containers made from it; hostile input.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::Error;
use crate::health::{HealthRequest, ImageHealth};
use crate::signal::Signal;
use crate::text::{AbsolutePath, Argument, EnvVar, InvalidText, LabelKey, Problem, WorkingDir};
use crate::user::UserSpec;

/// Largest image configuration that is read, in bytes: what registries accept for a manifest.
pub const MAX_IMAGE_CONFIG: usize = 4 << 20;

/// The defaults out of an OCI image configuration; every part checked.
///
/// See the `config` property of the
/// [image-spec](https://github.com/opencontainers/image-spec/blob/main/config.md).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageDefaults {
    /// `Entrypoint`.
    pub entrypoint: Vec<Argument>,
    /// `Cmd`.
    pub command: Vec<Argument>,
    /// `Env`.
    pub env: Vec<EnvVar>,
    /// `WorkingDir`.
    pub working_dir: Option<WorkingDir>,
    /// `User`.
    pub user: Option<UserSpec>,
    /// `StopSignal`.
    pub stop_signal: Option<Signal>,
    /// `Labels`.
    pub labels: BTreeMap<LabelKey, String>,
    /// `Volumes`: where the image wants directories that outlive the container.
    pub volumes: BTreeSet<AbsolutePath>,
    /// `ExposedPorts`: what the image says it listens on.
    pub exposed_ports: BTreeSet<ExposedPort>,
    /// `Healthcheck`.
    pub health: Option<HealthRequest>,
}

impl ImageDefaults {
    /// Reads an image configuration (`application/vnd.oci.image.config.v1+json`).
    ///
    /// What this crate does not know is passed over.
    ///
    /// # Errors
    /// [`Error::ImageConfig`] when it is larger than [`MAX_IMAGE_CONFIG`], is no JSON, or has a
    /// part that cannot be used.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        if json.len() > MAX_IMAGE_CONFIG {
            let rule = Problem::Form("is larger than 4 MiB");
            return Err(Error::image(InvalidText::new("it", rule)));
        }
        let document: Document = serde_json::from_slice(json).map_err(Error::image)?;
        document.config.unwrap_or_default().check().map_err(Error::image)
    }
}

/// A port that an image says it listens on: `80`, `80/tcp`, `53/udp`, `9/sctp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExposedPort {
    /// 1 to 65535.
    pub number: std::num::NonZeroU16,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl FromStr for ExposedPort {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            "sctp" => Some(Protocol::Sctp),
            _ => None,
        };
        protocol
            .zip(number.parse().ok())
            .map(|(protocol, number)| Self { number, protocol })
            .ok_or(InvalidText::new("exposed port", Problem::Form("is not NUMBER/PROTOCOL")))
    }
}

#[derive(Deserialize)]
struct Document {
    config: Option<Config>,
}

/// The JSON form: images in the wild write `null` and `""` for "nothing".
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(clippy::zero_sized_map_values, reason = "sets are objects with empty values here")]
struct Config {
    entrypoint: Option<Vec<Argument>>,
    cmd: Option<Vec<Argument>>,
    env: Option<Vec<EnvVar>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    labels: Option<BTreeMap<LabelKey, String>>,
    volumes: Option<BTreeMap<AbsolutePath, IgnoredAny>>,
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    healthcheck: Option<ImageHealth>,
}

impl Config {
    fn check(self) -> Result<ImageDefaults, InvalidText> {
        let ports = self.exposed_ports.unwrap_or_default();
        Ok(ImageDefaults {
            entrypoint: self.entrypoint.unwrap_or_default(),
            command: self.cmd.unwrap_or_default(),
            env: self.env.unwrap_or_default(),
            working_dir: unless_empty(self.working_dir)?,
            user: unless_empty(self.user)?,
            stop_signal: unless_empty(self.stop_signal)?,
            labels: self.labels.unwrap_or_default(),
            volumes: self.volumes.unwrap_or_default().into_keys().collect(),
            health: self.healthcheck.map(ImageHealth::request),
            exposed_ports: ports.keys().map(|port| port.parse()).collect::<Result<_, _>>()?,
        })
    }
}

fn unless_empty<T: FromStr>(text: Option<String>) -> Result<Option<T>, T::Err> {
    text.filter(|text| !text.is_empty()).map(|text| text.parse()).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(config: &str) -> Result<ImageDefaults, Error> {
        let json = format!(r#"{{"architecture":"amd64","os":"linux","config":{config}}}"#);
        ImageDefaults::parse(json.as_bytes())
    }

    #[test]
    fn a_usual_image() {
        let image = parse(
            r#"{"Entrypoint":["/e"],"Cmd":["a","b"],"Env":["PATH=/bin","A="],"WorkingDir":"/srv",
                "User":"www","StopSignal":"SIGQUIT","Labels":{"l":"v"},"Volumes":{"/data":{}},
                "ExposedPorts":{"80/tcp":{},"53/udp":{},"8080":{}},"Healthcheck":{"Test":["NONE"]}}"#,
        )
        .unwrap();
        assert_eq!(image.command.len(), 2);
        assert_eq!(image.stop_signal, "QUIT".parse().ok());
        assert_eq!(image.working_dir, "/srv".parse().ok());
        assert_eq!(image.volumes.iter().map(AbsolutePath::as_str).collect::<Vec<_>>(), ["/data"]);
        let ports: Vec<_> =
            image.exposed_ports.iter().map(|port| (port.number.get(), port.protocol)).collect();
        assert_eq!(ports, [(53, Protocol::Udp), (80, Protocol::Tcp), (8080, Protocol::Tcp)]);
    }

    #[test]
    fn nothing_is_said_in_many_ways() {
        let nulls = r#"{"Entrypoint":null,"Cmd":null,"Env":null,"WorkingDir":"","User":"",
                        "StopSignal":"","Labels":null,"Volumes":null,"ExposedPorts":null}"#;
        for config in ["{}", "null", nulls] {
            assert_eq!(parse(config).unwrap(), ImageDefaults::default(), "{config}");
        }
        assert_eq!(ImageDefaults::parse(b"{}").unwrap(), ImageDefaults::default());
    }

    #[test]
    fn hostile_images_are_refused() {
        for config in [
            r#"{"Env":["HOME"]}"#,
            r#"{"Env":["=x"]}"#,
            r#"{"Env":"A=b"}"#,
            r#"{"Env":["A=\u0000"]}"#,
            r#"{"Cmd":"sh"}"#,
            r#"{"Cmd":["a\u0000"]}"#,
            r#"{"WorkingDir":"srv"}"#,
            r#"{"WorkingDir":"/a/../../etc"}"#,
            r#"{"WorkingDir":"/nl\nevil:*:0:0::"}"#,
            r#"{"WorkingDir":"/proc/self/fd/8"}"#,
            r#"{"User":"4294967296"}"#,
            r#"{"User":"a\nb"}"#,
            r#"{"StopSignal":"BANG"}"#,
            r#"{"Labels":{"a\nb":""}}"#,
            r#"{"Volumes":{"../../etc":{}}}"#,
            r#"{"ExposedPorts":{"0/tcp":{}}}"#,
            r#"{"ExposedPorts":{"80/../x":{}}}"#,
            "1",
        ] {
            assert!(matches!(parse(config), Err(Error::ImageConfig { .. })), "{config}");
        }
        assert!(ImageDefaults::parse(b"").is_err());
        assert!(ImageDefaults::parse(&vec![b' '; MAX_IMAGE_CONFIG + 1]).is_err());
        // As deep as serde_json's own limit, and no deeper: no stack is exhausted.
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_survived(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ImageDefaults::parse(&json);
        }
    }
}
