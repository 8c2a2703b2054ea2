//! AppArmor profiles of containers, where the kernel has any.

use std::fs;

use super::Scope;
use super::things::Things;

/// Each on a line, with its mode: `man_groff (enforce)`.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// Those of the daemons.
pub(super) fn loaded(scope: &Scope) -> Things {
    let list = fs::read_to_string(LOADED).unwrap_or_default();
    let profiles = list.lines().filter_map(|line| line.strip_suffix(')')?.split_once(" ("));
    let ours = profiles.filter(|(name, _)| scope.profiles.iter().any(|profile| profile == name));
    ours.map(|(name, mode)| (name.into(), mode.into())).collect()
}
