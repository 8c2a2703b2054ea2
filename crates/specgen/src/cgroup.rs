//! The limits as the runtime reads them: `linux.resources`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::facts::{CgroupMode, HostFacts};
use crate::resources::{DeviceNumber, NumberList, Rate, Resources, UNLIMITED, Weight};

/// Most processes and threads of a container of which nothing is said, as in podman.
pub(crate) const PIDS_LIMIT: i64 = 2048;

/// Length of the period that the quota is given for, in microseconds; the kernel's own default.
pub(crate) const PERIOD_USEC: u64 = 100_000;
pub(crate) const SECOND_USEC: u64 = 1_000_000;

/// `linux.resources`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Limits<'a> {
    pub(crate) devices: Vec<DeviceRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Cpu<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids: Option<Pids>,
    #[serde(rename = "blockIO", skip_serializing_if = "Option::is_none")]
    block_io: Option<BlockIo>,
    #[serde(rename = "hugepageLimits", skip_serializing_if = "Vec::is_empty")]
    huge: Vec<Hugepages<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unified: BTreeMap<&'a str, String>,
}

/// Whether a kind of device may be used; the last rule that fits counts.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DeviceRule {
    pub(crate) allow: bool,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) major: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) minor: Option<u32>,
    pub(crate) access: &'static str,
}

#[derive(Debug, Serialize)]
struct Memory {
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reservation: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Cpu<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mems: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Pids {
    limit: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockIo {
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u64>,
    #[serde(rename = "throttleReadBpsDevice", skip_serializing_if = "Vec::is_empty")]
    read_bytes: Vec<Throttle>,
    #[serde(rename = "throttleWriteBpsDevice", skip_serializing_if = "Vec::is_empty")]
    write_bytes: Vec<Throttle>,
    #[serde(rename = "throttleReadIOPSDevice", skip_serializing_if = "Vec::is_empty")]
    reads: Vec<Throttle>,
    #[serde(rename = "throttleWriteIOPSDevice", skip_serializing_if = "Vec::is_empty")]
    writes: Vec<Throttle>,
}

#[derive(Debug, Serialize)]
struct Throttle {
    major: u32,
    minor: u32,
    rate: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Hugepages<'a> {
    page_size: &'a str,
    limit: u64,
}

/// The limits of a container, without its devices.
pub(crate) fn limits<'a>(resources: &'a Resources, host: &HostFacts) -> Limits<'a> {
    Limits {
        devices: Vec::new(),
        memory: memory(resources, host.swap_limits),
        cpu: cpu(resources, host.cgroup_mode),
        pids: pids(resources, host),
        block_io: block_io(resources, host.cgroup_mode),
        huge: hugepages(resources),
        unified: unified(resources, host.cgroup_mode),
    }
}

fn memory(resources: &Resources, swap_limits: bool) -> Option<Memory> {
    let limit = resources.memory.map(|limit| signed(limit.get()));
    let both = resources.memory_swap.or(resources.memory).map(|memory| {
        let times = if resources.memory_swap.is_none() { 2 } else { 1 };
        signed(memory.get().saturating_mul(times))
    });
    let swap = both.filter(|_| swap_limits);
    let reservation = resources.memory_reservation.map(|kept| signed(kept.get()));
    let any = limit.is_some() || swap.is_some() || reservation.is_some();
    any.then_some(Memory { limit, swap, reservation })
}

fn cpu(resources: &Resources, mode: CgroupMode) -> Option<Cpu<'_>> {
    let quota = resources.cpu_quota.map(|quota| match quota.get() {
        UNLIMITED => -1,
        usec => signed(usec / (SECOND_USEC / PERIOD_USEC)),
    });
    let cpu = Cpu {
        shares: resources.cpu_weight.filter(|_| mode != CgroupMode::V2).map(shares),
        quota,
        period: quota.map(|_| PERIOD_USEC),
        cpus: resources.cpu_set.as_ref().map(NumberList::as_str),
        mems: resources.cpu_set_mems.as_ref().map(NumberList::as_str),
    };
    let any = cpu.shares.is_some() || quota.is_some() || cpu.cpus.is_some() || cpu.mems.is_some();
    any.then_some(cpu)
}

