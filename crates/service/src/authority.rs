//! Who may do what.
//!
//! Every change begins with a request that is parsed, resolved and frozen; [`Authority::allow`]
//! asks about exactly that and wraps it in [`Authorized`], which nothing else can make. What the
//! engine changes things with takes an `Authorized`, so a method that forgets to ask does not
//! compile.

mod action;
mod audit;
mod polkit;

use std::collections::BTreeMap;

use crate::engine::view::Container;

pub use action::Action;
pub use audit::Audit;
pub use polkit::Polkit;

/// Who called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// As the bus vouches for it.
    pub uid: u32,
    /// Unique name on the bus, for polkit.
    pub bus_name: String,
    /// Whether the caller can wait for a dialog.
    pub interactive: Interactive,
}

/// Whether a person may be asked on behalf of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interactive {
    /// The message carries `ALLOW_INTERACTIVE_AUTHORIZATION`.
    Yes,
    /// It does not.
    No,
}

/// What is asked about a request: what it needs, and what a person or a rule should know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// All of these are needed; nothing, if anybody may.
    pub needs: Vec<AnyOf>,
    /// What a rule of polkit can look up.
    pub details: BTreeMap<&'static str, String>,
}

/// Permissions of which one is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnyOf {
    /// Asked about first, and without disturbing anybody.
    pub quietly: Vec<Action>,
    /// Asked about last, with a dialog if the caller allows one.
    pub action: Action,
}

impl From<Action> for AnyOf {
    fn from(action: Action) -> Self {
        Self { quietly: Vec::new(), action }
    }
}

impl Question {
    /// May `action` be done?
    pub fn new(action: Action) -> Self {
        Self { needs: vec![action.into()], details: BTreeMap::new() }
    }

    /// May be done by anybody.
    pub fn free() -> Self {
        Self { needs: Vec::new(), details: BTreeMap::new() }
    }

    /// May `action` be done to a container? If it is the caller's own, and does not reach the host,
    /// managing one's own containers is enough.
    pub fn about(action: Action, container: &Container, caller: &Caller) -> Self {
        let own = container.owner_uid == caller.uid && !container.privileged;
        let quietly = own.then_some(Action::ManageOwnContainers).into_iter().collect();
        let needs = vec![AnyOf { quietly, action }];
        Self { needs, details: BTreeMap::new() }.with("container", container.name.as_str())
    }

    /// May `action` be done, too?
    #[must_use]
    pub fn and(mut self, action: Action) -> Self {
        self.needs.push(action.into());
        self
    }

    /// With the reasons that make it reach the host.
    #[must_use]
    pub fn with_reasons(mut self, reasons: String) -> Self {
        // Our own words, and what the person decides by: they are never cut.
        self.details.insert("reasons", reasons);
        self
    }

    /// With the paths of the host that it reaches, a line each.
    #[must_use]
    pub fn with_host_paths<'p>(self, paths: impl Iterator<Item = &'p str>) -> Self {
        self.with_lines("host_paths", paths)
    }

    /// With texts that were checked, a line each, if there are any: for rules, so they are never cut.
    #[must_use]
    pub fn with_lines<'t>(
        mut self,
        key: &'static str,
        texts: impl IntoIterator<Item = &'t str>,
    ) -> Self {
        let texts: Vec<&str> = texts.into_iter().collect();
        if !texts.is_empty() {
            self.details.insert(key, texts.join("\n"));
        }
        self
    }

    /// With a detail, cut to what a dialog can show.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl AsRef<str>) -> Self {
        self.details.insert(key, presentable(value.as_ref()));
        self
    }
}

/// A detail is shown to a person who decides by it: no control characters, nothing that turns the
/// direction of writing, and no more than fits.
fn presentable(text: &str) -> String {
    const MAX: usize = 200;
    let shown = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut short: String = text.chars().filter(shown).take(MAX).collect();
    if text.chars().filter(shown).nth(MAX).is_some() {
        short.push('\u{2026}');
    }
    short
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The caller may not do it.
    #[error("not authorized: {}", .0.id())]
    Denied(Action),
    /// A person would have to agree, and the caller did not allow to ask.
    #[error("interactive authorization required: {}", .0.id())]
    NeedsInteraction(Action),
}

/// A request that may be carried out, and for whom.
#[derive(Debug)]
#[must_use = "it was asked for in order to be carried out"]
pub struct Authorized<T> {
    request: T,
    by: Caller,
}

impl<T> Authorized<T> {
    /// What, to be carried out, and for whom.
    pub fn into_parts(self) -> (T, Caller) {
        (self.request, self.by)
    }
}

/// A request that can be asked about.
///
/// The question is made of the request itself, so it cannot be about anything but what is done.
pub trait Ask {
    /// What is asked before it is carried out for `by`.
    fn question(&self, by: &Caller) -> Question;
}

/// Who decides.
#[derive(Debug)]
pub enum Authority {
    /// Root may do all, everybody else nothing: where there is no polkit.
    RootAlone,
    /// Root may do all; polkit decides about everybody else.
    Polkit(Polkit),
}

impl Authority {
    /// Lets `caller` do `request`, or not. Only what is in `request` may be done then.
    ///
    /// # Errors
    ///
    /// [`Refusal`], which tells nothing of what the request is about.
    pub async fn allow<T: Ask>(
        &self,
        caller: Caller,
        request: T,
    ) -> (Audit, Result<Authorized<T>, Refusal>) {
        let question = request.question(&caller);
        let verdict = self.answer(&caller, &question).await;
        let audit = Audit { uid: caller.uid, question };
        (audit, verdict.map(|()| Authorized { request, by: caller }))
    }

    async fn answer(&self, caller: &Caller, question: &Question) -> Result<(), Refusal> {
        match (self, question.needs.first()) {
            // The service works for root also when polkit does not.
            _ if caller.uid == 0 => Ok(()),
            (_, None) => Ok(()),
            (Self::RootAlone, Some(need)) => Err(Refusal::Denied(need.action)),
            (Self::Polkit(polkit), _) => polkit.check(caller, question).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Ask for &str {
        fn question(&self, _: &Caller) -> Question {
            Question::new(Action::CreateContainer)
        }
    }

    fn caller(uid: u32) -> Caller {
        Caller { uid, bus_name: ":1.7".into(), interactive: Interactive::No }
    }

    #[tokio::test]
    async fn without_polkit_root_alone_may() {
        let (_, allowed) = Authority::RootAlone.allow(caller(0), "request").await;
        assert_eq!(allowed.unwrap().into_parts(), ("request", caller(0)));
        let (_, refused) = Authority::RootAlone.allow(caller(1000), "request").await;
        assert_eq!(refused.unwrap_err(), Refusal::Denied(Action::CreateContainer));
    }

    #[tokio::test]
    async fn what_needs_nothing_anybody_may() {
        struct Free;
        impl Ask for Free {
            fn question(&self, _: &Caller) -> Question {
                Question::free()
            }
        }
        Authority::RootAlone.allow(caller(1000), Free).await.1.map(drop).unwrap();
    }

    #[test]
    fn details_can_be_shown_to_a_person() {
        for (given, shown) in [
            ("web", "web".to_string()),
            ("we\nb\u{1b}[31m", "web[31m".into()),
            ("abc\u{202e}fed", "abcfed".into()),
            (&"x".repeat(200), "x".repeat(200)),
            (&"x".repeat(201), format!("{}\u{2026}", "x".repeat(200))),
        ] {
            assert_eq!(presentable(given), shown, "{given:?}");
        }
    }
}
