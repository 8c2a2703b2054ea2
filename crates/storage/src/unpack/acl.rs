//! Access control lists: the text of archives, and the attribute the kernel keeps.
//!
//! The text is that of [`acl(5)`], as star, GNU tar and bsdtar write it. The attribute is a version
//! and, for each entry, tag, permissions and id, all little endian.
//!
//! [`acl(5)`]: https://man7.org/linux/man-pages/man5/acl.5.html

/// Version of the attribute.
const VERSION: u32 = 2;
/// The id of entries that have none.
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The attribute for the list in `text`; `None` if it cannot be understood, or names somebody.
///
/// A name would have to be looked up on this host, where it means somebody else than in the image;
/// a number in a fourth field, as GNU tar writes it, does.
pub(super) fn attribute(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let lines = text.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty());
    let mut entries = lines.map(entry).collect::<Option<Vec<_>>>()?;
    // The kernel wants them in this order, and those of one kind by id.
    entries.sort_unstable_by_key(|entry| (entry.tag, entry.id));
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for Entry { tag, permissions, id } in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    Some(bytes)
}

struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

fn entry(line: &str) -> Option<Entry> {
    let mut fields = line.split(':').map(str::trim);
    let (kind, who) = (fields.next()?, fields.next()?);
    let (permissions, number) = match (fields.next(), fields.next()) {
        (Some(permissions), number) => (permissions, number),
        // `mask:rwx` and `other:r--` leave out the empty field.
        (None, _) => (who, None),
    };
    let who = if fields.next().is_some() { return None } else { who };
    let named = !who.is_empty() && who != permissions;
    let (tag, id) = match (kind, named) {
        ("user" | "u", false) => (USER_OBJ, NO_ID),
        ("user" | "u", true) => (USER, id(who, number)?),
        ("group" | "g", false) => (GROUP_OBJ, NO_ID),
        ("group" | "g", true) => (GROUP, id(who, number)?),
        ("mask" | "m", false) => (MASK, NO_ID),
        ("other" | "o", false) => (OTHER, NO_ID),
        _ => return None,
    };
    Some(Entry { tag, permissions: permission_bits(permissions)?, id })
}

fn id(who: &str, number: Option<&str>) -> Option<u32> {
    number.unwrap_or(who).parse().ok().filter(|&id| id != NO_ID)
}

fn permission_bits(text: &str) -> Option<u16> {
    let [r, w, x] = text.as_bytes() else { return None };
    let bit = |byte: &u8, letter, value| match *byte {
        b'-' => Some(0),
        byte if byte == letter => Some(value),
        _ => None,
    };
    Some(bit(r, b'r', 4)? | bit(w, b'w', 2)? | bit(x, b'x', 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_what_setfacl_makes_of_it() {
        // `setfacl -m u:1000:rwx,g:50:r-x FILE` on a file of mode 0640, read with `getfattr -e hex`.
        let want = [
            &[2, 0, 0, 0][..],
            &[1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff],
            &[2, 0, 7, 0, 0xe8, 3, 0, 0],
            &[4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff],
            &[8, 0, 5, 0, 50, 0, 0, 0],
            &[0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff],
            &[0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        ]
        .concat();
        for text in [
            "user::rw-\nuser:1000:rwx\ngroup::r--\ngroup:50:r-x\nmask::rwx\nother::---\n",
            "u::rw-,u:1000:rwx,g::r--,g:50:r-x,m::rwx,o::---",
            "other:---,mask:rwx,group:staff:r-x:50,group::r--,user:ann:rwx:1000,user::rw-",
        ] {
            assert_eq!(attribute(text.as_bytes()).as_deref(), Some(&want[..]), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_no_list() {
        for text in [
            "user:ann:rwx",
            "user:4294967295:rwx",
            "user::rwxx",
            "user::wrx",
            "user",
            "mask:ann:rwx",
            "what::rwx",
            "user:a:rwx:1:2",
            "\u{e9}::rwx",
        ] {
            assert_eq!(attribute(text.as_bytes()), None, "{text}");
        }
    }
}
