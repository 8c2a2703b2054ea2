use std::ffi::CStr;
use std::io;

use crate::log::record::{Dropped, Line, Stream};

/// What an entry of the journal tells of a container.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// What it has written.
    Line(OwnedLine),
    /// That some of that is not there.
    Dropped(Dropped),
}

/// A [`Line`] that has its text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OwnedLine {
    timestamp_usec: u64,
    stream: Stream,
    ends: bool,
    text: Vec<u8>,
}

impl OwnedLine {
    pub(super) fn as_line(&self) -> Line<'_> {
        let Self { timestamp_usec, stream, ends, text } = self;
        Line { timestamp_usec: *timestamp_usec, stream: *stream, ends: *ends, text }
    }
}

/// The fields of an entry that tell whose it is, and what it says. Those whose names begin with `_` come from
/// journald, which lets nobody else send such.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    transport: Option<Vec<u8>>,
    cgroup: Option<Vec<u8>>,
    uid: Option<Vec<u8>>,
    comm: Option<Vec<u8>>,
    priority: Option<Vec<u8>>,
    partial: Option<Vec<u8>>,
    message: Option<Vec<u8>>,
    dropped: Option<Vec<u8>>,
}

impl Fields {
    pub(super) fn read(
        field: &mut impl FnMut(&CStr) -> io::Result<Option<Vec<u8>>>,
    ) -> io::Result<Self> {
        Ok(Self {
            transport: field(c"_TRANSPORT")?,
            cgroup: field(c"_SYSTEMD_CGROUP")?,
            uid: field(c"_UID")?,
            comm: field(c"_COMM")?,
            priority: field(c"PRIORITY")?,
            partial: field(c"CONTAINER_PARTIAL_MESSAGE")?,
            message: field(c"MESSAGE")?,
            dropped: field(c"N_DROPPED")?,
        })
    }

    /// What it tells of the container in that unit; nothing if it does not come from whom it should.
    pub(super) fn into_entry(self, timestamp_usec: u64, unit: &str) -> Option<Entry> {
        match self.transport.as_deref()? {
            b"journal" if self.is_of_conmon(unit) => Some(Entry::Line(OwnedLine {
                timestamp_usec,
                stream: stream_of(self.priority.as_deref()?)?,
                ends: self.partial.as_deref() != Some(b"true"),
                text: without_feed(self.message.unwrap_or_default()),
            })),
            b"driver" => {
                let count = std::str::from_utf8(&self.dropped?).ok()?.parse().ok()?;
                Some(Entry::Dropped(Dropped { timestamp_usec, count }))
            }
            _ => None,
        }
    }

    /// conmon is root, and in a group of its own, where nothing of its container can be. journald knows neither
    /// group nor name of who has ended by the time it looks, as conmon may have with the last words of a
    /// container: the kernel still told it that this was root.
    fn is_of_conmon(&self, unit: &str) -> bool {
        let is_there = match &self.cgroup {
            Some(cgroup) => std::str::from_utf8(cgroup).is_ok_and(|it| is_supervisor(it, unit)),
            None => self.comm.is_none(),
        };
        is_there && self.uid.as_deref() == Some(b"0")
    }
}

/// Whether a control group is that of conmon in a unit. Units are in slices alone: what is in another unit
/// whoever it was given to has made.
fn is_supervisor(cgroup: &str, unit: &str) -> bool {
    let within = cgroup.strip_suffix("/supervisor").and_then(|it| it.strip_suffix(unit));
    let slices = within.and_then(|it| it.strip_prefix('/')).and_then(|it| it.strip_suffix('/'));
    slices.is_some_and(|slices| slices.split('/').all(|it| it.strip_suffix(".slice").is_some()))
}

/// conmon sends lines with their line feeds.
fn without_feed(mut text: Vec<u8>) -> Vec<u8> {
    text.pop_if(|last| *last == b'\n');
    text
}

