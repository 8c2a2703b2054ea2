//! How much of the host's memory, processors, disks and process numbers a container may use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::text::{InvalidText, Problem, check_bytes, number_type, text_type};

/// Stands for "no limit" wherever a limit is a number.
pub const UNLIMITED: u64 = u64::MAX;

/// The limits that were asked for; what is left out is not limited, but for the number of
/// processes.
///
/// As JSON it has the names of the bus contract.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Resources {
    /// Most memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryLimit>,
    /// Most memory and swap taken together; nothing: twice the memory, as in podman.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<MemoryLimit>,
    /// Memory that is taken away last when the host runs short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<MemoryLimit>,
    /// Share of the processors when they are busy; 100 is usual.
    #[serde(rename = "CPUWeight", skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<Weight>,
    /// Most processor time.
    #[serde(rename = "CPUQuotaPerSecUSec", skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<CpuQuota>,
    /// The processors it may run on.
    #[serde(rename = "CPUSet", skip_serializing_if = "Option::is_none")]
    pub cpu_set: Option<NumberList>,
    /// The memory nodes it may have memory of.
    #[serde(rename = "CPUSetMems", skip_serializing_if = "Option::is_none")]
    pub cpu_set_mems: Option<NumberList>,
    /// Most processes and threads; nothing: 2048, as in podman.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<PidsLimit>,
    /// Share of the disks when they are busy; 100 is usual.
    #[serde(rename = "IOWeight", skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<Weight>,
    /// Most bytes read per second, by disk.
    #[serde(rename = "IOReadBandwidth", skip_serializing_if = "BTreeMap::is_empty")]
    pub io_read_bandwidth: BTreeMap<DeviceNumber, Rate>,
    /// Most bytes written per second, by disk.
    #[serde(rename = "IOWriteBandwidth", skip_serializing_if = "BTreeMap::is_empty")]
    pub io_write_bandwidth: BTreeMap<DeviceNumber, Rate>,
    /// Most reads per second, by disk.
    #[serde(rename = "IOReadIOPS", skip_serializing_if = "BTreeMap::is_empty")]
    pub io_read_iops: BTreeMap<DeviceNumber, Rate>,
    /// Most writes per second, by disk.
    #[serde(rename = "IOWriteIOPS", skip_serializing_if = "BTreeMap::is_empty")]
    pub io_write_iops: BTreeMap<DeviceNumber, Rate>,
    /// Most bytes in huge pages, by size of page.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hugepage_limits: BTreeMap<PageSize, u64>,
    /// Files of the container's cgroup, version 2, with what is written to them; they win over
    /// the other limits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<CgroupFile, CgroupValue>,
}

