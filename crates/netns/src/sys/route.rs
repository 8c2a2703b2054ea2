//! Addresses and routes by rtnetlink, and the connections to it.
//!
//! The crate `rtnetlink` is asynchronous; here it runs on a runtime of its own that is driven by
//! the calling thread alone, and every function blocks until the kernel has answered.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};
use rtnetlink::{AddressMessageBuilder, Handle, RouteMessageBuilder};
use tokio::runtime::{Builder, Runtime};

use super::namespace::{self, Inside};
use crate::{InterfaceName, IpFamily, NamespaceName, Place};

/// Connections to the routing part of the kernel: on the host, and in the one namespace that was
/// created with it.
pub(super) struct Routes {
    runtime: Runtime,
    pub(super) host: Handle,
    inside: Option<Inside<Handle>>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("inside", &self.inside).finish_non_exhaustive()
    }
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

    /// The numbers of the interfaces that the host's default routes of that family lead out by. What other
    /// tables say is for packets that some rule sends there.
    pub(super) fn default_interfaces(&self, family: IpFamily) -> io::Result<BTreeSet<u32>> {
        let message = match family {
            IpFamily::V4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
            IpFamily::V6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        };
        let request = self.host.route().get(message).execute();
        let messages: Vec<RouteMessage> = self.wait(request.try_collect())?;
        Ok(messages.iter().filter(|it| is_default(it)).flat_map(interfaces).collect())
    }

    pub(super) fn at(&mut self, place: &Place) -> io::Result<Handle> {
        match place {
            Place::Host => Ok(self.host.clone()),
            Place::Namespace(name) => Ok(self.inside(name)?.handle.clone()),
        }
    }

    /// The namespace that was created here, or the one that is bound to its file.
    pub(super) fn inside(&mut self, name: &NamespaceName) -> io::Result<&Inside<Handle>> {
        let inside = match self.inside.take().filter(|inside| inside.name == *name) {
            Some(inside) => inside,
            None => namespace::visit(name, || connect(&self.runtime))?,
        };
        Ok(self.inside.insert(inside))
    }

    pub(super) fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> io::Result<T> {
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

pub(super) fn is_default(message: &RouteMessage) -> bool {
    let header = &message.header;
    header.kind == RouteType::Unicast
        && header.destination_prefix_length == 0
        && header.table == RouteHeader::RT_TABLE_MAIN
}

/// The numbers of the interfaces that a route leads out by.
fn interfaces(message: &RouteMessage) -> impl Iterator<Item = u32> {
    message.attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    })
}
