//! The AppArmor profile that containers are confined by unless they ask for another.
//!
//! It is loaded when the daemon starts, whatever there is of that name: that may be another version's.
//! From then on it stays, and a start of a container only looks whether somebody has removed it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use tare_spawn::{Profile, ProfileName};
use tare_specgen::{AppArmor, AppArmorName, Effective, HostFacts, apparmor_profile};

use super::blocking::brief;
use super::{Engine, Error};
use crate::instance::Tag;

/// The profiles in the kernel, one on each line with its mode, as in `man_groff (enforce)`.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// The profile of this daemon's containers.
#[derive(Debug)]
pub(super) struct Confinement {
    name: ProfileName,
    profile: Profile,
    /// The kernel uses AppArmor, and the profile could not be loaded.
    missing: AtomicBool,
}

/// Whether the profile has to be loaded.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    /// The kernel does not use AppArmor.
    None,
    /// It is loaded.
    Met,
    /// It has to be loaded.
    Load,
}

impl Confinement {
    pub(super) fn new(tag: &Tag) -> Result<Self, Error> {
        let bug = |error: &dyn std::fmt::Display| Error::Bug(error.to_string());
        let name: AppArmorName = tag.profile().parse().map_err(|error| bug(&error))?;
        let profile = Profile::try_from(apparmor_profile(&name)).map_err(|error| bug(&error))?;
        Ok(Self { name: profile.name().clone(), profile, missing: false.into() })
    }

    /// Why the service is degraded, if that is so.
    pub(super) fn taint(&self) -> Option<&'static str> {
        self.missing.load(Ordering::Relaxed).then_some("no-apparmor-profile")
    }

    /// Says what there is to confine containers by.
    pub(super) fn tell(&self, facts: &mut HostFacts) {
        facts.apparmor_profiles = loaded();
        // Both grammars have this one.
        if let Ok(name) = self.name.as_str().parse() {
            facts.default_apparmor_profile = name;
        }
    }

    fn need(&self, loaded: Option<&BTreeSet<String>>) -> Need {
        match loaded {
            None => Need::None,
            Some(loaded) if loaded.contains(self.name.as_str()) => Need::Met,
            Some(_) => Need::Load,
        }
    }
}

impl Engine {
    /// Loads the profile, if the kernel uses AppArmor.
    pub(super) async fn load_profile(&self) {
        if loaded().is_some()
            && let Err(error) = self.put_profile().await
        {
            tracing::warn!("containers are not confined by AppArmor: {}", error.chain());
        }
    }

    /// Has the profile loaded that a container needs, if somebody has removed it.
    ///
    /// # Errors
    ///
    /// That it could not be loaded: the container is not confined then.
    pub(super) async fn ensure_profile(&self, effective: &Effective) -> Result<(), Error> {
        let wanted = effective.apparmor == AppArmor::Default;
        if wanted && self.confinement.need(loaded().as_ref()) == Need::Load {
            return self.put_profile().await;
        }
        Ok(())
    }

    async fn put_profile(&self) -> Result<(), Error> {
        let (spawner, profile) = (self.spawner.clone(), self.confinement.profile.clone());
        let put = brief(move || spawner.load_profile(&profile).map_err(failed)).await;
        self.confinement.missing.store(put.is_err(), Ordering::Relaxed);
        put
    }

    /// Takes the profile out of the kernel; nothing is confined by it any more.
    pub(super) async fn remove_profile(&self) {
        if self.confinement.need(loaded().as_ref()) != Need::Met {
            return;
        }
        let (spawner, name) = (self.spawner.clone(), self.confinement.name.clone());
        let removed = brief(move || spawner.unload_profile(&name).map_err(failed)).await;
        if let Err(error) = removed {
            tracing::warn!("{}", error.chain());
        }
    }
}

fn failed(error: tare_spawn::Error) -> Error {
    Error::Host { what: "change the AppArmor profiles", source: std::io::Error::other(error) }
}

fn loaded() -> Option<BTreeSet<String>> {
    fs::read_to_string(LOADED).ok().map(|list| names(&list))
}

fn names(list: &str) -> BTreeSet<String> {
    let name = |line: &str| line.rsplit_once(" (").map(|(name, _mode)| name.to_owned());
    list.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_loaded_where_the_kernel_does_not_have_it() {
        let ours = Confinement::new(&Tag::new("1a2b3c").unwrap()).unwrap();
        for (list, need) in [
            (None, Need::None),
            (Some(""), Need::Load),
            (Some("tare-default (enforce)\nman_groff (enforce)\n"), Need::Load),
            (Some("/usr/bin/man (enforce)\ntare-default-1a2b3c (enforce)\n"), Need::Met),
        ] {
            assert_eq!(ours.need(list.map(names).as_ref()), need, "{list:?}");
        }
    }

    /// What is generated is taken by whoever loads it.
    #[test]
    fn each_instance_has_one_of_its_own() {
        for (tag, name) in
            [(Tag::NONE, "tare-default"), (Tag::new("1a2b3c").unwrap(), "tare-default-1a2b3c")]
        {
            let ours = Confinement::new(&tag).unwrap();
            assert_eq!(ours.name.as_str(), name);
            assert!(ours.profile.as_str().contains(&format!("peer=\"{name}\"")));
            assert_eq!(ours.taint(), None);
        }
    }
}
