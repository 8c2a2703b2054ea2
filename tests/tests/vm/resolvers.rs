//! Following the resolvers of a machine on which nothing more can be watched: who has the last descriptor for
//! that is a matter of the whole kernel.

use std::fs;
use std::iter::from_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags};
use system_tests::Ring::Machine;
use system_tests::{Client, Options, in_lab};
use zbus::OwnedObjectPath;

const RESOLV: &str = "/etc/resolv.conf";
/// Five times as long as it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has all there are, also those that somebody gives back.
struct Hog {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hog {
    fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (full, is_full) = mpsc::channel();
        let eat = move || {
            let mut all = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                all.extend(from_fn(|| inotify::init(CreateFlags::CLOEXEC).ok()));
                let _ = full.send(());
                thread::sleep(Duration::from_millis(5));
            }
        };
        let thread = Some(thread::spawn(eat));
        is_full.recv().unwrap();
        Self { stop, thread }
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn follows(client: &Client, path: &OwnedObjectPath, text: &str) {
    fs::write(RESOLV, text).unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        let now = client.exec(path, "cat /etc/resolv.conf").await.stdout;
        if now == text {
            return;
        }
        assert!(Instant::now() < end, "{text:?}: {now:?}");
    }
}

#[test]
fn vm_resolvers_are_followed_where_they_cannot_be_watched() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let before = fs::read(RESOLV).ok();
        let options = Options::from([
            ("Command", vec!["sleep", "1000"].into()),
            ("NetworkMode", "host".into()),
        ]);
        let path = client.create_with("c", options).await.unwrap();
        client.start(&path).await.done();
        let hog = Hog::new();
        // The first is still seen, by whoever watches already.
        for last in 1..4 {
            follows(&client, &path, &format!("nameserver 192.0.2.{last}\n")).await;
        }
        drop(hog);
        match before {
            Some(before) => fs::write(RESOLV, before).unwrap(),
            None => fs::remove_file(RESOLV).unwrap(),
        }
        client.remove(&path).await.done();
    });
}
