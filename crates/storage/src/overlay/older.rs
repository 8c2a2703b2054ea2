//! Overlays on kernels before 6.13, which take directories by name only.
//!
//! Names must be short. [`fsconfig(2)`] takes 255 bytes for the layers together, mount(2) a page
//! for all options; and with it overlayfs finds out nothing before the end: until 6.5 its options
//! are only gathered by the kernel's `legacy_parse_param`. So every directory is opened, and its
//! name is the number of its descriptor, seen from `/proc/thread-self/fd`. Numbers need none of the
//! escapes that overlayfs knows for `:`, `,` and `\`.
//!
//! All of it happens on a thread that ends with it, since it changes the working directory.
//!
//! [`fsconfig(2)`]: https://man7.org/linux/man-pages/man2/fsconfig.2.html

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::{Durability, OPTIONS, Own as OwnLayer, RootOptions, SOURCE, Stack};
use crate::error::{Error, Failure};
use crate::layers::open_layer_in;
use crate::store::{Store, open_directory};
use crate::sys::{self, Attributes, NewFd, Own, SetAttributes, Step, on_own_thread, perform};

/// Longest value of one option of fsconfig(2), in bytes.
const MAX_VALUE: usize = 255;
/// Longest options of mount(2), in bytes: a page of the smallest size, less the NUL at its end.
const MAX_OPTIONS: usize = 4095;
/// Directory of the store that is mounted on for a moment, where nobody sees it.
pub(super) const STAGE: &str = "tmp";

/// Mounts the stack by whichever way its names fit.
pub(super) fn mount(stack: &Stack<'_>, store: &Store) -> Result<OwnedFd, Error> {
    let no_thread = |source| Failure::new(&"start a thread", source);
    on_own_thread(|| {
        perform(&Own::Directory).map_err(stack.failed_silently())?;
        let open = Opened::in_store(stack, store.root.as_fd())?;
        let names = open.names();
        if names.lower.len() <= MAX_VALUE {
            return configure(stack, &names);
        }
        drop(open);
        mount_unseen(stack, store)
    })
    .unwrap_or_else(|source| Err(stack.failed_silently()(no_thread(source))))
}

/// The directories of a stack, open.
struct Opened {
    /// The uppermost first.
    lower: Vec<OwnedFd>,
    own: Option<OwnLayer>,
}

/// What the kernel is told, seen from `/proc/thread-self/fd`.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    lower: String,
    /// Upper and work.
    own: Option<[String; 2]>,
}

impl Opened {
    fn in_store(stack: &Stack<'_>, root: BorrowedFd<'_>) -> Result<Self, Error> {
        let open = |name| open_directory(root, name).map_err(stack.failed_silently());
        let (layers, containers) = (open("layers")?, open("containers")?);
        let own = stack.open_own(containers.as_fd())?;
        let top = stack.open_to_read(containers.as_fd())?.map(Ok);
        let lower = stack.layers.iter().rev().map(|layer| open_layer_in(layers.as_fd(), layer));
        let ground = stack.open_ground(root)?.map(Ok);
        let lower = top.into_iter().chain(lower).chain(ground);
        Ok(Self { lower: lower.collect::<Result<_, _>>()?, own })
    }

    fn names(&self) -> Names {
        let own = self.own.as_ref().map(|own| [name(&own.upper), name(&own.work)]);
        let lower: Vec<_> = self.lower.iter().map(name).collect();
        Names { lower: lower.join(":"), own }
    }
}

pub(super) fn name(dir: &impl AsRawFd) -> String {
    dir.as_raw_fd().to_string()
}

impl Names {
    fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let own =
            self.own.iter().flat_map(|[upper, work]| [("upperdir", &**upper), ("workdir", work)]);
        [("lowerdir", &*self.lower)].into_iter().chain(own)
    }

    /// The options of mount(2); `None` if they do not fit.
    fn options(&self, how: &RootOptions<'_>) -> Option<CString> {
        let all = self.all().chain(OPTIONS).map(|(key, value)| format!("{key}={value}"));
        // In quotes, since it may have commas; it has none itself.
        let label = how.label.map(|label| format!("context=\"{label}\""));
        let volatile = (how.durability == Durability::Volatile).then(|| "volatile".to_owned());
        let text = all.chain(label).chain(volatile).collect::<Vec<_>>().join(",");
        if text.len() > MAX_OPTIONS { None } else { CString::new(text).ok() }
    }
}

