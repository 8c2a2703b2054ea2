//! `--security-opt`, in podman's words.

use crate::Failure;

/// The parts of a label, in their order.
const PARTS: [&str; 4] = ["user", "role", "type", "level"];

/// The option `SELinuxLabel` for what was said; nothing if nothing was.
pub(crate) fn selinux_label(said: &[String]) -> Result<Option<String>, Failure> {
    let mut parts = [""; 4];
    let mut disabled = false;
    for option in said {
        let wrong = || Failure::Usage(format!("'{option}' is not like label=type:spc_t"));
        let what = option.strip_prefix("label=").ok_or_else(wrong)?;
        if what == "disable" {
            disabled = true;
            continue;
        }
        let (name, value) = what.split_once(':').ok_or_else(wrong)?;
        let at = PARTS.iter().position(|part| *part == name).ok_or_else(wrong)?;
        // Only a level has more than one word.
        if value.is_empty() || name != "level" && value.contains(':') {
            return Err(wrong());
        }
        parts[at] = value;
    }
    let [user, role, kind, level] = parts;
    match (disabled, parts == [""; 4]) {
        (false, true) => Ok(None),
        (true, true) => Ok(Some("disable".into())),
        (false, false) if level.is_empty() => Ok(Some(format!("{user}:{role}:{kind}"))),
        (false, false) => Ok(Some(format!("{user}:{role}:{kind}:{level}"))),
        (true, false) => {
            Err(Failure::Usage("what is not labelled at all has no part of a label".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_a_label() {
        for (said, want) in [
            (&[][..], None),
            (&["label=disable"], Some("disable")),
            (&["label=type:spc_t"], Some("::spc_t")),
            (&["label=level:s0:c1,c2"], Some(":::s0:c1,c2")),
            (&["label=user:u", "label=role:r", "label=type:t", "label=level:s0"], Some("u:r:t:s0")),
            (&["label=type:a", "label=type:b"], Some("::b")),
        ] {
            let said: Vec<_> = said.iter().map(ToString::to_string).collect();
            assert_eq!(selinux_label(&said).unwrap().as_deref(), want, "{said:?}");
        }
        for bad in [
            "disable",
            "label=",
            "label=type",
            "label=type:",
            "label=type:a:b",
            "label=kind:a",
            "seccomp=unconfined",
        ] {
            assert!(selinux_label(&[bad.into()]).is_err(), "{bad:?}");
        }
        assert!(selinux_label(&["label=disable".into(), "label=type:t".into()]).is_err());
    }
}
