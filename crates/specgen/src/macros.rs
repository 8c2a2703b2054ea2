//! Types of a request by their grammar: each is made out of its check, and cannot be wrong.

/// Makes a text type out of a check: `FromStr`, `Display`, `as_str`, and serde through the check.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::InvalidText;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                let check: fn(&str) -> Result<(), $crate::text::Problem> = $check;
                match check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(problem) => Err($crate::InvalidText::new($what, problem)),
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::InvalidText;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.to_owned().try_into()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(crate) use text_type;

/// Makes a number type out of its bounds: `TryFrom<u64>`, and serde through it.
macro_rules! number_type {
    (
        $(#[$doc:meta])* $name:ident, $what:literal, $min:expr, $max:expr,
        $(or $infinity:expr,)? $rule:literal
    ) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
        )]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name(u64);

        impl $name {
            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = $crate::InvalidText;

            fn try_from(number: u64) -> Result<Self, Self::Error> {
                let (min, max): (u64, u64) = ($min, $max);
                if (min..=max).contains(&number) $(|| number == $infinity)? {
                    return Ok(Self(number));
                }
                Err($crate::InvalidText::new($what, $crate::text::Problem::Form($rule)))
            }
        }

        impl From<$name> for u64 {
            fn from(number: $name) -> Self {
                number.0
            }
        }
    };
}
pub(crate) use number_type;

/// Makes an enum of two out of a `bool` that has a name on the bus.
macro_rules! switch {
    (
        $(#[$doc:meta])* $name:ident,
        $(#[$off_doc:meta])* false => $off:ident, $(#[$on_doc:meta])* true => $on:ident,
        default $default:ident
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(from = "bool", into = "bool")]
        pub enum $name {
            $(#[$off_doc])*
            $off,
            $(#[$on_doc])*
            $on,
        }

        impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        }

        impl From<bool> for $name {
            fn from(on: bool) -> Self {
                if on { Self::$on } else { Self::$off }
            }
        }

        impl From<$name> for bool {
            fn from(choice: $name) -> Self {
                choice == $name::$on
            }
        }
    };
}
pub(crate) use switch;

/// Makes an enum out of words: `FromStr`, `Display`, and serde through them.
macro_rules! word_type {
    (
        $(#[$doc:meta])* $name:ident, $what:literal,
        $($(#[$word_doc:meta])* $word:literal => $variant:ident,)+
    ) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize,
            serde::Deserialize,
        )]
        #[serde(try_from = "String", into = "&'static str")]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$word_doc])* $variant,)+
        }

        impl $name {
            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::InvalidText;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::InvalidText::new(
                        $what,
                        $crate::text::Problem::Form(concat!("is none of:", $(" ", $word),+)),
                    )),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::InvalidText;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for &'static str {
            fn from(word: $name) -> Self {
                word.as_str()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use word_type;

/// Makes the conversions that serde needs of a type with `FromStr` and `Display`.
macro_rules! string_form {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = $crate::InvalidText;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}
pub(crate) use string_form;
