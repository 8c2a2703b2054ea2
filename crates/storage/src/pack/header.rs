//! Headers of tar archives, with an extended one (`pax`) where the old form has no room.

use super::BLOCK;
use crate::sys::Stat;

/// The largest number in a field of seven octal digits.
const MAX_ID: u64 = 0o777_7777;
/// The largest number in a field of eleven octal digits.
const MAX_SIZE: u64 = 0o777_7777_7777;
/// Bytes a name or a link's target may have in the old form.
const MAX_NAME: usize = 100;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    HardLink { target: Vec<u8> },
    Symlink { target: Vec<u8> },
    Fifo,
    Character,
    Block,
}

/// Name and value of an extended attribute.
pub(super) type Xattr = (Vec<u8>, Vec<u8>);

/// One entry, without its content.
pub(super) struct Member<'a> {
    pub(super) path: &'a [u8],
    pub(super) kind: &'a Kind,
    pub(super) stat: &'a Stat,
    pub(super) xattrs: Vec<Xattr>,
}

impl Member<'_> {
    /// Its header for `stored` bytes that follow, and before that the extended one if it takes one.
    pub(super) fn header(&self, stored: u64) -> Vec<u8> {
        self.header_with(Vec::new(), stored)
    }

    /// The header of a file of `size` bytes with holes, of which there is a map in front of what is
    /// stored: format 1.0 of GNU tar.
    pub(super) fn sparse_header(&self, size: u64, stored: u64) -> Vec<u8> {
        let mut records = Vec::new();
        push_record(&mut records, b"GNU.sparse.major", b"1");
        push_record(&mut records, b"GNU.sparse.minor", b"0");
        push_record(&mut records, b"GNU.sparse.name", self.path);
        push_record(&mut records, b"GNU.sparse.realsize", size.to_string().as_bytes());
        self.header_with(records, stored)
    }

    fn header_with(&self, mut records: Vec<u8>, stored: u64) -> Vec<u8> {
        records.extend(self.records(stored));
        let mut bytes = extended(&records);
        let mut header = self.plain();
        header.set_size(if stored > MAX_SIZE { 0 } else { stored });
        let mtime = u64::try_from(self.stat.mtime.0).unwrap_or(0);
        let ids = (self.stat.uid.into(), self.stat.gid.into());
        finish(&mut header, self.stat.mode, ids, mtime, &mut bytes);
        bytes
    }

    fn target(&self) -> &[u8] {
        match self.kind {
            Kind::HardLink { target } | Kind::Symlink { target } => target,
            _ => b"",
        }
    }

    fn plain(&self) -> tar::Header {
        use tar::EntryType;
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(match self.kind {
            Kind::Directory => EntryType::Directory,
            Kind::File => EntryType::Regular,
            Kind::HardLink { .. } => EntryType::Link,
            Kind::Symlink { .. } => EntryType::Symlink,
            Kind::Fifo => EntryType::Fifo,
            Kind::Character => EntryType::Char,
            Kind::Block => EntryType::Block,
        });
        put(&mut header.as_old_mut().name, self.path);
        put(&mut header.as_old_mut().linkname, self.target());
        if let (Kind::Character | Kind::Block, Some(ustar)) = (self.kind, header.as_ustar_mut()) {
            // Linux has 12 and 20 bits for these: they fit.
            ustar.set_device_major(self.stat.node.0);
            ustar.set_device_minor(self.stat.node.1);
        }
        header
    }

    fn records(&self, stored: u64) -> Vec<u8> {
        let mut records = Vec::new();
        let mut push = |key: &[u8], value: &[u8]| push_record(&mut records, key, value);
        let long = |name: &[u8]| name.len() > MAX_NAME;
        if long(self.path) {
            push(b"path", self.path);
        }
        if long(self.target()) {
            push(b"linkpath", self.target());
        }
        if stored > MAX_SIZE {
            push(b"size", stored.to_string().as_bytes());
        }
        for (key, id) in [(b"uid", self.stat.uid), (b"gid", self.stat.gid)] {
            if u64::from(id) > MAX_ID {
                push(key, id.to_string().as_bytes());
            }
        }
        if let Some(time) = exact_time(self.stat.mtime) {
            push(b"mtime", time.as_bytes());
        }
        // A link has what the file has that it is another name of.
        if !matches!(self.kind, Kind::HardLink { .. }) {
            for (name, value) in &self.xattrs {
                push(&[b"SCHILY.xattr.", &**name].concat(), value);
            }
        }
        records
    }
}

