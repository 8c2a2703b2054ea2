//! An operation, each of its effects, and each kind of fault at each of them.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::time::Duration;

use rustix::io::Errno;
use system_tests::faults::{Effect, Fault};
use system_tests::world::{Change, Difference};
use system_tests::{Client, World};
use zbus::OwnedObjectPath;

use crate::helper::Helper;
use crate::lab::Lab;
use crate::operations::{Operation, Owes, Stop, Until};

/// An operation is over when there was no effect for so long.
pub const QUIET: Duration = Duration::from_millis(200);
/// An effect does not come any more when there was none for so long.
const MISSED: Duration = Duration::from_secs(1);
/// Changes that come at the same time share a commit, or do not: an effect may not come each time.
pub const TRIES: usize = 5;
/// Whoever only reads is answered within this.
const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const FAIL: Fault = Fault::Fail(Errno::IO);
/// How a process is that nobody has waited for.
const UNWAITED: &str = "(has ended, and nobody waits for it)";

/// An operation and its effects.
#[derive(Debug)]
pub struct Matrix<O> {
    pub(crate) operation: O,
    pub(crate) effects: Vec<Effect>,
    /// By which effects others are taken back, and after which of those has failed.
    pub(crate) undo: Vec<(usize, Effect)>,
    /// The same after the last of those that has failed, when most was there to be taken back.
    pub(crate) late_undo: BTreeMap<Effect, usize>,
    /// Without anything of it.
    cleared: World,
    /// After it.
    pub(crate) done: World,
    /// Each effect that had its fate, in words.
    tried: Vec<String>,
    problems: Vec<String>,
}

/// What becomes of an effect.
#[derive(Clone, Debug)]
enum Fate {
    Fails,
    /// It fails, and so does one that was to take back those before it.
    FailsTwice(Effect),
    Hangs,
    Killed,
    /// The program that was about to have it, for the daemon, is killed.
    HelperKilled(Helper),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fails => f.write_str("fails"),
            Self::FailsTwice(undo) => write!(f, "fails, and then '{undo}'"),
            Self::Hangs => f.write_str("hangs"),
            Self::Killed => f.write_str("is where the daemon is killed"),
            Self::HelperKilled(helper) => write!(f, "is where {helper} is killed"),
        }
    }
}

/// Why a try is no success.
#[derive(Debug)]
pub enum Problem {
    /// The effect did not come by.
    Missed,
    /// What was wrong.
    Wrong(String),
    /// What is there and should not be, or the other way round.
    Different {
        /// When that was.
        what: &'static str,
        /// All of it.
        differences: Vec<Difference>,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missed => f.write_str("it does not come by"),
            Self::Wrong(what) => f.write_str(what),
            Self::Different { what, differences } => {
                write!(f, "{what}:")?;
                differences.iter().try_for_each(|it| write!(f, "\n  {it}"))
            }
        }
    }
}

impl<O: Operation> Matrix<O> {
    /// Does it once, and notes its effects.
    pub async fn record(lab: &mut Lab<'_>, mut operation: O) -> Self {
        operation.clear(lab.client()).await;
        let cleared = lab.world();
        // What comes with the first time stays, and is no effect of the second.
        operation.prepare(lab).await;
        operation.run(lab.client()).await.unwrap();
        operation.prepare(lab).await;
        lab.faults.all_seen(QUIET).await;
        lab.faults.count();
        operation.run(lab.client()).await.unwrap();
        let effects = lab.faults.all_seen(QUIET).await;
        // Without a hook, all of what follows would pass.
        let asked = effects.iter().any(|effect| effect.part == O::PART);
        assert!(asked, "{} asks nothing before an effect: {effects:?}", O::PART);
        let done = lab.world();
        let (undo, late_undo) = (Vec::new(), BTreeMap::new());
        let (tried, problems) = (Vec::new(), Vec::new());
        Self { operation, effects, undo, late_undo, cleared, done, tried, problems }
    }