/// As conmon says which it was.
fn stream_of(priority: &[u8]) -> Option<Stream> {
    match priority {
        b"6" => Some(Stream::Stdout),
        b"3" => Some(Stream::Stderr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "tare-0123456789ab.scope";

    fn fields(of: &[(&str, &str)]) -> Fields {
        let mut field = |name: &CStr| {
            let value = of.iter().find(|(key, _)| *key == name.to_str().unwrap());
            Ok(value.map(|(_, value)| value.as_bytes().to_vec()))
        };
        Fields::read(&mut field).unwrap()
    }

    fn message(cgroup: Option<&str>, more: &[(&str, &str)]) -> Option<Entry> {
        let plain =
            [("_TRANSPORT", "journal"), ("_UID", "0"), ("PRIORITY", "6"), ("MESSAGE", "hi\n")];
        let cgroup = cgroup.map(|cgroup| ("_SYSTEMD_CGROUP", cgroup));
        // The first of a name counts.
        let all: Vec<_> = more.iter().copied().chain(cgroup).chain(plain).collect();
        fields(&all).into_entry(7, UNIT)
    }

    #[test]
    fn only_what_conmon_has_sent_counts() {
        let supervisor = "/machine.slice/tare-0123456789ab.scope/supervisor";
        let payload = "/machine.slice/tare-0123456789ab.scope/payload";
        let forged =
            "/machine.slice/tare-0123456789ab.scope/payload/tare-0123456789ab.scope/supervisor";
        let other = "/machine.slice/tare-ba9876543210.scope/supervisor";
        let beside = "/x.slice/a-tare-0123456789ab.scope/supervisor";
        for (about, cgroup, uid, counts) in [
            ("conmon", Some(supervisor), "0", true),
            ("in another slice", Some("/b.slice/tare-0123456789ab.scope/supervisor"), "0", true),
            ("somebody in a group called like conmon's", Some(supervisor), "1000", false),
            (
                "in a group that somebody has made of their own",
                Some("/user.slice/user@1000.service/tare-0123456789ab.scope/supervisor"),
                "0",
                false,
            ),
            (
                "in a group that another container has made",
                Some("/a.slice/tare-ba9876543210.scope/payload/tare-0123456789ab.scope/supervisor"),
                "0",
                false,
            ),
            ("in no slice", Some("/tare-0123456789ab.scope/supervisor"), "0", false),
            ("the container", Some(payload), "0", false),
            ("a group that it has made", Some(forged), "0", false),
            ("another container's", Some(other), "0", false),
            ("a unit whose name ends so", Some(beside), "0", false),
            ("below conmon's", Some(&*format!("{supervisor}/x")), "0", false),
            ("the unit itself", Some("/machine.slice/tare-0123456789ab.scope"), "0", false),
            ("somebody", Some("/user.slice"), "1000", false),
            ("root that has ended", None, "0", true),
            ("somebody who has ended", None, "1000", false),
        ] {
            assert_eq!(message(cgroup, &[("_UID", uid)]).is_some(), counts, "{about}");
        }
        assert_eq!(
            message(None, &[("_UID", "0"), ("_COMM", "sh")]),
            None,
            "root outside of all units"
        );
        assert_eq!(message(Some(supervisor), &[("_TRANSPORT", "syslog")]), None);
    }

    #[test]
    fn an_entry_is_a_line_of_one_of_two_streams() {
        let supervisor = Some("/machine.slice/tare-0123456789ab.scope/supervisor");
        let line = |more: &[(&str, &str)]| match message(supervisor, more) {
            Some(Entry::Line(line)) => Some((line.stream, line.ends, line.text)),
            _ => None,
        };
        let text = b"hi".to_vec();
        assert_eq!(line(&[]), Some((Stream::Stdout, true, text.clone())));
        assert_eq!(line(&[("PRIORITY", "3")]), Some((Stream::Stderr, true, text.clone())));
        let partial = [("CONTAINER_PARTIAL_MESSAGE", "true")];
        assert_eq!(line(&partial), Some((Stream::Stdout, false, text)));
        assert_eq!(line(&[("MESSAGE", "\n")]), Some((Stream::Stdout, true, Vec::new())));
        assert_eq!(line(&[("MESSAGE", "a\n\n")]), Some((Stream::Stdout, true, b"a\n".to_vec())));
        assert_eq!(line(&[("PRIORITY", "5")]), None, "conmon's own words");
    }

    #[test]
    fn what_journald_has_dropped_is_counted_and_nobody_else_says_so() {
        let said = |transport| {
            let of = [("_TRANSPORT", transport), ("N_DROPPED", "12"), ("PRIORITY", "4")];
            fields(&of).into_entry(7, UNIT)
        };
        let dropped = Dropped { timestamp_usec: 7, count: 12 };
        assert_eq!(said("driver"), Some(Entry::Dropped(dropped)));
        assert_eq!(said("syslog"), None);
        assert_eq!(
            fields(&[("_TRANSPORT", "driver"), ("N_DROPPED", "-1")]).into_entry(7, UNIT),
            None
        );
    }
}
