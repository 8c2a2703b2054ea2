//! The part of `sd-journal(3)` that is needed, of a libsystemd that is loaded when it is first wanted: a
//! host without systemd has none, and no journal either.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

/// The library by the name of its interface, which has not changed since 2013.
const LIBRARY: &CStr = c"libsystemd.so.0";
/// `SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM`: not what users' own programs log, of which conmon is none.
const FLAGS: c_int = 1 | 4;

type Raw = *mut c_void;
type Plain = unsafe extern "C" fn(Raw) -> c_int;
type GetData = unsafe extern "C" fn(Raw, *const c_char, *mut *const c_void, *mut usize) -> c_int;

/// The functions that are called, with the types of systemd/sd-journal.h.
macro_rules! library {
    ($($field:ident: $type:ty = $name:literal;)+) => {
        struct Library {
            $($field: $type,)+
        }

        impl Library {
            fn find(library: NonNull<c_void>) -> io::Result<Self> {
                Ok(Self {
                    $($field: {
                        let found = function(library, $name)?.as_ptr();
                        // SAFETY: it is the function of that name, and has the type of the field; pointers
                        // to data and to functions are of one size wherever there is dlsym(3).
                        unsafe { std::mem::transmute::<*mut c_void, $type>(found) }
                    },)+
                })
            }
        }
    };
}

library! {
    open: unsafe extern "C" fn(*mut Raw, c_int) -> c_int = c"sd_journal_open";
    close: unsafe extern "C" fn(Raw) = c"sd_journal_close";
    set_data_threshold: unsafe extern "C" fn(Raw, usize) -> c_int = c"sd_journal_set_data_threshold";
    add_match: unsafe extern "C" fn(Raw, *const c_void, usize) -> c_int = c"sd_journal_add_match";
    add_disjunction: Plain = c"sd_journal_add_disjunction";
    seek_head: Plain = c"sd_journal_seek_head";
    seek_tail: Plain = c"sd_journal_seek_tail";
    next: Plain = c"sd_journal_next";
    previous: Plain = c"sd_journal_previous";
    get_realtime_usec: unsafe extern "C" fn(Raw, *mut u64) -> c_int = c"sd_journal_get_realtime_usec";
    get_data: GetData = c"sd_journal_get_data";
    get_fd: Plain = c"sd_journal_get_fd";
    process: Plain = c"sd_journal_process";
}

fn function(library: NonNull<c_void>, name: &CStr) -> io::Result<NonNull<c_void>> {
    // SAFETY: the library stays loaded, and the name ends in NUL.
    let found = unsafe { libc::dlsym(library.as_ptr(), name.as_ptr()) };
    NonNull::new(found).ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, format!("libsystemd has no {name:?}"))
    })
}

impl Library {
    fn load() -> io::Result<Self> {
        // SAFETY: libsystemd does nothing when it is loaded but set up its own variables.
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        let library = NonNull::new(library).ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "there is no libsystemd on this host")
        })?;
        Self::find(library)
    }

    /// It is never unloaded: what it has made could still be there.
    fn get() -> io::Result<&'static Self> {
        static LOADED: OnceLock<Library> = OnceLock::new();
        if let Some(loaded) = LOADED.get() {
            return Ok(loaded);
        }
        let library = Self::load()?;
        Ok(LOADED.get_or_init(|| library))
    }
}

/// A journal that is being read. It may go from thread to thread, and is used by one at a time.
pub(super) struct Journal {
    library: &'static Library,
    raw: NonNull<c_void>,
}

// SAFETY: an sd_journal is bound to its process, not to a thread; all calls that change it take `&mut`.
unsafe impl Send for Journal {}

/// The answer of libsystemd: a number, or an error.
fn checked(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { Ok(answer) }
}

