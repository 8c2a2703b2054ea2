//! Reading `a{sv}`: known keys only, generous numbers.

use std::collections::{BTreeMap, HashMap};

use zbus::{OwnedFd, OwnedVariant, Variant};

use super::error::ApiError;

/// Options as they arrive.
pub(crate) type Dict = HashMap<String, OwnedVariant>;

/// Options being read: each key is taken once, and what is left over is an error.
#[derive(Debug)]
pub(crate) struct Options {
    values: Dict,
    known: Vec<&'static str>,
}

impl Options {
    pub(crate) fn new(values: Dict) -> Self {
        Self { values, known: Vec::new() }
    }

    /// `s`.
    pub(crate) fn string(&mut self, key: &'static str) -> Result<Option<String>, ApiError> {
        self.take(key, "s, a string")
    }

    /// `b`.
    pub(crate) fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, ApiError> {
        self.take(key, "b, true or false")
    }

    /// `as`.
    pub(crate) fn strings(&mut self, key: &'static str) -> Result<Option<Vec<String>>, ApiError> {
        self.take(key, "as, an array of strings")
    }

    /// `a{ss}`.
    pub(crate) fn string_map(
        &mut self,
        key: &'static str,
    ) -> Result<Option<BTreeMap<String, String>>, ApiError> {
        self.take(key, "a{ss}, strings by string")
    }

    /// `h`.
    pub(crate) fn fd(&mut self, key: &'static str) -> Result<Option<OwnedFd>, ApiError> {
        self.known.push(key);
        let Some(value) = self.values.remove(key) else { return Ok(None) };
        let Variant::Fd(fd) = &*value else {
            return Err(wrong_type(key, "h, a file descriptor", &value));
        };
        let owned = fd.try_to_owned().map_err(|error| ApiError::internal(&error))?;
        Ok(Some(OwnedFd::from(owned)))
    }

    /// A number of any integer type, if `T` holds its value: `gdbus` sends what looks like a
    /// number as int32, whatever the option wants.
    pub(crate) fn number<T: TryFrom<i128>>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<T>, ApiError> {
        self.known.push(key);
        let Some(value) = self.values.remove(key) else { return Ok(None) };
        let wide = integer(&value).ok_or_else(|| wrong_type(key, "an integer", &value))?;
        let number = T::try_from(wide)
            .map_err(|_| ApiError::invalid_args(format!("option '{key}' cannot be {wide}")))?;
        Ok(Some(number))
    }

    fn take<T>(&mut self, key: &'static str, wanted: &str) -> Result<Option<T>, ApiError>
    where
        T: TryFrom<Variant<'static>>,
    {
        self.known.push(key);
        let Some(value) = self.values.remove(key) else { return Ok(None) };
        let error = wrong_type(key, wanted, &value);
        T::try_from(value.into()).map(Some).map_err(|_| error)
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
                    "unknown option '{}'; known: {}",
                    key.escape_debug(),
                    self.known.join(", ")
                ),
            )),
        }
    }
}

fn integer(value: &Variant<'_>) -> Option<i128> {
    Some(match value {
        Variant::U8(n) => (*n).into(),
        Variant::I16(n) => (*n).into(),
        Variant::U16(n) => (*n).into(),
        Variant::I32(n) => (*n).into(),
        Variant::U32(n) => (*n).into(),
        Variant::I64(n) => (*n).into(),
        Variant::U64(n) => (*n).into(),
        _ => return None,
    })
}

fn wrong_type(key: &str, wanted: &str, value: &Variant<'_>) -> ApiError {
    let message = format!("option '{key}' must be {wanted}, not {}", value.value_signature());
    ApiError::own("OptionType", message)
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
    use proptest::prelude::*;
    use zbus::DBusError;

    fn options(pairs: &[(&str, Variant<'_>)]) -> Options {
        let owned = |(key, value): &(&str, Variant<'_>)| {
            ((*key).to_string(), value.try_to_owned().unwrap())
        };
        Options::new(pairs.iter().map(owned).collect())
    }

    fn name(error: &ApiError) -> String {
        error.name().as_str().rsplit('.').next().unwrap().to_string()
    }

    #[test]
    fn what_is_not_known_is_an_error_that_names_it() {
        let mut o = options(&[("Env", vec!["A=1"].into()), ("ReadOnyl", true.into())]);
        assert_eq!(o.strings("Env").unwrap().unwrap(), ["A=1"]);
        assert_eq!(o.boolean("ReadOnly").unwrap(), None);
        let error = o.finish().unwrap_err();
        assert_eq!(name(&error), "UnknownOption");
        let sentence = error.description().unwrap();
        assert!(sentence.contains("'ReadOnyl'") && sentence.contains("ReadOnly"), "{sentence}");
    }

    #[test]
    fn optional_keys_may_be_unknown() {
        let o = options(&[("New", 1_u8.into()), ("OptionalKeys", vec!["New"].into())]);
        o.finish().unwrap();
    }

    #[test]
    fn a_wrong_type_says_what_is_wanted() {
        let mut o = options(&[("Env", "A=1".into()), ("TTY", 1_i32.into()), ("N", "7".into())]);
        for error in [
            o.strings("Env").unwrap_err(),
            o.boolean("TTY").unwrap_err(),
            o.number::<u32>("N").unwrap_err(),
        ] {
            assert_eq!(name(&error), "OptionType", "{error:?}");
        }
    }

    #[test]
    fn flags_are_known_or_refused() {
        assert_eq!(flags(0b101, 0b111).unwrap(), 0b101);
        assert_eq!(name(&flags(0b1000, 0b111).unwrap_err()), "InvalidArgs");
    }

    proptest! {
        #[test]
        fn a_number_is_taken_from_any_type_that_holds_it(n in any::<i64>()) {
            let held_by = |value: Variant<'_>| {
                let mut o = options(&[("N", value)]);
                o.number::<i64>("N").unwrap().unwrap()
            };
            prop_assert_eq!(held_by(n.into()), n);
            if let Ok(n32) = i32::try_from(n) { prop_assert_eq!(held_by(n32.into()), n); }
            if let Ok(n16) = u16::try_from(n) { prop_assert_eq!(held_by(n16.into()), n); }
            if let Ok(n64) = u64::try_from(n) { prop_assert_eq!(held_by(n64.into()), n); }
            let mut o = options(&[("N", n.into())]);
            prop_assert_eq!(o.number::<u8>("N").is_ok(), u8::try_from(n).is_ok());
        }
    }
}