/// Makes the overlay without attaching it anywhere.
fn configure(stack: &Stack<'_>, names: &Names) -> Result<OwnedFd, Error> {
    enter_names().map_err(stack.failed_silently())?;
    let fs = stack.open_fs()?;
    let fs = fs.as_fd();
    names
        .all()
        .try_for_each(|(key, value)| perform(&Step::Set { fs, key, value }))
        .and_then(|()| stack.create(fs))
        .map_err(stack.failed(fs))
}

/// Mounts the overlay in a mount namespace that ends with this thread, and takes a copy out of it.
fn mount_unseen(stack: &Stack<'_>, store: &Store) -> Result<OwnedFd, Error> {
    let fail = stack.failed_silently();
    // overlayfs takes directories of the thread's own namespace only: all is opened again in it.
    let root = enter_own_mounts(store).map_err(&fail)?;
    let opened = Opened::in_store(stack, root.as_fd())?;
    let count = stack.layers.len();
    let options = opened.names().options(stack.options).ok_or(Error::LayersTooLong { count })?;
    let mount = || {
        enter_names()?;
        let at = format!("{}/{STAGE}", name(&root));
        perform(&Own::Overlay { at: &at, source: SOURCE, options: &options })?;
        let copy = perform(&NewFd::MountCopy { dir: root.as_fd(), name: STAGE });
        // The root must go with its last descriptor, not when the kernel gets to the namespace.
        let unmounted = perform(&Own::Unmount { at: &at });
        let copy = copy.and_then(|copy| unmounted.map(|()| copy))?;
        // mount(2) made it `nodev` alone.
        let attributes =
            Attributes { set: stack.attributes().bits().into(), ..Attributes::default() };
        let set = SetAttributes { mount: copy.as_fd(), attributes, users: None, recursive: false };
        perform(&set).map(|()| copy)
    };
    mount().map_err(&fail)
}

/// Moves this thread into a mount namespace of its own; gives the store's root in it.
pub(super) fn enter_own_mounts(store: &Store) -> Result<OwnedFd, Failure> {
    // The working directory is what the kernel takes along into the new namespace.
    perform(&Own::Enter { dir: store.root.as_fd(), name: "the store" })?;
    perform(&Own::Mounts)?;
    perform(&Own::KeepMounts)?;
    sys::open_root(Path::new(".")).map_err(Failure::read("open the store again"))
}

/// Has names mean the descriptors of this thread.
pub(super) fn enter_names() -> Result<(), Failure> {
    let dir = sys::open_root(Path::new("/proc/thread-self/fd"))
        .map_err(Failure::read("open /proc/thread-self/fd"))?;
    perform(&Own::Enter { dir: dir.as_fd(), name: "/proc/thread-self/fd" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::MAX_LAYERS;

    fn names(lower: &[usize]) -> Names {
        let lower: Vec<_> = lower.iter().map(ToString::to_string).collect();
        Names { lower: lower.join(":"), own: Some(["3".into(), "4".into()]) }
    }

    #[test]
    fn options_name_directories_by_number() {
        let options = names(&[12, 11]).options(&RootOptions::new()).unwrap();
        let want =
            "lowerdir=12:11,upperdir=3,workdir=4,index=off,metacopy=off,redirect_dir=nofollow";
        assert_eq!(options.to_str().unwrap(), want);
        let label = "u:r:t:s0:c1,c2".parse().unwrap();
        let how = RootOptions::new().with_durability(Durability::Volatile).with_label(&label);
        let bare = Names { own: None, ..names(&[12, 11]) }.options(&how).unwrap();
        let want = "lowerdir=12:11,index=off,metacopy=off,redirect_dir=nofollow,\
            context=\"u:r:t:s0:c1,c2\",volatile";
        assert_eq!(bare.to_str().unwrap(), want);
    }

    #[test]
    fn as_many_layers_as_the_kernel_stacks_fit_into_the_options() {
        for (first, fits) in [(100, true), (100_000, true), (10_000_000, false)] {
            let lower: Vec<_> = (first..).take(MAX_LAYERS).collect();
            let options = names(&lower).options(&RootOptions::new());
            assert_eq!(options.is_some(), fits, "descriptors from {first}");
            assert!(options.is_none_or(|options| options.count_bytes() <= MAX_OPTIONS));
        }
    }
}