impl Journal {
    /// That of this host.
    pub(super) fn open() -> io::Result<Self> {
        let library = Library::get()?;
        let mut raw = ptr::null_mut();
        // SAFETY: it writes one pointer.
        checked(unsafe { (library.open)(&raw mut raw, FLAGS) })?;
        let raw = NonNull::new(raw).ok_or_else(|| io::Error::other("libsystemd gave nothing"))?;
        let journal = Self { library, raw };
        // Long values come as a whole.
        journal.plain(|raw| {
            // SAFETY: as in `plain`.
            unsafe { (library.set_data_threshold)(raw, 0) }
        })?;
        Ok(journal)
    }

    fn plain(&self, call: impl FnOnce(Raw) -> c_int) -> io::Result<c_int> {
        checked(call(self.raw.as_ptr()))
    }

    fn call(&mut self, function: Plain) -> io::Result<c_int> {
        // SAFETY: the journal is open, and nobody else uses it.
        self.plain(|raw| unsafe { function(raw) })
    }

    /// Only entries with this field, or with another value of it that was also asked for.
    pub(super) fn add_match(&mut self, assignment: &str) -> io::Result<()> {
        let (library, text) = (self.library, assignment.as_bytes());
        // SAFETY: it reads so many bytes, and copies them.
        self.plain(|raw| unsafe { (library.add_match)(raw, text.as_ptr().cast(), text.len()) })?;
        Ok(())
    }

    /// Or only those with what is asked for from now on.
    pub(super) fn or(&mut self) -> io::Result<()> {
        self.call(self.library.add_disjunction).map(drop)
    }

    /// To before the first entry.
    pub(super) fn seek_head(&mut self) -> io::Result<()> {
        self.call(self.library.seek_head).map(drop)
    }

    /// To behind the last entry.
    pub(super) fn seek_tail(&mut self) -> io::Result<()> {
        self.call(self.library.seek_tail).map(drop)
    }

    /// To the next entry; false if there is none.
    pub(super) fn next(&mut self) -> io::Result<bool> {
        self.call(self.library.next).map(|moved| moved > 0)
    }

    /// To the entry before; false if there is none.
    pub(super) fn previous(&mut self) -> io::Result<bool> {
        self.call(self.library.previous).map(|moved| moved > 0)
    }

    /// When this entry came, in microseconds since 1970.
    pub(super) fn realtime_usec(&self) -> io::Result<u64> {
        let mut time = 0;
        // SAFETY: it writes one number.
        self.plain(|raw| unsafe { (self.library.get_realtime_usec)(raw, &raw mut time) })?;
        Ok(time)
    }

    /// The value of a field of this entry, the first if it has several. The next call for one may put another
    /// in its place, which is why this takes `&mut`.
    pub(super) fn field(&mut self, name: &CStr) -> io::Result<Option<&[u8]>> {
        let (mut data, mut len) = (ptr::null(), 0);
        let get_data = self.library.get_data;
        // SAFETY: the name ends in NUL; it writes one pointer and one length.
        let found =
            self.plain(|raw| unsafe { get_data(raw, name.as_ptr(), &raw mut data, &raw mut len) });
        match found {
            Ok(_) if !data.is_null() => {}
            Ok(_) => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        }
        // SAFETY: so many bytes are there until the journal is used again, for which it is borrowed.
        let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
        // NAME=value
        Ok(data.get(name.count_bytes() + 1..))
    }

    /// Polls readable when the journal may have changed, until [`process`](Self::process). It stays the
    /// journal's: this is another descriptor for the same.
    pub(super) fn changes(&mut self) -> io::Result<OwnedFd> {
        let fd = self.call(self.library.get_fd)?;
        // SAFETY: it is open as long as the journal is.
        unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
    }

    /// Takes note of what has changed: new entries, and files that came or went.
    pub(super) fn process(&mut self) -> io::Result<()> {
        self.call(self.library.process).map(drop)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // SAFETY: it was opened once, and nobody uses it from now on.
        unsafe { (self.library.close)(self.raw.as_ptr()) }
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}