/// On a host that cannot count processes nothing is said of them, unless somebody asked: then
/// [`crate::resources::check_controllers`] has refused it.
fn pids(resources: &Resources, host: &HostFacts) -> Option<Pids> {
    let asked = resources.pids_max.map(|most| signed(most.get()));
    host.controllers.contains("pids").then(|| Pids { limit: asked.unwrap_or(PIDS_LIMIT) })
}

fn block_io(resources: &Resources, mode: CgroupMode) -> Option<BlockIo> {
    let limits = BlockIo {
        weight: resources.io_weight.filter(|_| mode != CgroupMode::V2).map(disk_weight),
        read_bytes: throttles(&resources.io_read_bandwidth),
        write_bytes: throttles(&resources.io_write_bandwidth),
        reads: throttles(&resources.io_read_iops),
        writes: throttles(&resources.io_write_iops),
    };
    let lists = [&limits.read_bytes, &limits.write_bytes, &limits.reads, &limits.writes];
    let any = limits.weight.is_some() || lists.iter().any(|list| !list.is_empty());
    any.then_some(limits)
}

/// What is not limited is not listed.
fn throttles(rates: &BTreeMap<DeviceNumber, Rate>) -> Vec<Throttle> {
    let limited = rates.iter().filter(|(_, rate)| rate.get() != UNLIMITED);
    limited
        .map(|(device, rate)| Throttle {
            major: device.major,
            minor: device.minor,
            rate: rate.get(),
        })
        .collect()
}

fn hugepages(resources: &Resources) -> Vec<Hugepages<'_>> {
    let limits = resources.hugepage_limits.iter();
    limits.map(|(size, limit)| Hugepages { page_size: size.as_str(), limit: *limit }).collect()
}

/// Weights go in here on version 2: what runtimes make of version 1's figures differs from one
/// runtime, and from one version, to the next.
fn unified(resources: &Resources, mode: CgroupMode) -> BTreeMap<&str, String> {
    let weights = [("cpu.weight", resources.cpu_weight), ("io.weight", resources.io_weight)];
    let weights = weights
        .into_iter()
        .filter(|_| mode == CgroupMode::V2)
        .filter_map(|(file, weight)| Some((file, weight?.get().to_string())));
    let asked = resources.unified.iter().map(|(file, value)| (file.as_str(), value.to_string()));
    weights.chain(asked).collect()
}

/// Version 1's `cpu.shares`, where 1024 is usual; as systemd reckons.
fn shares(weight: Weight) -> u64 {
    (weight.get() * 1024 / 100).clamp(2, 262_144)
}

/// Version 1's `blkio.weight`, where 500 is usual; as systemd reckons.
fn disk_weight(weight: Weight) -> u64 {
    (weight.get() * 5).clamp(10, 1000)
}

