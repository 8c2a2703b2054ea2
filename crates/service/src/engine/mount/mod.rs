//! What containers see that is not theirs alone: volumes, files of the host, other images.
//!
//! What somebody asks for is opened once, [before](host) anybody is asked whether it may be; what it is
//! then is written down, and each start makes a detached mount of exactly that, which the spawner
//! puts in its place. No path is resolved later than that.

mod host;
mod image;
mod options;
mod source;
mod targets;

use tare_specgen::{MountOption, MountTarget, RootfsAccess};

pub(super) use host::{HostSource, Opened, open};
pub(super) use image::mounted_images;
pub(super) use options::{bind_options, relabel};
pub(super) use source::{Source, Wanted, has_source, root_options};
pub(super) use targets::{Problem, resolved};

use std::os::fd::OwnedFd;

/// A file or directory of the host, or an image, to be mounted in a container, as somebody asks for it.
#[derive(Debug)]
pub struct AskedMount {
    /// What.
    pub source: AskedSource,
    /// Where it is seen.
    pub target: MountTarget,
    /// Whether it may be written to.
    pub access: RootfsAccess,
    /// How it is mounted.
    pub options: Vec<MountOption>,
}

/// What somebody asks to be mounted.
#[derive(Debug)]
pub enum AskedSource {
    /// A file or directory of the host, which the caller has open.
    Open(OwnedFd),
    /// One by its path: only for root, since we open it.
    Path(tare_specgen::AbsolutePath),
    /// An image, or a directory in it.
    Image {
        /// Reference or digest.
        name: String,
        /// The directory.
        sub_path: Option<tare_specgen::SubPath>,
    },
}
