//! What has happened, by number, for whoever wants to know what they have missed.
//!
//! Every number stands for one event. A daemon begins where none before it has been, so that a number
//! from before a restart is known for what it is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zbus::{ObjectPath, Variant};

use super::paths;
use crate::api::ApiError;
use crate::engine::clock::Usec;
use crate::engine::events::Event;
use crate::engine::jobs::JobView;
use crate::engine::object::{Change, End, ObjectId, Seen};
use crate::engine::view;

/// How many events are kept.
const KEPT: usize = 4096;

/// What is said about an event beside what it is an event of.
pub(crate) type Attributes = Vec<(&'static str, Attribute)>;

/// One of these things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Text(String),
    Word(&'static str),
    Number(i32),
}

/// Something that has happened, and been shown.
#[derive(Debug)]
pub(crate) struct Happening {
    pub(crate) seqnum: u64,
    pub(crate) at: Usec,
    pub(crate) kind: &'static str,
    pub(crate) action: &'static str,
    pub(crate) object: ObjectId,
    attributes: Attributes,
}

/// The last of what has happened.
#[derive(Debug)]
pub(crate) struct History(Mutex<Ring>);

#[derive(Debug)]
struct Ring {
    /// Number of the last one.
    last: u64,
    kept: VecDeque<Arc<Happening>>,
}

/// Events that somebody missed, and the number of the last.
type Missed = (u64, Vec<Arc<Happening>>);

/// Something that is about to be shown, and has no number yet.
#[derive(Debug)]
pub(crate) struct Coming {
    at: Usec,
    kind: &'static str,
    action: &'static str,
    object: ObjectId,
    attributes: Attributes,
}

impl History {
    /// One in which nothing has happened, from this moment on. Nobody tells an event each microsecond, so
    /// its numbers are greater than those of any daemon that ended before; if the clock was set back
    /// meanwhile, those are numbers of none.
    pub(crate) fn since(Usec(last): Usec) -> Self {
        Self(Mutex::new(Ring { last, kept: VecDeque::new() }))
    }

    /// Number of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.lock().last
    }

    /// It has been shown.
    pub(crate) fn add(&self, coming: Coming) -> Arc<Happening> {
        let Coming { at, kind, action, object, attributes } = coming;
        let mut ring = self.lock();
        ring.last += 1;
        let happening = Happening { seqnum: ring.last, at, kind, action, object, attributes };
        let happening = Arc::new(happening);
        ring.kept.push_back(happening.clone());
        if ring.kept.len() > KEPT {
            ring.kept.pop_front();
        }
        happening
    }

    /// Those after number `since`, `max` of them at most, and the number of the last of them; with nought,
    /// from the first one kept.
    ///
    /// # Errors
    ///
    /// `EventsLost`, if there were others in between, or it is the number of none.
    pub(crate) fn after(&self, since: u64, max: u32) -> Result<Missed, ApiError> {
        let ring = self.lock();
        let first = ring.kept.front().map_or(ring.last + 1, |first| first.seqnum);
        let since = if since == 0 { first - 1 } else { since };
        if !(first - 1..=ring.last).contains(&since) {
            let message = format!("of the events after {since}, those before {first} are lost");
            return Err(ApiError::own("EventsLost", message));
        }
        let missed = ring.kept.iter().filter(|it| it.seqnum > since);
        let missed = missed.take(usize::try_from(max).unwrap_or(usize::MAX));
        let events: Vec<_> = missed.cloned().collect();
        Ok((events.last().map_or(since, |last| last.seqnum), events))
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Happening {
    /// What else is said about it.
    pub(crate) fn attributes(&self) -> HashMap<&'static str, Variant<'static>> {
        let value = |attribute: &Attribute| match attribute {
            Attribute::Text(text) => text.clone().into(),
            Attribute::Word(word) => Variant::from(*word),
            Attribute::Number(number) => (*number).into(),
        };
        self.attributes.iter().map(|(key, attribute)| (*key, value(attribute))).collect()
    }

    /// It in a list.
    pub(crate) fn row(&self) -> HashMap<&'static str, Variant<'static>> {
        HashMap::from([
            ("Seqnum", Variant::from(self.seqnum)),
            ("Timestamp", self.at.0.into()),
            ("Type", self.kind.into()),
            ("Action", self.action.into()),
            ("Object", ObjectPath::from(paths::of(&self.object)).into()),
            ("Attributes", self.attributes().into()),
        ])
    }
}

/// What is told as an event when this is shown; nothing if it is only a matter of the object itself: how
/// far a job is, or who is at work on something.
pub(crate) fn coming(event: &Event) -> Option<Coming> {
    match event {
        Event::Container(change) => of("container", change, idle, container),
        Event::Image(change) => {
            let idle = |view: &view::Image| view::Image { jobs: Vec::new(), ..view.clone() };
            of("image", change, idle, |view| view.references.first().map_or_else(Vec::new, name))
        }
        Event::Network(change) => of("network", change, Clone::clone, |view| name(&view.name)),
        Event::Volume(change) => of("volume", change, Clone::clone, |view| name(&view.name)),
        Event::Process(change) => of("process", change, Clone::clone, |_| Vec::new()),
        Event::Secret(change) => of("secret", change, Clone::clone, |view| name(&view.name)),
        Event::Checkpoint(change) => {
            of("checkpoint", change, Clone::clone, |view| name(&view.name))
        }
        Event::Job(Change::Changed { .. })
        | Event::JobLogged { .. }
        | Event::Tainted
        | Event::Barrier(_) => None,
        Event::Job(change) => of("job", change, Clone::clone, job),
        Event::JobFinished(view) => Some(finished(view)),
    }
}

fn of<V: Seen>(
    kind: &'static str,
    change: &Change<V>,
    idle: fn(&V) -> V,
    attributes: fn(&V) -> Attributes,
) -> Option<Coming> {
    let at = Usec::now();
    let coming = |action, view: &V| Coming {
        at,
        kind,
        action,
        object: view.id(),
        attributes: attributes(view),
    };
    match change {
        Change::Added(view) => Some(coming("added", view)),
        Change::Changed { old, new } => (idle(old) != idle(new)).then(|| coming("changed", new)),
        Change::Ended { new, end, .. } => {
            let mut coming = coming("ended", new);
            coming.at = end.at;
            coming.attributes.extend(exit(*end));
            Some(coming)
        }
        Change::Removed(object) => {
            let (action, object) = ("removed", object.clone());
            Some(Coming { at, kind, action, object, attributes: Vec::new() })
        }
    }
}

/// A container at which nobody is at work.
fn idle(view: &view::Container) -> view::Container {
    view::Container { jobs: Vec::new(), processes: Vec::new(), ..view.clone() }
}

fn container(view: &view::Container) -> Attributes {
    let mut attributes = name(&view.name);
    attributes.push(("State", Attribute::Word(view.state.as_str())));
    attributes.push(("Health", Attribute::Word(view.health.as_str())));
    attributes
}

fn exit(End { exit, .. }: End) -> Attributes {
    vec![
        ("ExitCode", Attribute::Number(exit.code)),
        ("ExitSignal", Attribute::Number(exit.signal)),
        ("ExitReason", Attribute::Word(exit.reason.as_str())),
    ]
}

fn job(view: &JobView) -> Attributes {
    vec![("Type", Attribute::Word(view.kind.as_str()))]
}

fn finished(view: &JobView) -> Coming {
    let mut attributes = job(view);
    let result = view.outcome.as_ref().map(|outcome| Attribute::Word(outcome.as_str()));
    attributes.extend(result.map(|result| ("Result", result)));
    Coming { at: Usec::now(), kind: "job", action: "ended", object: view.id(), attributes }
}

fn name(name: &impl ToString) -> Attributes {
    vec![("Name", Attribute::Text(name.to_string()))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn something() -> Coming {
        let (object, attributes) = (ObjectId::Job(7), Vec::new());
        Coming { at: Usec(1), kind: "job", action: "added", object, attributes }
    }

    fn numbers(history: &History, since: u64, max: u32) -> Result<Vec<u64>, String> {
        let after = history.after(since, max);
        let numbers = |(last, all): Missed| {
            assert!(all.last().is_none_or(|it| it.seqnum == last));
            all.iter().map(|it| it.seqnum).collect()
        };
        after.map(numbers).map_err(|error| error.short_name().to_owned())
    }

    #[test]
    fn who_missed_something_gets_it_or_is_told_that_it_is_lost() {
        let history = History::since(Usec(1 << 32));
        let first = (1 << 32) + 1;
        assert_eq!(numbers(&history, 0, 9), Ok(vec![]));
        assert_eq!(numbers(&history, 1 << 32, 9), Ok(vec![]), "nothing has happened");
        let lost = Err("EventsLost".to_owned());
        assert_eq!(numbers(&history, 5, 9), lost, "told by another daemon");
        for number in 0..3 {
            assert_eq!(history.add(something()).seqnum, first + number);
        }
        assert_eq!(numbers(&history, 0, 9), Ok(vec![first, first + 1, first + 2]));
        assert_eq!(numbers(&history, first, 1), Ok(vec![first + 1]));
        assert_eq!(numbers(&history, first + 2, 9), Ok(vec![]));
        assert_eq!(numbers(&history, first + 3, 9), lost, "not yet");
        for _ in 0..KEPT {
            history.add(something());
        }
        assert_eq!(numbers(&history, first + 1, 9), lost);
        assert_eq!(numbers(&history, first + 2, 1), Ok(vec![first + 3]));
        assert_eq!(numbers(&history, 0, u32::MAX).unwrap().len(), KEPT);
    }
}
