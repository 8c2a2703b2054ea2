//! Interfaces by rtnetlink: bridges, veth pairs, macvlan.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{
    BridgeVlanInfoFlags, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkLayerType, LinkMessage, MacVlanMode,
};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkBridgeVlan, LinkMacVlan, LinkMessageBuilder,
    LinkUnspec, LinkVeth,
};
use rustix::io::Errno;

use super::route::Routes;
use crate::bridge::ALIAS;
use crate::plan::{LinkState, Mark, Vlans};
use crate::undo::is_gone;
use crate::{InterfaceName, MacAddress, MacvlanMode, NamespaceName, Place, VlanId};

/// How long a deletion gets before it is asked whether the interface is gone.
const DELETION_POLL: Duration = Duration::from_micros(200);

/// The kinds of interface this crate creates, and thus may delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Veth,
    Bridge,
    Macvlan,
}

/// What is read of an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) state: LinkState,
    pub(super) vlans: Vlans,
    pub(super) mark: Mark,
    default_vlan: Option<u16>,
    kind: Option<Kind>,
    layer: LinkLayerType,
    mtu: Option<u32>,
}

impl Routes {
    /// With a VLAN, every port is in it, untagged, until it is told otherwise.
    pub(super) fn create_bridge(
        &self,
        name: &InterfaceName,
        mac: Option<MacAddress>,
        mtu: Option<u32>,
        vlan: Option<VlanId>,
    ) -> io::Result<()> {
        let mut message = LinkMessageBuilder::<LinkBridge>::new(name.as_str());
        if let Some(vlan) = vlan {
            message = message.vlan_filtering(true).vlan_default_pvid(vlan.get());
        }
        if let Some(mac) = mac {
            message = message.address(mac.bytes().to_vec());
        }
        if let Some(mtu) = mtu {
            message = message.mtu(mtu);
        }
        self.wait(self.host.link().add(message.build()).execute())
    }

