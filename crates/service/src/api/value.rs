//! Values of options, whatever they came over.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crate::engine::object::ObjectId;

/// A limit by name, with its soft and its hard value.
pub(crate) type SoftAndHard = (String, u64, u64);

/// Ids in a user namespace: the first, what that is outside, how many.
pub(crate) type Ids = (u32, u32, u32);

/// A value.
#[derive(Debug)]
pub(crate) enum Value {
    Bool(bool),
    /// Of any width.
    Integer(i128),
    Text(String),
    List(Vec<Value>),
    /// Of a fixed number of values, each with its meaning.
    Tuple(Vec<Value>),
    Map(BTreeMap<String, Value>),
    Fd(OwnedFd),
    /// A thing, by its object.
    Object(ObjectId),
    /// Of a type that no option has, by its name.
    Other(String),
}

/// Something that is open, or a text that says where it is.
#[derive(Debug)]
pub(crate) enum FdOrText {
    Fd(OwnedFd),
    Text(String),
}

impl Value {
    /// What it is, for a sentence.
    pub(crate) fn kind(&self) -> &str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Tuple(_) => "a struct",
            Self::Map(_) => "a dictionary",
            Self::Fd(_) => "a file descriptor",
            Self::Object(_) => "an object of another kind",
            Self::Other(name) => name,
        }
    }

    /// Each of these gives the value back if it is something else.
    pub(crate) fn into_bool(self) -> Result<bool, Self> {
        if let Self::Bool(it) = self { Ok(it) } else { Err(self) }
    }

    pub(crate) fn into_integer(self) -> Result<i128, Self> {
        if let Self::Integer(it) = self { Ok(it) } else { Err(self) }
    }

    pub(crate) fn into_text(self) -> Result<String, Self> {
        if let Self::Text(it) = self { Ok(it) } else { Err(self) }
    }

    /// The name of a network, from that or from its object.
    pub(crate) fn into_network(self) -> Result<String, Self> {
        match self {
            Self::Object(ObjectId::Network(name)) => Ok(name.to_string()),
            Self::Text(name) => Ok(name),
            other => Err(other),
        }
    }

    pub(crate) fn into_object(self) -> Result<ObjectId, Self> {
        if let Self::Object(it) = self { Ok(it) } else { Err(self) }
    }

    pub(crate) fn into_map(self) -> Result<BTreeMap<String, Value>, Self> {
        if let Self::Map(it) = self { Ok(it) } else { Err(self) }
    }

    /// Dictionaries.
    pub(crate) fn into_maps(self) -> Result<Vec<BTreeMap<String, Value>>, Self> {
        match self {
            Self::List(list) if list.iter().all(|it| matches!(it, Self::Map(_))) => {
                let map = |it| if let Self::Map(map) = it { Some(map) } else { None };
                Ok(list.into_iter().filter_map(map).collect())
            }
            other => Err(other),
        }
    }

    pub(crate) fn into_fd(self) -> Result<OwnedFd, Self> {
        if let Self::Fd(it) = self { Ok(it) } else { Err(self) }
    }

    pub(crate) fn into_fd_or_text(self) -> Result<FdOrText, Self> {
        match self {
            Self::Fd(fd) => Ok(FdOrText::Fd(fd)),
            Self::Text(text) => Ok(FdOrText::Text(text)),
            other => Err(other),
        }
    }

    pub(crate) fn into_texts(self) -> Result<Vec<String>, Self> {
        match self {
            Self::List(list) if list.iter().all(Self::is_text) => {
                Ok(list.into_iter().filter_map(|it| it.into_text().ok()).collect())
            }
            other => Err(other),
        }
    }

    pub(crate) fn into_text_map(self) -> Result<BTreeMap<String, String>, Self> {
        match self {
            Self::Map(map) if map.values().all(Self::is_text) => Ok(map
                .into_iter()
                .filter_map(|(key, it)| Some((key, it.into_text().ok()?)))
                .collect()),
            other => Err(other),
        }
    }

    /// Pairs of a text and a number.
    pub(crate) fn into_numbers(self) -> Result<Vec<(String, u64)>, Self> {
        self.rows(|row| match row {
            [Self::Text(name), Self::Integer(number)] => {
                Some((name.clone(), u64::try_from(*number).ok()?))
            }
            _ => None,
        })
    }

    /// Limits by name.
    pub(crate) fn into_limits(self) -> Result<Vec<SoftAndHard>, Self> {
        self.rows(|row| match row {
            [Self::Text(name), Self::Integer(soft), Self::Integer(hard)] => {
                Some((name.clone(), u64::try_from(*soft).ok()?, u64::try_from(*hard).ok()?))
            }
            _ => None,
        })
    }

    /// Ranges of ids.
    pub(crate) fn into_ids(self) -> Result<Vec<Ids>, Self> {
        let id = |number: &i128| u32::try_from(*number).ok();
        self.rows(|row| match row {
            [Self::Integer(inside), Self::Integer(outside), Self::Integer(size)] => {
                Some((id(inside)?, id(outside)?, id(size)?))
            }
            _ => None,
        })
    }

    /// A list of tuples, each of which `read` knows.
    fn rows<T>(self, read: impl Fn(&[Self]) -> Option<T>) -> Result<Vec<T>, Self> {
        let row = |it: &Self| if let Self::Tuple(row) = it { read(row) } else { None };
        let rows = if let Self::List(list) = &self { list.iter().map(row).collect() } else { None };
        rows.ok_or(self)
    }

    fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }
}

#[cfg(test)]
impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

#[cfg(test)]
impl From<i128> for Value {
    fn from(number: i128) -> Self {
        Self::Integer(number)
    }
}
