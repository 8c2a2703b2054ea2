//! `org.freedesktop.DBus.Introspectable` of the inner nodes: names of children, not their insides.
//!
//! zbus answers with the whole tree below a node. With a few thousand containers that is more than
//! a bus takes in one message, and the bus then cuts the service off.

use std::fmt::Write as _;
use std::sync::Arc;

use zbus::object_server::Interface;
use zbus::{ObjectServer, OwnedObjectPath, interface};

use super::context::Context;
use super::log_control;
use super::manager::Manager;
use super::object_manager::ObjectManager;
use super::paths::ROOT;

/// What every object answers to, served by zbus.
const PEER: &str = "  <interface name=\"org.freedesktop.DBus.Peer\">
    <method name=\"Ping\"/>
    <method name=\"GetMachineId\">
      <arg name=\"machine_uuid\" type=\"s\" direction=\"out\"/>
    </method>
  </interface>
";

/// A node that is on the way to others.
#[derive(Debug)]
struct Introspectable {
    context: Arc<Context>,
    path: String,
}

#[interface(name = "org.freedesktop.DBus.Introspectable", introspection_docs = false)]
impl Introspectable {
    #[zbus(out_args("xml_data"))]
    fn introspect(&self) -> String {
        let mut xml = String::from(
            "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
             \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n",
        );
        if self.path == ROOT {
            Manager::new(self.context.clone()).introspect_to_writer(&mut xml, 2);
            ObjectManager::new(self.context.clone()).introspect_to_writer(&mut xml, 2);
            zbus::fdo::Properties.introspect_to_writer(&mut xml, 2);
        }
        self.introspect_to_writer(&mut xml, 2);
        xml.push_str(PEER);
        for child in self.children() {
            let _ = writeln!(xml, "  <node name=\"{child}\"/>");
        }
        xml.push_str("</node>\n");
        xml
    }
}

impl Introspectable {
    fn children(&self) -> Vec<String> {
        // The nodes that are always there, and the one beside ours.
        let fixed = [ROOT, log_control::PATH].into_iter().filter_map(|path| {
            let below = path.strip_prefix(self.path.trim_end_matches('/'))?.strip_prefix('/')?;
            Some(below.split('/').next()?.to_string())
        });
        let mut children: Vec<String> = fixed.collect();
        if self.path.starts_with(ROOT) {
            children.extend(self.context.registry.children(&self.path));
        }
        children.sort();
        children.dedup();
        children
    }
}

/// For the manager and the nodes above it.
pub(crate) async fn install(server: &ObjectServer, context: &Arc<Context>) -> zbus::Result<()> {
    for path in ["/", "/org", "/org/tare", ROOT] {
        replace(server, context, path).await?;
    }
    Ok(())
}

/// For the nodes between the manager and an object that was just added: they come with the first
/// object below them and go with the last.
pub(crate) async fn install_above(
    server: &ObjectServer,
    context: &Arc<Context>,
    added: &OwnedObjectPath,
) -> zbus::Result<()> {
    let mut path = added.as_str();
    while let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| *parent != ROOT) {
        if !context.registry.contains(parent) && context.registry.has_one_child(parent) {
            replace(server, context, parent).await?;
        }
        path = parent;
    }
    Ok(())
}

async fn replace(server: &ObjectServer, context: &Arc<Context>, path: &str) -> zbus::Result<()> {
    // Absent where ours is already.
    let _ = server.remove_named(path, Introspectable::name()).await;
    let ours = Introspectable { context: context.clone(), path: path.into() };
    server.at(path, ours).await.map(drop)
}
