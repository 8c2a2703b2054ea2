//! How a daemon begins and ends, with each effect of that failing, or being where it is killed.

use std::fs;

use rustix::io::Errno;
use system_tests::faults::{Effect, Fault};

use crate::helper::Helper;
use crate::lab::Lab;
use crate::matrix::{Problem, QUIET, TRIES, came, nothing};
use crate::operations::{Exec, Operation, Start, Stop, is_found};

/// An id that no container has, and a digest that nothing has.
const STRAY: &str = "5747a95747a95747a95747a95747a95747a95747a95747a95747a95747a95747";

/// What becomes of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It fails.
    Fails,
    /// The daemon is killed right before it.
    Killed,
}

/// A daemon begins, takes over a container, and sweeps away what nothing has. Wherever that is cut
/// off, the next one does it.
///
/// # Panics
///
/// If anything is left, or the container is lost.
pub async fn begin_everywhere(lab: &mut Lab<'_>, fate: Fate) {
    Exec.prepare(lab).await;
    // The directory of sessions comes with the first one.
    Exec.run(lab.client()).await.unwrap();
    lab.kill_and_restart().await;
    let wanted = lab.world();
    let mut problems = Problems::default();
    let beginning = beginning(lab).await;
    assert!(!beginning.is_empty(), "nothing is asked before an effect");
    for effect in beginning {
        lab.log();
        let mut came = Err(Problem::Missed);
        for _ in 0..TRIES {
            lab.kill();
            make_strays(lab);
            came = begin_with(lab, &effect, fate).await;
            lab.begin().await;
            if !matches!(came, Err(Problem::Missed)) {
                break;
            }
        }
        problems.note(lab, &effect, fate, came);
        let whole = Exec.is_whole(lab.client()).await && is_found(lab.client()).await;
        let lost = || Problem::Wrong("the container is lost".into());
        problems.note(lab, &effect, fate, whole.then_some(()).ok_or_else(lost));
        let left = lab.differences(&wanted).await;
        problems.note(lab, &effect, fate, nothing("the next one leaves something", &left));
    }
    Exec.clear(lab.client()).await;
    problems.report();
}

