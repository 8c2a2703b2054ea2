//! The limits among the options of `CreateContainer`.

use tare_specgen::Resources;

use super::error::ApiError;
use super::options::Options;
use super::text::{map, number, numbers, text};

pub(super) fn resources(o: &mut Options) -> Result<Resources, ApiError> {
    let mut resources = limits(o)?;
    resources.unified = map(o, "Unified", str::parse)?;
    Ok(resources)
}

/// Those that can be changed while a container runs.
pub(super) fn limits(o: &mut Options) -> Result<Resources, ApiError> {
    let mut resources = Resources::default();
    resources.memory = number(o, "Memory")?;
    resources.memory_swap = number(o, "MemorySwap")?;
    resources.memory_reservation = number(o, "MemoryReservation")?;
    resources.cpu_weight = number(o, "CPUWeight")?;
    resources.cpu_quota = number(o, "CPUQuotaPerSecUSec")?;
    resources.cpu_set = text(o, "CPUSet")?;
    resources.cpu_set_mems = text(o, "CPUSetMems")?;
    resources.pids_max = number(o, "PidsMax")?;
    resources.io_weight = number(o, "IOWeight")?;
    resources.io_read_bandwidth = numbers(o, "IOReadBandwidth")?;
    resources.io_write_bandwidth = numbers(o, "IOWriteBandwidth")?;
    resources.io_read_iops = numbers(o, "IOReadIOPS")?;
    resources.io_write_iops = numbers(o, "IOWriteIOPS")?;
    resources.hugepage_limits = numbers(o, "HugepageLimits")?;
    Ok(resources)
}
