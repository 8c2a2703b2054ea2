//! A name server for networks of containers.
//!
//! # What it does
//!
//! **Decide.** A [`Directory`] knows who is on which network, by which names and with which
//! addresses, and says what is to be answered to a [`Question`] from there. It is plain data and
//! does no I/O. Whoever is asked about on a network is on that network, or on another one that the
//! asking container is on as well: nobody else is found.
//!
//! **Answer.** A [`Server`] answers on the [`Sockets`] of each network, over UDP and TCP, by the
//! directory as it is at that moment: whatever is changed in it is answered by from then on. Names
//! that are nobody's here are asked of the host's resolvers, unless the network is to know of
//! nothing outside of it.
//!
//! | question | answer |
//! |---|---|
//! | a name, an id or an alias of a container; the same below the domain | its addresses, for 0 s |
//! | any other name below the domain, or of one label | it does not exist |
//! | who has an address of a network | its container, or nobody |
//! | all else | what the host's resolvers say, or those of the network, or it is refused |
//!
//! **Go on.** A [`NameServer`] is one or the other: [`Local`] answers in this process; [`Remote`]
//! tells a [`Daemon`] in another one, the program `tare-names`, and hands it the sockets. That one
//! goes on answering when this process ends, and the next one takes the sockets up again.
//!
//! # What it does not do
//!
//! It makes no interfaces, reads no settings, and keeps no cache: the host's resolver does. It
//! signs nothing; what others signed is passed on.
//!
//! # Effects
//!
//! What it makes, and what one process tells the other, goes through one module, where a test makes
//! it fail (feature `fault`). Answering is none: it changes nothing, and nobody waits for it but who asks.
//!
//! # Limits
//!
//! Whoever asks is not trusted. A network has so many questions under way to the resolvers (256) and so
//! many connections (64), and what is beyond them is refused at once or waits. A host has a share of them
//! (32 and 8), whatever addresses of it asks, and so have all together who are no hosts there: one that asks
//! too much is refused, and its connections are closed, and the others do not notice. Nothing of a question
//! is logged.
//!
//! # Threads
//!
//! A server has one thread of its own, with a runtime of its own; a [`Remote`] one that speaks. No
//! call waits for the network, or for the other process but for [`Remote::start`].
//!
//! # References
//!
//! - [RFC 1035](https://www.rfc-editor.org/rfc/rfc1035): messages; 2.3.4 has the limits
//! - [RFC 6891](https://www.rfc-editor.org/rfc/rfc6891): EDNS
//! - [RFC 7766](https://www.rfc-editor.org/rfc/rfc7766): TCP
//! - [resolv.conf(5)](https://man7.org/linux/man-pages/man5/resolv.conf.5.html)
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make their own surroundings"))]

mod daemon;
mod directory;
mod effects;
mod error;
pub mod fault;
mod forward;
mod handover;
mod local;
mod name_server;
#[cfg(feature = "daemon")]
pub mod program;
mod remote;
mod resolvers;
mod server;
mod shares;
mod sockets;
mod wire;

pub use daemon::Daemon;
pub use directory::{Answer, Directory, Foreign, Host, Question};
pub use error::Error;
pub use local::Local;
pub use name_server::NameServer;
pub use remote::Remote;
pub use server::{Server, Serving};
pub use sockets::Sockets;

/// The port of the domain name system.
pub const PORT: u16 = 53;

/// Keeps the example of the README compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