/// What was wrong, so far.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn note(&mut self, lab: &mut Lab<'_>, effect: &Effect, fate: Fate, tried: Result<(), Problem>) {
        if let Err(problem) = tried {
            let log = lab.log();
            self.0.push(format!("'{effect}' {fate:?}: {problem}\nIt logged:\n{log}"));
        }
    }

    fn report(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// The effects of a daemon that begins.
async fn beginning(lab: &mut Lab<'_>) -> Vec<Effect> {
    lab.kill();
    make_strays(lab);
    lab.begin().await;
    lab.faults.all_seen(QUIET).await
}

/// Makes what a daemon that was cut off may have left.
fn make_strays(lab: &Lab<'_>) {
    let (state, run) = (lab.state_dir(), lab.run_dir());
    for dir in [state.join("containers"), state.join("layers"), run.join("containers")] {
        fs::create_dir_all(dir.join(STRAY).join("within")).unwrap();
    }
    for dir in ["blobs/sha256", "logs"] {
        fs::write(state.join(dir).join(STRAY), "stray").unwrap();
    }
}

/// Starts a daemon that does not get past that effect, or does in its own way.
async fn begin_with(lab: &mut Lab<'_>, effect: &Effect, fate: Fate) -> Result<(), Problem> {
    lab.faults.arm([(effect, fate.fault())]);
    lab.launch();
    let ready = fate == Fate::Fails && lab.is_ready();
    let ended = fate == Fate::Fails && !ready;
    let came = came(lab, 1).await;
    if ended {
        lab.wait();
    } else {
        lab.kill();
    }
    came
}

impl Fate {
    fn fault(self) -> Fault {
        match self {
            Self::Fails => Fault::Fail(Errno::IO),
            Self::Killed => Fault::Hang,
        }
    }
}

/// `tare-names` begins while a container runs, and is told who is where. Wherever that fails or is cut
/// off, it is told again.
///
/// # Panics
///
/// If anything is left, or the container is not found.
pub async fn begin_names_everywhere(lab: &mut Lab<'_>) {
    Exec.prepare(lab).await;
    assert!(is_found(lab.client()).await, "it is not found at all");
    let wanted = lab.world();
    lab.faults.count();
    lab.kill_helper(Helper::Names);
    let beginning = lab.faults.all_seen(QUIET).await;
    let parts = ["names", "tare-names"];
    for part in parts {
        assert!(beginning.iter().any(|it| it.part == part), "{part}: {beginning:?}");
    }
    let mut problems = Problems::default();
    for effect in beginning.iter().filter(|it| parts.contains(&it.part.as_str())) {
        for fate in [Fate::Fails, Fate::Killed] {
            lab.log();
            lab.faults.arm([(effect, fate.fault())]);
            lab.kill_helper(Helper::Names);
            let came = came(lab, 1).await;
            if fate == Fate::Killed {
                lab.kill_helper(Helper::Names);
            }
            lab.faults.let_go();
            problems.note(lab, effect, fate, came);
            let found = is_found(lab.client()).await;
            let lost = || Problem::Wrong("the container is not found".into());
            problems.note(lab, effect, fate, found.then_some(()).ok_or_else(lost));
            let left = lab.differences(&wanted).await;
            problems.note(lab, effect, fate, nothing("it leaves something", &left));
        }
    }
    Exec.clear(lab.client()).await;
    problems.report();
}

/// What all containers share comes with the first start of one, and goes when the daemon ends.
/// Wherever one or the other fails or is cut off, it is gone after the next daemon has ended.
///
/// # Panics
///
/// If anything is left.
pub async fn share_everywhere(lab: &mut Lab<'_>) {
    Start.prepare(lab).await;
    lab.end();
    let off = lab.world();
    lab.begin().await;
    lab.faults.count();
    Start.run(lab.client()).await.unwrap();
    let first = lab.faults.all_seen(QUIET).await;
    Stop.run(lab.client()).await.unwrap();
    lab.faults.all_seen(QUIET).await;
    lab.faults.count();
    Start.run(lab.client()).await.unwrap();
    let second = lab.faults.all_seen(QUIET).await;
    Stop.run(lab.client()).await.unwrap();
    // What is done behind the end of a container is none of the daemon's.
    lab.faults.all_seen(QUIET).await;
    lab.faults.count();
    lab.end();
    let end = lab.faults.seen();
    assert!(!first.is_empty() && !end.is_empty(), "nothing is asked before an effect");
    let mut problems = Problems::default();
    for effect in first.iter().filter(|effect| !second.contains(effect)) {
        for fate in [Fate::Fails, Fate::Killed] {
            lab.begin().await;
            let came = start_with(lab, effect, fate).await;
            problems.note(lab, effect, fate, came);
            lab.end();
            let left = lab.differences(&off).await;
            problems.note(lab, effect, fate, nothing("its end leaves something", &left));
        }
    }
    for effect in &end {
        for fate in [Fate::Fails, Fate::Killed] {
            let mut came = Err(Problem::Missed);
            for _ in 0..TRIES {
                lab.begin().await;
                Start.run(lab.client()).await.unwrap();
                Stop.run(lab.client()).await.unwrap();
                came = end_with(lab, effect, fate).await;
                if !matches!(came, Err(Problem::Missed)) {
                    break;
                }
            }
            problems.note(lab, effect, fate, came);
            lab.begin().await;
            lab.end();
            let left = lab.differences(&off).await;
            problems.note(lab, effect, fate, nothing("the next one leaves something", &left));
        }
    }
    lab.begin().await;
    Exec.clear(lab.client()).await;
    problems.report();
}

/// Starts the container, which does not get past that effect, or is stopped.
async fn start_with(lab: &mut Lab<'_>, effect: &Effect, fate: Fate) -> Result<(), Problem> {
    lab.faults.arm([(effect, fate.fault())]);
    let started = tokio::select! {
        started = Start.run(lab.client()) => started.is_ok(),
        () = lab.faults.hit(1), if fate == Fate::Killed => false,
    };
    let came = came(lab, 1).await;
    if fate == Fate::Killed {
        lab.kill_and_restart().await;
    } else if started {
        Stop.run(lab.client()).await.unwrap();
    }
    came
}

/// Ends the daemon, which does not get past that effect, or does in its own way.
async fn end_with(lab: &mut Lab<'_>, effect: &Effect, fate: Fate) -> Result<(), Problem> {
    lab.faults.arm([(effect, fate.fault())]);
    lab.terminate();
    let came = came(lab, 1).await;
    match fate {
        Fate::Killed if came.is_ok() => lab.kill(),
        // It has got past that effect, or the effect did not come by.
        _ => lab.wait(),
    }
    came
}
