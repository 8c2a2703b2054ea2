//! Everything about a container, for those who may know its environment and all its labels.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tare_netns::NetworkName;
use tare_specgen::{Request, SecretTarget, reasons};

use super::container::{Container, Running};
use super::logs::{Place, log_driver};
use super::view::{self, State};
use super::{Engine, Error};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// A container to be looked into.
#[derive(Debug)]
pub struct Inspect {
    /// Which.
    pub container: Arc<view::Container>,
    /// What of it.
    pub what: Part,
}

/// What of a container is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All there is.
    Whole,
    /// The configuration its runtime made it from.
    Config,
    /// Its state, as an OCI runtime tells it.
    State,
}

impl Ask for Inspect {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::InspectContainers, &self.container, by).with("verb", "inspect")
    }
}

impl Engine {
    /// A JSON document about a container.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`] where the document is of a life, [`Error::Host`].
    pub fn inspect(&self, request: Authorized<Inspect>) -> Result<String, Error> {
        let (Inspect { container: asked, what }, _) = request.into_parts();
        let container = self.container(&asked.id)?;
        container.check_unchanged(&asked)?;
        match what {
            Part::Whole => Ok(self.whole(&container)?.to_string()),
            Part::Config => {
                let config = self.config_of(&container)?;
                without_secrets(config, &container.definition().row.request)
            }
            Part::State => self.state_of(&container),
        }
    }

    fn whole(&self, container: &Container) -> Result<Value, Error> {
        let view = container.view();
        let effective = self.effective(container)?;
        let reasons: Vec<String> = reasons(&effective).iter().map(ToString::to_string).collect();
        let mut document = public(&view);
        document.extend(object(json!({
            "Labels": effective.labels.iter().map(|(key, it)| (key.as_str(), it)).collect::<std::collections::BTreeMap<_, _>>(),
            "Reasons": reasons,
            "Argv": effective.argv.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "Env": effective.env.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "WorkingDir": effective.working_dir.to_string(),
            "User": effective.user.to_string(),
            "StopSignal": effective.stop_signal.number(),
            "StopTimeoutUSec": effective.stop_timeout_usec,
            "LogDriver": log_driver(&effective.request).as_str(),
            "Request": effective.request,
        })));
        match self.log_place(container) {
            Place::File(path) => document.insert("LogPath".into(), json!(path)),
            Place::Journal(source) => document.insert("LogMatch".into(), json!(source.matches())),
        };
        if let Some(running) = container.running() {
            document.insert("Runtime".into(), running.target.runtime.as_str().into());
            document.insert("Bundle".into(), json!(self.bundle_of(&running)));
        }
        Ok(document.into())
    }

    fn bundle_of(&self, running: &Running) -> PathBuf {
        running.layout(self.instance.run_dir()).bundle()
    }

    fn config_of(&self, container: &Container) -> Result<String, Error> {
        let running = container.running().ok_or_else(|| Error::NotRunning(container.name()))?;
        fs::read_to_string(running.layout(self.instance.run_dir()).config_json()).map_err(
            |source| {
                // It goes with its container.
                if running.init.has_ended() {
                    return Error::NotRunning(container.name());
                }
                Error::Host { what: "read the configuration of a container", source }
            },
        )
    }

    /// See the runtime specification, "State".
    fn state_of(&self, container: &Container) -> Result<String, Error> {
        let config: Value = serde_json::from_str(&self.config_of(container)?)
            .map_err(|error| Error::Bug(error.to_string()))?;
        let running = container.running().ok_or_else(|| Error::NotRunning(container.name()))?;
        let status = match container.state() {
            State::Paused => "paused",
            State::Created => "created",
            _ => "running",
        };
        let state = json!({
            "ociVersion": config["ociVersion"],
            "id": container.id.as_str(),
            "status": status,
            "pid": running.pid,
            "bundle": self.bundle_of(&running),
            "annotations": config.get("annotations").cloned().unwrap_or_else(|| json!({})),
        });
        Ok(state.to_string())
    }
}

/// A configuration in which variables that are secrets say nothing.
fn without_secrets(config: String, request: &Request) -> Result<String, Error> {
    let names: Vec<String> = request
        .secrets
        .iter()
        .filter_map(|secret| match &secret.target {
            SecretTarget::Env(name) => Some(format!("{name}=")),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        return Ok(config);
    }
    let mut config: Value =
        serde_json::from_str(&config).map_err(|error| Error::Bug(error.to_string()))?;
    for entry in config["process"]["env"].as_array_mut().into_iter().flatten() {
        let secret = names
            .iter()
            .find(|name| entry.as_str().is_some_and(|entry| entry.starts_with(name.as_str())));
        if let Some(name) = secret {
            *entry = name.as_str().into();
        }
    }
    Ok(config.to_string())
}

/// What everybody may see, by the names of the properties.
fn public(view: &view::Container) -> Map<String, Value> {
    let address = |address: &view::Address| {
        json!({
            "Network": address.network.as_str(),
            "Interface": address.interface.to_string(),
            "Address": address.address.to_string(),
            "Gateway": address.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            "MAC": address.mac.to_string(),
        })
    };
    let port = |port: &view::Port| {
        json!({
            "HostAddress": port.at.map(|at| at.to_string()).unwrap_or_default(),
            "HostPort": port.host,
            "ContainerPort": port.container,
            "Range": port.count,
            "Protocol": port.protocol.as_str(),
        })
    };
    object(json!({
        "v": 1,
        "Id": view.id.as_str(),
        "Name": view.name.as_str(),
        "ImageId": view.image_id.to_string(),
        "ImageReference": view.image_reference,
        "OwnerUID": view.owner_uid,
        "Privileged": view.privileged,
        "State": view.state.as_str(),
        "PID": view.process.map_or(0, |process| process.pid),
        "PIDFDId": view.process.map_or(0, |process| process.pidfd_id),
        "ExitCode": view.exit.map_or(-1, |exit| exit.code),
        "ExitSignal": view.exit.map_or(0, |exit| exit.signal),
        "ExitReason": view.exit.map_or("", |exit| exit.reason.as_str()),
        "CreatedTimestamp": view.created.0,
        "StartedTimestamp": view.started.unwrap_or_default().0,
        "StartedTimestampMonotonic": view.started_monotonic.unwrap_or_default().0,
        "FinishedTimestamp": view.finished.unwrap_or_default().0,
        "RestartPolicy": view.lifecycle.restart.to_string(),
        "RestartCount": view.restarts,
        "TTY": view.terminal,
        "AutoRemove": view.lifecycle.auto_remove,
        "BindToCaller": view.lifecycle.bound_to.is_some(),
        "CGroupPath": view.cgroup,
        "Networks": view.networks.iter().map(NetworkName::as_str).collect::<Vec<_>>(),
        "IPAddresses": view.addresses.iter().map(address).collect::<Vec<_>>(),
        "PublishedPorts": view.ports.iter().map(port).collect::<Vec<_>>(),
    }))
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}
