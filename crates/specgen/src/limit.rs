//! Limits as files of a control group of version 2: what is written to change those of a container
//! that runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::cgroup::{PERIOD_USEC, PIDS_LIMIT, SECOND_USEC};
use crate::error::Error;
use crate::facts::HostFacts;
use crate::resources::{
    CpuQuota, DeviceNumber, MemoryLimit, PidsLimit, Rate, Resources, UNLIMITED, Weight,
    check_controllers,
};

/// One write to a file of a container's control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitWrite {
    /// The name of the file.
    pub file: String,
    /// What is written.
    pub text: String,
}

/// A file, and which line of it: only `io.max` has several.
type Line = (String, String);

impl Resources {
    /// What has to be written for a container that has these limits to have `wanted` instead, on this
    /// host, in this order. The other way round it takes that back.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] if what is wanted does not make sense together, and [`Error::Controller`]
    /// if the host lacks what a limit needs.
    pub fn changes_to(&self, wanted: &Self, host: &HostFacts) -> Result<Vec<LimitWrite>, Error> {
        wanted.check()?;
        check_controllers(wanted, &host.controllers)?;
        let (before, after) = (lines(self, host), lines(wanted, host));
        let all: BTreeSet<&Line> = before.keys().chain(after.keys()).collect();
        let changed = all.into_iter().filter(|line| before.get(line) != after.get(line));
        Ok(changed
            .map(|line| LimitWrite {
                file: line.0.clone(),
                text: after.get(line).cloned().unwrap_or_else(|| unlimited(line)),
            })
            .collect())
    }

    /// Whether these allow more of anything than `others` do.
    pub fn allow_more_than(&self, others: &Self) -> bool {
        let (a, b) = (Amounts::of(self), Amounts::of(others));
        let set =
            |new: &Option<crate::NumberList>, old: &Option<crate::NumberList>| match (new, old) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(new), Some(old)) => !is_within(new.as_str(), old.as_str()),
            };
        a.0.iter().any(|(what, amount)| *amount > b.at(what))
            || b.0.keys().any(|what| a.at(what) > b.at(what))
            || set(&self.cpu_set, &others.cpu_set)
            || set(&self.cpu_set_mems, &others.cpu_set_mems)
    }
}

/// All lines that limits make, also those of limits that were not asked for and are known.
fn lines(resources: &Resources, host: &HostFacts) -> BTreeMap<Line, String> {
    let mut lines = BTreeMap::new();
    let mut add = |file: &str, text: String| lines.insert((file.to_owned(), String::new()), text);
    let memory = resources.memory.map_or(UNLIMITED, MemoryLimit::get);
    add("memory.max", most(memory));
    if host.swap_limits {
        add("memory.swap.max", most(swap(resources)));
    }
    add("memory.low", resources.memory_reservation.map_or(0, MemoryLimit::get).to_string());
    add("cpu.weight", resources.cpu_weight.map_or(USUAL_WEIGHT, Weight::get).to_string());
    let quota = resources.cpu_quota.map_or(UNLIMITED, CpuQuota::get);
    let quota = if quota == UNLIMITED { quota } else { quota / (SECOND_USEC / PERIOD_USEC) };
    add("cpu.max", format!("{} {PERIOD_USEC}", most(quota)));
    // A line feed is written where nothing would not be.
    add("cpuset.cpus", resources.cpu_set.as_ref().map_or("\n", |set| set.as_str()).to_owned());
    add("cpuset.mems", resources.cpu_set_mems.as_ref().map_or("\n", |set| set.as_str()).to_owned());
    add("pids.max", most(resources.pids_max.map_or(PIDS_LIMIT.unsigned_abs(), PidsLimit::get)));
    add("io.weight", resources.io_weight.map_or(USUAL_WEIGHT, Weight::get).to_string());
    for (size, limit) in &resources.hugepage_limits {
        add(&format!("hugetlb.{}.max", size.as_str()), most(*limit));
    }
    for (device, text) in disks(resources) {
        lines.insert((IO_MAX.to_owned(), device), text);
    }
    let asked = resources.unified.iter();
    lines.extend(
        asked.map(|(file, value)| ((file.as_str().into(), String::new()), value.to_string())),
    );
    lines
}

const IO_MAX: &str = "io.max";
/// Of processors and disks.
const USUAL_WEIGHT: u64 = 100;

/// What a line has that limits nothing.
fn unlimited((_, device): &Line) -> String {
    if device.is_empty() {
        return "max".into();
    }
    format!("{device} rbps=max wbps=max riops=max wiops=max")
}

