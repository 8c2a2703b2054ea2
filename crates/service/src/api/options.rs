//! Reading options: known keys only, generous numbers.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;

use super::error::ApiError;
use super::value::{FdOrText, Ids, SoftAndHard, Value};
use crate::engine::object::ObjectId;

/// Options as they arrive.
pub(crate) type Values = HashMap<String, Value>;

/// Options being read: each key is taken once, and what is left over is an error.
#[derive(Debug)]
pub(crate) struct Options {
    values: Values,
    known: Vec<&'static str>,
    /// What the names of its keys begin with, in errors: those of a dictionary within another.
    prefix: String,
}

impl Options {
    pub(crate) fn new(values: Values) -> Self {
        Self { values, known: Vec::new(), prefix: String::new() }
    }

    /// Dictionaries within this one, each to be read like it.
    pub(crate) fn dictionaries(&mut self, key: &'static str) -> Result<Vec<Self>, ApiError> {
        let maps = self.take(key, "aa{sv}, an array of dictionaries", Value::into_maps)?;
        let within = |(at, map): (usize, BTreeMap<String, Value>)| Self {
            values: map.into_iter().collect(),
            known: Vec::new(),
            prefix: format!("{}[{at}].", self.name(key)),
        };
        Ok(maps.unwrap_or_default().into_iter().enumerate().map(within).collect())
    }

    /// Whether anything is said of it.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A dictionary within this one, to be read like it.
    pub(crate) fn dictionary(&mut self, key: &'static str) -> Result<Option<Self>, ApiError> {
        let map = self.take(key, "a{sv}, a dictionary", Value::into_map)?;
        let prefix = format!("{}.", self.name(key));
        let within = |map: BTreeMap<String, Value>| Self {
            values: map.into_iter().collect(),
            known: Vec::new(),
            prefix,
        };
        Ok(map.map(within))
    }

    /// A key as it is called in errors.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The name of a network.
    pub(crate) fn network(&mut self, key: &'static str) -> Result<Option<String>, ApiError> {
        self.take(key, "s or o, a network", Value::into_network)
    }

    /// A thing, by its object.
    pub(crate) fn object(&mut self, key: &'static str) -> Result<Option<ObjectId>, ApiError> {
        self.take(key, "o, an object of this service", Value::into_object)
    }

    /// A text.
    pub(crate) fn string(&mut self, key: &'static str) -> Result<Option<String>, ApiError> {
        self.take(key, "s, a string", Value::into_text)
    }

    /// True or false.
    pub(crate) fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, ApiError> {
        self.take(key, "b, true or false", Value::into_bool)
    }

    /// Texts.
    pub(crate) fn strings(&mut self, key: &'static str) -> Result<Option<Vec<String>>, ApiError> {
        self.take(key, "as, an array of strings", Value::into_texts)
    }

    /// Texts by text.
    pub(crate) fn string_map(
        &mut self,
        key: &'static str,
    ) -> Result<Option<BTreeMap<String, String>>, ApiError> {
        self.take(key, "a{ss}, strings by string", Value::into_text_map)
    }

    /// Numbers, each of something that is named.
    pub(crate) fn numbers(
        &mut self,
        key: &'static str,
    ) -> Result<Option<Vec<(String, u64)>>, ApiError> {
        self.take(key, "a(st), pairs of a string and a number", Value::into_numbers)
    }

    /// Limits by name.
    pub(crate) fn limits(
        &mut self,
        key: &'static str,
    ) -> Result<Option<Vec<SoftAndHard>>, ApiError> {
        self.take(key, "a(stt), names with two numbers", Value::into_limits)
    }

    /// Ranges of ids.
    pub(crate) fn ids(&mut self, key: &'static str) -> Result<Option<Vec<Ids>>, ApiError> {
        self.take(key, "a(uuu), ranges of ids", Value::into_ids)
    }

    /// A descriptor.
    pub(crate) fn fd(&mut self, key: &'static str) -> Result<Option<OwnedFd>, ApiError> {
        self.take(key, "h, a file descriptor", Value::into_fd)
    }

    /// A descriptor, or a text.
    pub(crate) fn fd_or_text(&mut self, key: &'static str) -> Result<Option<FdOrText>, ApiError> {
        self.take(key, "h or s, a file descriptor or a path", Value::into_fd_or_text)
    }

    /// A number of any integer type, if `T` holds its value: `gdbus` sends what looks like a
    /// number as int32, whatever the option wants.
    pub(crate) fn number<T: TryFrom<i128>>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<T>, ApiError> {
        let Some(wide) = self.take(key, "an integer", Value::into_integer)? else {
            return Ok(None);
        };
        let name = self.name(key);
        let number = T::try_from(wide)
            .map_err(|_| ApiError::invalid_args(format!("option '{name}' cannot be {wide}")))?;
        Ok(Some(number))
    }

