//! Limits, as they go over D-Bus.

use std::collections::{BTreeMap, HashMap};

use tare_specgen::{CpuQuota, DeviceNumber, MemoryLimit, NumberList, PidsLimit, Rate, Weight};
use zbus::Variant;

use crate::engine::view;

/// What can be changed by `Update` and was asked for, by the keys of that.
pub(crate) fn dict(view: &view::Container) -> HashMap<&'static str, Variant<'static>> {
    let asked = &view.limits;
    let number = |key, number: Option<u64>| Some((key, Variant::from(number?)));
    let text = |key, text: Option<&str>| Some((key, Variant::from(text?.to_owned())));
    [
        number("Memory", asked.memory.map(MemoryLimit::get)),
        number("MemorySwap", asked.memory_swap.map(MemoryLimit::get)),
        number("MemoryReservation", asked.memory_reservation.map(MemoryLimit::get)),
        number("CPUWeight", asked.cpu_weight.map(Weight::get)),
        number("CPUQuotaPerSecUSec", asked.cpu_quota.map(CpuQuota::get)),
        text("CPUSet", asked.cpu_set.as_ref().map(NumberList::as_str)),
        text("CPUSetMems", asked.cpu_set_mems.as_ref().map(NumberList::as_str)),
        number("PidsMax", asked.pids_max.map(PidsLimit::get)),
        number("IOWeight", asked.io_weight.map(Weight::get)),
        rates("IOReadBandwidth", &asked.io_read_bandwidth),
        rates("IOWriteBandwidth", &asked.io_write_bandwidth),
        rates("IOReadIOPS", &asked.io_read_iops),
        rates("IOWriteIOPS", &asked.io_write_iops),
        pairs(
            "HugepageLimits",
            asked.hugepage_limits.iter().map(|(size, it)| (size.as_str().to_owned(), *it)),
        ),
        text("RestartPolicy", Some(&view.lifecycle.restart.to_string())),
        number("StopTimeoutUSec", view.stop_timeout_usec),
    ]
    .into_iter()
    .flatten()
    .collect()
}

type Entry = Option<(&'static str, Variant<'static>)>;

fn rates(key: &'static str, rates: &BTreeMap<DeviceNumber, Rate>) -> Entry {
    let pair = |(device, rate): (&DeviceNumber, &Rate)| {
        (format!("{}:{}", device.major, device.minor), rate.get())
    };
    pairs(key, rates.iter().map(pair))
}

fn pairs(key: &'static str, pairs: impl Iterator<Item = (String, u64)>) -> Entry {
    let pairs: Vec<(String, u64)> = pairs.collect();
    (!pairs.is_empty()).then(|| (key, pairs.into()))
}
