//! What came out: as values, and as the JSON that keeps them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::condition::Condition;
use crate::figures::{Summary, median_within};
use crate::row::{Promise, Row, Unit, Who};

/// Of one run of the program.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Of this form.
    pub(crate) v: u32,
    /// When it ended, in seconds since 1970.
    pub(crate) at: u64,
    /// Whether so little was done that the figures say nothing.
    pub(crate) quick: bool,
    /// Where.
    pub(crate) host: Host,
    /// Lines of the table.
    pub(crate) rows: Vec<Measured>,
}

/// The machine, and what ran on it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Host {
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// How many processors it has.
    pub(crate) processors: usize,
    /// How much waited for one, over a minute: before, and at the end.
    pub(crate) load: [String; 2],
    /// What the programs say of theirs.
    pub(crate) versions: BTreeMap<String, String>,
}

/// One row, under one condition.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Name of the row.
    pub(crate) name: String,
    /// In words.
    pub(crate) measures: String,
    /// Of the figures.
    pub(crate) unit: Unit,
    /// Of the host.
    pub(crate) condition: Condition,
    /// How our figure compares to what it must be.
    pub(crate) must: Option<Judged>,
    /// To what it should be.
    pub(crate) aim: Option<Judged>,
    /// Ours first.
    pub(crate) contestants: Vec<Contestant>,
    /// Why there is no more.
    pub(crate) failed: Option<String>,
}

/// What somebody reached.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Contestant {
    /// Who.
    pub(crate) name: String,
    /// In few figures.
    pub(crate) summary: Summary,
    /// Milliseconds of processor time of a turn, with what of it is not timed.
    pub(crate) cpu: Summary,
    /// How it compares to ours; nothing for ours.
    pub(crate) against_ours: Option<Compared>,
    /// One for each round.
    pub(crate) turns: Vec<Turn>,
}

/// One turn of somebody.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Turn {
    /// What is measured.
    pub(crate) figure: f64,
    /// Milliseconds of processor time, of everybody in the system.
    pub(crate) cpu: f64,
}

/// Ours beside somebody else, round by round.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Compared {
    /// How many times better ours is.
    pub(crate) times_better: Summary,
    /// How much higher our figure is.
    pub(crate) above: Summary,
    /// How many times more processor time they need.
    pub(crate) times_less_cpu: Summary,
}

/// A promise, and what became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Judged {
    /// In words.
    pub(crate) promise: String,
    /// What is compared to it.
    pub(crate) reached: f64,
    /// Whether it is kept.
    pub(crate) kept: bool,
}

impl Report {
    /// As a file has it.
    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Writes it to a file.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        Ok(fs::write(path, self.to_json()?)?)
    }

    /// Reads it from a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }
}

impl Measured {
    /// The turns of a row, by contestant and round.
    pub(crate) fn new(row: &Row, condition: Condition, turns: &[Vec<Turn>]) -> Self {
        let ours = turns.first().map(Vec::as_slice).unwrap_or_default();
        let contestants = row.contestants.iter().zip(turns);
        let contestants = contestants.filter_map(|(who, theirs)| {
            Contestant::new(row.unit, *who, (*who != row.contestants[0]).then_some(ours), theirs)
        });
        let mut measured =
            Self { contestants: contestants.collect(), ..Self::empty(row, condition) };
        let judge = |promise: Option<Promise>| measured.judge(row, promise?);
        (measured.must, measured.aim) = (judge(row.must), judge(row.aim));
        measured
    }

    /// A row that could not be measured.
    pub(crate) fn failed(row: &Row, condition: Condition, why: String) -> Self {
        Self { failed: Some(why), ..Self::empty(row, condition) }
    }

    fn empty(row: &Row, condition: Condition) -> Self {
        Self {
            name: row.name.into(),
            measures: row.measures.into(),
            unit: row.unit,
            condition,
            must: None,
            aim: None,
            contestants: Vec::new(),
            failed: None,
        }
    }