/// The runtime-spec says -1 for "no limit".
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resources::check_controllers;
    use crate::testing;

    fn build(resources: &str, change: impl FnOnce(&mut HostFacts)) -> Value {
        let mut host = testing::host();
        change(&mut host);
        let resources: Resources = serde_json::from_str(resources).unwrap();
        let mut limits = serde_json::to_value(limits(&resources, &host)).unwrap();
        assert_eq!(limits.as_object_mut().unwrap().remove("devices"), Some(json!([])));
        limits
    }

    #[test]
    fn limits_on_version_2() {
        let pids = || json!({"limit": 2048});
        let cases = [
            ("nothing", "{}", json!({"pids": pids()})),
            (
                "memory, and twice of it with swap",
                r#"{"Memory":1048576}"#,
                json!({"pids": pids(), "memory": {"limit": 1_048_576, "swap": 2_097_152}}),
            ),
            (
                "memory and no swap",
                r#"{"Memory":1048576,"MemorySwap":1048576,"MemoryReservation":524288}"#,
                json!({"pids": pids(),
                    "memory": {"limit": 1_048_576, "swap": 1_048_576, "reservation": 524_288}}),
            ),
            (
                "all the swap there is",
                r#"{"Memory":1048576,"MemorySwap":18446744073709551615}"#,
                json!({"pids": pids(), "memory": {"limit": 1_048_576, "swap": -1}}),
            ),
            (
                "no limit",
                r#"{"Memory":18446744073709551615,"CPUQuotaPerSecUSec":18446744073709551615,
                    "PidsMax":18446744073709551615}"#,
                json!({"pids": {"limit": -1}, "memory": {"limit": -1, "swap": -1},
                    "cpu": {"quota": -1, "period": 100_000}}),
            ),
            (
                "processors",
                r#"{"CPUWeight":300,"CPUQuotaPerSecUSec":1500000,"CPUSet":"0-1","CPUSetMems":"0"}"#,
                json!({"pids": pids(), "unified": {"cpu.weight": "300"},
                    "cpu": {"quota": 150_000, "period": 100_000, "cpus": "0-1", "mems": "0"}}),
            ),
            (
                "disks",
                r#"{"IOWeight":50,"IOReadBandwidth":{"8:0":1000,"8:16":18446744073709551615},
                    "IOWriteIOPS":{"259:3":7}}"#,
                json!({"pids": pids(), "unified": {"io.weight": "50"}, "blockIO": {
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
                    "throttleWriteIOPSDevice": [{"major": 259, "minor": 3, "rate": 7}],
                }}),
            ),
            (
                "pages and files",
                r#"{"HugepageLimits":{"2MB":0},"CPUWeight":5,
                    "Unified":{"memory.high":"1G","cpu.weight":"9"},"PidsMax":7}"#,
                json!({"pids": {"limit": 7},
                    "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
                    "unified": {"cpu.weight": "9", "memory.high": "1G"}}),
            ),
        ];
        for (about, resources, want) in cases {
            assert_eq!(build(resources, |_| {}), want, "{about}");
        }
    }

    #[test]
    fn older_and_poorer_hosts() {
        let v1 = build(r#"{"CPUWeight":100,"IOWeight":100}"#, |host| {
            host.cgroup_mode = CgroupMode::Hybrid;
        });
        assert_eq!((&v1["cpu"]["shares"], &v1["blockIO"]["weight"]), (&json!(1024), &json!(500)));
        assert!(v1.get("unified").is_none());
        let no_swap = build(r#"{"Memory":1048576}"#, |host| host.swap_limits = false);
        assert_eq!(no_swap["memory"], json!({"limit": 1_048_576}));
        assert_eq!(build("{}", |host| host.controllers.clear()), json!({}));
    }

    #[test]
    fn a_limit_that_would_not_hold_is_refused() {
        let lacking = |resources: &str| {
            let resources = serde_json::from_str(resources).unwrap();
            check_controllers(&resources, &["cpu".to_owned()].into()).err().map(|e| e.to_string())
        };
        assert_eq!(lacking(r#"{"CPUWeight":1,"PidsMax":18446744073709551615}"#), None);
        for (option, value, controller) in [
            ("Memory", "1048576", "memory"),
            ("CPUSet", r#""0""#, "cpuset"),
            ("PidsMax", "9", "pids"),
            ("IOWeight", "9", "io"),
            ("IOReadBandwidth", r#"{"8:0":9}"#, "io"),
            ("HugepageLimits", r#"{"2MB":9}"#, "hugetlb"),
            ("Unified", r#"{"misc.max":"1"}"#, "misc"),
        ] {
            let said = lacking(&format!("{{\"{option}\":{value}}}")).unwrap();
            assert!(said.contains(&format!("'{option}'")) && said.contains(controller), "{said}");
        }
    }
}
