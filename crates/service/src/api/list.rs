//! Filters of the lists.

use std::collections::HashSet;

use super::error::ApiError;
use super::glob::Glob;
use super::options::{Options, Values};
use crate::engine::jobs::JobView;
use crate::engine::view;

/// Filter of `ListContainers`.
#[derive(Debug)]
pub(crate) struct ContainerFilter {
    states: Option<HashSet<String>>,
    name: Option<Glob>,
    owner_uid: Option<u32>,
    image_id: Option<String>,
    network: Option<String>,
    limit: Option<u32>,
}

impl ContainerFilter {
    pub(crate) fn parse(filter: Values) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self {
            states: o.strings("State")?.map(|states| states.into_iter().collect()),
            name: o.string("Name")?.map(Glob),
            owner_uid: o.number("OwnerUID")?,
            image_id: o.string("ImageId")?,
            network: o.network("Network")?,
            limit: o.number("Limit")?,
        };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &view::Container) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(view.state.as_str()))
            && self.name.as_ref().is_none_or(|glob| glob.fits(view.name.as_str()))
            && self.owner_uid.is_none_or(|uid| uid == view.owner_uid)
            && self
                .network
                .as_ref()
                .is_none_or(|name| view.networks.iter().any(|network| network.as_str() == name))
            && self.image_id.as_ref().is_none_or(|id| *id == view.image_id.to_string())
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
    driver: Option<String>,
    in_use: Option<bool>,
}

impl NetworkFilter {
    pub(crate) fn parse(filter: Values) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self {
            name: o.string("Name")?.map(Glob),
            driver: o.string("Driver")?,
            in_use: o.boolean("InUse")?,
        };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &view::Network) -> bool {
        self.name.as_ref().is_none_or(|glob| glob.fits(view.name.as_str()))
            && self.driver.as_ref().is_none_or(|driver| driver == view.driver)
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

/// Filter of `ListJobs`.
#[derive(Debug)]
pub(crate) struct JobFilter {
    kind: Option<String>,
    state: Option<String>,
    started_by_uid: Option<u32>,
}

impl JobFilter {
    pub(crate) fn parse(filter: Values) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self {
            kind: o.string("Type")?,
            state: o.string("State")?,
            started_by_uid: o.number("StartedByUID")?,
        };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &JobView) -> bool {
        self.kind.as_ref().is_none_or(|kind| kind == view.kind.as_str())
            && self.state.as_ref().is_none_or(|state| state == view.state.as_str())
            && self.started_by_uid.is_none_or(|uid| uid == view.started_by_uid)
    }
}

/// Rows of a list at most.
fn limit(limit: Option<u32>) -> usize {
    limit.map_or(usize::MAX, |limit| limit as usize)
}
