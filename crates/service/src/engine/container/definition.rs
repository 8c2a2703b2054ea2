//! What a container is to be.

use std::collections::BTreeMap;

use crate::engine::records::durable::DefinitionRow;
use crate::engine::view;

/// What a container is to be, as it was asked for the last time; replaced as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine) struct Definition {
    /// As it is written down.
    pub(in crate::engine) row: DefinitionRow,
    /// Whether what will run reaches the host: found out by today's rules, and so not written down.
    pub(in crate::engine) privileged: bool,
    /// Labels that every local user may read.
    pub(in crate::engine) public_labels: BTreeMap<String, String>,
}

impl Definition {
    /// Writes all that is seen of it into a view; what else is there stays.
    pub(super) fn describe(&self, view: &mut view::Container) {
        let connections = &self.row.connections;
        view.revision = self.row.revision;
        view.name = self.row.name.clone();
        view.privileged = self.privileged;
        view.lifecycle.clone_from(&self.row.lifecycle);
        view.limits.clone_from(&self.row.request.resources);
        view.stop_timeout_usec = self.row.request.stop_timeout_usec;
        view.networks = connections.networks.iter().map(|joined| joined.network.clone()).collect();
        view.ports = connections.ports.iter().map(view::Port::from).collect();
        view.public_labels.clone_from(&self.public_labels);
    }
}
