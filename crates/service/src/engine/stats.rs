//! What containers use of the host: the figures of their control groups and their interfaces.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tare_runtime::ContainerId;
use tare_runtime::cgroup::{Cgroup, DiskFigures, Figures};
use tokio::time::{MissedTickBehavior, interval};

use super::blocking::brief;
use super::clock::Usec;
use super::container::{Container, Running};
use super::pause::failed_to;
use super::streams::Stream;
use super::{Engine, Error};
use crate::authority::Caller;

/// Figures by the names of the contract; those that the host does not have are absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats(pub Vec<(&'static str, Figure)>);

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// A count, or an amount.
    Number(u64),
    /// A share of time.
    Percent(f64),
    /// Figures of each of several things.
    Table(Vec<Vec<(&'static str, Cell)>>),
}

/// One figure of one of several things, or what tells them apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A count, or an amount.
    Number(u64),
    /// A name.
    Text(String),
}

impl Engine {
    /// The figures of a container.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`], [`Error::NoSuchContainer`], [`Error::Process`].
    pub async fn stats(&self, id: &ContainerId) -> Result<Stats, Error> {
        let container = self.container(id)?;
        let running = container.running().ok_or_else(|| Error::NotRunning(container.name()))?;
        self.sample(&container, &running).await
    }

    /// The figures of those of some containers that run; of all, if none is named.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchContainer`].
    pub async fn stats_of(&self, ids: &[ContainerId]) -> Result<Vec<(ContainerId, Stats)>, Error> {
        let named: Result<Vec<_>, _> = ids.iter().map(|id| self.container(id)).collect();
        let containers = if ids.is_empty() { self.containers.all() } else { named? };
        let mut all = Vec::new();
        for container in containers {
            // One that ends while it is looked at does not run.
            if let Some(running) = container.running()
                && let Ok(stats) = self.sample(&container, &running).await
            {
                all.push((container.id.clone(), stats));
            }
        }
        Ok(all)
    }

    /// A stream of the figures of a container, a line each `pause`, until it ends.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`], [`Error::NoSuchContainer`], [`Error::TooManyStreams`].
    pub fn open_stats(
        &self,
        id: &ContainerId,
        pause: Duration,
        by: &Caller,
    ) -> Result<OwnedFd, Error> {
        let container = self.container(id)?;
        let running = container.running().ok_or_else(|| Error::NotRunning(container.name()))?;
        let (reader, stream) = self.streams.open(by)?;
        tokio::spawn(self.clone().pour(container, running, pause, stream));
        Ok(reader)
    }

    async fn pour(
        self,
        container: Arc<Container>,
        running: Arc<Running>,
        pause: Duration,
        mut stream: Stream,
    ) {
        let mut ticks = interval(pause);
        // To a reader that is slow, the past is told no faster.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = running.init.ended() => return,
                () = stream.gone() => return,
            }
            let Ok(stats) = self.sample(&container, &running).await else { return };
            if stream.line(&line(stats)).await.is_err() {
                return;
            }
        }
    }

    async fn sample(
        &self,
        container: &Arc<Container>,
        running: &Arc<Running>,
    ) -> Result<Stats, Error> {
        let group = self.payload(container, running)?;
        let own_network = !container.view().addresses.is_empty();
        let (container, running) = (container.clone(), running.clone());
        brief(move || read(&container, &running, &group, own_network)).await
    }
}

fn read(
    container: &Container,
    running: &Running,
    group: &Cgroup,
    own_network: bool,
) -> Result<Stats, Error> {
    // Its group goes with it.
    let failed = |error| {
        if running.init.has_ended() {
            return Error::NotRunning(container.name());
        }
        failed_to("read the figures of", container, error)
    };
    let mut stats = of_group(&group.figures().map_err(failed)?);
    let disks = group.disks().map_err(failed)?;
    if !disks.is_empty() {
        stats.push(("IO", Figure::Table(disks.iter().map(of_disk).collect())));
    }
    if own_network {
        let devices = fs::read_to_string(format!("/proc/{}/net/dev", running.pid));
        // If it has not ended by now, those were its own.
        if let (Ok(devices), false) = (devices, running.init.has_ended()) {
            stats.push(("Network", Figure::Table(of_interfaces(&devices))));
        }
    }
    Ok(Stats(stats))
}