    /// Each effect fails once; and so does each by which those before it are taken back.
    pub async fn fail_everywhere(&mut self, lab: &mut Lab<'_>) {
        self.fail_each(lab).await;
        for (number, undo) in self.undo.clone() {
            self.expose(lab, number, Fate::FailsTwice(undo)).await;
        }
    }

    /// Each effect hangs once; meanwhile others are answered, and whoever asked changes their mind.
    pub async fn hang_everywhere(&mut self, lab: &mut Lab<'_>) {
        for number in 0..self.effects.len() {
            if can_hang(&self.effects[number]) {
                self.expose(lab, number, Fate::Hangs).await;
            }
        }
    }

    /// The daemon is killed right before each effect.
    pub async fn kill_everywhere(&mut self, lab: &mut Lab<'_>) {
        for number in 0..self.effects.len() {
            self.expose(lab, number, Fate::Killed).await;
        }
    }

    /// Each program that has a part in it is killed right before each effect of its own; the daemon lives
    /// on.
    pub async fn kill_helpers_everywhere(&mut self, lab: &mut Lab<'_>) {
        let mut killed = Vec::new();
        for helper in Helper::ALL {
            let of_helper = |number: &usize| self.effects[*number].part == helper.part();
            let numbers: Vec<usize> = (0..self.effects.len()).filter(of_helper).collect();
            killed.extend((!numbers.is_empty()).then_some(helper));
            for number in numbers {
                self.expose(lab, number, Fate::HelperKilled(helper)).await;
            }
        }
        // One that is missing would be killed nowhere, and that would pass.
        if killed != O::HELPERS {
            let wanted = O::HELPERS;
            self.problems.push(format!("{}: {killed:?} have a part, not {wanted:?}", O::NAME));
        }
    }

    /// What was tried, in words: `service: commit state.db fails`.
    pub fn tried(&self) -> &[String] {
        &self.tried
    }

    async fn expose(&mut self, lab: &mut Lab<'_>, number: usize, fate: Fate) {
        for _ in 0..TRIES {
            let tried = self.attempt(lab, number, &fate).await;
            if !matches!(tried, Err(Problem::Missed)) {
                self.tried.push(format!("{} {fate}", self.effects[number]));
            }
            match tried {
                Ok(()) => return,
                // What can be repeated is compared with what it was done to.
                Err(Problem::Missed) if O::OWES == Owes::Retry => {}
                Err(Problem::Missed) => {
                    // Else it might come by now.
                    lab.faults.count();
                    self.operation.clear(lab.client()).await;
                }
                Err(problem) => return self.note(lab, number, &fate, &problem).await,
            }
        }
        if let Fate::FailsTwice(undo) = &fate
            && !self.comes_again(lab, number, undo).await
        {
            return;
        }
        self.note(lab, number, &fate, &Problem::Missed).await;
    }

    /// Whether one is among those by which others are taken back. What came after one failure and does
    /// not after the next was left to be done later by something else, like the end of an exec session
    /// that is a minute past.
    async fn comes_again(&mut self, lab: &mut Lab<'_>, number: usize, undo: &Effect) -> bool {
        if let Err(problem) = self.attempt(lab, number, &Fate::Fails).await {
            self.note(lab, number, &Fate::Fails, &problem).await;
        }
        lab.faults.seen().contains(undo)
    }

    /// Each effect fails once; by which others are taken back then is noted.
    pub(crate) async fn fail_each(&mut self, lab: &mut Lab<'_>) {
        for number in 0..self.effects.len() {
            self.expose(lab, number, Fate::Fails).await;
        }
    }

    /// The next daemon, and nothing of what was tried before.
    pub(crate) async fn begin_anew(&mut self, lab: &mut Lab<'_>) {
        lab.kill_and_restart().await;
        self.operation.clear(lab.client()).await;
        self.cleared = lab.world();
        self.operation.prepare(lab).await;
        self.operation.run(lab.client()).await.unwrap();
        self.done = lab.world();
    }

