//! Properties and rows of lists.

use std::collections::HashMap;

use zbus::{OwnedObjectPath, OwnedVariant, Variant};

/// Values by name, as `GetAll` and the lists return them.
#[derive(Debug, Default)]
pub struct Properties(pub HashMap<String, OwnedVariant>);

impl Properties {
    /// The value of that name, as that type.
    ///
    /// # Panics
    ///
    /// If it is not there, or of another type.
    pub fn get<T: TryFrom<Variant<'static>>>(&self, name: &str) -> T {
        let value = self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.0));
        let converted = T::try_from(value.try_clone().unwrap().into());
        converted.unwrap_or_else(|_| panic!("{name} has another type: {value:?}"))
    }

    /// The string of that name.
    pub fn text(&self, name: &str) -> String {
        self.get(name)
    }

    /// The paths of that name.
    pub fn paths(&self, name: &str) -> Vec<OwnedObjectPath> {
        self.get(name)
    }

    /// Whether it is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
