//! What happened, told in order to whoever shows it.

use std::sync::Arc;

use tare_runtime::ContainerId;
use tare_storage::Digest;
use tokio::sync::{mpsc, oneshot};

use super::clock::Usec;
use super::jobs::{JobView, LogLine};
use super::view::{Container, ExecSession, Exit, Image};

/// One change of the world, after it has become true.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A container is there.
    ContainerAdded(Arc<Container>),
    /// Something visible of a container changed.
    ContainerChanged {
        /// Before.
        old: Arc<Container>,
        /// Now.
        new: Arc<Container>,
    },
    /// A container ended; follows no `ContainerChanged`, precedes the one that says `exited`.
    ContainerExited(ContainerId, Exit, Usec),
    /// A container is gone.
    ContainerRemoved(ContainerId),
    /// An image is there.
    ImageAdded(Arc<Image>),
    /// Something visible of an image changed.
    ImageChanged {
        /// Before.
        old: Arc<Image>,
        /// Now.
        new: Arc<Image>,
    },
    /// An image is gone.
    ImageRemoved(Digest),
    /// An exec session has begun.
    ProcessAdded(Arc<ExecSession>),
    /// An exec session has ended.
    ProcessExited {
        /// Before.
        old: Arc<ExecSession>,
        /// Now.
        new: Arc<ExecSession>,
        /// How.
        exit: Exit,
    },
    /// An exec session is forgotten.
    ProcessRemoved(ContainerId, u32),
    /// A job is there.
    JobAdded(Arc<JobView>),
    /// A job went on.
    JobChanged {
        /// Before.
        old: Arc<JobView>,
        /// Now.
        new: Arc<JobView>,
    },
    /// A job has something to say to the one who started it.
    JobLogged {
        /// Its number.
        id: u32,
        /// Unique name on the bus of the one who started it.
        to: String,
        /// What.
        line: LogLine,
    },
    /// A job is finished; its object stays for a while.
    JobFinished(Arc<JobView>),
    /// A finished job is forgotten.
    JobForgotten(u32),
    /// Answered when all that was told before has been shown.
    Barrier(oneshot::Sender<()>),
}

/// The engine's end of the channel.
///
/// It does not bound: the other end must drain it without waiting for anybody who could wait for
/// the engine.
#[derive(Clone, Debug)]
pub struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    /// Both ends.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Tells; nobody listening is no error, there is then nobody to show it to.
    pub fn tell(&self, event: Event) {
        let _ = self.0.send(event);
    }

    /// Returns when everything told so far has been shown.
    pub async fn shown(&self) {
        let (sender, shown) = oneshot::channel();
        self.tell(Event::Barrier(sender));
        let _ = shown.await;
    }
}
