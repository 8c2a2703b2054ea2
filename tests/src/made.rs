//! What a case has asked its daemons to make, and they keep.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use crate::world::Made;

thread_local! {
    static RECORD: RefCell<Record> = RefCell::default();
}

/// The record of a case: its threads share one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record(Arc<Mutex<Made>>);

impl Record {
    /// That of the case that this thread is of.
    pub(crate) fn of_this_case() -> Self {
        RECORD.with_borrow(Clone::clone)
    }

    /// From now on this thread is of the case of this record.
    pub(crate) fn take_part(self) {
        RECORD.set(self);
    }

    /// Notes what an object path names that was made: an image or a network.
    pub(crate) fn note(&self, path: &str) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, id)) = path.split_once("/image/") {
            made.images.insert(id.replacen('_', ":", 1));
        } else if let Some((_, name)) = path.split_once("/network/") {
            made.networks.insert(unescaped(name));
        }
    }

    /// What was noted.
    pub(crate) fn made(&self) -> Made {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A name as `sd_bus_path_decode(3)` reads it: `_2d` is a hyphen.
fn unescaped(name: &str) -> String {
    let mut parts = name.split('_');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        plain.push(byte.map_or('_', char::from));
        plain.push_str(part.get(2..).unwrap_or_default());
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_paths_name_is_noted_by_its_name() {
        let record = Record::default();
        record.note("/org/tare/Containers1/network/_31_2dst");
        record.note("/org/tare/Containers1/image/sha256_0a");
        record.note("/org/tare/Containers1/container/0a");
        let made = record.made();
        assert_eq!(made.networks.into_iter().collect::<Vec<_>>(), ["1-st"]);
        assert_eq!(made.images.into_iter().collect::<Vec<_>>(), ["sha256:0a"]);
    }
}