    async fn attempt(
        &mut self,
        lab: &mut Lab<'_>,
        number: usize,
        fate: &Fate,
    ) -> Result<(), Problem> {
        lab.log();
        lab.faults.count();
        self.operation.prepare(lab).await;
        // What that leaves to be done later is none of the operation.
        let later = if lab.faults.seen().is_empty() { 10 } else { 40 };
        lab.faults.all_seen(Duration::from_millis(later)).await;
        let before = lab.world();
        match fate {
            Fate::Fails => self.fail(lab, number, &before).await,
            Fate::FailsTwice(undo) => self.fail_twice(lab, number, undo, &before).await,
            Fate::Hangs => self.hang(lab, number, &before).await,
            Fate::Killed => self.kill(lab, number, &before).await,
            Fate::HelperKilled(helper) => self.kill_helper(lab, number, *helper, &before).await,
        }
    }

    async fn fail(
        &mut self,
        lab: &mut Lab<'_>,
        number: usize,
        before: &World,
    ) -> Result<(), Problem> {
        lab.faults.arm([(&self.effects[number], FAIL)]);
        let ran = self.operation.run(lab.client()).await;
        came(lab, 1).await?;
        let failed = ran.is_err();
        match self.check(lab, before, ran).await {
            Err(Problem::Different { differences, .. }) if may_leave::<O>(&differences) => {
                lab.kill_and_restart().await;
                let left = lab.differences(&self.done).await;
                return nothing("the next daemon, too, left something", &left);
            }
            checked => checked?,
        }
        if failed && O::OWES == Owes::Before {
            self.note_undo(lab, number);
            // That has effects of its own.
            return self.check_undone(lab).await;
        }
        Ok(())
    }

    /// Notes the effects after one that has failed, without those that had to come anyway.
    fn note_undo(&mut self, lab: &Lab<'_>, number: usize) {
        let after = lab.faults.seen().into_iter();
        for effect in after.skip_while(|effect| *effect != self.effects[number]) {
            let known = self.undo.iter().any(|(_, known)| *known == effect);
            if self.effects.contains(&effect) {
                continue;
            }
            self.late_undo.insert(effect.clone(), number);
            if !known {
                self.undo.push((number, effect));
            }
        }
    }

    async fn fail_twice(
        &mut self,
        lab: &mut Lab<'_>,
        number: usize,
        undo: &Effect,
        before: &World,
    ) -> Result<(), Problem> {
        lab.faults.arm([(&self.effects[number], FAIL), (undo, FAIL)]);
        let ran = self.operation.run(lab.client()).await;
        came(lab, 2).await?;
        if ran.is_ok() {
            return Err(Problem::Wrong("said to be done".into()));
        }
        self.wait_out_leftovers(lab).await;
        let wanted = match O::LEFTOVERS {
            Until::Removed => &self.cleared,
            _ => before,
        };
        let mut left = lab.differences(wanted).await;
        // What could not be killed is not waited for, until whoever started it ends.
        if !left.is_empty() && left.iter().all(|it| it.to_string().ends_with(UNWAITED)) {
            lab.kill_helper(Helper::Spawn);
            lab.kill_and_restart().await;
            left = lab.differences(wanted).await;
        }
        nothing("even then it left something", &left)
    }

    /// Has that come after which nothing is left any more.
    async fn wait_out_leftovers(&self, lab: &mut Lab<'_>) {
        match O::LEFTOVERS {
            // Refused if nothing is left to be stopped.
            Until::Stopped => drop(Stop.run(lab.client()).await),
            Until::Restarted => lab.kill_and_restart().await,
            Until::Removed => self.operation.clear(lab.client()).await,
        }
    }

