//! What conmon, crun and runc print for `--version`, and known holes in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A program whose version is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Program {
    /// conmon.
    Conmon,
    /// crun.
    Crun,
    /// runc.
    Runc,
}

impl Program {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conmon => "conmon",
            Self::Crun => "crun",
            Self::Runc => "runc",
        }
    }

    /// Finds the version in what the program prints: the line `<name> version <version>`.
    pub fn parse_version(self, output: &str) -> Option<Version> {
        let prefix = format!("{} version ", self.as_str());
        output.lines().find_map(|line| line.strip_prefix(&prefix))?.trim().parse().ok()
    }

    /// The holes known in that version as its authors published it. Distributions close holes
    /// without changing the number, so this is a reason to warn, not to refuse.
    pub fn known_holes(self, version: &Version) -> Vec<Cve> {
        let affected = HOLES.iter().filter(|hole| hole.program == self && hole.affects(version));
        affected.map(|hole| Cve(hole.cve)).collect()
    }
}

/// A version: three numbers, and the number of the release candidate if it is one.
///
/// Reads `1.2.3`, `1.22` (as `1.22.0`), `1.4.0-rc.2` and `1.0.0~rc93`; whatever else follows the
/// third number (`+ds1`, a fourth number) is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
    /// Number of the release candidate.
    pub candidate: Option<u32>,
}

impl Version {
    const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch, candidate: None }
    }

    /// Sorts candidates before the release they lead to.
    fn key(&self) -> (u32, u32, u32, u32) {
        (self.major, self.minor, self.patch, self.candidate.unwrap_or(u32::MAX))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (numbers, rest) = text.split_at(end);
        let mut numbers = numbers.split('.').map(|part| part.parse().map_err(|_| InvalidVersion));
        let mut next = || numbers.next().unwrap_or(Ok(0));
        let (major, minor, patch) = (next()?, next()?, next()?);
        Ok(Self { major, minor, patch, candidate: candidate(rest) })
    }
}

/// The number in `-rc2`, `-rc.2` or `~rc2`.
fn candidate(rest: &str) -> Option<u32> {
    let digits = rest.strip_prefix(['-', '~'])?.strip_prefix("rc")?;
    let digits = digits.strip_prefix('.').unwrap_or(digits);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        self.candidate.map_or(Ok(()), |number| write!(f, "-rc.{number}"))
    }
}

/// A text that is no [`Version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version: want one to three numbers with dots between")]
#[non_exhaustive]
pub struct InvalidVersion;

/// A published hole, by its CVE name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Cve(&'static str);

impl Cve {
    /// Its name, like `CVE-2024-21626`.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Cve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A hole, and the first version of each line of releases that lacks it, oldest line first.
struct Hole {
    program: Program,
    cve: &'static str,
    fixed: &'static [Version],
}

impl Hole {
    /// A version is sound from the fix in its own line on, or if its line is newer than all fixes.
    fn affects(&self, version: &Version) -> bool {
        let line = |v: &Version| (v.major, v.minor);
        match self.fixed.iter().find(|fix| line(fix) >= line(version)) {
            Some(fix) => version < fix,
            None => false,
        }
    }
}

const fn hole(program: Program, cve: &'static str, fixed: &'static [Version]) -> Hole {
    Hole { program, cve, fixed }
}

const RC3_OF_1_4: Version = Version { major: 1, minor: 4, patch: 0, candidate: Some(3) };
const RC3_OF_1_2: Version = Version { major: 1, minor: 2, patch: 0, candidate: Some(3) };
const PROCFS_FIX: &[Version] = &[Version::new(1, 2, 8), Version::new(1, 3, 3), RC3_OF_1_4];

/// From the security advisories of the two projects. crun says it is not affected by the procfs
/// holes of runc (crun issue 1906); holes older than runc 1.1 and crun 1.0 are left out, since
/// nothing that old works here.
const HOLES: [Hole; 9] = [
    hole(Program::Runc, "CVE-2023-25809", &[Version::new(1, 1, 5)]),
    hole(Program::Runc, "CVE-2023-27561", &[Version::new(1, 1, 5)]),
    hole(Program::Runc, "CVE-2024-21626", &[Version::new(1, 1, 12)]),
    hole(Program::Runc, "CVE-2024-45310", &[Version::new(1, 1, 14), RC3_OF_1_2]),
    hole(Program::Runc, "CVE-2025-31133", PROCFS_FIX),
    hole(Program::Runc, "CVE-2025-52565", PROCFS_FIX),
    hole(Program::Runc, "CVE-2025-52881", PROCFS_FIX),
    hole(Program::Crun, "CVE-2022-27650", &[Version::new(1, 4, 4)]),
    hole(Program::Crun, "CVE-2025-24965", &[Version::new(1, 20, 0)]),
];

#[cfg(test)]
mod tests {
    use super::*;