    /// The kernel takes no alias of an interface that is being made.
    pub(super) fn mark_bridge(&self, name: &InterfaceName) -> io::Result<()> {
        let index = self.find(name, Kind::Bridge)?.index;
        let message = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::IfAlias(ALIAS.to_owned()));
        self.wait(self.host.link().set(message.build()).execute())
    }

    /// Hairpin mode lets a container reach itself by a port it published, where bridged packets
    /// pass the firewall and are translated on the bridge.
    pub(super) fn configure_port(
        &self,
        bridge: &InterfaceName,
        port: &InterfaceName,
        vlan: Option<VlanId>,
    ) -> io::Result<()> {
        let index = self.find(port, Kind::Veth)?.index;
        let message = LinkBridgePort::new(index).hairpin(true).build();
        self.wait(self.host.link().set_port(message).execute())?;
        match vlan {
            Some(vlan) => self.set_vlan(&self.find(bridge, Kind::Bridge)?, index, vlan.get()),
            None => Ok(()),
        }
    }

    fn set_vlan(&self, bridge: &Link, port: u32, vlan: u16) -> io::Result<()> {
        if bridge.vlans == Vlans::Mixed {
            return Err(io::Error::other("the bridge does not keep VLANs apart"));
        }
        if let Some(old) = bridge.default_vlan.filter(|&old| old != vlan) {
            let message = LinkBridgeVlan::new(port).vlan(old, BridgeVlanInfoFlags::empty());
            self.wait(self.host.link().del_with_message(message.build()).execute())?;
        }
        let flags = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
        let message = LinkBridgeVlan::new(port).vlan(vlan, flags).build();
        self.wait(self.host.link().set(message).execute())
    }

    pub(super) fn create_macvlan(
        &mut self,
        parent: &InterfaceName,
        mode: MacvlanMode,
        (namespace, interface): (&NamespaceName, &InterfaceName),
        mac: MacAddress,
        mtu: Option<u32>,
    ) -> io::Result<()> {
        let inside = self.inside(namespace)?.fd.as_raw_fd();
        let parent = self.link(&self.host, parent)?.index;
        let mut message = LinkMacVlan::new(interface.as_str(), parent, macvlan_mode(mode))
            .address(mac.bytes().to_vec())
            .setns_by_fd(inside);
        if let Some(mtu) = mtu {
            message = message.mtu(mtu);
        }
        self.wait(self.host.link().add(message.build()).execute())
    }

    pub(super) fn delete_macvlan(
        &mut self,
        namespace: &NamespaceName,
        interface: &InterfaceName,
    ) -> io::Result<()> {
        let handle = self.inside(namespace)?.handle.clone();
        let link = self.link(&handle, interface)?;
        if link.kind != Some(Kind::Macvlan) {
            return Err(Errno::EXIST.into());
        }
        self.wait(handle.link().del(link.index).execute())
    }

    /// The veths among the ports of a bridge of the host.
    pub(super) fn veths_on(&self, bridge: &InterfaceName) -> io::Result<Vec<InterfaceName>> {
        let bridge = match self.link(&self.host, bridge) {
            Err(error) if is_gone(&error) => return Ok(Vec::new()),
            found => found?,
        };
        if bridge.kind != Some(Kind::Bridge) {
            return Ok(Vec::new());
        }
        let bridge = LinkAttribute::Controller(bridge.index);
        let mut all = self.all()?;
        all.retain(|message| message.attributes.contains(&bridge));
        let veths = all.iter().filter_map(named).filter(|(_, kind)| *kind == Kind::Veth);
        Ok(veths.map(|(name, _)| name).collect())
    }

    /// Those bridges of the host that have one of these numbers.
    pub(super) fn bridges_among(&self, indexes: &BTreeSet<u32>) -> io::Result<Vec<InterfaceName>> {
        let mut all = self.all()?;
        all.retain(|message| indexes.contains(&message.header.index));
        let bridges = all.iter().filter_map(named).filter(|(_, kind)| *kind == Kind::Bridge);
        Ok(bridges.map(|(name, _)| name).collect())
    }

    fn all(&self) -> io::Result<Vec<LinkMessage>> {
        let request = self
            .host
            .link()
            .get()
            .set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        self.wait(request.execute().try_collect())
    }

    /// One message for both ends: the kernel creates all of it or nothing.
    pub(super) fn create_veth(
        &mut self,
        bridge: &InterfaceName,
        host_interface: &InterfaceName,
        namespace: &NamespaceName,
        interface: &InterfaceName,
        mac: MacAddress,
    ) -> io::Result<()> {
        let inside = self.inside(namespace)?.fd.as_raw_fd();
        let bridge = self.find(bridge, Kind::Bridge)?;
        let mut peer = one_queue(LinkMessageBuilder::<LinkUnspec>::new())
            .name(interface.as_str())
            .address(mac.bytes().to_vec())
            .setns_by_fd(inside);
        let mut message =
            one_queue(LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth))
                .name(host_interface.as_str())
                .controller(bridge.index)
                .up();
        if let Some(mtu) = bridge.mtu {
            peer = peer.mtu(mtu);
            message = message.mtu(mtu);
        }
        let message = message.set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())));
        self.wait(self.host.link().add(message.build()).execute())
    }

    /// Returns as soon as the interface is gone, its name and its peer with it.
    ///
    /// The kernel answers a deletion only after an RCU barrier (10 to 40 ms, `netdev_run_todo`),
    /// long after it has taken the interface off its lists. That wait is left to another thread.
    pub(super) fn delete(&self, name: &InterfaceName, kind: Kind) -> io::Result<()> {
        let index = self.find(name, kind)?.index;
        let (sender, answer) = mpsc::channel();
        let deletion = move || sender.send(delete_and_wait(index));
        thread::Builder::new().name("netns-delete".into()).spawn(deletion)?;
        loop {
            match answer.recv_timeout(DELETION_POLL) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("panicked")),
                // This query waits for the lock that the deletion holds: it is not asked often.
                Err(RecvTimeoutError::Timeout) if self.is_unlisted(index)? => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Whether the host has an interface `name`.
    pub(super) fn is_there(&self, name: &InterfaceName) -> io::Result<bool> {
        match self.link(&self.host, name) {
            Err(error) if is_gone(&error) => Ok(false),
            found => found.map(|_| true),
        }
    }

    /// Whether interfaces can have hardware addresses of their own on the host's interface `name`: it is
    /// there, and an Ethernet one, which the loopback is not.
    pub(super) fn carries_macvlans(&self, name: &InterfaceName) -> io::Result<bool> {
        match self.link(&self.host, name) {
            Err(error) if is_gone(&error) => Ok(false),
            found => found.map(|link| link.layer == LinkLayerType::Ether),
        }
    }

    /// The host's interface `name`; `EEXIST` if it is of another kind.
    pub(super) fn find(&self, name: &InterfaceName, kind: Kind) -> io::Result<Link> {
        let link = self.link(&self.host, name)?;
        if link.kind == Some(kind) { Ok(link) } else { Err(Errno::EXIST.into()) }
    }

    pub(super) fn set_state(
        &mut self,
        place: &Place,
        interface: &InterfaceName,
        state: LinkState,
    ) -> io::Result<()> {
        let handle = self.at(place)?;
        let message = LinkUnspec::new_with_name(interface.as_str());
        let message = match state {
            LinkState::Up => message.up(),
            LinkState::Down => message.down(),
        };
        self.wait(handle.link().set(message.build()).execute())
    }

    pub(super) fn link(&self, handle: &Handle, name: &InterfaceName) -> io::Result<Link> {
        let request = handle
            .link()
            .get()
            .match_name(name.as_str())
            .set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        let mut replies = Box::pin(request.execute());
        let message = self.wait(replies.try_next())?.ok_or(Errno::NODEV)?;
        Ok(Link::read(&message))
    }

    fn is_unlisted(&self, index: u32) -> io::Result<bool> {
        let mut replies = Box::pin(self.host.link().get().match_index(index).execute());
        match self.wait(replies.try_next()) {
            Err(error) if is_gone(&error) => Ok(true),
            reply => reply.map(|link| link.is_none()),
        }
    }
}