    fn judge(&self, row: &Row, promise: Promise) -> Option<Judged> {
        let of = |who: Who| self.contestants.iter().find(|it| it.name == who.name());
        let ours = of(row.contestants[0])?.summary.median;
        let unit = row.unit;
        let (promise, reached, kept) = match promise {
            Promise::Times(least, whom) => {
                let times = of(whom)?.against_ours?.times_better.median;
                (format!("{least}x {}", whom.name()), times, times >= least)
            }
            Promise::Over(most, whom) => {
                let above = of(whom)?.against_ours?.above.median;
                (format!("{} + {most} {unit}", whom.name()), above, above <= most)
            }
            Promise::OverShare(hundredths, most, whom) => {
                let whole = of(whom)?;
                let above = whole.against_ours.as_ref()?.above.median;
                let allowed = whole.summary.median * hundredths / 100.0 + most;
                (
                    format!("{} + {hundredths} % + {most} {unit}", whom.name()),
                    above,
                    above <= allowed,
                )
            }
            Promise::Below(most) => (format!("{most} {unit}"), ours, ours <= most),
            Promise::Above(least) => (format!("{least} {unit}"), ours, ours >= least),
        };
        Some(Judged { promise, reached, kept })
    }
}

impl Contestant {
    fn new(unit: Unit, who: Who, ours: Option<&[Turn]>, turns: &[Turn]) -> Option<Self> {
        Some(Self {
            name: who.name().into(),
            summary: Summary::of(turns.iter().map(|it| it.figure))?,
            cpu: Summary::of(turns.iter().map(|it| it.cpu))?,
            against_ours: ours.and_then(|ours| Compared::of(unit, ours, turns)),
            turns: turns.to_vec(),
        })
    }
}

impl Compared {
    /// Whatever slows the machine down slows everybody down in that round, so what is compared
    /// round by round moves far less than the figures do.
    fn of(unit: Unit, ours: &[Turn], theirs: &[Turn]) -> Option<Self> {
        let by = |compare: &dyn Fn(&Turn, &Turn) -> f64| {
            Summary::of(ours.iter().zip(theirs).map(|(ours, theirs)| compare(ours, theirs)))
        };
        Some(Self {
            times_better: by(&|ours, theirs| unit.advantage(ours.figure, theirs.figure))?,
            above: by(&|ours, theirs| ours.figure - theirs.figure)?,
            times_less_cpu: by(&|ours, theirs| theirs.cpu / ours.cpu)?,
        })
    }
}

/// How many times the one end may be the other between which a median is. Of two runs that know theirs so well
/// one in some thousand ratios is 20 % apart.
const KNOWN: f64 = 1.15;

