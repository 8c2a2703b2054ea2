//! What is mounted in a container, and in which order.

mod assemble;
mod kernel;
mod options;
mod request;
mod target;

pub(crate) use assemble::{OciMount, mounts, propagation};
pub use options::MountOption;
pub(crate) use options::{Flag, Kind, Spread};
pub(crate) use request::check;
pub use request::{
    ImageId, MountRequest, MountSource, Sharing, SubPath, VolumeName, keeps_its_labels,
};
pub use target::MountTarget;

#[cfg(test)]
mod tests;
