//! What containers write, in the journal.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::Value;
use system_tests::Ring::System;
use system_tests::{Client, Options, in_lab, run, started};
use zbus::{OwnedFd, OwnedObjectPath, Variant};

const JOURNAL: &str = "/run/systemd/journal/socket";

fn id_of(path: &OwnedObjectPath) -> &str {
    path.as_str().rsplit('/').next().unwrap()
}

fn records(stream: &str) -> Vec<Value> {
    stream.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The texts of a log, in order.
async fn texts(client: &Client, path: &OwnedObjectPath, options: Options<'_>) -> Vec<String> {
    let records = records(&client.logs(path, options).await);
    records.iter().map(|it| it["msg"].as_str().unwrap().to_owned()).collect()
}

/// A container that has ended.
async fn ran(client: &Client, name: &str, script: &str) -> OwnedObjectPath {
    let path = started(client, name, script).await;
    client.exit(&path).await;
    path
}

#[test]
fn lab_what_a_container_writes_is_in_the_journal() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let path = ran(&client, "speaks", "echo out; echo err >&2; echo; printf 'no end'").await;
        let written = records(&client.logs(&path, Options::new()).await);
        let mut seen: Vec<_> = written
            .iter()
            .map(|it| (it["stream"].as_str().unwrap(), it["msg"].as_str().unwrap()))
            .collect();
        // The two streams are read by turns.
        seen.sort_unstable();
        let want = [("stderr", "err"), ("stdout", ""), ("stdout", "no end"), ("stdout", "out")];
        assert_eq!(seen, want);
        assert!(written.iter().all(|it| it["t"].as_u64().unwrap() > 1_700_000_000_000_000));

        let reply = client.call(&path, "Container", "Inspect", &0_u64).await.unwrap();
        let shown: Value =
            serde_json::from_str(&reply.body().deserialize::<String>().unwrap()).unwrap();
        assert_eq!(shown["LogDriver"], "journald");
        assert_eq!(shown.get("LogPath"), None);
        // As it is told there, journalctl finds the same.
        let matches: Vec<&str> =
            shown["LogMatch"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let found = run("journalctl", &[&["--output=json", "--all"][..], &matches].concat());
        let entry = records(&found).into_iter().find(|it| it["MESSAGE"] == "err\n").unwrap();
        let id = id_of(&path);
        for (field, want) in [
            ("CONTAINER_ID_FULL", id),
            ("CONTAINER_ID", &id[..12]),
            ("CONTAINER_NAME", "speaks"),
            ("SYSLOG_IDENTIFIER", "speaks"),
            ("PRIORITY", "3"),
        ] {
            assert_eq!(entry[field], want, "{field} of {entry}");
        }
        client.remove(&path).await.done();
    });
}

#[test]
fn lab_nobody_else_writes_into_the_log_of_a_container() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let path = ran(&client, "victim", "echo true").await;
        let id = id_of(&path);
        let forged = format!("MESSAGE=false\nPRIORITY=6\nCONTAINER_ID_FULL={id}\n");
        UnixDatagram::unbound().unwrap().send_to(forged.as_bytes(), JOURNAL).unwrap();
        // A message that is there tells that the one before it is.
        run("journalctl", &["--sync"]);
        let all = run("journalctl", &["--output=cat", &format!("CONTAINER_ID_FULL={id}")]);
        assert!(all.contains("false"), "{all}");
        for options in [Options::new(), Options::from([("Tail", Variant::from(2_u64))])] {
            assert_eq!(texts(&client, &path, options).await, ["true"]);
        }
        client.remove(&path).await.done();
    });
}

#[test]
fn lab_parts_of_a_log_are_read_from_the_journal() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        // Longer than conmon sends in one piece.
        let script = "echo a; sleep 0.2; echo b >&2; sleep 0.2; head -c 20000 /dev/zero | tr '\\0' x; \
                      echo; sleep 0.2; echo c";
        let path = ran(&client, "parts", script).await;
        let long = "x".repeat(20_000);
        let whole = ["a", "b", &long, "c"];
        let written = records(&client.logs(&path, Options::new()).await);
        let at = |index: usize| written[index]["t"].as_u64().unwrap();
        let streams = |name: &'static str| ("Streams", Variant::from(vec![name]));
        let number = |key, number: u64| (key, Variant::from(number));
        for (about, options, want) in [
            ("all", vec![], &whole[..]),
            ("the last", vec![number("Tail", 1)], &whole[3..]),
            ("a long line is one", vec![number("Tail", 2)], &whole[2..]),
            ("no more than there are", vec![number("Tail", 9)], &whole[..]),
            ("none", vec![number("Tail", 0)], &[]),
            ("since", vec![number("Since", at(1))], &whole[1..]),
            ("until", vec![number("Until", at(1))], &whole[..2]),
            ("one stream", vec![streams("stderr")], &whole[1..2]),
            ("its last", vec![streams("stdout"), number("Tail", 3)], &["a", &long, "c"]),
        ] {
            let options = options.into_iter().collect();
            assert_eq!(texts(&client, &path, options).await, want, "{about}");
        }
        client.remove(&path).await.done();
    });
}

