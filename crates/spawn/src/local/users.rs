//! User namespaces, for what is to be mapped as in them.

use std::os::fd::OwnedFd;

use crate::step::{Done, Step};
use crate::undo::{failed, run};
use crate::{Cause, Error, UserMap};

pub(super) fn make(map: &UserMap) -> Result<OwnedFd, Error> {
    let make = || -> Result<OwnedFd, Cause> {
        let [uids, gids] = map.lines().map_err(Cause::Refused)?;
        match run(&Step::MakeUsers { uids, gids })? {
            Done::Fd(users) => {
                users.try_clone().map_err(|source| failed(&"copy a descriptor", source))
            }
            other => unreachable!("making a namespace gave {other:?}"),
        }
    };
    make().map_err(|cause| Error::MakeUsers { cause })
}
