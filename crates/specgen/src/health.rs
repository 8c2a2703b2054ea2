//! How it is found out whether a container is well.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::image::ImageDefaults;
use crate::macros::word_type;
use crate::request::Request;
use crate::text::Argument;

/// From one check to the next, and how long one may take, unless somebody says otherwise, in
/// microseconds; as in docker and podman.
const USUAL_USEC: u64 = 30_000_000;
/// Checks that fail in a row until a container is not well.
const USUAL_RETRIES: u32 = 3;
/// More often than that it would be work of its own, in microseconds.
const SHORTEST_USEC: u64 = 100_000;

word_type! {
    /// What is done with a container that is not well any more.
    OnFailure, "what to do on failure",
    /// Nothing.
    #[default]
    "none" => None,
    /// All its processes are killed.
    "kill" => Kill,
    /// It is stopped and started again.
    "restart" => Restart,
    /// It is stopped.
    "stop" => Stop,
}

/// What was asked for; what is left out is as the image says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HealthRequest {
    /// What is run in the container: it is well if that ends with 0. Empty: nothing is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<Argument>>,
    /// From the end of one check to the next, in microseconds.
    #[serde(rename = "IntervalUSec", skip_serializing_if = "Option::is_none")]
    pub interval_usec: Option<u64>,
    /// How long one may take, in microseconds.
    #[serde(rename = "TimeoutUSec", skip_serializing_if = "Option::is_none")]
    pub timeout_usec: Option<u64>,
    /// How long after its start failures do not count, in microseconds.
    #[serde(rename = "StartPeriodUSec", skip_serializing_if = "Option::is_none")]
    pub start_period_usec: Option<u64>,
    /// How many have to fail in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// What is done then.
    pub on_failure: OnFailure,
}

impl HealthRequest {
    /// Whether the times make sense.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        let short = |usec: Option<u64>| usec.is_some_and(|usec| usec < SHORTEST_USEC);
        if short(self.interval_usec) || short(self.timeout_usec) {
            let rule = "has an interval or a timeout below 100 ms";
            return Err(Error::Option { option: "Healthcheck", rule });
        }
        if self.retries == Some(0) {
            return Err(Error::Option { option: "Healthcheck", rule: "has no retries" });
        }
        Ok(())
    }
}

/// A check, with all that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthCheck {
    /// What is run in the container: it is well if that ends with 0.
    pub command: Vec<Argument>,
    /// From the end of one check to the next, in microseconds.
    pub interval_usec: u64,
    /// How long one may take, in microseconds.
    pub timeout_usec: u64,
    /// How long after its start failures do not count, in microseconds.
    pub start_period_usec: u64,
    /// How many have to fail in a row, at least one.
    pub retries: u32,
    /// What is done then.
    pub on_failure: OnFailure,
}

/// The check of a container, if it has one.
pub(crate) fn health(request: &Request, image: &ImageDefaults) -> Option<HealthCheck> {
    let (asked, own) = (request.health.clone().unwrap_or_default(), image.health.clone());
    let own = own.unwrap_or_default();
    let command = asked.command.or(own.command).filter(|command| !command.is_empty())?;
    let retries = asked.retries.or(own.retries).unwrap_or(USUAL_RETRIES);
    Some(HealthCheck {
        command,
        interval_usec: asked.interval_usec.or(own.interval_usec).unwrap_or(USUAL_USEC),
        timeout_usec: asked.timeout_usec.or(own.timeout_usec).unwrap_or(USUAL_USEC),
        start_period_usec: asked.start_period_usec.or(own.start_period_usec).unwrap_or(0),
        retries: retries.max(1),
        on_failure: asked.on_failure,
    })
}

/// `Healthcheck` of an image, which is docker's: nanoseconds, of which nought is as if it was not there.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageHealth {
    test: Option<Vec<Argument>>,
    interval: Option<i64>,
    timeout: Option<i64>,
    start_period: Option<i64>,
    retries: Option<i64>,
}

impl ImageHealth {
    /// What it asks for. What nobody can run is passed over, as docker does.
    pub(crate) fn request(self) -> HealthRequest {
        let usec = |ns: Option<i64>| {
            let usec = u64::try_from(ns?).ok()? / 1000;
            (usec > 0).then(|| usec.max(SHORTEST_USEC))
        };
        let retries = self.retries.and_then(|retries| u32::try_from(retries).ok());
        HealthRequest {
            command: self.test.map(command),
            interval_usec: usec(self.interval),
            timeout_usec: usec(self.timeout),
            start_period_usec: usec(self.start_period),
            retries: retries.filter(|retries| *retries > 0),
            on_failure: OnFailure::None,
        }
    }
}

fn command(test: Vec<Argument>) -> Vec<Argument> {
    let shell = || ["/bin/sh", "-c"].map(|text| text.parse().expect("this is an argument"));
    let mut words = test.into_iter();
    match words.next().as_ref().map(Argument::as_str) {
        Some("CMD") => words.collect(),
        Some("CMD-SHELL") => shell().into_iter().chain(words).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(request: &str, image: &str) -> Option<HealthCheck> {
        let request = format!(r#"{{"v":1,"Healthcheck":{request}}}"#);
        let image =
            format!(r#"{{"architecture":"a","os":"linux","config":{{"Healthcheck":{image}}}}}"#);
        health(
            &serde_json::from_str(&request).unwrap(),
            &ImageDefaults::parse(image.as_bytes()).unwrap(),
        )
    }

    #[test]
    fn what_is_asked_for_wins_over_the_image() {
        let words = |check: &HealthCheck| {
            check.command.iter().map(Argument::to_string).collect::<Vec<_>>().join(" ")
        };
        for (request, image, want) in [
            ("null", "null", None),
            ("null", r#"{"Test":["NONE"]}"#, None),
            ("null", r#"{"Test":[]}"#, None),
            ("null", r#"{"Test":["CMD","true","x"]}"#, Some("true x")),
            ("null", r#"{"Test":["CMD-SHELL","exit 0"]}"#, Some("/bin/sh -c exit 0")),
            (r#"{"Command":[]}"#, r#"{"Test":["CMD","true"]}"#, None),
            (r#"{"Command":["a"]}"#, r#"{"Test":["CMD","true"]}"#, Some("a")),
            (r#"{"Retries":7}"#, r#"{"Test":["CMD","true"]}"#, Some("true")),
        ] {
            let check = found(request, image);
            assert_eq!(check.as_ref().map(words).as_deref(), want, "{request} {image}");
        }
        let image = r#"{"Test":["CMD","true"],"Interval":5000000000,"Timeout":1,"Retries":2}"#;
        let check = found(r#"{"Retries":7,"OnFailure":"kill"}"#, image).unwrap();
        assert_eq!((check.interval_usec, check.timeout_usec), (5_000_000, USUAL_USEC));
        assert_eq!((check.retries, check.on_failure), (7, OnFailure::Kill));
    }

    #[test]
    fn checks_without_a_pause_are_refused() {
        for (request, fits) in [
            (r#"{"IntervalUSec":100000}"#, true),
            (r#"{"IntervalUSec":99999}"#, false),
            (r#"{"TimeoutUSec":0}"#, false),
            (r#"{"Retries":0}"#, false),
        ] {
            let request: HealthRequest = serde_json::from_str(request).unwrap();
            assert_eq!(request.check().is_ok(), fits, "{request:?}");
        }
    }
}