fn most(limit: u64) -> String {
    if limit == UNLIMITED { "max".into() } else { limit.to_string() }
}

/// Swap by itself: version 2 counts it apart.
fn swap(resources: &Resources) -> u64 {
    let Some(memory) = resources.memory else { return UNLIMITED };
    match resources.memory_swap {
        // Twice the memory, of both together.
        None => memory.get(),
        Some(both) if both.get() == UNLIMITED => UNLIMITED,
        Some(both) => both.get().saturating_sub(memory.get()),
    }
}

fn disks(resources: &Resources) -> impl Iterator<Item = (String, String)> {
    let kinds = [
        ("rbps", &resources.io_read_bandwidth),
        ("wbps", &resources.io_write_bandwidth),
        ("riops", &resources.io_read_iops),
        ("wiops", &resources.io_write_iops),
    ];
    let devices: BTreeSet<DeviceNumber> =
        kinds.iter().flat_map(|(_, rates)| rates.keys().copied()).collect();
    devices.into_iter().map(move |device| {
        let of = |(name, rates): &(&str, &BTreeMap<DeviceNumber, Rate>)| {
            format!(" {name}={}", most(rates.get(&device).map_or(UNLIMITED, |rate| rate.get())))
        };
        let number = format!("{}:{}", device.major, device.minor);
        let rates: String = kinds.iter().map(of).collect();
        (number.clone(), number + &rates)
    })
}

/// How much is allowed, by what it is; of what is not listed, all there is.
struct Amounts(BTreeMap<String, u64>);

impl Amounts {
    fn of(resources: &Resources) -> Self {
        let mut all = BTreeMap::new();
        let mut add = |what: &str, amount: u64| all.insert(what.to_owned(), amount);
        add("memory", resources.memory.map_or(UNLIMITED, MemoryLimit::get));
        add("swap", swap(resources));
        add("kept", resources.memory_reservation.map_or(0, MemoryLimit::get));
        add("cpu weight", resources.cpu_weight.map_or(USUAL_WEIGHT, Weight::get));
        add("cpu", resources.cpu_quota.map_or(UNLIMITED, CpuQuota::get));
        add("pids", resources.pids_max.map_or(PIDS_LIMIT.unsigned_abs(), PidsLimit::get));
        add("io weight", resources.io_weight.map_or(USUAL_WEIGHT, Weight::get));
        for (size, limit) in &resources.hugepage_limits {
            add(size.as_str(), *limit);
        }
        for (kind, rates) in [
            ("read bytes", &resources.io_read_bandwidth),
            ("written bytes", &resources.io_write_bandwidth),
            ("reads", &resources.io_read_iops),
            ("writes", &resources.io_write_iops),
        ] {
            for (device, rate) in rates {
                add(&format!("{kind} {}:{}", device.major, device.minor), rate.get());
            }
        }
        Self(all)
    }

    fn at(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(UNLIMITED)
    }
}

/// Whether all numbers of a list are in another one.
fn is_within(new: &str, old: &str) -> bool {
    let old = ranges(old);
    let is_in_one = |(first, last)| old.iter().any(|range| range.0 <= first && last <= range.1);
    ranges(new).into_iter().all(is_in_one)
}

