//! podman's service, warm, over its socket.

mod checkpoints;
mod images;

use std::cell::RefCell;

use async_trait::async_trait;
use hyper::Method;
use serde_json::{Value, json};
use system_tests::image;
use tokio::process::Child;

use super::http::Http;
use super::{Command, Engine, IMAGE, Network};
use crate::Result;

const SOCKET: &str = "/run/podman/podman.sock";
const API: &str = "/v5.0.0/libpod";

/// Connections to the service.
#[derive(Debug)]
pub(crate) struct Podman {
    http: Http,
    /// A service beside it, while checkpoints are made.
    checkpoints: RefCell<Option<Child>>,
}

impl Podman {
    /// Connects when it is first called.
    pub(crate) fn new() -> Self {
        Self::at(SOCKET)
    }

    fn at(socket: &'static str) -> Self {
        Self { http: Http::new(socket), checkpoints: RefCell::default() }
    }

    /// Gives it the image.
    pub(crate) async fn import(&self) -> Result<()> {
        let path = format!("{API}/images/import?reference={IMAGE}");
        self.http.call(Method::POST, &path, "application/x-tar", image::busybox_tar()).await?;
        Ok(())
    }

    async fn create_from(&self, image: &str, network: Network, command: Command) -> Result<String> {
        let mode = match network {
            Network::Bridge => "bridge",
            Network::None => "none",
        };
        let spec = json!({
            "image": image,
            "command": command,
            "netns": { "nsmode": mode },
            // To a file, as ours.
            "log_configuration": { "driver": "k8s-file" },
        });
        let reply = self.call(Method::POST, "create", spec.to_string()).await?;
        text(&reply["Id"])
    }

    async fn call(&self, method: Method, path: &str, body: String) -> Result<Value> {
        let path = format!("{API}/containers/{path}");
        let reply = self.http.call(method, &path, "application/json", body).await?;
        // Some say nothing.
        if reply.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&reply)?) }
    }
}

#[async_trait(?Send)]
impl Engine for Podman {
    async fn create(&self, network: Network, command: Command) -> Result<String> {
        self.create_from(IMAGE, network, command).await
    }

    async fn start(&self, id: &str) -> Result<()> {
        self.call(Method::POST, &format!("{id}/start"), String::new()).await.map(drop)
    }

    async fn kill(&self, id: &str) -> Result<()> {
        self.call(Method::POST, &format!("{id}/kill?signal=KILL"), String::new()).await.map(drop)
    }

    async fn wait(&self, id: &str) -> Result<i32> {
        let code = self.call(Method::POST, &format!("{id}/wait"), String::new()).await?;
        let number = code.as_i64().and_then(|code| i32::try_from(code).ok());
        number.ok_or_else(|| format!("{id}: exit code {code}").into())
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let reply = self.call(Method::DELETE, id, String::new()).await?;
        match &reply[0]["Err"] {
            Value::Null => Ok(()),
            error => Err(format!("{id}: {error}").into()),
        }
    }

    async fn list(&self) -> Result<Vec<String>> {
        let rows = self.call(Method::GET, "json?all=true", String::new()).await?;
        let rows = rows.as_array().ok_or("no list of containers")?;
        rows.iter().map(|row| text(&row["Id"])).collect()
    }
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(Into::into).ok_or_else(|| format!("no text: {value}").into())
}