/// Whether it is known how many times better the first is than each of the others.
pub(crate) fn is_known(unit: Unit, turns: &[Vec<Turn>]) -> bool {
    let Some((ours, others)) = turns.split_first() else { return true };
    others.iter().all(|theirs| {
        let both = ours.iter().zip(theirs);
        let times = both.map(|(ours, theirs)| unit.advantage(ours.figure, theirs.figure));
        median_within(times).is_none_or(|(low, high)| high / low <= KNOWN)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::row::{Rounds, nothing};

    /// One of which nothing is promised.
    pub(crate) const ROW: Row = Row {
        name: "row",
        measures: "something",
        unit: Unit::Millis,
        must: None,
        aim: None,
        contestants: &[Who::Tare, Who::Podman, Who::Crun],
        rounds: Rounds { full: 3, quick: 1 },
        under: Condition::PLAIN,
        prepare: nothing,
        sample: |_, _| Box::pin(async { Ok(0.0) }),
        clean: nothing,
    };

    pub(crate) fn turns<const N: usize>(figures: [f64; N]) -> Vec<Turn> {
        figures.map(|figure| Turn { figure, cpu: figure / 2.0 }).into()
    }

    #[test]
    fn a_promise_is_judged_by_what_it_is_about() {
        let turns = [[20.0, 40.0, 20.0], [120.0, 200.0, 110.0], [5.0, 25.0, 6.0]].map(turns);
        for (unit, promise, text, reached, kept) in [
            (Unit::Millis, Promise::Times(5.0, Who::Podman), "5x podman", 5.5, true),
            (Unit::Millis, Promise::Times(6.0, Who::Podman), "6x podman", 5.5, false),
            (Unit::Millis, Promise::Over(15.0, Who::Crun), "crun + 15 ms", 15.0, true),
            (Unit::Millis, Promise::Over(12.0, Who::Crun), "crun + 12 ms", 15.0, false),
            (
                Unit::Millis,
                Promise::OverShare(100.0, 9.0, Who::Crun),
                "crun + 100 % + 9 ms",
                15.0,
                true,
            ),
            (
                Unit::Millis,
                Promise::OverShare(50.0, 9.0, Who::Crun),
                "crun + 50 % + 9 ms",
                15.0,
                false,
            ),
            (Unit::Megabytes, Promise::Below(20.0), "20 MB", 20.0, true),
            (Unit::Megabytes, Promise::Below(19.0), "19 MB", 20.0, false),
            (Unit::PerSecond, Promise::Above(20.0), "20 /s", 20.0, true),
            (Unit::PerSecond, Promise::Above(21.0), "21 /s", 20.0, false),
            (Unit::PerSecond, Promise::Times(3.0, Who::Crun), "3x crun", 20.0 / 6.0, true),
        ] {
            let row = Row { unit, must: Some(promise), ..ROW };
            let judged = Measured::new(&row, Condition::Plain, &turns).must.unwrap();
            assert_eq!((judged.promise.as_str(), judged.kept), (text, kept), "{judged:?}");
            assert!((judged.reached - reached).abs() < 1e-9, "{judged:?}");
        }
    }

    #[test]
    fn ours_is_compared_with_everybody_but_itself() {
        let turns = [[20.0], [120.0], [5.0]].map(turns);
        let measured = Measured::new(&ROW, Condition::Plain, &turns);
        let compared = measured.contestants.iter().map(|it| it.against_ours);
        let medians: Vec<_> = compared
            .map(|it| {
                it.map(|it| [it.times_better, it.above, it.times_less_cpu].map(|it| it.median))
            })
            .collect();
        assert_eq!(medians, [None, Some([6.0, -100.0, 6.0]), Some([0.25, 15.0, 0.25])]);
    }

    #[test]
    fn what_spreads_has_to_be_measured_more_often() {
        let steady = [turns([10.0; 30]), turns([50.0; 30])];
        assert!(is_known(Unit::Millis, &steady));
        // Between half and twice as much: not after 30 rounds, but after some hundreds.
        let spreads = |rounds: u32| -> Vec<Turn> {
            let figure = |at: u32| 50.0 * (f64::from(at * 7 % 30) / 15.0 - 1.0).exp2();
            (0..rounds).map(|at| Turn { figure: figure(at), cpu: 1.0 }).collect()
        };
        let ours = |rounds| vec![Turn { figure: 10.0, cpu: 1.0 }; rounds];
        assert!(!is_known(Unit::Millis, &[ours(30), spreads(30)]));
        assert!(!is_known(Unit::Millis, &[ours(30), turns([50.0; 30]), spreads(30)]));
        assert!(is_known(Unit::Millis, &[ours(1200), spreads(1200)]));
        assert!(is_known(Unit::Millis, &[spreads(30)]), "there is nobody to be compared with");
    }

    #[test]
    fn what_slows_everybody_down_does_not_count() {
        let slowed = [1.0, 3.0, 2.0, 8.0, 1.5];
        let turns = [10.0, 50.0].map(|figure| turns(slowed.map(|times| times * figure)));
        let row = Row { contestants: &[Who::Tare, Who::Podman], ..ROW };
        let measured = Measured::new(&row, Condition::Plain, &turns);
        let times = measured.contestants[1].against_ours.unwrap().times_better;
        assert_eq!(times, Summary { median: 5.0, p10: 5.0, p90: 5.0 });
    }
}
