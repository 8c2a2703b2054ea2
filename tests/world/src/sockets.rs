//! What a socket is, where the kernel tells.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// From here on ports are whatever was free: they say nothing.
const EPHEMERAL: u16 = 32768;

/// The sockets in the network of a process. A table is read when those before it have not said what was
/// asked for: for those of TCP the kernel goes through all that it has room for.
pub(super) struct Sockets {
    pid: i32,
    /// By their inodes.
    tables: [OnceCell<HashMap<String, String>>; TABLES.len()],
}

impl Sockets {
    /// Those that the process `pid` sees.
    pub(super) fn of(pid: i32) -> Self {
        Self { pid, tables: Default::default() }
    }

    /// What a descriptor is that points to `socket:[inode]`; one of another network is a socket, and no more
    /// is known.
    pub(super) fn name(&self, link: &str) -> String {
        let inode = link.trim_start_matches("socket:[").trim_end_matches(']');
        let mut tables = TABLES.iter().zip(&self.tables);
        let known = tables.find_map(|(table, read)| {
            read.get_or_init(|| table.read(self.pid)).get(inode).map(String::as_str)
        });
        known.unwrap_or("socket").to_owned()
    }
}

/// In which file they are, in which column is the inode, and what the others say.
struct Table(&'static str, usize, fn(&str, &[&str]) -> Option<String>);

const TABLES: [Table; 6] = [
    Table("unix", 6, unix),
    Table("netlink", 9, netlink),
    Table("udp", 9, internet),
    Table("udp6", 9, internet),
    Table("tcp", 9, internet),
    Table("tcp6", 9, internet),
];

impl Table {
    /// Its sockets that are known for what they are, by their inodes.
    fn read(&self, pid: i32) -> HashMap<String, String> {
        let Self(file, inode, parse) = self;
        let table = fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        let socket = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let what = parse(file, &words)?;
            Some(((*words.get(*inode)?).to_owned(), format!("socket, {what}")))
        };
        table.lines().skip(1).filter_map(socket).collect()
    }
}

/// `Num RefCount Protocol Flags Type St Inode Path`. What has no path has a name that was free.
fn unix(_: &str, words: &[&str]) -> Option<String> {
    let kind = match *words.get(4)? {
        "0001" => "stream",
        "0002" => "datagram",
        _ => "seqpacket",
    };
    let path = words.get(7).filter(|path| path.starts_with('/'));
    Some(path.map_or_else(|| format!("unix {kind}"), |path| format!("unix {kind} at {path}")))
}

/// `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`, where the second is the family of linux/netlink.h.
fn netlink(_: &str, words: &[&str]) -> Option<String> {
    Some(match *words.get(1)? {
        "0" => "netlink route".into(),
        "12" => "netlink netfilter".into(),
        other => format!("netlink {other}"),
    })
}

/// `sl local_address rem_address st ... inode`; that of which the port is a chance has no address.
fn internet(file: &str, words: &[&str]) -> Option<String> {
    const LISTENS: &str = "0A";
    let protocol = file.trim_end_matches('6');
    let at = address(words.get(1)?)?;
    Some(match protocol {
        "tcp" if *words.get(3)? == LISTENS => format!("tcp, listens at {at}"),
        "udp" if (1..EPHEMERAL).contains(&at.port()) => format!("udp at {at}"),
        _ => protocol.into(),
    })
}

/// `0100007F:0035`: words of 32 bits as the processor has them.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = address
        .as_bytes()
        .chunks(8)
        .map(|word| u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok().map(u32::to_ne_bytes))
        .collect();
    let bytes = words?.concat();
    let ip: IpAddr = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Ipv4Addr::from(bytes).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    #[test]
    fn sockets_are_told_by_what_they_are_for() {
        let dir = std::env::temp_dir().join(format!("sockets-{}", std::process::id()));
        let (v4, v6) = ("127.0.0.1:0", "[::1]:0");
        let listener = TcpListener::bind(v4).unwrap();
        let at = listener.local_addr().unwrap();
        let accepted = std::net::TcpStream::connect(at).unwrap();
        let (udp, pair) = (UdpSocket::bind(v6).unwrap(), UnixStream::pair().unwrap());
        let named = UnixDatagram::bind(&dir).unwrap();
        fs::remove_file(&dir).unwrap();
        let sockets = Sockets::of(std::process::id().try_into().unwrap());
        for (fd, wanted) in [
            (listener.as_raw_fd(), format!("socket, tcp, listens at {at}")),
            (accepted.as_raw_fd(), "socket, tcp".into()),
            (udp.as_raw_fd(), "socket, udp".into()),
            (pair.0.as_raw_fd(), "socket, unix stream".into()),
            (named.as_raw_fd(), format!("socket, unix datagram at {}", dir.display())),
        ] {
            let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
            assert_eq!(sockets.name(link.to_str().unwrap()), wanted);
        }
        assert_eq!(sockets.name("socket:[1]"), "socket", "of another network");
    }

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        for (text, wanted) in [
            ("0100580A:0035", Some("10.88.0.1:53")),
            ("00000000000000000000000001000000:0035", Some("[::1]:53")),
            ("0100007F", None),
            ("0100007F:X", None),
        ] {
            assert_eq!(address(text), wanted.map(|it| it.parse().unwrap()), "{text}");
        }
    }
}
