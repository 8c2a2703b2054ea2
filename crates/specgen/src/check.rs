//! Whether the options of a request go together: what each may be is in its type.

use crate::error::Error;
use crate::files::{BaseHosts, secret};
use crate::health::HealthRequest;
use crate::idmap::{is_proper, lacks_root};
use crate::mount;
use crate::namespace::NamespaceMode;
use crate::request::{Init, NetworkMode, Request, RootfsAccess, TimeOffsets};
use crate::services::SystemdMode;
use crate::sysctl;

impl Request {
    /// Whether its options go together.
    ///
    /// # Errors
    /// [`Error::Option`] that names one that does not, and says why.
    pub fn check(&self) -> Result<(), Error> {
        for (option, wrong, rule) in self.contradictions() {
            if wrong {
                return Err(Error::Option { option, rule });
            }
        }
        self.resources.check()?;
        self.health.as_ref().map_or(Ok(()), HealthRequest::check)?;
        sysctl::check(&self.sysctls, &self.namespaces, &self.network_mode)?;
        mount::check(&self.mounts)?;
        secret::check(&self.secrets)
    }

    fn contradictions(&self) -> [(&'static str, bool, &'static str); 19] {
        use NamespaceMode::{Host, Private};
        let own = &self.namespaces;
        let managed_by_other = matches!(self.network_mode, NetworkMode::Container(_));
        let own_dns =
            !(self.dns.is_empty() && self.dns_search.is_empty() && self.dns_options.is_empty());
        let image = |choice| choice == crate::request::FileChoice::Image;
        let is_first = own.pid == Private && self.init == Init::No;
        // Who is in a user namespace of its own mounts nothing that shows those of another: it would be
        // shown the host's.
        let is_shared = |mode: &NamespaceMode| {
            matches!(mode, NamespaceMode::Container(_) | NamespaceMode::Path(_))
        };
        let shares = managed_by_other
            || matches!(self.network_mode, NetworkMode::Path(_))
            || [&own.pid, &own.ipc, &own.cgroup].into_iter().any(is_shared);
        [
            (
                "UserNamespace",
                own.user == Private && shares,
                "cannot be private beside a PID, IPC, cgroup or network namespace of another container or at a path",
            ),
            (
                "Hostname",
                self.hostname.is_some() && own.uts != Private,
                "needs a UTS namespace of the container's own",
            ),
            ("MountMode", own.mount == Host, "cannot be host: the container's root is in it"),
            (
                "MountMode",
                own.mount != Private && !self.mounts.is_empty(),
                "has the mounts of another one: none can be added",
            ),
            (
                "UIDMap",
                !self.uid_map.is_empty() && own.user != Private,
                "needs UserNamespace to be private",
            ),
            ("GIDMap", !self.gid_map.is_empty() && self.uid_map.is_empty(), "needs UIDMap too"),
            ("UIDMap", lacks_root(&self.uid_map), "has no root: 0 in the container"),
            ("GIDMap", lacks_root(&self.gid_map), "has no root: 0 in the container"),
            ("UIDMap", !is_proper(&self.uid_map), "has too many ranges, or an id in two of them"),
            ("GIDMap", !is_proper(&self.gid_map), "has too many ranges, or an id in two of them"),
            (
                "TimeOffsets",
                self.time_offsets != TimeOffsets::default() && own.time != Private,
                "needs TimeMode to be private",
            ),
            (
                "DNS",
                own_dns && (managed_by_other || image(self.resolv_conf)),
                "goes into a resolv.conf that is not the container's own",
            ),
            (
                "Hosts",
                !self.hosts.is_empty() && (managed_by_other || image(self.hosts_file)),
                "goes into a hosts file that is not the container's own",
            ),
            (
                "BaseHosts",
                self.base_hosts != BaseHosts::None && (managed_by_other || image(self.hosts_file)),
                "begins a hosts file that is not the container's own",
            ),
            (
                "Init",
                self.init == Init::Yes
                    && (own.pid != Private || self.systemd == SystemdMode::Always),
                "needs to be process 1 of a PID namespace of the container's own",
            ),
            (
                "ListenFDs",
                !self.listen_fds.is_empty() && !is_first,
                "needs the command to be process 1: no Init, and PIDMode private",
            ),
            ("ListenFDs", self.listen_fds.len() > 64, "has more than 64 sockets"),
            (
                "Devices",
                !self.devices.iter().all(crate::device::DeviceRequest::is_possible),
                "has one outside /dev, or a number, owner or mode that cannot be",
            ),
            (
                "ReadOnlyTmpfs",
                self.read_only_tmpfs == crate::request::ReadOnlyTmpfs::No
                    && self.rootfs_access == RootfsAccess::ReadWrite,
                "is for containers with ReadOnlyRootfs",
            ),
        ]
    }
}