/// Writes numbers until there is a file.
const COUNTS: &str = "i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo $i; sleep 0.05; done";

/// A stream of records, read as they come.
struct Followed(std::io::Lines<BufReader<fs::File>>);

impl Followed {
    async fn of(client: &Client, path: &OwnedObjectPath, tail: u64) -> Self {
        let options =
            Options::from([("Follow", Variant::from(true)), ("Tail", Variant::from(tail))]);
        let reply = client.call(path, "Container", "OpenLogs", &options).await.unwrap();
        let stream: OwnedFd = reply.body().deserialize().unwrap();
        let stream = std::os::fd::OwnedFd::from(stream);
        Self(BufReader::new(fs::File::from(stream)).lines())
    }

    /// The next number, or nothing at the end.
    async fn next(self) -> (Self, Option<u64>) {
        let next = move || {
            let Self(mut lines) = self;
            let line = lines.next().map(|line| {
                let record: Value = serde_json::from_str(&line.unwrap()).unwrap();
                record["msg"].as_str().unwrap().parse().unwrap()
            });
            (Self(lines), line)
        };
        tokio::task::spawn_blocking(next).await.unwrap()
    }

    /// So many that follow each other.
    async fn some(mut self, count: u64) -> (Self, u64) {
        let mut last = None;
        for _ in 0..count {
            let (rest, number) = self.next().await;
            self = rest;
            assert!(last.is_none_or(|last| number == Some(last + 1)), "{last:?}, {number:?}");
            last = number;
        }
        (self, last.unwrap())
    }
}

#[test]
fn lab_a_log_is_followed_across_rotation_and_restarts() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let path = started(&client, "counts", COUNTS).await;
        let (followed, _) = Followed::of(&client, &path, 1).await.some(10).await;
        run("journalctl", &["--rotate"]);
        let (followed, before) = followed.some(30).await;
        run("systemctl", &["restart", "tared"]);
        drop(followed);

        let client = lab.client().await;
        let mut followed = Followed::of(&client, &path, 1_000).await;
        let (rest, seen) = followed.some(before + 10).await;
        assert_eq!(seen, before + 10, "from the first on");
        client.exec(&path, "touch /tmp/end").await;
        followed = rest;
        let mut last = seen;
        while let (rest, Some(number)) = followed.next().await {
            assert_eq!(number, last + 1);
            (followed, last) = (rest, number);
        }
        let all: Vec<String> = (1..=last).map(|number| number.to_string()).collect();
        assert_eq!(texts(&client, &path, Options::new()).await, all, "and none was missed");
        client.remove(&path).await.done();
    });
}

/// Settings of journald, for as long as this is there.
struct Journald(&'static str);

impl Journald {
    fn with(settings: &str) -> Self {
        let file = "/run/systemd/journald.conf.d/tare-test.conf";
        fs::create_dir_all(Path::new(file).parent().unwrap()).unwrap();
        fs::write(file, settings).unwrap();
        run("systemctl", &["restart", "systemd-journald"]);
        Self(file)
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        fs::remove_file(self.0).unwrap();
        fs::remove_dir(Path::new(self.0).parent().unwrap()).unwrap();
        run("systemctl", &["restart", "systemd-journald"]);
    }
}

#[test]
fn lab_what_the_journal_does_not_take_is_counted() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let _few = Journald::with("[Journal]\nRateLimitIntervalSec=3s\nRateLimitBurst=100\n");
        // journald tells with the next one that it takes.
        let path = ran(&client, "floods", "seq 10000; sleep 4; echo last").await;
        let written = records(&client.logs(&path, Options::new()).await);
        let dropped: u64 = written.iter().filter_map(|it| it["dropped"].as_u64()).sum();
        let there = written.iter().filter(|it| it["msg"].is_string()).count() as u64;
        assert!(dropped > 0, "{there} are there");
        assert_eq!(there + dropped, 10_001);
        client.remove(&path).await.done();
    });
}

#[test]
fn lab_a_container_can_have_a_file_in_place_of_the_journal() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        run(
            "tarectl",
            &["run", "--name", "c", "--log-driver", "k8s-file", "busybox", "echo", "hi"],
        );
        assert_eq!(run("tarectl", &["wait", "c"]).trim(), "0");
        assert_eq!(run("tarectl", &["logs", "c"]), "hi\n");
        let shown: Value = serde_json::from_str(&run("tarectl", &["inspect", "c"])).unwrap();
        assert_eq!(shown["LogDriver"], "k8s-file");
        let file = fs::read_to_string(shown["LogPath"].as_str().unwrap()).unwrap();
        assert!(file.ends_with(" stdout F hi\n"), "{file}");
        run("tarectl", &["rm", "c"]);
    });
}