    async fn hang(&self, lab: &Lab<'_>, number: usize, before: &World) -> Result<(), Problem> {
        lab.faults.arm([(&self.effects[number], Fault::Hang)]);
        let client = lab.client();
        let mut run = pin!(self.operation.run(client));
        let ended = tokio::select! {
            ended = &mut run => Some(ended),
            () = lab.faults.hit(1) => None,
        };
        let came = came(lab, 1).await;
        let answered = tokio::time::timeout(PATIENCE, cancel_all(client)).await;
        lab.faults.let_go();
        let ran = match ended {
            Some(ended) => ended,
            None => run.await,
        };
        came?;
        answered.map_err(|_| Problem::Wrong("nobody else was answered".into()))?;
        self.check_all(lab, before, ran).await
    }

    async fn kill(
        &mut self,
        lab: &mut Lab<'_>,
        number: usize,
        before: &World,
    ) -> Result<(), Problem> {
        lab.faults.arm([(&self.effects[number], Fault::Hang)]);
        let came = {
            let mut run = pin!(self.operation.run(lab.client()));
            tokio::select! {
                // What it leaves to be done later comes later.
                _ = &mut run => {}
                () = lab.faults.hit(1) => {}
            }
            came(lab, 1).await
        };
        lab.kill_and_restart().await;
        came?;
        let whole = self.operation.is_whole(lab.client()).await;
        let ran = if whole { Ok(()) } else { Err("killed".into()) };
        self.check_all(lab, before, ran).await
    }

    async fn kill_helper(
        &self,
        lab: &Lab<'_>,
        number: usize,
        helper: Helper,
        before: &World,
    ) -> Result<(), Problem> {
        lab.faults.arm([(&self.effects[number], Fault::Hang)]);
        let mut run = pin!(self.operation.run(lab.client()));
        let ended = tokio::select! {
            ended = &mut run => Some(ended),
            () = lab.faults.hit(1) => None,
        };
        let came = came(lab, 1).await;
        if came.is_ok() {
            lab.kill_helper(helper);
        }
        lab.faults.let_go();
        let ran = match ended {
            Some(ended) => ended,
            None => run.await,
        };
        came?;
        self.check_all(lab, before, ran).await
    }

    /// Whether a run that ended so left what it owes.
    async fn check(
        &self,
        lab: &Lab<'_>,
        before: &World,
        ran: Result<(), String>,
    ) -> Result<(), Problem> {
        match (ran, O::OWES) {
            (Err(_), Owes::Before) => nothing("it left something", &lab.differences(before).await),
            (Ok(()), Owes::Before | Owes::Again) => self.take_away(lab).await,
            (Ok(()), Owes::Retry) => {
                nothing("done, it left something", &self.still_to_do(lab).await)
            }
            (Err(why), Owes::Retry) => {
                self.repeat(lab, &why).await?;
                nothing("repeated, it left something", &self.still_to_do(lab).await)
            }
            (Err(why), Owes::Again) => {
                self.repeat(lab, &why).await?;
                self.take_away(lab).await
            }
        }
    }

    /// What is not as after a run of which nothing is left, but for what comes yet.
    async fn still_to_do(&self, lab: &Lab<'_>) -> Vec<Difference> {
        lab.differences_that_may_last(&self.done, may_leave::<O>).await
    }

    /// Whether it left what it owes, and what a look at the host does not tell.
    async fn check_all(
        &self,
        lab: &Lab<'_>,
        before: &World,
        ran: Result<(), String>,
    ) -> Result<(), Problem> {
        let failed = ran.is_err();
        self.check(lab, before, ran).await?;
        if failed && O::OWES == Owes::Before { self.check_undone(lab).await } else { Ok(()) }
    }

    async fn check_undone(&self, lab: &Lab<'_>) -> Result<(), Problem> {
        if self.operation.is_undone(lab.client()).await {
            return Ok(());
        }
        Err(Problem::Wrong("it failed, and not all is as before".into()))
    }

