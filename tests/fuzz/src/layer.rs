//! The archive of a layer.

use std::io::Read as _;
use std::ops::ControlFlow;

use tare_storage::Rootfs;

use crate::Verdict;
use crate::room::{Room, limits};
use crate::text::assert_told_plainly;

pub(crate) fn check(data: &[u8]) -> Verdict {
    let archive = with_right_headers(data);
    let room = Room::new(&["first", "second"]);
    let unpacked = apply(&room.root("first"), &archive);
    room.assert_kept_to("first");
    if let Err(error) = unpacked {
        assert_told_plainly(&error);
        return Verdict::Refused;
    }
    assert_the_same_again(&room);
    Verdict::Taken
}

/// What was unpacked is packed, that is unpacked, and that packed once more.
fn assert_the_same_again(room: &Room) {
    // Who is not root may not read all that is theirs.
    let Some(once) = pack(&room.root("first")) else { return };
    apply(&room.root("second"), &once).expect("what was packed here is unpacked here");
    room.assert_kept_to("second");
    let twice = pack(&room.root("second"));
    assert!(twice.is_some_and(|twice| twice == once), "packed again it is another archive");
}

fn apply(root: &Rootfs, archive: &[u8]) -> Result<(), tare_storage::Error> {
    root.apply(archive, &limits(), &|_| ControlFlow::Continue(())).map(drop)
}

fn pack(root: &Rootfs) -> Option<Vec<u8>> {
    let mut archive = Vec::new();
    let packed = root.export().map(|mut stream| stream.read_to_end(&mut archive));
    match packed {
        Ok(Ok(_)) => Some(archive),
        failed if rustix::process::geteuid().is_root() => panic!("{failed:?}"),
        _ => None,
    }
}

const BLOCK: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Makes the checksum of each header what it must be. Otherwise nearly every change would be found out by that,
/// and nothing behind it would be tried. For whoever is not root, root's files are made theirs.
fn with_right_headers(data: &[u8]) -> Vec<u8> {
    let mut archive = data.to_vec();
    for header in archive.chunks_exact_mut(BLOCK) {
        if &header[257..262] == b"ustar" {
            own(header);
            let others = header[..CHECKSUM.start].iter().chain(&header[CHECKSUM.end..]);
            let sum = others.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
            header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    archive
}

fn own(header: &mut [u8]) {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if user.is_root() {
        return;
    }
    for (at, id) in [(108, user.as_raw()), (116, group.as_raw())] {
        if &header[at..at + 7] == b"0000000" && id < 1 << 21 {
            header[at..at + 7].copy_from_slice(format!("{id:07o}").as_bytes());
        }
    }
}
