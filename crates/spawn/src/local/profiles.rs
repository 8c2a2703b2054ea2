//! AppArmor profiles, by `apparmor_parser`.

use std::path::Path;

use super::calls::call;
use crate::launch::Launch;
use crate::{Cause, Error, Profile, ProfileName, Refusal, Settings, argv};

pub(super) fn load(settings: &Settings, profile: &Profile) -> Result<(), Error> {
    let name = profile.name().clone();
    parse(settings, |parser| argv::load_profile(parser, profile))
        .map_err(|cause| Error::LoadProfile { name, cause })
}

pub(super) fn unload(settings: &Settings, name: &ProfileName) -> Result<(), Error> {
    parse(settings, |parser| argv::unload_profile(parser, name))
        .map_err(|cause| Error::UnloadProfile { name: name.clone(), cause })
}

fn parse(settings: &Settings, launch: impl FnOnce(&Path) -> Launch) -> Result<(), Cause> {
    let parser = settings.apparmor_parser.as_deref();
    let parser = parser.ok_or(Cause::Refused(Refusal::NoParser))?;
    match call(launch(parser)) {
        Err(Cause::Runtime { message }) => Err(Cause::Parser { message }),
        called => called.map(drop),
    }
}
