//! Arguments of `Checkpoint` and `Restore`, and of what is done with checkpoints.

use std::sync::Arc;

use tare_runtime::ContainerName;

use super::change;
use super::error::ApiError;
use super::glob::Glob;
use super::network::ports;
use super::options::{Options, Values, flags, no_options};
use super::text::map;
use crate::engine::object::ObjectId;
use crate::engine::{
    After, AskedCopy, Changes, CheckpointId, Extras, InspectCheckpoint, Restore, TakeCheckpoint,
    view,
};

/// `Inspect`: with CRIU's figures.
const WITH_FIGURES: u64 = 1;

/// The container that is meant; looked up when the rest is known to be right.
type Container = Result<Arc<view::Container>, ApiError>;
/// Likewise, the checkpoint.
type Checkpoint = Result<Arc<view::Checkpoint>, ApiError>;

/// Options of `Checkpoint`.
pub(crate) fn checkpoint(
    options: Values,
    container: impl FnOnce() -> Container,
) -> Result<TakeCheckpoint, ApiError> {
    let mut o = Options::new(options);
    let mut is_on = |key| Ok::<_, ApiError>(o.boolean(key)?.unwrap_or_default());
    let after = if is_on("LeaveRunning")? { After::GoesOn } else { After::Ends };
    let extras = Extras {
        tcp_established: is_on("TCPEstablished")?,
        file_locks: is_on("FileLocks")?,
        external_unix_sockets: is_on("ExternalUnixSockets")?,
    };
    let changes = match o.boolean("Rootfs")? {
        Some(false) => Changes::LeftOut,
        Some(true) | None => Changes::Kept,
    };
    let name = o.string("Name")?.map(|name| self::name(&name)).transpose()?;
    o.finish()?;
    Ok(TakeCheckpoint { name, after, extras, changes, container: container()? })
}

fn name(text: &str) -> Result<ContainerName, ApiError> {
    change::name(text).map_err(|_| {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(128).collect();
        ApiError::own("InvalidName", format!("'{shown}' is not a name for a checkpoint"))
    })
}

/// Arguments of `Restore`.
pub(crate) fn restore(
    options: Values,
    checkpoint: impl FnOnce() -> Checkpoint,
    container: impl FnOnce() -> Container,
) -> Result<Restore, ApiError> {
    no_options(options)?;
    Ok(Restore { checkpoint: checkpoint()?, container: container()? })
}

/// Options of `RestoreAs`.
pub(crate) fn copy(options: Values) -> Result<AskedCopy, ApiError> {
    let mut o = Options::new(options);
    let ports = if o.has("PublishedPorts") { Some(ports(&mut o)?) } else { None };
    let asked = AskedCopy { labels: map(&mut o, "Labels", str::parse)?, ports };
    o.finish()?;
    Ok(asked)
}

/// Arguments of `Inspect`.
pub(crate) fn inspect(
    given: u64,
    find: impl FnOnce() -> Result<(Arc<view::Checkpoint>, Arc<view::Container>), ApiError>,
) -> Result<InspectCheckpoint, ApiError> {
    let with_figures = flags(given, WITH_FIGURES)? & WITH_FIGURES != 0;
    let (checkpoint, container) = find()?;
    Ok(InspectCheckpoint { checkpoint, container, with_figures })
}

/// Filter of `ListCheckpoints`.
#[derive(Debug)]
pub(crate) struct CheckpointFilter {
    container: Option<ObjectId>,
    name: Option<Glob>,
    owner_uid: Option<u32>,
}

impl CheckpointFilter {
    pub(crate) fn parse(filter: Values) -> Result<Self, ApiError> {
        let mut o = Options::new(filter);
        let parsed = Self {
            container: o.object("Container")?,
            name: o.string("Name")?.map(Glob),
            owner_uid: o.number("OwnerUID")?,
        };
        o.finish()?;
        Ok(parsed)
    }

    pub(crate) fn fits(&self, view: &view::Checkpoint) -> bool {
        let of = ObjectId::Container(view.container.clone());
        self.container.as_ref().is_none_or(|container| *container == of)
            && self.name.as_ref().is_none_or(|glob| glob.fits(view.name.as_str()))
            && self.owner_uid.is_none_or(|uid| uid == view.owner_uid)
    }
}

/// The checkpoint of an id, as it is in a path.
pub(crate) fn id(path: &str, thing: Option<ObjectId>) -> Result<CheckpointId, ApiError> {
    match thing {
        Some(ObjectId::Checkpoint(id)) => Ok(id),
        _ => Err(crate::engine::Error::NoSuchCheckpoint(path.chars().take(128).collect()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::value::Value;

    fn none() -> Container {
        Err(ApiError::own("NoSuchContainer", "looked for"))
    }

    fn given(key: &str, value: Value) -> Values {
        Values::from([(key.to_string(), value)])
    }

    #[test]
    fn options_are_refused_before_the_container_is_looked_for() {
        for (key, value, error) in [
            ("PreDump", Value::Bool(true), "UnknownOption"),
            ("LeaveRunning", Value::from("yes"), "OptionType"),
            ("Rootfs", Value::from("no"), "OptionType"),
            ("Name", Value::from("../x"), "InvalidName"),
            ("Name", Value::from(""), "InvalidName"),
            ("FileLocks", Value::Bool(true), "NoSuchContainer"),
        ] {
            let refused = checkpoint(given(key, value), none).unwrap_err();
            assert_eq!(refused.short_name(), error, "{key}: {refused:?}");
        }
        let refused = restore(given("Keep", Value::Bool(true)), || panic!("looked for"), none);
        assert_eq!(refused.unwrap_err().short_name(), "UnknownOption");
        assert_eq!(copy(Values::new()).unwrap().ports, None, "those of the first one");
        let none = given("PublishedPorts", Value::List(Vec::new()));
        assert_eq!(copy(none).unwrap().ports, Some(Vec::new()));
        for (key, value, error) in [
            ("Keep", Value::Bool(true), "UnknownOption"),
            ("Labels", Value::Bool(true), "OptionType"),
            ("PublishedPorts", Value::Bool(true), "OptionType"),
        ] {
            assert_eq!(copy(given(key, value)).unwrap_err().short_name(), error, "{key}");
        }
        let refused = inspect(2, || panic!("looked for"));
        assert_eq!(refused.unwrap_err().short_name(), "InvalidArgs");
    }
}
