//! Each effect by which something is taken away does not happen, and says that it did: whether what ends
//! every case sees that.

use std::collections::BTreeMap;
use std::fs;

use system_tests::faults::{Effect, Fault};

use crate::lab::Lab;
use crate::matrix::{FAIL, Matrix, TRIES, came};
use crate::operations::{Operation, Owes, VOLUME};

/// What is told, a line for each difference, by the effect that was left out.
pub type Told = BTreeMap<String, Vec<String>>;

impl<O: Operation> Matrix<O> {
    /// Leaves out each effect that takes something back when an effect has failed; or of an operation
    /// that takes something away, each of its own.
    ///
    /// # Panics
    ///
    /// If there is no such effect.
    pub async fn leave_out_everywhere(mut self, lab: &mut Lab<'_>) -> Told {
        let left_out = match O::OWES {
            Owes::Before => self.all_undo(lab).await,
            Owes::Retry | Owes::Again => {
                self.effects.iter().map(|effect| (None, effect.clone())).collect()
            }
        };
        let mut told = Told::new();
        for (failed, effect) in left_out.into_iter().filter(|(_, it)| can_be_left_out(it)) {
            // All that are the same were left out with the first.
            if told.contains_key(&name(&effect)) {
                continue;
            }
            for _ in 0..TRIES {
                if let Some(lines) = self.leave_out(lab, failed.as_ref(), &effect).await {
                    told.insert(name(&effect), lines);
                    break;
                }
            }
        }
        assert!(!told.is_empty(), "nothing was left out");
        self.operation.clear(lab.client()).await;
        told
    }

    /// With the effect each follows after that has failed.
    async fn all_undo(&mut self, lab: &mut Lab<'_>) -> Vec<(Option<Effect>, Effect)> {
        self.fail_each(lab).await;
        let failed = |number: usize| Some(self.effects[number].clone());
        self.late_undo.iter().map(|(undo, number)| (failed(*number), undo.clone())).collect()
    }

    /// What is different afterwards; nothing if it did not come by.
    async fn leave_out(
        &mut self,
        lab: &mut Lab<'_>,
        failed: Option<&Effect>,
        effect: &Effect,
    ) -> Option<Vec<String>> {
        self.operation.prepare(lab).await;
        lab.faults.all_seen(std::time::Duration::from_millis(10)).await;
        let before = lab.world();
        let faults = failed.map(|failed| (failed, FAIL)).into_iter();
        lab.faults.arm(faults.chain([(effect, Fault::LeaveOut)]));
        // It may fail for what was left out: that is told, too.
        let ran = self.operation.run(lab.client()).await;
        let came = came(lab, 1 + usize::from(failed.is_some())).await;
        let wanted = if O::OWES == Owes::Before { &before } else { &self.done };
        let differences = lab.lasting_differences(wanted).await;
        let mut lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        if let (Err(why), Owes::Retry) = (ran, O::OWES) {
            lines.push(format!("it failed: {why}"));
        }
        lab.faults.count();
        // A volume that nobody knows of would be in the way of the next.
        let _ = fs::remove_dir_all(lab.state_dir().join("volumes").join(VOLUME));
        self.begin_anew(lab).await;
        came.ok().map(|()| lines)
    }
}

fn name(effect: &Effect) -> String {
    format!("{}: {}", effect.part, effect.text)
}

/// A piece of work of a database is not one that can be left out: something may be read by it.
fn can_be_left_out(effect: &Effect) -> bool {
    effect.part != "service"
        || !["use ", "begin ", "commit "].iter().any(|it| effect.text.starts_with(it))
}
