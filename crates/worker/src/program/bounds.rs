//! What this process can do no more, from its beginning on. A service manager has seen to most of it; where
//! there is none, it is started by root.

use std::io;

use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Uid, geteuid, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Who is nobody, to the kernel and everywhere else.
const NOBODY: u32 = 65534;

/// Most memory of its own, in bytes: a registry that sends a document without an end ends this
/// process, and nothing else.
const MEMORY: u64 = 512 << 20;

/// Sets all of it. To be called while there is one thread.
pub(super) fn set() -> io::Result<()> {
    set_no_new_privs(true)?;
    if geteuid().is_root() {
        become_nobody()?;
    }
    // What others of the same user could read, and what would be left on a disk, has passwords.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Data, MEMORY)
}

/// With the last of these the kernel takes all capabilities.
fn become_nobody() -> io::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

fn limit(resource: Resource, to: u64) -> io::Result<()> {
    let limit = Rlimit { current: Some(to), maximum: Some(to) };
    Ok(setrlimit(resource, limit)?)
}