    const RUNC: &str = "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n\
                        go: go1.19.8\nlibseccomp: 2.5.4\n";
    const CRUN: &str = "crun version 1.8.1\ncommit: f8a096be060b22ccd3d5f3ebe44108517fbf6c30\n\
                        rundir: /run/crun\nspec: 1.0.0\n+SYSTEMD +SELINUX +APPARMOR +CAP\n";
    const CONMON: &str = "conmon version 2.1.6\ncommit: unknown\n";

    #[test]
    fn versions_are_found_in_what_programs_print() {
        for (program, output, want) in [
            (Program::Runc, RUNC, Some("1.1.5")),
            (Program::Crun, CRUN, Some("1.8.1")),
            (Program::Conmon, CONMON, Some("2.1.6")),
            (Program::Crun, "crun version 1.22\n", Some("1.22.0")),
            (Program::Crun, "crun version 1.14.3.0.0.0.27-9fe9\n", Some("1.14.3")),
            (Program::Runc, "runc version 1.4.0-rc.2\n", Some("1.4.0-rc.2")),
            (Program::Runc, "runc version 1.0.0~rc93+ds1\n", Some("1.0.0-rc.93")),
            (Program::Runc, CRUN, None),
            (Program::Runc, "", None),
        ] {
            let got = program.parse_version(output).map(|version| version.to_string());
            assert_eq!(got.as_deref(), want, "{output:?}");
        }
    }

    #[test]
    fn a_candidate_comes_before_its_release() {
        let sorted = ["1.1.12", "1.2.0-rc.3", "1.2.0", "1.2.1", "1.10.0"];
        let versions = sorted.map(|text| text.parse::<Version>().unwrap());
        assert!(versions.is_sorted(), "{versions:?}");
        assert!(versions[1] < versions[2]);
    }

    #[test]
    fn holes_are_those_of_the_advisories() {
        let leak = "CVE-2024-21626";
        let procfs = "CVE-2025-31133";
        for (program, version, cve, affected) in [
            (Program::Runc, "1.1.5", leak, true),
            (Program::Runc, "1.1.11", leak, true),
            (Program::Runc, "1.1.12", leak, false),
            (Program::Runc, "1.2.0", leak, false),
            (Program::Runc, "1.1.15", procfs, true),
            (Program::Runc, "1.2.7", procfs, true),
            (Program::Runc, "1.2.8", procfs, false),
            (Program::Runc, "1.3.0", procfs, true),
            (Program::Runc, "1.3.3", procfs, false),
            (Program::Runc, "1.4.0-rc.2", procfs, true),
            (Program::Runc, "1.4.0-rc.3", procfs, false),
            (Program::Runc, "1.4.0", procfs, false),
            (Program::Runc, "1.5.0", procfs, false),
            (Program::Runc, "1.2.0-rc.2", "CVE-2024-45310", true),
            (Program::Runc, "1.1.14", "CVE-2024-45310", false),
            (Program::Crun, "1.8.1", "CVE-2025-24965", true),
            (Program::Crun, "1.20", "CVE-2025-24965", false),
            (Program::Crun, "1.8.1", leak, false),
            (Program::Conmon, "2.1.6", leak, false),
        ] {
            let holes = program.known_holes(&version.parse().unwrap());
            let found = holes.iter().any(|hole| hole.as_str() == cve);
            assert_eq!(found, affected, "{} {version}: {cve}", program.as_str());
        }
    }
}