impl Resources {
    /// Whether the limits make sense together.
    ///
    /// # Errors
    /// [`Error::Option`] when `MemorySwap` comes without `Memory` or is below it, or
    /// `MemoryReservation` is above it.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |option, rule| Err(Error::Option { option, rule });
        match (self.memory, self.memory_swap) {
            (None, Some(_)) => {
                return wrong("MemorySwap", "needs Memory too: it is the sum of both");
            }
            (Some(memory), Some(both)) if both < memory => {
                return wrong("MemorySwap", "is below Memory: it is the sum of memory and swap");
            }
            _ => {}
        }
        match (self.memory, self.memory_reservation) {
            (Some(memory), Some(kept)) if kept > memory => {
                wrong("MemoryReservation", "is above Memory")
            }
            _ => Ok(()),
        }
    }

    /// These limits, with those that `by` has instead of their own.
    #[must_use]
    pub fn updated(&self, by: &Self) -> Self {
        let map = |own: &BTreeMap<DeviceNumber, Rate>, by: &BTreeMap<DeviceNumber, Rate>| {
            own.iter().chain(by).map(|(device, rate)| (*device, *rate)).collect()
        };
        let own = self.clone();
        let (pages, files) = (by.hugepage_limits.clone(), by.unified.clone());
        Self {
            memory: by.memory.or(own.memory),
            memory_swap: by.memory_swap.or(own.memory_swap),
            memory_reservation: by.memory_reservation.or(own.memory_reservation),
            cpu_weight: by.cpu_weight.or(own.cpu_weight),
            cpu_quota: by.cpu_quota.or(own.cpu_quota),
            cpu_set: by.cpu_set.clone().or(own.cpu_set),
            cpu_set_mems: by.cpu_set_mems.clone().or(own.cpu_set_mems),
            pids_max: by.pids_max.or(own.pids_max),
            io_weight: by.io_weight.or(own.io_weight),
            io_read_bandwidth: map(&self.io_read_bandwidth, &by.io_read_bandwidth),
            io_write_bandwidth: map(&self.io_write_bandwidth, &by.io_write_bandwidth),
            io_read_iops: map(&self.io_read_iops, &by.io_read_iops),
            io_write_iops: map(&self.io_write_iops, &by.io_write_iops),
            hugepage_limits: own.hugepage_limits.into_iter().chain(pages).collect(),
            unified: own.unified.into_iter().chain(files).collect(),
        }
    }

    /// Each option that was given, with the cgroup controller it needs.
    pub(crate) fn controllers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let set = |given: bool, option, controller| given.then_some((option, controller));
        let io = [
            (&self.io_read_bandwidth, "IOReadBandwidth"),
            (&self.io_write_bandwidth, "IOWriteBandwidth"),
            (&self.io_read_iops, "IOReadIOPS"),
            (&self.io_write_iops, "IOWriteIOPS"),
        ];
        [
            set(self.memory.is_some(), "Memory", "memory"),
            set(self.memory_reservation.is_some(), "MemoryReservation", "memory"),
            set(self.cpu_weight.is_some(), "CPUWeight", "cpu"),
            set(self.cpu_quota.is_some(), "CPUQuotaPerSecUSec", "cpu"),
            set(self.cpu_set.is_some(), "CPUSet", "cpuset"),
            set(self.cpu_set_mems.is_some(), "CPUSetMems", "cpuset"),
            set(self.pids_max.is_some_and(|most| most.get() != UNLIMITED), "PidsMax", "pids"),
            set(self.io_weight.is_some(), "IOWeight", "io"),
            set(!self.hugepage_limits.is_empty(), "HugepageLimits", "hugetlb"),
        ]
        .into_iter()
        .flatten()
        .chain(io.into_iter().filter_map(move |(map, name)| set(!map.is_empty(), name, "io")))
        .chain(self.unified.keys().map(|file| ("Unified", file.controller())))
    }
}

number_type! {
    /// Bytes of memory: 512 KiB to 1 EiB, or [`UNLIMITED`].
    ///
    /// Below 512 KiB not even the runtime fits in, which sets up the container from inside it.
    MemoryLimit, "memory limit", 512 << 10, 1 << 60, or UNLIMITED,
    "is not within 512 KiB and 1 EiB, nor 18446744073709551615 for no limit"
}

number_type! {
    /// A share: 1 to 10000, where those who say nothing have 100. See `cpu.weight` and `io.weight`
    /// in the kernel's cgroup-v2 documentation.
    Weight, "weight", 1, 10_000, "is not within 1 and 10000"
}

number_type! {
    /// Processor time per second, in microseconds: 10000 (1 % of one processor) to 175921860444150,
    /// where 1000000 is one whole processor, or [`UNLIMITED`]; kept to 10 us.
    CpuQuota, "processor time", 10_000, ((1 << 44) - 1) * 10, or UNLIMITED,
    "is not within 10000 and 175921860444150 us, nor 18446744073709551615 for no limit"
}

number_type! {
    /// Number of processes and threads: 1 to 4194304 (the kernel has no more), or [`UNLIMITED`].
    PidsLimit, "number of processes", 1, 1 << 22, or UNLIMITED,
    "is not within 1 and 4194304, nor 18446744073709551615 for no limit"
}

