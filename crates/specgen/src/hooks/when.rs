//! The conditions of a hook.

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

/// Largest program a pattern may become, in bytes.
const MAX_PATTERN: usize = 1 << 20;

/// A regular expression that is looked for anywhere in a text.
///
/// It takes time in proportion to the text, whatever it is: there is no going back in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub(super) fn anything() -> Self {
        Self(Regex::new("").expect("an empty pattern"))
    }

    fn fits(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(pattern: String) -> Result<Self, Self::Error> {
        RegexBuilder::new(&pattern).size_limit(MAX_PATTERN).build().map(Self)
    }
}

/// What must hold: all that is said, or any of it. If nothing is said, it does not hold.
#[derive(Clone, Debug)]
pub(super) struct When {
    pub(super) always: Option<bool>,
    /// Of the key and the value of one annotation.
    pub(super) annotations: Vec<(Pattern, Pattern)>,
    /// Of the first argument; any of them.
    pub(super) commands: Vec<Pattern>,
    pub(super) has_bind_mounts: Option<bool>,
    pub(super) any: bool,
}

impl When {
    pub(super) fn holds(
        &self,
        annotations: &[(&str, &str)],
        command: Option<&str>,
        binds: bool,
    ) -> bool {
        let always = self.always;
        let mounts = self.has_bind_mounts.map(|wanted| wanted && binds);
        let command = (!self.commands.is_empty()).then(|| {
            command.is_some_and(|command| self.commands.iter().any(|pattern| pattern.fits(command)))
        });
        let annotated = self
            .annotations
            .iter()
            .map(|(key, value)| annotations.iter().any(|(k, v)| key.fits(k) && value.fits(v)));
        let mut said = [always, mounts, command].into_iter().flatten().chain(annotated).peekable();
        if self.any {
            said.any(|holds| holds)
        } else {
            said.peek().is_some() && said.all(|holds| holds)
        }
    }
}
