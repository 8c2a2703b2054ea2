use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

/// The longest handle Linux gives (`MAX_HANDLE_SZ`), in bytes.
const MAX_HANDLE: u32 = 128;

/// What `name_to_handle_at(2)` fills in.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; MAX_HANDLE as usize],
}

/// The handle of a file: kind and bytes, which the filesystem gives to no other file, not even to a
/// later one of the same number. `None` if the filesystem has none.
pub(crate) fn handle(file: BorrowedFd<'_>) -> rustix::io::Result<Option<(i32, Vec<u8>)>> {
    let mut handle = Handle { bytes: MAX_HANDLE, kind: 0, data: [0; MAX_HANDLE as usize] };
    let mut mount = 0;
    // SAFETY: `handle` has the layout of `struct file_handle` with room for as many bytes as it says
    // and lives through the call, as `mount` does; the path is a NUL-terminated empty one.
    let result = unsafe {
        libc::name_to_handle_at(
            file.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    if result == 0 {
        let len = handle.bytes.min(MAX_HANDLE) as usize;
        return Ok(Some((handle.kind, handle.data[..len].to_vec())));
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()) {
        Some(Errno::OPNOTSUPP) => Ok(None),
        other => Err(other.unwrap_or(Errno::IO)),
    }
}
