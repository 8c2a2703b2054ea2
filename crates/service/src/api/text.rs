//! Options that are the text of something with a grammar, or a number with bounds of its own.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde::de::value::{self, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::error::ApiError;
use super::options::Options;

/// One such text.
pub(super) fn text<T>(o: &mut Options, key: &'static str) -> Result<Option<T>, ApiError>
where
    T: FromStr,
    T::Err: Display,
{
    let text = o.string(key)?;
    text.map(|text| parsed(&o.name(key), &text)).transpose()
}

/// A list of such texts.
pub(super) fn list<T>(o: &mut Options, key: &'static str) -> Result<Option<Vec<T>>, ApiError>
where
    T: FromStr,
    T::Err: Display,
{
    let texts = o.strings(key)?;
    let name = o.name(key);
    texts.map(|texts| texts.iter().map(|text| parsed(&name, text)).collect()).transpose()
}

/// One of a few words.
pub(super) fn word<T: DeserializeOwned>(
    o: &mut Options,
    key: &'static str,
) -> Result<Option<T>, ApiError> {
    let text = o.string(key)?;
    text.map(|text| one_of(&o.name(key), &text)).transpose()
}

/// Some of a few words.
pub(super) fn words<T: DeserializeOwned>(
    o: &mut Options,
    key: &'static str,
) -> Result<Option<Vec<T>>, ApiError> {
    let texts = o.strings(key)?;
    let name = o.name(key);
    texts.map(|texts| texts.iter().map(|text| one_of(&name, text)).collect()).transpose()
}

/// Its error says which words there are.
fn one_of<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, ApiError> {
    let text: StrDeserializer<'_, value::Error> = text.into_deserializer();
    T::deserialize(text).map_err(|error| wrong(key, &error))
}

/// Such texts by such texts.
pub(super) fn map<K, V, E>(
    o: &mut Options,
    key: &'static str,
    value: impl Fn(&str) -> Result<V, E>,
) -> Result<BTreeMap<K, V>, ApiError>
where
    K: FromStr + Ord,
    K::Err: Display,
    E: Display,
{
    let Some(pairs) = o.string_map(key)? else { return Ok(BTreeMap::new()) };
    let pair = |(name, text): (String, String)| {
        let value = value(&text).map_err(|error| wrong(key, &error))?;
        Ok((parsed(key, &name)?, value))
    };
    pairs.into_iter().map(pair).collect()
}

/// A number with bounds of its own.
pub(super) fn number<T>(o: &mut Options, key: &'static str) -> Result<Option<T>, ApiError>
where
    T: TryFrom<u64>,
    T::Error: Display,
{
    o.number::<u64>(key)?.map(|number| bounded(key, number)).transpose()
}

/// Such numbers, each of something that is named.
pub(super) fn numbers<K, V>(o: &mut Options, key: &'static str) -> Result<BTreeMap<K, V>, ApiError>
where
    K: FromStr + Ord,
    K::Err: Display,
    V: TryFrom<u64>,
    V::Error: Display,
{
    let pair = |(name, number): (String, u64)| Ok((parsed(key, &name)?, bounded(key, number)?));
    o.numbers(key)?.unwrap_or_default().into_iter().map(pair).collect()
}

/// A number of an argument.
pub(super) fn bounded<N, T>(key: &str, number: N) -> Result<T, ApiError>
where
    T: TryFrom<N>,
    T::Error: Display,
{
    T::try_from(number).map_err(|error| wrong(key, &error))
}

/// The text of an argument.
pub(super) fn parsed<T>(key: &str, text: &str) -> Result<T, ApiError>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error| wrong(key, &error))
}

/// What is wrong with an option.
pub(super) fn wrong(key: &str, problem: &dyn Display) -> ApiError {
    ApiError::invalid_args(format!("option '{key}': {problem}"))
}