number_type! {
    /// Bytes or operations per second: 1 to 2^63-1, or [`UNLIMITED`].
    Rate, "rate", 1, (1 << 63) - 1, or UNLIMITED,
    "is not within 1 and 9223372036854775807, nor 18446744073709551615 for no limit"
}

text_type! {
    /// Numbers of processors or memory nodes, as in `0-3,6`: numbers below 65536 and ranges of
    /// them, separated by commas, at most 4096 bytes. See cpuset(7), "List format".
    NumberList, "list of numbers", check_list
}

fn check_list(text: &str) -> Result<(), Problem> {
    check_bytes(text, 4096, |_, byte| byte.is_ascii_digit() || matches!(byte, b'-' | b','))?;
    let number = |text: &str| text.parse::<u16>().ok();
    let good = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from <= to),
        None => number(part).is_some(),
    };
    if text.split(',').all(good) { Ok(()) } else { Err(Problem::Form("is not like 0-3,6")) }
}

text_type! {
    /// Size of a huge page as the kernel names it in its cgroup files: `64KB`, `2MB`, `1GB`.
    PageSize, "size of huge pages", |text| {
        let number = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
        match number.and_then(|number| number.parse::<u32>().ok()) {
            Some(1..) if !text.starts_with(['0', '+']) => Ok(()),
            _ => Err(Problem::Form("is not like 2MB")),
        }
    }
}

text_type! {
    /// A file of a cgroup, version 2, as in `memory.high`: a controller of the kernel and a name of
    /// `[a-zA-Z0-9_.]`, at most 64 bytes. Files of `cgroup.` itself are the service's.
    CgroupFile, "cgroup file", check_cgroup_file
}

/// The controllers whose files may be written.
const CONTROLLERS: [&str; 8] = ["cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"];

fn check_cgroup_file(text: &str) -> Result<(), Problem> {
    check_bytes(text, 64, |_, byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))?;
    match text.split_once('.') {
        Some((controller, name))
            if CONTROLLERS.contains(&controller)
                && name.split('.').all(|part| !part.is_empty()) =>
        {
            Ok(())
        }
        _ => Err(Problem::Form("is not like memory.high, of a controller that limits")),
    }
}

/// Files that take nothing from others, whatever is written to them; see the kernel's cgroup-v2 documentation.
const LIMITS: [&str; 20] = [
    "cpu.idle",
    "cpu.max",
    "cpu.max.burst",
    "cpu.uclamp.max",
    "cpu.weight",
    "cpu.weight.nice",
    "cpuset.cpus",
    "cpuset.mems",
    "io.bfq.weight",
    "io.max",
    "io.weight",
    "memory.high",
    "memory.low",
    "memory.max",
    "memory.oom.group",
    "memory.swap.high",
    "memory.swap.max",
    "memory.zswap.max",
    "misc.max",
    "pids.max",
];

impl CgroupFile {
    /// The controller it belongs to.
    pub fn controller(&self) -> &str {
        self.as_str().split('.').next().unwrap_or_default()
    }

    /// Whether it only limits, or shares out as the options do: others take processors away from the host, memory
    /// that it cannot have back, or turns before everybody at its disks.
    pub(crate) fn only_limits(&self) -> bool {
        let of_pages = self.as_str().strip_prefix("hugetlb.");
        let limits_pages = of_pages.is_some_and(|rest| rest.strip_suffix(".max").is_some());
        limits_pages || LIMITS.contains(&self.as_str())
    }
}

text_type! {
    /// What is written to a cgroup file: 1 to 256 bytes on one line, without control characters.
    CgroupValue, "value of a cgroup file", |text| {
        check_bytes(text, 256, |_, byte| !byte.is_ascii_control())
    }
}

/// Number of a device, `MAJOR:MINOR`, as in `8:0`; see makedev(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceNumber {
    /// The driver: 0 to 4095.
    pub major: u32,
    /// The device of it: 0 to 1048575.
    pub minor: u32,
}