/// An empty file that says something by its name.
pub(super) fn marker(path: &[u8], mtime: (i64, u32)) -> Vec<u8> {
    let mut records = Vec::new();
    if path.len() > MAX_NAME {
        push_record(&mut records, b"path", path);
    }
    let mut bytes = extended(&records);
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    put(&mut header.as_old_mut().name, path);
    header.set_size(0);
    finish(&mut header, 0, (0, 0), u64::try_from(mtime.0).unwrap_or(0), &mut bytes);
    bytes
}

/// The extended header of these records; nothing if there are none.
fn extended(records: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !records.is_empty() {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        put(&mut header.as_old_mut().name, b"PaxHeader");
        header.set_size(records.len() as u64);
        finish(&mut header, 0o644, (0, 0), 0, &mut bytes);
        bytes.extend_from_slice(records);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes
}

fn finish(header: &mut tar::Header, mode: u32, ids: (u64, u64), mtime: u64, out: &mut Vec<u8>) {
    header.set_mode(mode);
    header.set_uid(if ids.0 > MAX_ID { 0 } else { ids.0 });
    header.set_gid(if ids.1 > MAX_ID { 0 } else { ids.1 });
    header.set_mtime(mtime.min(MAX_SIZE));
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

/// As much of a name as there is room for; a longer one has a record besides.
fn put(field: &mut [u8; MAX_NAME], name: &[u8]) {
    let len = name.len().min(MAX_NAME);
    field[..len].copy_from_slice(&name[..len]);
}

/// The time as a record, if the old form has no room for it.
fn exact_time((seconds, nanoseconds): (i64, u32)) -> Option<String> {
    match u64::try_from(seconds) {
        Ok(seconds) if nanoseconds == 0 && seconds <= MAX_SIZE => None,
        Ok(seconds) => Some(format!("{seconds}.{nanoseconds:09}")),
        Err(_) if nanoseconds == 0 => Some(seconds.to_string()),
        // Half a second before -1 is -1.5, kept as -2 and half a second.
        Err(_) => {
            let (whole, rest) = (seconds + 1, 1_000_000_000 - nanoseconds);
            Some(format!("-{}.{rest:09}", whole.unsigned_abs()))
        }
    }
}

/// Appends `length key=value` and a line feed, where the length counts itself.
fn push_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    for part in [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_records_length_counts_itself() {
        for (value, want) in [(5, "13 key="), (90, "98 key="), (91, "99 key="), (92, "101 key=")] {
            let mut record = Vec::new();
            push_record(&mut record, b"key", &vec![b'v'; value]);
            let text = String::from_utf8(record.clone()).unwrap();
            assert!(text.starts_with(want), "{value}: {text}");
            assert_eq!(record.len().to_string(), text.split(' ').next().unwrap(), "{value}");
        }
    }

    #[test]
    fn times_are_exact_on_both_sides_of_1970() {
        for (time, want) in [
            ((12, 0), None),
            ((12, 5), Some("12.000000005")),
            ((-1, 0), Some("-1")),
            ((-2, 750_000_000), Some("-1.250000000")),
            ((-1, 500_000_000), Some("-0.500000000")),
            ((1 << 40, 0), Some("1099511627776.000000000")),
        ] {
            assert_eq!(exact_time(time).as_deref(), want, "{time:?}");
        }
    }

    proptest! {
        #[test]
        fn records_are_read_back(values in proptest::collection::vec(0_usize..20_000, 1..4)) {
            let mut records = Vec::new();
            for len in &values {
                push_record(&mut records, b"k", &vec![b'\n'; *len]);
            }
            let mut rest = &records[..];
            for len in values {
                let space = rest.iter().position(|&byte| byte == b' ').unwrap();
                let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
                prop_assert_eq!(length - space - 4, len);
                rest = &rest[length..];
            }
            prop_assert!(rest.is_empty());
        }
    }
}
