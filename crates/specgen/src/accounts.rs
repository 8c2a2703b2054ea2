//! The lines of `/etc/passwd` and `/etc/group` of an image, read as hostile bytes.
//!
//! A line that does not parse (too few fields, no number, a number above [`MAX_ID`]) is passed
//! over, as the C library does. See passwd(5) and group(5).

use crate::user::MAX_ID;

/// Largest account file that is looked at, in bytes: some 20,000 accounts; images that carry more
/// do so to exhaust memory (CVE-2025-4437).
pub const MAX_ACCOUNT_FILE: usize = 1 << 20;

/// One line of `/etc/passwd`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: &'a [u8],
}

/// One line of `/etc/group`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) gid: u32,
    members: &'a [u8],
}

pub(crate) fn users(passwd: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        // An empty name would be "listed" by every group without members.
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(User { name, uid, gid, home })
    })
}

pub(crate) fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let gid = id(fields.nth(1)?)?;
        Some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

/// The groups that list this user as a member.
pub(crate) fn groups_of(group: &[u8], user: &[u8]) -> impl Iterator<Item = u32> {
    groups(group)
        .filter(move |entry| entry.members.split(|byte| *byte == b',').any(|name| name == user))
        .map(|entry| entry.gid)
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#')
}

fn id(field: &[u8]) -> Option<u32> {
    if !field.iter().all(u8::is_ascii_digit) {
        return None; // "+1" and " 1" are numbers to Rust or C, but not here
    }
    std::str::from_utf8(field).ok()?.parse().ok().filter(|id| *id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junk_is_passed_over() {
        let cases: [(&str, &[u8], Vec<u32>); 10] = [
            ("good", b"a:x:1:2:::", vec![1]),
            ("without the tail", b"a:x:1:2", vec![1]),
            ("no newline at the end", b"a:x:1:2:::\nb:x:3:4:::", vec![1, 3]),
            ("comments and empty lines", b"#a:x:1:2:::\n\n\nb:x:3:4:::\n", vec![3]),
            ("too few fields", b"a:x:1\nb:x:3:4", vec![3]),
            ("no numbers", b"a:x:one:2\na:x:+1:2\na:x: 1:2\na:x::2\n", vec![]),
            ("beyond 2^31-1", b"a:x:2147483648:0::\na:x:4294967296:0::\n", vec![]),
            ("no name", b":x:1:2:::\nb:x:3:4:::\n", vec![3]),
            ("not UTF-8", b"\xff:x:1:2:\xff:/\xff:\n", vec![1]),
            ("NIS markers", b"+::::::\n-bob\n", vec![]),
        ];
        for (about, file, want) in cases {
            assert_eq!(users(file).map(|user| user.uid).collect::<Vec<_>>(), want, "{about}");
        }
        let long = [b"a:x:1:2:".as_slice(), &vec![b'g'; 100_000], b":/home/a:/bin/sh"].concat();
        assert_eq!(users(&long).map(|user| user.home).collect::<Vec<_>>(), [b"/home/a"]);
    }

    #[test]
    fn members_are_whole_names() {
        let file = b"a:x:1:bob,eve\nb:x:2:bobby\nc:x:3:\nd:x:4\ne:x:5:eve,bob";
        assert_eq!(groups_of(file, b"bob").collect::<Vec<_>>(), [1, 5]);
    }
}