/// Deletes an interface over a connection of its own.
fn delete_and_wait(index: u32) -> io::Result<()> {
    let routes = Routes::connect()?;
    routes.wait(routes.host.link().del(index).execute())
}

/// One queue in each direction. By default the kernel allocates one for each CPU and then puts all
/// but one out of use, at the price of an RCU grace period.
fn one_queue<T>(message: LinkMessageBuilder<T>) -> LinkMessageBuilder<T> {
    message
        .append_extra_attribute(LinkAttribute::NumTxQueues(1))
        .append_extra_attribute(LinkAttribute::NumRxQueues(1))
}

impl Link {
    fn read(message: &LinkMessage) -> Self {
        let attributes = message.attributes.iter();
        let up = message.header.flags.contains(LinkFlags::Up);
        Self {
            index: message.header.index,
            state: if up { LinkState::Up } else { LinkState::Down },
            vlans: attributes.clone().find_map(vlans).unwrap_or_default(),
            mark: mark(&message.attributes),
            default_vlan: attributes.clone().find_map(default_vlan),
            kind: attributes.clone().find_map(kind),
            layer: message.header.link_layer_type,
            mtu: attributes.clone().find_map(|attribute| match attribute {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            }),
        }
    }
}

fn mark(attributes: &[LinkAttribute]) -> Mark {
    let is_marked = |it: &LinkAttribute| matches!(it, LinkAttribute::IfAlias(it) if it == ALIAS);
    if attributes.iter().any(is_marked) {
        return Mark::Alias;
    }
    Mark::Nothing(attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => MacAddress::new(bytes.as_slice().try_into().ok()?).ok(),
        _ => None,
    }))
}

pub(super) fn kind(attribute: &LinkAttribute) -> Option<Kind> {
    let LinkAttribute::LinkInfo(infos) = attribute else { return None };
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(InfoKind::Veth) => Some(Kind::Veth),
        LinkInfo::Kind(InfoKind::Bridge) => Some(Kind::Bridge),
        LinkInfo::Kind(InfoKind::MacVlan) => Some(Kind::Macvlan),
        _ => None,
    })
}

fn named(message: &LinkMessage) -> Option<(InterfaceName, Kind)> {
    let kind = message.attributes.iter().find_map(kind)?;
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => name.parse().ok(),
        _ => None,
    });
    Some((name?, kind))
}

fn of_bridge(attribute: &LinkAttribute) -> impl Iterator<Item = &InfoBridge> {
    let infos = match attribute {
        LinkAttribute::LinkInfo(infos) => infos.as_slice(),
        _ => &[],
    };
    infos.iter().flat_map(|info| match info {
        LinkInfo::Data(InfoData::Bridge(data)) => data.as_slice(),
        _ => &[],
    })
}

fn vlans(attribute: &LinkAttribute) -> Option<Vlans> {
    of_bridge(attribute).find_map(|info| match info {
        InfoBridge::VlanFiltering(true) => Some(Vlans::Apart),
        _ => None,
    })
}

fn default_vlan(attribute: &LinkAttribute) -> Option<u16> {
    of_bridge(attribute).find_map(|info| match info {
        InfoBridge::VlanDefaultPvid(vlan) => Some(*vlan).filter(|&vlan| vlan != 0),
        _ => None,
    })
}

fn macvlan_mode(mode: MacvlanMode) -> MacVlanMode {
    match mode {
        MacvlanMode::Bridge => MacVlanMode::Bridge,
        MacvlanMode::Private => MacVlanMode::Private,
        MacvlanMode::Vepa => MacVlanMode::Vepa,
        MacvlanMode::Passthru => MacVlanMode::Passthrough,
    }
}
