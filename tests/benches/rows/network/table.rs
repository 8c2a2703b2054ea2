//! A table that everybody can take away, as on a kernel that knows no owners of them, and who puts it back as
//! soon as that is told.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tare_netns::{Element, Firewall, Watcher};

use super::{Host, NAME, PORTS, published};
use crate::{Result, millis};

/// Longer is not waited for.
const PATIENCE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// Milliseconds from when somebody begins to delete it until all is in it again.
pub(super) fn put_back() -> Result<f64> {
    let host = Host::with(Firewall::open_shared(&NAME.parse()?)?)?;
    let ports = (0..PORTS).map(|at| Ok(published(20_000 + at)?.elements()));
    let ports: Vec<Element> = ports.collect::<Result<Vec<_>>>()?.concat();
    host.firewall.add_elements(&ports)?;
    let mut wanted = host.firewall.elements()?;
    let watcher = host.firewall.watch()?;
    let took = thread::scope(|scope| {
        let keeper = scope.spawn(|| keep(&host.firewall, watcher, &wanted).map_err(super::text));
        let begun = Instant::now();
        delete()?;
        let back = keeper.join().map_err(|_| "a thread died")??;
        Ok::<Duration, crate::Error>(back.duration_since(begun))
    })?;
    let mut found = host.firewall.elements()?;
    wanted.sort_unstable();
    found.sort_unstable();
    if found != wanted {
        return Err("not all of the table is back".into());
    }
    host.clean()?;
    Ok(millis(took))
}

/// When it is back.
fn keep(firewall: &Firewall, mut watcher: Watcher, wanted: &[Element]) -> Result<Instant> {
    while !watcher.others_changed()? {
        let mut told = [PollFd::new(&watcher, PollFlags::IN)];
        if poll(&mut told, Some(&PATIENCE))? == 0 {
            return Err("nobody has told that the table is gone".into());
        }
    }
    firewall.restore(wanted)?;
    Ok(Instant::now())
}

fn delete() -> Result<()> {
    let done = Command::new("nft").args(["delete", "table", "inet", NAME]).status()?;
    if done.success() { Ok(()) } else { Err(format!("nft: {done}").into()) }
}
