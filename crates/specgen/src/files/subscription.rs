//! Files of the host that every container is given, from `mounts.conf`.

use crate::mount::MountTarget;
use crate::text::AbsolutePath;

/// A copy that was made of something of the host, and where it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// Where it is seen.
    pub target: MountTarget,
    /// The copy.
    pub source: AbsolutePath,
}

impl Subscription {
    /// A copy and its place.
    pub const fn new(target: MountTarget, source: AbsolutePath) -> Self {
        Self { target, source }
    }
}

/// Reads `mounts.conf` (`HOST` or `HOST:CONTAINER` on each line): what is to be copied, and where it
/// is to be seen. Lines that do not begin with `/` are comments; what cannot be is passed over.
pub fn parse_mounts_conf(text: &str) -> Vec<(AbsolutePath, MountTarget)> {
    let line = |line: &str| {
        let (host, container) = line.split_once(':').unwrap_or((line, line));
        Some((host.parse().ok()?, container.parse().ok()?))
    };
    text.lines().map(str::trim).filter(|text| text.starts_with('/')).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mounts_conf() {
        let text = "# x\n/usr/share/rhel/secrets:/run/secrets\n  /etc/pki \nrelative:/x\n\
                    /a:/proc/x\n/a:b\n/a/../b:/c\n";
        let got: Vec<_> = parse_mounts_conf(text)
            .iter()
            .map(|(host, container)| format!("{host} {container}"))
            .collect();
        assert_eq!(got, ["/usr/share/rhel/secrets /run/secrets", "/etc/pki /etc/pki"]);
    }
}
