//! What others have in a forwarded packet's way. An accept of ours is not final in their chains.

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, HookNumber, InetHookNumber, NfTablesMessage,
};

use super::docker;
use crate::sys::{self, Linux};
use crate::undo::{UndoStack, apply, is_gone};
use crate::{Error, InterfaceName, IpFamily, Step, TableName};

/// `NF_DROP`.
const POLICY_DROP: u32 = 0;

/// A chain of another table that the packets come along which the host forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForeignChain {
    /// `ip`, `ip6` or `inet`, as nft(8) has it.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its own name.
    pub chain: String,
    /// Whether it drops what no rule in it lets pass.
    pub drops: bool,
    /// Where it is Docker's: in whose user chain of this family [`pass_user_chain`] lets a bridge pass.
    pub passable: Option<IpFamily>,
}

/// The chains of all tables but `ours` that forwarded packets come along, in the network namespace of
/// the calling thread. Of the old `iptables` (legacy) `nf_tables` knows nothing: see
/// [`legacy_iptables_drops`].
///
/// # Errors
///
/// [`Error::ReadTable`].
pub fn foreign_forward_chains(ours: &TableName) -> Result<Vec<ForeignChain>, Error> {
    let chains = Linux::default().chains();
    let chains = chains.map_err(|source| Error::ReadTable { table: ours.clone(), source })?;
    let is_foreign = |chain: &ForeignChain| chain.family != "inet" || chain.table != ours.as_str();
    let known: Vec<Chain> = chains.iter().filter_map(read).collect();
    let forward = known.iter().filter_map(|chain| chain.forward(&known));
    Ok(forward.filter(is_foreign).collect())
}

/// Whether the old `iptables` (legacy) drops what the host forwards and none of its rules lets pass, in
/// the network namespace of the calling thread. Nobody tells when that changes. Needs `CAP_NET_ADMIN`
/// alone.
///
/// # Errors
///
/// [`Error::ReadLegacy`].
pub fn legacy_iptables_drops(family: IpFamily) -> Result<bool, Error> {
    sys::drops_forwarded(family).map_err(|source| Error::ReadLegacy { family, source })
}

/// Lets what passes a bridge pass Docker's firewall, too, by rules in the chain that is there for that; but
/// not what goes on to a bridge of somebody else, unless the host itself gets out by that. Can be repeated,
/// and is to be: whoever sets that firewall up anew may forget it, and the host's way out may be another.
///
/// # Errors
///
/// [`Error::ReadRoutes`], [`Error::Step`].
pub fn pass_user_chain(family: IpFamily, bridge: &InterfaceName) -> Result<(), Error> {
    let mut kernel = Linux::default();
    let uplinks = kernel.bridged_uplinks(family).map_err(|source| Error::ReadRoutes { source })?;
    let step = Step::PassUserChain { family, bridge: bridge.clone(), uplinks };
    apply(&mut kernel, vec![step])?.commit();
    Ok(())
}

/// Takes that back. Can be repeated, also where there is no such chain.
///
/// # Errors
///
/// [`Error::Step`].
pub fn leave_user_chain(family: IpFamily, bridge: &InterfaceName) -> Result<(), Error> {
    let step = Step::LeaveUserChain { family, bridge: bridge.clone() };
    match apply(&mut Linux::default(), vec![step]) {
        Err(Error::Step { source, .. }) if is_gone(&source) => Ok(()),
        done => done.map(UndoStack::commit),
    }
}

/// Asks for all chains of all tables.
pub(crate) fn get_chains() -> NfTablesMessage {
    NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() })
}

/// A chain as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    family: &'static str,
    table: String,
    name: String,
    forwards: bool,
    drops: bool,
}

impl Chain {
    /// It, if it is one for forwarded packets.
    fn forward(&self, all: &[Self]) -> Option<ForeignChain> {
        let beside = |other: &Self| {
            (other.family, &other.table) == (self.family, &self.table)
                && docker::is_user_chain(&other.table, &other.name)
        };
        let family = match self.family {
            "ip" => Some(IpFamily::V4),
            "ip6" => Some(IpFamily::V6),
            _ => None,
        };
        self.forwards.then(|| ForeignChain {
            family: self.family,
            table: self.table.clone(),
            chain: self.name.clone(),
            drops: self.drops,
            passable: family.filter(|_| all.iter().any(beside)),
        })
    }
}

/// One of the answers, if it is about a chain of packets of IP.
fn read((family, message): &(NetfilterProtoFamily, NfTablesMessage)) -> Option<Chain> {
    let family = match family {
        NetfilterProtoFamily::IPv4 => "ip",
        NetfilterProtoFamily::IPv6 => "ip6",
        NetfilterProtoFamily::Inet => "inet",
        _ => return None,
    };
    let NfTablesMessage::NewChain(ChainMessage { attributes }) = message else { return None };
    let (mut table, mut name, mut forwards, mut drops) = (None, None, false, false);
    for attribute in attributes {
        match attribute {
            ChainAttribute::Table(it) => table = Some(it.clone()),
            ChainAttribute::Name(it) => name = Some(it.clone()),
            ChainAttribute::Hook(hook) => forwards = hook.iter().any(is_forward),
            ChainAttribute::Policy(policy) => drops = *policy == POLICY_DROP,
            _ => {}
        }
    }
    Some(Chain { family, table: table?, name: name?, forwards, drops })
}

fn is_forward(part: &Hook) -> bool {
    let forward = u32::from(InetHookNumber::Forward);
    match part {
        Hook::Number(HookNumber::Inet(number)) => u32::from(*number) == forward,
        Hook::Number(HookNumber::Other(number)) => *number == forward,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chains_of_forwarded_packets_matter() {
        let chain = |name: &str, hook: Option<InetHookNumber>, policy: Option<u32>| {
            let mut attributes =
                vec![ChainAttribute::Table("filter".into()), ChainAttribute::Name(name.into())];
            let number = |hook| ChainAttribute::Hook(vec![Hook::Number(HookNumber::Inet(hook))]);
            attributes.extend(hook.map(number));
            attributes.extend(policy.map(ChainAttribute::Policy));
            NfTablesMessage::NewChain(ChainMessage { attributes })
        };
        let (forward, input) = (Some(InetHookNumber::Forward), Some(InetHookNumber::LocalIn));
        let answers = [
            (NetfilterProtoFamily::IPv4, chain("FORWARD", forward, Some(POLICY_DROP))),
            (NetfilterProtoFamily::IPv4, chain("DOCKER-USER", None, None)),
            (NetfilterProtoFamily::IPv6, chain("FORWARD", forward, Some(1))),
            (NetfilterProtoFamily::Inet, chain("FORWARD", forward, None)),
            (NetfilterProtoFamily::Inet, chain("INPUT", input, Some(POLICY_DROP))),
            (NetfilterProtoFamily::ARP, chain("FORWARD", forward, Some(POLICY_DROP))),
        ];
        let known: Vec<Chain> = answers.iter().filter_map(read).collect();
        let found: Vec<_> = known
            .iter()
            .filter_map(|chain| chain.forward(&known))
            .map(|it| (it.family, it.drops, it.passable))
            .collect();
        let want = [("ip", true, Some(IpFamily::V4)), ("ip6", false, None), ("inet", false, None)];
        assert_eq!(found, want);
    }
}
