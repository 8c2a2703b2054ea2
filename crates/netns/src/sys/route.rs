//! Links, addresses and routes by rtnetlink.
//!
//! The crate `rtnetlink` is asynchronous; here it runs on a runtime of its own that is driven by
//! the calling thread alone, and every function blocks until the kernel has answered.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
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
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};
use rustix::io::Errno;
use tokio::runtime::{Builder, Runtime};

use super::namespace::{self, Inside};
use super::not_ours;
use crate::plan::LinkState;
use crate::undo::is_gone;
use crate::{InterfaceName, MacAddress, NamespaceName, Place};

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
pub(super) enum Kind {
    Veth,
    Bridge,
}

/// What is read of an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) state: LinkState,
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
        let (fd, handle) = namespace::bind(name, || connect(&self.runtime))?;
        self.inside = Some(Inside { name: name.clone(), fd, handle });
        Ok(())
    }

    pub(super) fn create_bridge(
        &self,
        name: &InterfaceName,
        mac: Option<MacAddress>,
        mtu: Option<u32>,
    ) -> io::Result<()> {
        let mut message = LinkMessageBuilder::<LinkBridge>::new(name.as_str());
        if let Some(mac) = mac {
            message = message.address(mac.bytes().to_vec());
        }
        if let Some(mtu) = mtu {
            message = message.mtu(mtu);
        }
        self.wait(self.host.link().add(message.build()).execute())
    }

    /// One message for both ends: the kernel creates all of it or nothing.
    pub(super) fn create_veth(
        &self,
        bridge: &InterfaceName,
        host_interface: &InterfaceName,
        namespace: &NamespaceName,
        interface: &InterfaceName,
        mac: MacAddress,
    ) -> io::Result<()> {
        let inside = self.inside(namespace)?;
        let bridge = self.find(bridge, Kind::Bridge)?;
        let mut peer = one_queue(LinkMessageBuilder::<LinkUnspec>::new())
            .name(interface.as_str())
            .address(mac.bytes().to_vec())
            .setns_by_fd(inside.fd.as_raw_fd());
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
        &self,
        place: &Place,
        interface: &InterfaceName,
        address: IpNet,
    ) -> io::Result<()> {
        let handle = self.at(place)?;
        let index = self.link(handle, interface)?.index;
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
        &self,
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
        &self,
        namespace: &NamespaceName,
        interface: &InterfaceName,
        gateway: IpAddr,
        metric: u32,
    ) -> io::Result<()> {
        let handle = &self.inside(namespace)?.handle;
        let index = self.link(handle, interface)?.index;
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

    fn at(&self, place: &Place) -> io::Result<&Handle> {
        match place {
            Place::Host => Ok(&self.host),
            Place::Namespace(name) => Ok(&self.inside(name)?.handle),
        }
    }

    fn inside(&self, name: &NamespaceName) -> io::Result<&Inside<Handle>> {
        self.inside.as_ref().filter(|inside| inside.name == *name).ok_or_else(|| not_ours(name))
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
        _ => None,
    })
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
