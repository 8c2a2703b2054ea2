//! Patterns for names.

/// A pattern with `*` and `?`, as in a shell.
#[derive(Debug)]
pub(super) struct Glob(pub(super) String);

impl Glob {
    /// Whether a text is one of those it stands for.
    pub(super) fn fits(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        // Where to go on if the rest does not fit: after the last star, one byte later.
        let (mut p, mut t, mut retry) = (0, 0, None);
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p + 1, t));
                    p += 1;
                }
                Some(byte) if *byte == b'?' || *byte == text[t] => (p, t) = (p + 1, t + 1),
                _ => {
                    let Some((after, from)) = retry else { return false };
                    retry = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("web", "web", true),
            ("web", "web1", false),
            ("web?", "web1", true),
            ("w*b*", "web-1", true),
            ("*-1", "a-1-1", true),
            ("*-1", "a-1-2", false),
            ("a*b*c", "abbbc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(Glob(pattern.into()).fits(text), fits, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_fits_itself_and_any_star(text in "[a-z]{0,12}", at in 0_usize..13) {
            let at = at.min(text.len());
            prop_assert!(Glob(text.clone()).fits(&text));
            let starred = format!("{}*{}", &text[..at], &text[at..]);
            prop_assert!(Glob(starred).fits(&text));
        }
    }
}