    async fn repeat(&self, lab: &Lab<'_>, why: &str) -> Result<(), Problem> {
        let again = self.operation.run(lab.client()).await;
        // It may have been done, but for what was not heard of any more.
        if let Err(again) = again
            && !self.operation.is_whole(lab.client()).await
        {
            return Err(Problem::Wrong(format!("it failed: {why}\nand again: {again}")));
        }
        Ok(())
    }

    /// It is whole, and goes without a trace.
    async fn take_away(&self, lab: &Lab<'_>) -> Result<(), Problem> {
        if !self.operation.is_whole(lab.client()).await {
            return Err(Problem::Wrong("said to be done, it is not".into()));
        }
        self.operation.clear(lab.client()).await;
        nothing("taken away, it left something", &lab.leftovers(&self.cleared).await)
    }

    /// Notes a problem, and makes sure that the next try does not suffer from it.
    async fn note(&mut self, lab: &mut Lab<'_>, number: usize, fate: &Fate, problem: &Problem) {
        let (name, total, effect) = (O::NAME, self.effects.len(), &self.effects[number]);
        let step = number + 1;
        self.problems.push(format!(
            "{name}: step {step} of {total}, '{effect}', {fate}:\n{problem}\nIt logged:\n{}",
            lab.log()
        ));
        self.begin_anew(lab).await;
    }

    /// What was wrong.
    pub async fn problems(mut self, lab: &mut Lab<'_>) -> Vec<String> {
        self.operation.clear(lab.client()).await;
        let left = lab.leftovers(&self.cleared).await;
        if let Err(problem) = nothing("in the end, something was left", &left) {
            self.problems.push(problem.to_string());
        }
        // It is in the problems, as far as it has to do with them.
        lab.log();
        self.problems
    }

    /// Nothing was wrong.
    ///
    /// # Panics
    ///
    /// With all that was.
    pub async fn report(self, lab: &mut Lab<'_>) {
        let problems = self.problems(lab).await;
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}

/// No problem, if there are no differences.
///
/// # Errors
///
/// [`Problem::Different`], with all of them.
pub fn nothing(what: &'static str, differences: &[Difference]) -> Result<(), Problem> {
    if differences.is_empty() {
        return Ok(());
    }
    Err(Problem::Different { what, differences: differences.to_vec() })
}

/// Waits until so many faults have come by.
///
/// # Errors
///
/// [`Problem::Missed`].
pub async fn came(lab: &Lab<'_>, number: usize) -> Result<(), Problem> {
    tokio::select! {
        biased;
        () = lab.faults.hit(number) => Ok(()),
        _ = lab.faults.all_seen(MISSED) => Err(Problem::Missed),
    }
}

/// Whether there is something, all of which the operation may leave to the next daemon.
fn may_leave<O: Operation>(differences: &[Difference]) -> bool {
    let may_stay = |it: &Difference| {
        let named = |(kind, part): &(&str, &str)| it.kind == *kind && it.name.contains(part);
        matches!(it.change, Change::New(_)) && O::LEAVES.iter().any(named)
    };
    !differences.is_empty() && differences.iter().all(may_stay)
}

/// To make a descriptor of one's own takes no time and no lock: it is done where nothing may wait.
fn can_hang(effect: &Effect) -> bool {
    let makes = ["make a pipe", "make an eventfd", "open /dev/null", "write to an eventfd"];
    let own = match effect.part.as_str() {
        "service" => makes.contains(&effect.text.as_str()),
        // So it is to send one from one end of a pair of sockets to the other: neither ever blocks.
        "netns" => effect.text.ends_with("a shelf"),
        _ => false,
    };
    !own
}

/// Asks all jobs to stop; those past their point of no return go on.
async fn cancel_all(client: &Client) {
    for job in client.list("ListJobs").await {
        let path: OwnedObjectPath = job.get("Path");
        let _ = client.call(&path, "Job", "Cancel", &0_u64).await;
    }
}
