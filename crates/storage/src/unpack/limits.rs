use std::ops::ControlFlow;

/// What an archive may cost before its import is refused.
///
/// The defaults are far above real images and far below what hurts a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    entries: u64,
    bytes: u64,
    depth: u64,
    ratio: u64,
    devices: Devices,
}

/// What becomes of the device nodes in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    /// They are left out and counted: a node that anybody may open is a way to the host.
    LeaveOut,
    /// They are made.
    Make,
}

impl Default for Limits {
    /// 1,000,000 entries, 64 GiB, 256 directories deep, 200 times the compressed size.
    fn default() -> Self {
        Self {
            // The largest images in common use (TeX, CUDA, conda) have some 500,000 files.
            entries: 1_000_000,
            // The same images unpack to 20 to 30 GiB.
            bytes: 64 << 30,
            // Real trees stay below 60 (nested node_modules).
            depth: 256,
            // Programs and text compress 3 to 10 times, whole images at most 40 times.
            ratio: 200,
            devices: Devices::LeaveOut,
        }
    }
}

impl Limits {
    /// Unpacked bytes up to which the ratio is not looked at: a small archive of zeros is
    /// legitimate, and harmless.
    pub const RATIO_FREE_BYTES: u64 = 64 << 20;

    /// Sets how many files, links and directories there may be, implied directories included.
    pub fn with_entries(mut self, entries: u64) -> Self {
        self.entries = entries;
        self
    }

    /// Sets how many bytes the archive may have uncompressed, and its files' content with holes
    /// counted.
    pub fn with_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets how many parts a path may have.
    pub fn with_depth(mut self, depth: u64) -> Self {
        self.depth = depth;
        self
    }

    /// Sets how many uncompressed bytes there may be for one compressed, once there are more than
    /// [`RATIO_FREE_BYTES`](Self::RATIO_FREE_BYTES).
    pub fn with_ratio(mut self, ratio: u64) -> Self {
        self.ratio = ratio;
        self
    }

    /// Sets what becomes of device nodes; they are left out by default.
    pub fn with_devices(mut self, devices: Devices) -> Self {
        self.devices = devices;
        self
    }

    /// What becomes of device nodes.
    pub fn devices(&self) -> Devices {
        self.devices
    }

    /// Files, links and directories there may be.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Uncompressed bytes there may be.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Parts a path may have.
    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// Uncompressed bytes there may be for one compressed.
    pub fn ratio(&self) -> u64 {
        self.ratio
    }
}

/// Follows an import and can end it.
///
/// Any `Fn(u64) -> ControlFlow<()>` is one.
pub trait Watch {
    /// Called after each read from the archive with the bytes read so far, as they came
    /// (compressed); `Break` cancels the import.
    fn progress(&self, bytes: u64) -> ControlFlow<()>;

    /// Called before, if it is known how many bytes there are to be read.
    fn expect(&self, bytes: u64) {
        let _ = bytes;
    }
}

impl<F: Fn(u64) -> ControlFlow<()>> Watch for F {
    fn progress(&self, bytes: u64) -> ControlFlow<()> {
        self(bytes)
    }
}
