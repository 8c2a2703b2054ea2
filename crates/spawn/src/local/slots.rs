//! Who has attached to what, and how many can.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Attach, ContainerId, MAX_ATTACHED, MAX_ATTACHED_OF_ONE, Refusal};

/// Most that are attached to any container; each has a thread.
const MOST: usize = 512;

/// How many are attached to each container.
#[derive(Debug, Default)]
pub(super) struct Attached(Mutex<HashMap<ContainerId, Those>>);

/// Those who are attached to one.
#[derive(Debug)]
struct Those {
    count: usize,
    /// Whose container it is.
    owner: Option<u32>,
    /// Held by whoever is attaching.
    attaching: Arc<Mutex<()>>,
}

/// One who is attached, until this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    among: Arc<Attached>,
    pub(super) to: ContainerId,
    attaching: Arc<Mutex<()>>,
}

impl Attached {
    pub(super) fn take(attached: &Arc<Self>, request: &Attach) -> Result<Slot, Refusal> {
        let (to, owner) = (&request.target.id, request.owner);
        let mut all = attached.lock();
        let attached_to = |is_counted: &dyn Fn(&ContainerId, &Those) -> bool| -> usize {
            let counted = all.iter().filter(|(id, those)| is_counted(id, those));
            counted.map(|(_, those)| those.count).sum()
        };
        let is_limited = owner.is_some_and(|owner| owner != 0);
        if attached_to(&|id, _| id == to) >= MAX_ATTACHED
            || (is_limited && attached_to(&|_, its| its.owner == owner) >= MAX_ATTACHED_OF_ONE)
            || attached_to(&|_, _| true) >= MOST
        {
            return Err(Refusal::TooManyAttached);
        }
        let none = || Those { count: 0, owner, attaching: Arc::default() };
        let those = all.entry(to.clone()).or_insert_with(none);
        those.count += 1;
        Ok(Slot { among: attached.clone(), to: to.clone(), attaching: those.attaching.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, Those>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Returns when nobody else is attaching to the container, and keeps it so. Others do not wait for that.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.attaching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut all = self.among.lock();
        match all.get_mut(&self.to) {
            Some(those) if those.count > 1 => those.count -= 1,
            _ => drop(all.remove(&self.to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Incarnation, OciRuntime, Stdin, Target};

    fn take(attached: &Arc<Attached>, to: u32, owner: Option<u32>) -> Result<Slot, Refusal> {
        let id = format!("{to:0width$}", width = ContainerId::LEN).parse().unwrap();
        let target = Target { id, incarnation: Incarnation(1), runtime: OciRuntime::Crun };
        Attached::take(attached, &Attach { target, stdin: Stdin::Null, owner })
    }

    #[test]
    fn nobody_keeps_others_from_attaching() {
        let attached = Arc::<Attached>::default();
        let take = |to, owner| take(&attached, to, owner);
        let mut greedy: Vec<_> = (0..MAX_ATTACHED).map(|_| take(0, Some(7)).unwrap()).collect();
        assert_eq!(take(0, Some(7)).unwrap_err(), Refusal::TooManyAttached);
        drop(take(1, Some(7)).unwrap());
        greedy.pop();
        greedy.push(take(0, Some(7)).unwrap());
        greedy.extend((1..).map_while(|to| take(to, Some(7)).ok()));
        assert_eq!(greedy.len(), MAX_ATTACHED_OF_ONE);
        drop(take(1000, Some(8)).unwrap());
        for (first, owner) in [(2000, Some(0)), (3000, None)] {
            greedy.extend(
                (0..=MAX_ATTACHED_OF_ONE).zip(first..).map(|(_, to)| take(to, owner).unwrap()),
            );
        }
        drop(greedy);
        assert!(attached.lock().is_empty());
    }

    #[test]
    fn there_is_an_end_to_all_of_them() {
        let attached = Arc::<Attached>::default();
        let all: Vec<_> = (0..).map_while(|to| take(&attached, to, Some(to)).ok()).collect();
        assert_eq!(all.len(), MOST);
    }

    #[test]
    fn who_attaches_waits_for_others_of_that_container_alone() {
        let attached = Arc::<Attached>::default();
        let slots = [1, 1, 2].map(|to| take(&attached, to, None).unwrap());
        let _attaching = slots[0].alone();
        assert!(slots[1].attaching.try_lock().is_err());
        drop(slots[2].attaching.try_lock().unwrap());
    }
}
