//! Neighbours by rtnetlink: who has which address on an interface of the host.

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::route::Routes;
use crate::undo::is_gone;

impl Routes {
    /// Forgets the neighbours that have these addresses, on whatever interface, but for those that
    /// somebody set for good. With each goes what the kernel keeps until it has answered.
    pub(super) fn forget_neighbours(&self, addresses: &[IpAddr]) -> io::Result<()> {
        let request = self.host.neighbours().get().execute();
        let mut known: Vec<NeighbourMessage> = self.wait(request.try_collect())?;
        known.retain(|it| is_learnt(it) && address(it).is_some_and(|it| addresses.contains(&it)));
        known.into_iter().try_for_each(|neighbour| self.forget_neighbour(neighbour))
    }

    /// One that is forgotten already is none.
    fn forget_neighbour(&self, neighbour: NeighbourMessage) -> io::Result<()> {
        match self.wait(self.host.neighbours().del(neighbour).execute()) {
            Err(error) if is_gone(&error) => Ok(()),
            answer => answer,
        }
    }
}

fn is_learnt(neighbour: &NeighbourMessage) -> bool {
    !matches!(neighbour.header.state, NeighbourState::Permanent | NeighbourState::Noarp)
}

fn address(neighbour: &NeighbourMessage) -> Option<IpAddr> {
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some((*v4).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    })
}
