//! Every effect of this crate: plain-data steps, and the one function that runs them.

#[expect(unsafe_code, reason = "name_to_handle_at(2) has no wrapper")]
mod handle;
#[expect(unsafe_code, reason = "mount_setattr(2) has no wrapper")]
mod mount;
#[expect(unsafe_code, reason = "the calls for quotas of projects have no wrapper")]
#[expect(clippy::disallowed_methods, reason = "this is where some of the effects are")]
mod quota;
mod read;
mod step;
#[expect(unsafe_code, reason = "unshare(2) is unsafe for what it can do to descriptors")]
mod thread;

use std::fmt;
use std::io;

pub(crate) use handle::handle;
pub(crate) use mount::{Attach, Attributes, Detach, SetAttributes};
pub(crate) use quota::{ProjectLimit, SetProject, project_facts};
pub use read::{Kind, Stat};
pub(crate) use read::{
    anywhere, beneath, in_root, kernel_is_at_least, kernel_messages, list, mount_id, next_data,
    open_dir_at, open_path, open_root, path_of, read_at, read_link, read_up_to, reopen, room, stat,
    stat_at, xattr, xattr_names, xattr_of_place,
};
pub(crate) use step::{NewFd, Step, Target, write_all_at};
pub(crate) use thread::{Own, on_own_thread};

use crate::error::Failure;

/// A change to the world that can be named before it is made.
pub(crate) trait Effect: fmt::Display {
    /// What there is afterwards.
    type Output;

    fn act(&self) -> rustix::io::Result<Self::Output>;

    /// What there is when it is left out, in a test: nothing can stand for what it would have made.
    fn without(&self) -> Option<Self::Output> {
        None
    }
}

/// Carries out one effect; nothing else in this crate changes the world.
pub(crate) fn run<E: Effect>(step: &E) -> io::Result<E::Output> {
    match step.without() {
        Some(nothing) if crate::fault::leaves_out(step)? => return Ok(nothing),
        Some(_) => {}
        None => crate::fault::point(step)?,
    }
    Ok(step.act()?)
}

/// [`run`], with the step's name in the error.
pub(crate) fn perform<E: Effect>(step: &E) -> Result<E::Output, Failure> {
    run(step).map_err(|source| Failure::new(step, source))
}
