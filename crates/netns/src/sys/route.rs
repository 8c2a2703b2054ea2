//! Links, addresses and routes by rtnetlink.
//!
//! The crate `rtnetlink` is asynchronous; here it runs on a runtime of its own that is driven by
//! the calling thread alone, and every function blocks until the kernel has answered.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::link::{
    BridgeVlanInfoFlags, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkBridge, LinkBridgePort, LinkBridgeVlan, LinkMacVlan,
    LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};
use rustix::io::Errno;
use tokio::runtime::{Builder, Runtime};

use super::namespace::{self, Inside};
use crate::plan::{LinkState, Vlans};
use crate::undo::is_gone;
use crate::{InterfaceName, MacAddress, MacvlanMode, NamespaceName, Place, VlanId};

/// How long a deletion gets before it is asked whether the interface is gone.
const DELETION_POLL: Duration = Duration::from_micros(200);

/// Connections to the routing part of the kernel: on the host, and in the one namespace that was
/// created with it.
pub(super) struct Routes {
    runtime: Runtime,
    host: Handle,
    inside: Option<Inside<Handle>>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("inside", &self.inside).finish_non_exhaustive()
    }
}

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
    default_vlan: Option<u16>,
    kind: Option<Kind>,
    mtu: Option<u32>,
}

impl Routes {
    /// Connects in the network namespace of the calling thread.
    pub(super) fn connect() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let host = connect(&runtime)?;
        Ok(Self { runtime, host, inside: None })
    }

    /// Creates the namespace `name` and connects in it: a socket stays where it was born.
    pub(super) fn bind_namespace(&mut self, name: &NamespaceName) -> io::Result<()> {
        self.inside = Some(namespace::bind(name, || connect(&self.runtime))?);
        Ok(())
    }

    /// The same with the namespace of `process`.
    pub(super) fn adopt_namespace(
        &mut self,
        name: &NamespaceName,
        process: BorrowedFd<'_>,
    ) -> io::Result<()> {
        self.inside = Some(namespace::adopt(name, process, || connect(&self.runtime))?);
        Ok(())
    }

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

    /// The host's interfaces of the kinds that are created here.
    pub(super) fn list(&self) -> io::Result<Vec<(InterfaceName, Kind)>> {
        let request = self
            .host
            .link()
            .get()
            .set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        let messages: Vec<LinkMessage> = self.wait(request.execute().try_collect())?;
        Ok(messages.iter().filter_map(named).collect())
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

    /// The host's interface `name`; `EEXIST` if it is of another kind.
    pub(super) fn find(&self, name: &InterfaceName, kind: Kind) -> io::Result<Link> {
        let link = self.link(&self.host, name)?;
        if link.kind == Some(kind) { Ok(link) } else { Err(Errno::EXIST.into()) }
    }

    pub(super) fn add_address(
        &mut self,
        place: &Place,
        interface: &InterfaceName,
        address: IpNet,
    ) -> io::Result<()> {
        let handle = self.at(place)?;
        let index = self.link(&handle, interface)?.index;
        let mut request = handle.address().add(index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            // Addresses are leased: nobody else has it, and a second's wait for that is long.
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.wait(request.execute())
    }

    pub(super) fn remove_address(
        &self,
        interface: &InterfaceName,
        address: IpNet,
    ) -> io::Result<()> {
        let index = self.link(&self.host, interface)?.index;
        let message = address_message(index, address);
        self.wait(self.host.address().del(message).execute())
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

    pub(super) fn add_default_route(
        &mut self,
        namespace: &NamespaceName,
        interface: &InterfaceName,
        gateway: IpAddr,
        metric: u32,
    ) -> io::Result<()> {
        let handle = self.inside(namespace)?.handle.clone();
        let index = self.link(&handle, interface)?.index;
        let message = match gateway {
            IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
                .gateway(v4)
                .output_interface(index)
                .priority(metric)
                .build(),
            IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
                .gateway(v6)
                .output_interface(index)
                .priority(metric)
                .build(),
        };
        self.wait(handle.route().add(message).execute())
    }

    /// The host's addresses, or those of the interface with this index.
    pub(super) fn addresses(&self, index: Option<u32>) -> io::Result<Vec<IpNet>> {
        let mut request = self.host.address().get();
        if let Some(index) = index {
            request = request.set_link_index_filter(index);
        }
        let messages: Vec<AddressMessage> = self.wait(request.execute().try_collect())?;
        Ok(messages.iter().filter_map(address).collect())
    }

    /// The networks that the host's routes lead to.
    pub(super) fn destinations(&self) -> io::Result<Vec<IpNet>> {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let mut destinations = Vec::new();
        for family in [v4, v6] {
            let request = self.host.route().get(family).execute();
            let messages: Vec<RouteMessage> = self.wait(request.try_collect())?;
            destinations.extend(messages.iter().filter_map(destination));
        }
        Ok(destinations)
    }

    fn link(&self, handle: &Handle, name: &InterfaceName) -> io::Result<Link> {
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

    fn at(&mut self, place: &Place) -> io::Result<Handle> {
        match place {
            Place::Host => Ok(self.host.clone()),
            Place::Namespace(name) => Ok(self.inside(name)?.handle.clone()),
        }
    }

    /// The namespace that was created here, or the one that is bound to its file.
    fn inside(&mut self, name: &NamespaceName) -> io::Result<&Inside<Handle>> {
        let inside = match self.inside.take().filter(|inside| inside.name == *name) {
            Some(inside) => inside,
            None => namespace::visit(name, || connect(&self.runtime))?,
        };
        Ok(self.inside.insert(inside))
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, rtnetlink::Error>>) -> io::Result<T> {
        self.runtime.block_on(work).map_err(|error| match error {
            rtnetlink::Error::NetlinkError(answer) => answer.to_io(),
            other => io::Error::other(other.to_string()),
        })
    }
}

/// Opens a socket in the network namespace of the calling thread and leaves it to `runtime`.
fn connect(runtime: &Runtime) -> io::Result<Handle> {
    let _inside = runtime.enter();
    let (connection, handle, _unasked_for) = rtnetlink::new_connection()?;
    runtime.spawn(connection);
    Ok(handle)
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
            default_vlan: attributes.clone().find_map(default_vlan),
            kind: attributes.clone().find_map(kind),
            mtu: attributes.clone().find_map(|attribute| match attribute {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            }),
        }
    }
}

fn kind(attribute: &LinkAttribute) -> Option<Kind> {
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

fn address_message(index: u32, address: IpNet) -> AddressMessage {
    match address {
        IpNet::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(v4.addr(), v4.prefix_len())
            .build(),
        IpNet::V6(v6) => AddressMessageBuilder::<Ipv6Addr>::new()
            .index(index)
            .address(v6.addr(), v6.prefix_len())
            .build(),
    }
}

/// The interface's own address: `IFA_LOCAL`, or where there is none, `IFA_ADDRESS` (on a point to
/// point link the latter is the other end's).
fn address(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    });
    IpNet::new(address?, message.header.prefix_len).ok()
}

/// Where a route leads; `None` for default routes and for those the kernel keeps for its own
/// addresses.
fn destination(message: &RouteMessage) -> Option<IpNet> {
    let own = [RouteType::Local, RouteType::Broadcast, RouteType::Anycast, RouteType::Multicast];
    if own.contains(&message.header.kind) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    IpNet::new(address?, message.header.destination_prefix_length).ok()
}
