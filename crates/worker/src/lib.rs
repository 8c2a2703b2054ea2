//! Speaking with registries of OCI images in a process that may do nothing else.
//!
//! # What it does
//!
//! **Ask.** A [`Session`] is one connection to a worker, for one repository of a registry. Each thing
//! that is [asked](Session::ask) has a [`Reply`] of its own, on which bytes come as they come from the
//! registry. Nothing here waits: a reply has something, or says [`WouldBlock`], and can be polled.
//!
//! **Answer.** The program `tare-worker` (feature `program`) has the other end as its standard input. It
//! has HTTP, TLS, certificates and tokens, and all that registries send goes through it first. It
//! serves one connection and ends with it: nobody's credentials are ever in a process with
//! another's, and what it cost is free again.
//!
//! # What is not trusted
//!
//! Whoever asks takes what comes for what a stranger said, as it is: it bounds it, checks each digest
//! and size itself, and has its own idea of how long to wait. No descriptor that can be written to is
//! ever given to a worker but a socket: what is stored was written, and checked, by who stores it.
//!
//! # What it does not do
//!
//! It chooses no platform, reads no policy, parses no manifest, opens no file, and keeps nothing.
//!
//! # Cancelling
//!
//! A [`Reply`] that is dropped ends what was asked, a [`Session`] that is dropped the whole process; no
//! message is needed for either.
//!
//! # References
//!
//! - [OCI distribution](https://github.com/opencontainers/distribution-spec/blob/main/spec.md)
//! - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html): packets, and descriptors beside them
//!
//! [`WouldBlock`]: std::io::ErrorKind::WouldBlock

mod message;
mod packet;
#[cfg(feature = "program")]
pub mod program;
mod session;

pub use message::{Ask, By, Failure, FailureKind, Login, Place, Protocol};
pub use session::{Heard, Reply, Session};

/// Keeps the example of the README compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
