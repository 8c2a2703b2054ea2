//! The bridges of networks, and interfaces of the host's own that have the name of one: those are left as
//! they are, whoever made them later or before.

use tare_netns::{Error, InterfaceName, Network};

use crate::instance::Tag;

/// Whether the bridge of a network is on the host.
pub(super) fn is_there(network: &Network) -> Result<bool, Error> {
    let Some(bridge) = network.bridge() else { return Ok(false) };
    match tare_netns::find_bridge(&bridge) {
        Err(error) if is_of_host(&error) => Ok(false),
        // It is ours all the same.
        Err(Error::VlansMixed { .. }) => Ok(true),
        found => found,
    }
}

/// Takes the bridge of that name off the host.
pub(super) fn remove(name: &InterfaceName) -> Result<(), Error> {
    match tare_netns::remove_bridge(name) {
        Err(error) if is_of_host(&error) => {
            tracing::info!("{name} stays: {error}");
            Ok(())
        }
        removed => removed.map(drop),
    }
}

/// The first name for a bridge of this daemon that the host has no interface of, or that one has which was
/// made here: by an earlier one, whose database is gone.
pub(super) fn first_free(tag: &Tag) -> Result<InterfaceName, Error> {
    for number in 0.. {
        let name = tag.bridge(number);
        if !tare_netns::has_interface(&name)? || tare_netns::has_own_bridge(&name)? {
            return Ok(name);
        }
    }
    unreachable!("there are fewer interfaces than numbers")
}

fn is_of_host(error: &Error) -> bool {
    matches!(error, Error::ForeignBridge { .. } | Error::NotABridge { .. })
}
