//! Processor time, which does not depend on who else wants the processors.

use std::fs;

use crate::Result;

/// All of the lab's processes are in this group or below.
const ALL: &str = "/sys/fs/cgroup/cpu.stat";
/// Whoever enters a system from outside is not, until it goes here.
const OURS: &str = "/sys/fs/cgroup/tare-bench-program";

/// Makes this program, and all that it starts, count.
pub(crate) fn count_us_too() -> Result<()> {
    fs::create_dir_all(OURS)?;
    // 0 is whoever writes it.
    Ok(fs::write(format!("{OURS}/cgroup.procs"), "0")?)
}

/// Milliseconds that all processes have computed, those that have ended included.
pub(crate) fn used() -> Result<f64> {
    let text = fs::read_to_string(ALL)?;
    let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    Ok(micros.ok_or("no usage_usec in cpu.stat")?.parse::<f64>()? / 1e3)
}