impl DeviceNumber {
    /// The kernel keeps a number in 12 and 20 bits.
    pub(crate) const fn is_possible(self) -> bool {
        self.major < 1 << 12 && self.minor < 1 << 20
    }
}

impl FromStr for DeviceNumber {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        text.split_once(':')
            .and_then(|(major, minor)| Some(Self { major: number(major)?, minor: number(minor)? }))
            .filter(|device| device.is_possible())
            .ok_or(InvalidText::new("device number", Problem::Form("is not like 8:0")))
    }
}

impl TryFrom<String> for DeviceNumber {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeviceNumber> for String {
    fn from(device: DeviceNumber) -> Self {
        device.to_string()
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Refuses what needs a controller that the host lacks: a limit that does not hold is none.
pub(crate) fn check_controllers(
    resources: &Resources,
    at_hand: &BTreeSet<String>,
) -> Result<(), Error> {
    let missing = resources.controllers().find(|(_, needed)| !at_hand.contains(*needed));
    match missing {
        None => Ok(()),
        Some((option, controller)) => {
            Err(Error::Controller { option, controller: controller.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        let good = |memory: u64| MemoryLimit::try_from(memory).is_ok();
        for (bytes, want) in
            [(0, false), (524_287, false), (524_288, true), (1 << 60, true), (UNLIMITED, true)]
        {
            assert_eq!(good(bytes), want, "{bytes}");
        }
        assert!(!good((1 << 60) + 1));
        assert!(Weight::try_from(UNLIMITED).is_err(), "a share is never without a limit");
        assert!(CpuQuota::try_from(9_999).is_err());
        assert!(PidsLimit::try_from(0).is_err());
        assert!(Rate::try_from(0).is_err());
    }

    #[test]
    fn texts() {
        fn all<T: FromStr>(about: &str, good: &[&str], bad: &[&str]) {
            for text in good {
                assert!(text.parse::<T>().is_ok(), "{about}: {text:?}");
            }
            for text in bad {
                assert!(text.parse::<T>().is_err(), "{about}: {text:?}");
            }
        }
        let bad = ["", "3-1", "0,", "-1", "a", "0 1", "65536", "0-3\n", "0--3"];
        all::<NumberList>("list", &["0", "0-3,6", "7,1-2"], &bad);
        all::<PageSize>("page", &["2MB", "1GB", "64KB"], &["", "MB", "2", "0MB", "+2MB", "2MB\n"]);
        let bad = ["cgroup.procs", "memory", "memory.", "../x", "memory.max/../x", "foo.max", ""];
        all::<CgroupFile>("file", &["memory.high", "io.bfq.weight", "hugetlb.2MB.max"], &bad);
        all::<CgroupValue>("value", &["max", "8:0 rbps=1"], &["", "1\n2", "\0"]);
        let bad = ["", "8", "8:", ":0", "-8:0", "8:+0", "4096:0", "8:1048576", "/dev/sda", "8:0:0"];
        all::<DeviceNumber>("device", &["8:0", "4095:1048575"], &bad);
    }

    #[test]
    fn limits_that_contradict_each_other() {
        let cases = [
            (r#""Memory":2097152"#, ""),
            (r#""Memory":2097152,"MemorySwap":2097152,"MemoryReservation":2097152"#, ""),
            (r#""Memory":2097152,"MemorySwap":18446744073709551615"#, ""),
            (r#""MemoryReservation":2097152"#, ""),
            (r#""MemorySwap":2097152"#, "MemorySwap"),
            (r#""Memory":2097152,"MemorySwap":2097151"#, "MemorySwap"),
            (r#""Memory":2097152,"MemoryReservation":2097153"#, "MemoryReservation"),
        ];
        for (json, want) in cases {
            let resources: Resources = serde_json::from_str(&format!("{{{json}}}")).unwrap();
            let error = resources.check().err().map(|error| error.to_string());
            assert!(error.as_deref().unwrap_or_default().contains(want), "{json}: {error:?}");
            assert_eq!(error.is_none(), want.is_empty(), "{json}");
        }
    }
}
