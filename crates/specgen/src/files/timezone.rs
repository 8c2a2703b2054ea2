//! The container's time zone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{BoundFile, Link, Maker};
use crate::effective::Effective;
use crate::error::Error;
use crate::facts::{Placement, RootfsFacts};
use crate::mount::MountTarget;
use crate::text::{InvalidText, Problem, check_bytes, string_form, text_type};

const LOCALTIME: &str = "/etc/localtime";

/// Largest zone file that is taken, in bytes; the largest of tzdata has some 4 KiB.
const MAX_ZONE: usize = 1 << 20;

text_type! {
    /// Name of a time zone, a path in `/usr/share/zoneinfo`: at most 64 bytes of `[a-zA-Z0-9_+-]`,
    /// in parts separated by single `/`, as in `Europe/Berlin` or `Etc/GMT+5`.
    ZoneName, "time zone", |text| {
        check_bytes(text, 64, |_, byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'/')
        })?;
        if text.split('/').any(str::is_empty) {
            return Err(Problem::Form("has an empty part"));
        }
        Ok(())
    }
}

/// Which time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Timezone {
    /// The host's, at the time of the start; `local`.
    Local,
    /// This one.
    Named(ZoneName),
}

impl FromStr for Timezone {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "local" => Ok(Self::Local),
            name => name.parse().map(Self::Named),
        }
    }
}

impl fmt::Display for Timezone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Named(name) => f.write_str(name.as_str()),
        }
    }
}

string_form!(Timezone);

/// What `/etc/localtime` is to be: a link into the image's own tzdata, as its programs expect
/// (B25), or else a copy of the host's file.
///
/// # Errors
/// [`Error::Timezone`] when neither has the zone.
pub(crate) fn localtime(
    effective: &Effective,
    rootfs: &RootfsFacts,
    placement: &Placement,
) -> Result<(Option<Link>, Option<BoundFile>), Error> {
    let Some(wanted) = &effective.request.timezone else { return Ok((None, None)) };
    let name = match wanted {
        Timezone::Local => placement.local_zone.as_ref(),
        Timezone::Named(name) => Some(name),
    };
    if let (true, Some(name)) = (rootfs.has_zone, name) {
        let to = format!("../usr/share/zoneinfo/{name}");
        return Ok((Some(Link { path: MountTarget::known(LOCALTIME), to }), None));
    }
    match &placement.zone_file {
        Some(content) if content.starts_with(b"TZif") && content.len() <= MAX_ZONE => {
            let make = Maker::new(effective, placement);
            Ok((None, Some(make.file("localtime", LOCALTIME, content.clone()))))
        }
        _ => Err(Error::Timezone { zone: wanted.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn b25_zones_do_not_leave_their_directory() {
        for good in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "local"]
        {
            assert_eq!(good.parse::<Timezone>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "../../../etc/shadow",
            "/etc/shadow",
            "Europe/",
            "a//b",
            "a/../b",
            ".",
            "a\n",
            "a b",
            &"a".repeat(65),
        ] {
            assert!(bad.parse::<Timezone>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn b25_a_link_where_the_image_has_the_zone_else_a_copy() {
        let get = |zone: &str, in_image: bool, file: Option<&[u8]>| {
            let mut rootfs = testing::rootfs();
            rootfs.has_zone = in_image;
            let mut placement = testing::placement();
            placement.zone_file = file.map(<[u8]>::to_vec);
            placement.local_zone = "Asia/Tokyo".parse().ok();
            let effective = testing::effective(&format!(r#""Timezone":"{zone}""#));
            let made = localtime(&effective, &rootfs, &placement);
            made.map(|(link, file)| (link.map(|link| link.to), file.map(|file| file.content.0)))
                .map_err(|error| error.to_string())
        };
        let link = |to: &str| Ok((Some(to.to_owned()), None));
        assert_eq!(get("Europe/Rome", true, None), link("../usr/share/zoneinfo/Europe/Rome"));
        assert_eq!(get("local", true, None), link("../usr/share/zoneinfo/Asia/Tokyo"));
        let zone = b"TZif2...".as_slice();
        assert_eq!(get("local", false, Some(zone)), Ok((None, Some(zone.to_vec()))));
        assert!(get("Europe/Rome", false, None).unwrap_err().contains("Europe/Rome"));
        assert!(get("Europe/Rome", false, Some(b"root:x:0")).is_err(), "no zone file");
    }
}
