//! What runs in the lab system: the rows, one after the other, everybody in turn.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;

use crate::condition::Condition;
use crate::engine::remove_all;
use crate::leftovers::Leftovers;
use crate::report::{Host, Measured, Report, Turn, is_known};
use crate::row::{Row, Who};
use crate::stage::Stage;
use crate::{Error, Options, Result, SCRATCH, cpu, say};

/// Longer than anybody's turn takes, 1,000 containers included.
const LONGEST: Duration = Duration::from_secs(300);

/// As many times more rounds than a row asks for there may be, if its ratios spread, and as long.
const MORE: usize = 8;
const LONGER: Duration = Duration::from_secs(120);

/// Measures those rows.
pub(crate) async fn run(rows: &[&Row], options: &Options) -> Result<Report> {
    fs::create_dir_all(SCRATCH)?;
    cpu::count_us_too()?;
    let load = load()?;
    let stage = Stage::set(options.depth()).await?;
    let mut measured = Vec::new();
    for condition in Condition::ALL {
        let rows: Vec<&&Row> = rows.iter().filter(|row| row.under.contains(&condition)).collect();
        let _mounts = if rows.is_empty() { None } else { condition.enter()? };
        for row in rows {
            measured.push(measure(&stage, row, condition, &options.who).await?);
        }
    }
    Ok(Report {
        v: 1,
        at: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        quick: options.quick,
        host: host(load)?,
        rows: measured,
    })
}

/// A row that fails is told in the report, and does not keep others from being measured.
async fn measure(
    stage: &Stage,
    row: &Row,
    condition: Condition,
    only: &[String],
) -> Result<Measured> {
    let before = Leftovers::look(stage).await?;
    let begun = Instant::now();
    let turns = match everybody_in_turn(stage, row, only).await {
        Ok(turns) => before.settle(stage).await.map(|()| turns),
        Err(error) => Err(error),
    };
    match turns {
        Ok(turns) => {
            let took = begun.elapsed().as_secs();
            say(format_args!("{}, {}: {took} s", row.name, condition.name()));
            Ok(Measured::new(row, condition, &turns))
        }
        Err(error) => {
            say(format_args!("{}, {}: {error}", row.name, condition.name()));
            for who in [Who::Tare, Who::Podman, Who::Crun] {
                remove_all(stage.engine(who)?).await?;
            }
            Ok(Measured::failed(row, condition, error.to_string()))
        }
    }
}

/// What all contestants reached, by contestant.
async fn everybody_in_turn(stage: &Stage, row: &Row, only: &[String]) -> Result<Vec<Vec<Turn>>> {
    let takes_part = |who: &Who| only.is_empty() || only.iter().any(|name| name == who.name());
    for who in row.contestants.iter().filter(|who| takes_part(who)) {
        in_time(*who, (row.prepare)(stage, *who)).await?;
    }
    let (begun, mut turns) = (Instant::now(), vec![Vec::new(); row.contestants.len()]);
    let rounds = stage.depth.pick(row.rounds.full, row.rounds.quick);
    for round in 0..rounds * stage.depth.pick(MORE, 1) {
        // So often it is looked whether that was enough: who looks all the time sees what is by chance.
        let enough = round > 0 && round % rounds == 0;
        if enough && (begun.elapsed() > LONGER || is_known(row.unit, &turns)) {
            break;
        }
        for at in in_round(round, row.contestants.len()) {
            let who = row.contestants[at];
            if takes_part(&who) {
                turns[at].push(turn(stage, row, who).await?);
            }
        }
    }
    for who in row.contestants.iter().filter(|who| takes_part(who)) {
        in_time(*who, (row.clean)(stage, *who)).await?;
    }
    Ok(turns)
}

/// In what order they have their turns: everybody is first as often, for what the one before has left to be
/// done is done in the turn of the next.
fn in_round(round: usize, contestants: usize) -> impl Iterator<Item = usize> {
    (0..contestants).map(move |place| (round + place) % contestants)
}

async fn turn(stage: &Stage, row: &Row, who: Who) -> Result<Turn> {
    let before = cpu::used()?;
    let figure = in_time(who, (row.sample)(stage, who)).await?;
    Ok(Turn { figure, cpu: cpu::used()? - before })
}

async fn in_time<T>(who: Who, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = timeout(LONGEST, work).await.map_err(Error::from).flatten();
    done.map_err(|error| format!("{}: {error}", who.name()).into())
}

fn host(load_before: String) -> Result<Host> {
    let uname = rustix::system::uname();
    let mut versions = BTreeMap::new();
    for program in ["tarectl", "podman", "/usr/lib/podman/netavark", "conmon", "crun"] {
        let output = Command::new(program).arg("--version").output();
        let output = output.map_err(|error| format!("{program}: {error}"));
        let text = output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
        let line = text.map(|it| it.lines().next().unwrap_or_default().to_string());
        versions.insert(program.to_string(), line?);
    }
    Ok(Host {
        kernel: uname.release().to_string_lossy().into_owned(),
        processors: std::thread::available_parallelism()?.get(),
        load: [load_before, load()?],
        versions,
    })
}

fn load() -> Result<String> {
    let all = fs::read_to_string("/proc/loadavg")?;
    Ok(all.split(' ').next().unwrap_or_default().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_in_each_round_and_every_place_in_as_many() {
        let rounds: Vec<Vec<usize>> = (0..3).map(|round| in_round(round, 3).collect()).collect();
        assert_eq!(rounds, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }
}