/// The ranges of a list like `0-3,7`, which is known to be one, in order and with gaps between them.
/// They are never counted out: somebody may have written down very many numbers in a few bytes.
fn ranges(text: &str) -> Vec<(u32, u32)> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    let mut ranges: Vec<(u32, u32)> = text.split(',').filter_map(range).collect();
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let touches = next.0 <= before.1.saturating_add(1);
        if touches {
            before.1 = before.1.max(next.1);
        }
        touches
    });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::host;

    fn resources(json: &str) -> Resources {
        serde_json::from_str(json).unwrap()
    }

    fn changes(before: &str, after: &str) -> Vec<String> {
        let mut host = host();
        host.swap_limits = true;
        let writes = resources(before).changes_to(&resources(after), &host).unwrap();
        writes.into_iter().map(|write| format!("{}={}", write.file, write.text)).collect()
    }

    #[test]
    fn what_differs_is_written_and_nothing_else() {
        for (before, after, want) in [
            ("{}", "{}", &[][..]),
            (
                r#"{"Memory":1048576,"PidsMax":9}"#,
                r#"{"Memory":2097152,"PidsMax":9}"#,
                &["memory.max=2097152", "memory.swap.max=2097152"],
            ),
            (
                r#"{"Memory":1048576,"MemorySwap":3145728}"#,
                r#"{"Memory":1048576,"MemorySwap":1048576}"#,
                &["memory.swap.max=0"],
            ),
            (
                "{}",
                r#"{"CPUQuotaPerSecUSec":500000,"CPUWeight":7}"#,
                &["cpu.max=50000 100000", "cpu.weight=7"],
            ),
            (r#"{"CPUQuotaPerSecUSec":500000}"#, "{}", &["cpu.max=max 100000"]),
            (r#"{"CPUSet":"0"}"#, "{}", &["cpuset.cpus=\n"]),
            ("{}", r#"{"PidsMax":18446744073709551615}"#, &["pids.max=max"]),
            (r#"{"PidsMax":7}"#, "{}", &["pids.max=2048"]),
            (
                r#"{"IOReadBandwidth":{"8:0":5}}"#,
                r#"{"IOReadBandwidth":{"8:16":6},"IOWriteIOPS":{"8:16":7}}"#,
                &[
                    "io.max=8:0 rbps=max wbps=max riops=max wiops=max",
                    "io.max=8:16 rbps=6 wbps=max riops=max wiops=7",
                ],
            ),
            ("{}", r#"{"HugepageLimits":{"2MB":0}}"#, &["hugetlb.2MB.max=0"]),
            (r#"{"HugepageLimits":{"2MB":0}}"#, "{}", &["hugetlb.2MB.max=max"]),
            // What was asked for by the name of a file wins.
            (
                r#"{"Unified":{"memory.max":"7M"}}"#,
                r#"{"Memory":1048576,"Unified":{"memory.max":"7M"}}"#,
                &["memory.swap.max=1048576"],
            ),
        ] {
            assert_eq!(changes(before, after), want, "{before} {after}");
        }
    }

    #[test]
    fn what_makes_no_sense_or_lacks_its_controller_is_refused() {
        let (none, mut host) = (Resources::default(), host());
        let refused = |after: &str, host: &HostFacts| {
            none.changes_to(&resources(after), host).unwrap_err().to_string()
        };
        assert!(refused(r#"{"MemorySwap":1048576}"#, &host).contains("MemorySwap"));
        host.controllers.remove("memory");
        assert!(refused(r#"{"Memory":1048576}"#, &host).contains("Memory"));
    }

    #[test]
    fn lists_of_numbers_are_compared_as_ranges() {
        assert_eq!(ranges("7,0-3,2-5,4,9-9,8,11"), [(0, 5), (7, 9), (11, 11)]);
        assert_eq!(ranges("5-4294967295,4294967295,0"), [(0, 0), (5, u32::MAX)]);
        for (new, old, within) in [
            ("0-5", "3-5,0-2", true),
            ("2-4", "0-2,4-5", false),
            ("0,5", "0-2,4-5", true),
            ("0-5", "0-2,4-5", false),
        ] {
            assert_eq!(is_within(new, old), within, "{new} {old}");
        }
    }

    #[test]
    fn more_is_more_of_anything() {
        for (new, old, more) in [
            ("{}", "{}", false),
            ("{}", r#"{"Memory":1048576}"#, true),
            (r#"{"Memory":1048576}"#, "{}", false),
            (r#"{"Memory":1048576,"PidsMax":2049}"#, "{}", true),
            (r#"{"MemoryReservation":524288}"#, "{}", true),
            (r#"{"CPUWeight":101}"#, "{}", true),
            (r#"{"CPUWeight":99}"#, "{}", false),
            (r#"{"CPUSet":"0-1"}"#, r#"{"CPUSet":"0-3"}"#, false),
            (r#"{"CPUSet":"0-1,4"}"#, r#"{"CPUSet":"0-3"}"#, true),
            ("{}", r#"{"CPUSet":"0-3"}"#, true),
            (r#"{"IOReadBandwidth":{"8:0":5}}"#, r#"{"IOReadBandwidth":{"8:0":5,"8:1":5}}"#, true),
            (r#"{"IOReadBandwidth":{"8:0":4}}"#, r#"{"IOReadBandwidth":{"8:0":5}}"#, false),
            (r#"{"Memory":1048576,"MemorySwap":4194304}"#, r#"{"Memory":1048576}"#, true),
        ] {
            assert_eq!(resources(new).allow_more_than(&resources(old)), more, "{new} {old}");
        }
    }
}
