//! `org.tare.Containers1.Network`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zbus::message::Header;
use zbus::{OwnedObjectPath, Variant, interface};

use super::context::Context;
use super::kind::Kind;
use super::paths;
use super::registry::Shown;
use super::value::{Dict, values};
use crate::api::{self, ApiError, flags};
use crate::engine::object::{ObjectId, Seen};
use crate::engine::{Engine, InspectNetwork, Members, RemoveNetwork, UpdateNetwork, view};

/// `Remove`: take the containers that are on it off it first.
const DISCONNECT: u64 = 1;

/// One network.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    context: Arc<Context>,
    shown: Shown<view::Network>,
}

impl Kind for Network {
    type View = view::Network;

    fn new(context: &Arc<Context>, shown: Shown<view::Network>) -> Self {
        Self { context: context.clone(), shown }
    }

    fn shown(&self) -> &Shown<view::Network> {
        &self.shown
    }
}

impl Network {
    fn view(&self) -> Result<Arc<view::Network>, ApiError> {
        Ok(self.context.engine.find_network(self.shown.get().name.as_str())?)
    }
}

#[interface(name = "org.tare.Containers1.Network", introspection_docs = false)]
impl Network {
    async fn remove(&self, flags: u64, #[zbus(header)] header: Header<'_>) -> Result<(), ApiError> {
        let request = || {
            let disconnect = self::flags(flags, DISCONNECT)? & DISCONNECT != 0;
            let members = if disconnect { Members::Disconnect } else { Members::Refuse };
            Ok(RemoveNetwork { network: self.view()?, members })
        };
        let remove = async |engine: Engine, remove| engine.remove_network(remove).await;
        self.context.act(&header, request, remove).await
    }

    async fn update(
        &self,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || {
            let changes = api::network::update(values(options)?)?;
            Ok(UpdateNetwork { network: self.view()?, changes })
        };
        let update = async |engine: Engine, update| engine.update_network(update).await;
        self.context.act(&header, request, update).await
    }

    #[zbus(out_args("json"))]
    async fn inspect(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(InspectNetwork { network: self.view()? })
        };
        let inspect = async |engine: Engine, inspect| engine.inspect_network(inspect).await;
        self.context.act(&header, request, inspect).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> String {
        self.shown.get().id.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.shown.get().name.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"), name = "OwnerUID")]
    fn owner_uid(&self) -> u32 {
        self.shown.get().owner_uid
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn driver(&self) -> &'static str {
        self.shown.get().driver.as_str()
    }

    #[zbus(property)]
    fn interface_name(&self) -> String {
        self.shown.get().interface.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    #[zbus(property)]
    fn subnets(&self) -> Vec<HashMap<&'static str, Variant<'static>>> {
        self.shown.get().subnets.iter().map(subnet).collect()
    }

    #[zbus(property(emits_changed_signal = "const"), name = "IPv6")]
    fn ipv6(&self) -> bool {
        self.shown.get().subnets.iter().any(|subnet| subnet.gateway().is_ipv6())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn internal(&self) -> bool {
        self.shown.get().internal
    }

    #[zbus(property, name = "DNS")]
    fn dns(&self) -> bool {
        self.shown.get().dns
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn created_timestamp(&self) -> u64 {
        self.shown.get().created.0
    }

    #[zbus(property)]
    fn containers(&self) -> Vec<OwnedObjectPath> {
        let view = self.shown.get();
        view.containers.iter().map(|id| paths::of(&ObjectId::Container(id.clone()))).collect()
    }

    #[zbus(property)]
    fn public_labels(&self) -> BTreeMap<String, String> {
        self.shown.get().public_labels.clone()
    }
}

fn subnet(subnet: &tare_netns::Subnet) -> HashMap<&'static str, Variant<'static>> {
    let end = |address: Option<std::net::IpAddr>| {
        address.map(|address| address.to_string()).unwrap_or_default()
    };
    let range = subnet.range();
    HashMap::from([
        ("Subnet", subnet.subnet().to_string().into()),
        ("Gateway", subnet.gateway().to_string().into()),
        ("RangeStart", end(range.map(|range| range.first)).into()),
        ("RangeEnd", end(range.map(|range| range.last)).into()),
    ])
}

/// A network in a list.
pub(crate) fn row(view: &view::Network) -> HashMap<&'static str, Variant<'static>> {
    let labels: HashMap<String, String> = view.public_labels.clone().into_iter().collect();
    HashMap::from([
        ("Path", Variant::from(zbus::ObjectPath::from(paths::of(&view.id())))),
        ("Id", view.id.clone().into()),
        ("Name", view.name.to_string().into()),
        ("Driver", view.driver.as_str().into()),
        ("Internal", view.internal.into()),
        ("NContainers", u32::try_from(view.containers.len()).unwrap_or(u32::MAX).into()),
        ("CreatedTimestamp", view.created.0.into()),
        ("OwnerUID", view.owner_uid.into()),
        ("PublicLabels", labels.into()),
    ])
}
