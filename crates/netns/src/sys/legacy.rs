//! The old `iptables` (legacy), which `nf_tables` knows nothing of: what it does with packets that the
//! host forwards. See iptables(8); the structures are those of `linux/netfilter_ipv4/ip_tables.h`.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::IpFamily;

/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES` and `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: libc::c_int = 65;
/// The table, as the kernel wants it: 32 bytes.
const TABLE: &[u8; 32] = b"filter\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// Length of `struct ipt_getinfo`.
const INFO_LEN: usize = 84;
/// Where in it the chain's last entry is told, the one that has its policy: `underflow[NF_INET_FORWARD]`.
const INFO_FORWARD: usize = 64;
/// Where in it the length of all entries is.
const INFO_SIZE: usize = 80;
/// Length of `struct ipt_get_entries` before the entries, and where in it their length is.
const ENTRIES_AT: usize = 40;
const ENTRIES_SIZE: usize = 32;
/// Length of `struct xt_entry_target`, behind which a verdict is.
const TARGET_LEN: usize = 32;
/// `-NF_DROP - 1`.
const VERDICT_DROP: i32 = -1;
/// More entries than this, in bytes, are not looked through: some 100,000 rules.
const MAX_ENTRIES: usize = 32 << 20;
/// The entries are asked for again so often if somebody has changed them meanwhile.
const TRIES: u32 = 10;

/// Whether packets that no rule lets pass are dropped when the host forwards them, in the network
/// namespace of the calling thread. A table that nobody uses is not made by that.
pub(crate) fn drops_forwarded(family: IpFamily) -> io::Result<bool> {
    if !is_used(family)? {
        return Ok(false);
    }
    // Any kind of socket will do; a raw one, as iptables(8) has it, would take a capability more.
    let socket =
        socket_with(address_family(family), SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    for _ in 1..TRIES {
        match policy_verdict(&socket, family) {
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => {}
            verdict => return verdict.map(|verdict| verdict == VERDICT_DROP),
        }
    }
    policy_verdict(&socket, family).map(|verdict| verdict == VERDICT_DROP)
}

fn is_used(family: IpFamily) -> io::Result<bool> {
    let names = match family {
        IpFamily::V4 => "/proc/thread-self/net/ip_tables_names",
        IpFamily::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    match fs::read_to_string(names) {
        Ok(names) => Ok(names.lines().any(|name| name == "filter")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn policy_verdict(socket: &OwnedFd, family: IpFamily) -> io::Result<i32> {
    let mut info = TABLE.to_vec();
    info.resize(INFO_LEN, 0);
    query(socket, family, GET_INFO, &mut info)?;
    let (entry, size) = (number(&info, INFO_FORWARD)?, number(&info, INFO_SIZE)?);
    if size > MAX_ENTRIES {
        return Err(Errno::NOBUFS.into());
    }
    let mut entries = info[..ENTRIES_SIZE].to_vec();
    entries.extend(&info[INFO_SIZE..INFO_LEN]);
    entries.resize(ENTRIES_AT + size, 0);
    query(socket, family, GET_ENTRIES, &mut entries)?;
    verdict(&entries, ENTRIES_AT + entry, family).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The verdict of the entry that begins there.
fn verdict(entries: &[u8], entry: usize, family: IpFamily) -> Option<i32> {
    // Behind what packets are compared with, and four bytes more: `target_offset`.
    let offset = match family {
        IpFamily::V4 => 88,
        IpFamily::V6 => 140,
    };
    let target = u16::from_ne_bytes(*entries.get(entry + offset..)?.first_chunk()?);
    let verdict = entries.get(entry + usize::from(target) + TARGET_LEN..)?;
    Some(i32::from_ne_bytes(*verdict.first_chunk()?))
}

fn number(bytes: &[u8], at: usize) -> io::Result<usize> {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    let number = found.map(|bytes| u32::from_ne_bytes(*bytes));
    number.map(|it| it as usize).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn address_family(family: IpFamily) -> AddressFamily {
    match family {
        IpFamily::V4 => AddressFamily::INET,
        IpFamily::V6 => AddressFamily::INET6,
    }
}

/// Asks by what is in the buffer, and has the answer in it; the kernel refuses any other length.
fn query(
    socket: &OwnedFd,
    family: IpFamily,
    option: libc::c_int,
    buffer: &mut [u8],
) -> io::Result<()> {
    let level = match family {
        IpFamily::V4 => libc::IPPROTO_IP,
        IpFamily::V6 => libc::IPPROTO_IPV6,
    };
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads and writes up to `length` bytes of `buffer`, which has as many, and any
    // bytes are valid there; it writes how many it wrote to `length`.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
