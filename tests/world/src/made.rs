//! What a daemon was asked to make.

use std::collections::BTreeSet;

/// What a case has made on purpose and need not take away: it belongs to the daemon, which keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Ids of images: `sha256:`, and 64 hex digits.
    pub images: BTreeSet<String>,
    /// Names of networks, beside the first one, which is always there.
    pub networks: BTreeSet<String>,
}
