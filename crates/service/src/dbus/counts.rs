//! How much there is.

use std::ops::{Add, Sub};

/// How much there is of each kind, or what one object adds to that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) containers: u32,
    pub(crate) running: u32,
    pub(crate) images: u32,
    pub(crate) jobs: u32,
}

impl Counts {
    /// Name of the property and number of each.
    pub(crate) fn properties(self) -> [(&'static str, u32); 4] {
        [
            ("NContainers", self.containers),
            ("NRunning", self.running),
            ("NImages", self.images),
            ("NJobs", self.jobs),
        ]
    }

    fn with(self, other: Self, each: impl Fn(u32, u32) -> u32) -> Self {
        Self {
            containers: each(self.containers, other.containers),
            running: each(self.running, other.running),
            images: each(self.images, other.images),
            jobs: each(self.jobs, other.jobs),
        }
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, u32::saturating_add)
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.with(other, u32::saturating_sub)
    }
}
