//! Filters of the lists.

use tare_storage::Digest;

use super::error::ApiError;
use super::glob::Glob;
use super::options::{Options, Values};
use super::text::{text, word, words};
use crate::engine::jobs::{JobKind, JobState, JobView};
use crate::engine::object::ObjectId;
use crate::engine::view::{self, NetworkDriver, State};

/// Filter of `ListContainers`.
#[derive(Debug)]
pub(crate) struct ContainerFilter {
    states: Option<Vec<State>>,
    name: Option<Glob>,
    owner_uid: Option<u32>,
    image_id: Option<Digest>,
    network: Option<String>,
    limit: Option<u32>,
}

impl ContainerFilter {
    pub(crate) fn parse(filter: Values) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self {
            states: words(&mut o, "State")?,
            name: o.string("Name")?.map(Glob),
            owner_uid: o.number("OwnerUID")?,
            image_id: text(&mut o, "ImageId")?,
            network: o.network("Network")?,
            limit: o.number("Limit")?,
        };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &view::Container) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(&view.state))
            && self.name.as_ref().is_none_or(|glob| glob.fits(view.name.as_str()))
            && self.owner_uid.is_none_or(|uid| uid == view.owner_uid)
            && self
                .network
                .as_ref()
                .is_none_or(|name| view.networks.iter().any(|network| network.as_str() == name))
            && self.image_id.as_ref().is_none_or(|id| *id == view.image_id)
    }

    pub(crate) fn limit(&self) -> usize {
        limit(self.limit)
    }
}

/// Filter of `ListImages`.
#[derive(Debug)]
pub(crate) struct ImageFilter {
    reference: Option<Glob>,
    dangling: Option<bool>,
    limit: Option<u32>,
}

impl ImageFilter {
    pub(crate) fn parse(filter: Values) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self {
            reference: o.string("Reference")?.map(Glob),
            dangling: o.boolean("Dangling")?,
            limit: o.number("Limit")?,
        };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &view::Image) -> bool {
        let any = |glob: &Glob| view.references.iter().any(|reference| glob.fits(reference));
        self.reference.as_ref().is_none_or(any)
            && self.dangling.is_none_or(|dangling| dangling == view.references.is_empty())
    }

    pub(crate) fn limit(&self) -> usize {
        limit(self.limit)
    }
}

/// Filter of `ListNetworks`.
#[derive(Debug)]
pub(crate) struct NetworkFilter {
    name: Option<Glob>,
    driver: Option<NetworkDriver>,
    in_use: Option<bool>,
}

impl NetworkFilter {
    pub(crate) fn parse(filter: Values) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self {
            name: o.string("Name")?.map(Glob),
            driver: word(&mut o, "Driver")?,
            in_use: o.boolean("InUse")?,
        };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &view::Network) -> bool {
        self.name.as_ref().is_none_or(|glob| glob.fits(view.name.as_str()))
            && self.driver.is_none_or(|driver| driver == view.driver)
            && self.in_use.is_none_or(|in_use| in_use != view.containers.is_empty())
    }
}

/// Filter of `ListVolumes`.
#[derive(Debug)]
pub(crate) struct VolumeFilter {
    name: Option<Glob>,
    in_use: Option<bool>,
    anonymous: Option<bool>,
    owner_uid: Option<u32>,
}

impl VolumeFilter {
    pub(crate) fn parse(filter: Values) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self {
            name: o.string("Name")?.map(Glob),
            in_use: o.boolean("InUse")?,
            anonymous: o.boolean("Anonymous")?,
            owner_uid: o.number("OwnerUID")?,
        };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &view::Volume) -> bool {
        self.name.as_ref().is_none_or(|glob| glob.fits(view.name.as_str()))
            && self.in_use.is_none_or(|in_use| in_use != view.containers.is_empty())
            && self.anonymous.is_none_or(|anonymous| anonymous == view.anonymous)
            && self.owner_uid.is_none_or(|uid| uid == view.owner_uid)
    }
}

/// Filter of `ListSecrets`.
#[derive(Debug)]
pub(crate) struct SecretFilter {
    name: Option<Glob>,
    in_use: Option<bool>,
}

impl SecretFilter {
    pub(crate) fn parse(filter: Values) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self { name: o.string("Name")?.map(Glob), in_use: o.boolean("InUse")? };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &view::Secret) -> bool {
        self.name.as_ref().is_none_or(|glob| glob.fits(view.name.as_str()))
            && self.in_use.is_none_or(|in_use| in_use != view.containers.is_empty())
    }
}

/// Filter of `ListJobs`.
#[derive(Debug)]
pub(crate) struct JobFilter {
    object: Option<ObjectId>,
    kind: Option<JobKind>,
    state: Option<JobState>,
    started_by_uid: Option<u32>,
}

impl JobFilter {
    pub(crate) fn parse(filter: Values) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self {
            object: o.object("Object")?,
            kind: word(&mut o, "Type")?,
            state: word(&mut o, "State")?,
            started_by_uid: o.number("StartedByUID")?,
        };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &JobView) -> bool {
        (self.object.is_none() || self.object == view.object)
            && self.kind.is_none_or(|kind| kind == view.kind)
            && self.state.is_none_or(|state| state == view.state)
            && self.started_by_uid.is_none_or(|uid| uid == view.started_by_uid)
    }
}

/// Rows of a list at most.
fn limit(limit: Option<u32>) -> usize {
    limit.map_or(usize::MAX, |limit| limit as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Value;

    fn given(key: &str, value: Value) -> Values {
        Values::from([(key.to_string(), value)])
    }

    fn texts(texts: &[&str]) -> Value {
        Value::List(texts.iter().map(|text| Value::Text((*text).into())).collect())
    }

    #[test]
    fn a_filter_that_nothing_can_fit_is_refused() {
        let no_digest = given("ImageId", Value::Text("busybox".into()));
        let not_running = given("State", texts(&["exited", "runing"]));
        let containers = |filter| ContainerFilter::parse(filter).unwrap_err();
        let jobs = |key, word: &str| JobFilter::parse(given(key, Value::Text(word.into())));
        for (error, says) in [
            (containers(no_digest), "'ImageId'"),
            (containers(not_running), "`runing`, expected one of `configured`, `created`"),
            (jobs("Type", "start").unwrap_err(), "`start`, expected one of `import-image`"),
            (jobs("State", "done").unwrap_err(), "`done`, expected one of `waiting`"),
            (
                NetworkFilter::parse(given("Driver", Value::Text("vlan".into()))).unwrap_err(),
                "`vlan`, expected `bridge` or `macvlan`",
            ),
        ] {
            assert_eq!(error.short_name(), "InvalidArgs", "{error:?}");
            assert!(error.message().contains(says), "{error:?}");
        }
    }

    #[test]
    fn words_are_read_as_they_are_shown() {
        for word in
            ["start-container", "remove-volume", "commit-container", "copy-in", "push-image"]
        {
            let filter = given("Type", Value::Text(word.into()));
            assert_eq!(JobFilter::parse(filter).unwrap().kind.unwrap().as_str(), word);
        }
        for word in ["configured", "broken"] {
            let filter = given("State", texts(&[word]));
            assert_eq!(ContainerFilter::parse(filter).unwrap().states.unwrap()[0].as_str(), word);
        }
    }
}
