//! The kinds of objects on the bus: each shows one kind of view, and is put there, changed and
//! taken away in the same way.

use std::sync::Arc;

use zbus::names::InterfaceName;
use zbus::object_server::Interface;

use super::context::Context;
use super::counts::Counts;
use super::registry::Shown;
use crate::engine::object::Seen;

/// An interface whose objects come and go. A handle on what it shows: its copies show the same.
pub(crate) trait Kind: Interface + Clone {
    /// What it shows.
    type View: Seen;

    /// Whether its objects are among the managed ones. What comes and goes too fast for that has
    /// signals of its own.
    const MANAGED: bool = true;

    /// Properties of which it is told only that they have changed.
    const ASKED_FOR: &[&str] = &[];

    /// An object that shows `shown`.
    fn new(context: &Arc<Context>, shown: Shown<Self::View>) -> Self;

    /// What it shows.
    fn shown(&self) -> &Shown<Self::View>;

    /// What such an object adds to the counts of the manager.
    fn counts(_: &Self::View) -> Counts {
        Counts::default()
    }
}

/// An object of any kind.
pub(crate) trait Node: Interface {
    /// The name of its interface.
    fn interface(&self) -> InterfaceName<'static>;

    /// Whether it is among the managed objects.
    fn is_managed(&self) -> bool;
}

impl<K: Kind> Node for K {
    fn interface(&self) -> InterfaceName<'static> {
        K::name()
    }

    fn is_managed(&self) -> bool {
        K::MANAGED
    }
}