fn of_group(figures: &Figures) -> Vec<(&'static str, Figure)> {
    let nsec = |usec: Option<u64>| usec.map(|usec| usec.saturating_mul(1000));
    let numbers = [
        ("CPUUsageNSec", nsec(figures.cpu_usec)),
        ("CPUUserNSec", nsec(figures.cpu_user_usec)),
        ("CPUSystemNSec", nsec(figures.cpu_system_usec)),
        ("CPUThrottledNSec", nsec(figures.cpu_throttled_usec)),
        ("MemoryCurrent", figures.memory_bytes),
        ("MemoryPeak", figures.memory_peak_bytes),
        ("MemorySwapCurrent", figures.memory_swap_bytes),
        ("MemoryLimit", figures.memory_limit_bytes),
        ("PidsCurrent", figures.pids),
        ("PidsLimit", figures.pids_limit),
        ("OOMKills", figures.oom_kills),
    ];
    let pressures = [
        ("PressureCPU", figures.pressure_cpu),
        ("PressureMemory", figures.pressure_memory),
        ("PressureIO", figures.pressure_io),
    ];
    let number = |(key, number): (_, Option<u64>)| Some((key, Figure::Number(number?)));
    let percent =
        |(key, share): (_, Option<u32>)| Some((key, Figure::Percent(f64::from(share?) / 100.0)));
    let percents = pressures.into_iter().filter_map(percent);
    numbers.into_iter().filter_map(number).chain(percents).collect()
}

fn of_disk(disk: &DiskFigures) -> Vec<(&'static str, Cell)> {
    let (major, minor) = disk.device;
    vec![
        ("Device", Cell::Text(format!("{major}:{minor}"))),
        ("ReadBytes", Cell::Number(disk.read_bytes)),
        ("WriteBytes", Cell::Number(disk.written_bytes)),
        ("ReadOps", Cell::Number(disk.reads)),
        ("WriteOps", Cell::Number(disk.writes)),
    ]
}

/// See `proc_pid_net(5)`, `/proc/pid/net/dev`; without the loopback, which leads nowhere.
fn of_interfaces(text: &str) -> Vec<Vec<(&'static str, Cell)>> {
    const COLUMNS: [(&str, usize); 8] = [
        ("RxBytes", 0),
        ("TxBytes", 8),
        ("RxPackets", 1),
        ("TxPackets", 9),
        ("RxErrors", 2),
        ("TxErrors", 10),
        ("RxDropped", 3),
        ("TxDropped", 11),
    ];
    let interface = |line: &str| {
        let (name, figures) = line.split_once(':')?;
        let figures: Vec<u64> =
            figures.split_ascii_whitespace().filter_map(|figure| figure.parse().ok()).collect();
        let number =
            |(key, at): (&'static str, usize)| Some((key, Cell::Number(*figures.get(at)?)));
        let name = name.trim();
        let row = std::iter::once(("Interface", Cell::Text(name.into())));
        (name != "lo").then(|| row.chain(COLUMNS.into_iter().filter_map(number)).collect())
    };
    text.lines().filter_map(interface).collect()
}

fn line(stats: Stats) -> Value {
    let cell = |cell| match cell {
        Cell::Number(number) => json!(number),
        Cell::Text(text) => json!(text),
    };
    let row = |row: Vec<(&str, Cell)>| -> Value {
        let cells = row.into_iter().map(|(key, it)| (key.to_string(), cell(it)));
        cells.collect::<Map<String, Value>>().into()
    };
    let figure = |figure| match figure {
        Figure::Number(number) => json!(number),
        Figure::Percent(percent) => json!(percent),
        Figure::Table(rows) => rows.into_iter().map(row).collect(),
    };
    let mut line = Map::from_iter([("v".into(), json!(1)), ("t".into(), json!(Usec::now().0))]);
    line.extend(stats.0.into_iter().map(|(key, it)| (key.to_string(), figure(it))));
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_figures_are_absent() {
        let mut figures = Figures::default();
        (figures.cpu_usec, figures.pids, figures.pressure_io) = (Some(2), Some(1), Some(125));
        let want = [
            ("CPUUsageNSec", Figure::Number(2000)),
            ("PidsCurrent", Figure::Number(1)),
            ("PressureIO", Figure::Percent(1.25)),
        ];
        assert_eq!(of_group(&figures), want);
    }

    #[test]
    fn interfaces_are_told_apart_and_the_loopback_left_out() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets|bytes packets\n    \
                    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  \
                    eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        let stats = Stats(vec![("Network", Figure::Table(of_interfaces(text)))]);
        let line = line(stats);
        assert_eq!(line["Network"].as_array().unwrap().len(), 1);
        for (key, want) in [("RxBytes", 1), ("RxPackets", 2), ("RxErrors", 3), ("RxDropped", 4)]
            .into_iter()
            .chain([("TxBytes", 5), ("TxPackets", 6), ("TxErrors", 7), ("TxDropped", 8)])
        {
            assert_eq!(line["Network"][0][key], want, "{key}");
        }
        assert_eq!(line["Network"][0]["Interface"], "eth0");
    }
}