    fn take<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, ApiError> {
        self.known.push(key);
        let Some(value) = self.values.remove(key) else { return Ok(None) };
        let name = self.name(key);
        let wrong = |found: Value| {
            let message = format!("option '{name}' must be {wanted}, not {}", found.kind());
            ApiError::own("OptionType", message)
        };
        read(value).map(Some).map_err(wrong)
    }

    /// All keys that are known have been asked for.
    ///
    /// # Errors
    ///
    /// `UnknownOption` for a key that is left, unless the caller listed it in `OptionalKeys`.
    pub(crate) fn finish(mut self) -> Result<(), ApiError> {
        let optional = self.strings("OptionalKeys")?.unwrap_or_default();
        let mut unknown: Vec<_> =
            self.values.into_keys().filter(|key| !optional.contains(key)).collect();
        unknown.sort();
        match unknown.first() {
            None => Ok(()),
            Some(key) => Err(ApiError::own(
                "UnknownOption",
                format!(
                    "unknown option '{}{}'; known: {}",
                    self.prefix,
                    key.escape_debug(),
                    self.known.join(", ")
                ),
            )),
        }
    }
}

/// Options of a method that has none yet.
pub(crate) fn no_options(options: Values) -> Result<(), ApiError> {
    Options::new(options).finish()
}

/// Flags a method knows; any other bit is an error.
pub(crate) fn flags(given: u64, known: u64) -> Result<u64, ApiError> {
    match given & !known {
        0 => Ok(given),
        unknown => Err(ApiError::invalid_args(format!("unknown flags 0x{unknown:x}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: Vec<(&str, Value)>) -> Options {
        Options::new(pairs.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
    }

    fn texts(texts: &[&str]) -> Value {
        Value::List(texts.iter().map(|text| Value::Text((*text).into())).collect())
    }

    #[test]
    fn what_is_not_known_is_an_error_that_names_it() {
        let mut o = options(vec![("Env", texts(&["A=1"])), ("ReadOnyl", Value::Bool(true))]);
        assert_eq!(o.strings("Env").unwrap().unwrap(), ["A=1"]);
        assert_eq!(o.boolean("ReadOnly").unwrap(), None);
        let error = o.finish().unwrap_err();
        assert_eq!(error.short_name(), "UnknownOption");
        let sentence = error.message();
        assert!(sentence.contains("'ReadOnyl'") && sentence.contains("ReadOnly"), "{sentence}");
    }

    #[test]
    fn optional_keys_may_be_unknown() {
        let o = options(vec![("New", Value::Integer(1)), ("OptionalKeys", texts(&["New"]))]);
        o.finish().unwrap();
    }

    #[test]
    fn a_wrong_type_says_what_is_wanted_and_what_came() {
        let text = || Value::Text("7".into());
        let mixed = Value::List(vec![text(), Value::Integer(1)]);
        let single = Value::List(vec![Value::Tuple(vec![text()])]);
        let given = vec![
            ("Env", text()),
            ("TTY", Value::Integer(1)),
            ("N", text()),
            ("M", mixed),
            ("P", single),
        ];
        let mut o = options(given);
        for (error, wanted) in [
            (o.strings("Env").unwrap_err(), "'Env' must be as, an array of strings, not a string"),
            (o.boolean("TTY").unwrap_err(), "'TTY' must be b, true or false, not an integer"),
            (o.number::<u32>("N").unwrap_err(), "'N' must be an integer, not a string"),
            (o.strings("M").unwrap_err(), "'M' must be as, an array of strings, not an array"),
            (
                o.numbers("P").unwrap_err(),
                "'P' must be a(st), pairs of a string and a number, not an array",
            ),
        ] {
            assert_eq!(error.short_name(), "OptionType", "{error:?}");
            assert_eq!(error.message(), format!("option {wanted}"));
        }
    }

    #[test]
    fn flags_are_known_or_refused() {
        assert_eq!(flags(0b101, 0b111).unwrap(), 0b101);
        assert_eq!(flags(0b1000, 0b111).unwrap_err().short_name(), "InvalidArgs");
    }

    #[test]
    fn a_number_that_does_not_fit_is_refused() {
        for (given, fits) in [(0, true), (255, true), (256, false), (-1, false)] {
            let mut o = options(vec![("N", Value::Integer(given))]);
            assert_eq!(o.number::<u8>("N").is_ok(), fits, "{given}");
        }
    }
}
