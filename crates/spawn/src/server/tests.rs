//! The protocol, with a spawner that forks nothing.

use super::*;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::sys::socket::{Packet, Received};
use crate::wire::{self, Call, Hello, MAX_FDS, MAX_MESSAGE, OLDEST, Reply, VERSION};
use crate::{
    After, Attach, AttachedStreams, CgroupPath, Checkpoint, ContainerId, Create, Created, Deleted,
    Dumped, Exec, Execed, Extent, Extras, Force, IdRange, Incarnation, Limits, LiveFile,
    OciRuntime, Place, PlacedMount, Prepared, Profile, ProfileName, Refusal, Remote, Started,
    Stdin, Streams, Swapped, Target, UserMap,
};

/// The containers there are, as a spawner that has no programs knows them.
#[derive(Debug, Default)]
struct Fake {
    prepared: Mutex<BTreeSet<ContainerId>>,
    created: Mutex<BTreeSet<ContainerId>>,
    /// Those that stand still.
    still: Mutex<BTreeSet<ContainerId>>,
    profiles: Mutex<BTreeSet<String>>,
    /// How many descriptors the last conmon was to keep.
    kept: AtomicUsize,
    /// [`Spawner::start`] says that it has begun, and waits for a word.
    gate: Option<(Sender<()>, Mutex<Receiver<()>>)>,
}

#[derive(Debug)]
struct FakePrepared {
    fake: Arc<Fake>,
    id: ContainerId,
    supervisor: Started,
}

fn ourselves() -> Started {
    Started { pid: 7, pidfd: pidfd_open(getpid(), PidfdFlags::empty()).unwrap() }
}

impl Prepared for FakePrepared {
    fn supervisor(&self) -> &Started {
        &self.supervisor
    }

    fn create(self: Box<Self>, mounts: Vec<PlacedMount>) -> Result<Created, Error> {
        if mounts.is_empty() {
            let (id, leftovers) = (self.id.clone(), vec![]);
            return Err(Error::Create { id, cause: Cause::Refused(Refusal::Places), leftovers });
        }
        self.fake.created.lock().unwrap().insert(self.id.clone());
        Ok(Created { supervisor: ourselves(), init: ourselves() })
    }
}

impl Drop for FakePrepared {
    fn drop(&mut self) {
        self.fake.prepared.lock().unwrap().remove(&self.id);
    }
}

#[derive(Debug)]
struct FakeDumped {
    fake: Arc<Fake>,
    request: Checkpoint,
}

impl Dumped for FakeDumped {
    fn commit(self: Box<Self>) -> Result<(), Error> {
        if self.request.after == After::Ends {
            self.fake.created.lock().unwrap().remove(&self.request.target.id);
        }
        Ok(())
    }
}

impl Drop for FakeDumped {
    fn drop(&mut self) {
        self.fake.still.lock().unwrap().remove(&self.request.target.id);
    }
}

fn exec_in(target: Target) -> Exec {
    let cgroup = "/tare/x".parse().unwrap();
    Exec { target, session: 1, cgroup, streams: Streams::Given }
}

impl Spawner for Arc<Fake> {
    fn prepare(&self, request: &Create, kept: Vec<OwnedFd>) -> Result<Box<dyn Prepared>, Error> {
        self.kept.store(kept.len(), Ordering::Relaxed);
        self.prepared.lock().unwrap().insert(request.id.clone());
        let (fake, id) = (self.clone(), request.id.clone());
        Ok(Box::new(FakePrepared { fake, id, supervisor: ourselves() }))
    }

    fn can_log_to_journal(&self) -> bool {
        true
    }

    fn start(&self, _: &Target, _: BorrowedFd<'_>) -> Result<(), Error> {
        if let Some((begun, go)) = &self.gate {
            begun.send(()).unwrap();
            go.lock().unwrap().recv().unwrap();
        }
        Ok(())
    }

    fn delete(
        &self,
        target: &Target,
        _: Option<BorrowedFd<'_>>,
        _: Force,
    ) -> Result<Deleted, Error> {
        let known = self.created.lock().unwrap().remove(&target.id);
        Ok(if known { Deleted::Deleted } else { Deleted::AlreadyGone })
    }

    fn checkpoint(
        &self,
        request: &Checkpoint,
        _: BorrowedFd<'_>,
        _: OwnedFd,
    ) -> Result<Box<dyn Dumped>, Error> {
        self.still.lock().unwrap().insert(request.target.id.clone());
        Ok(Box::new(FakeDumped { fake: self.clone(), request: request.clone() }))
    }

    fn exec(&self, _: &Exec, _: BorrowedFd<'_>, _: [OwnedFd; 3]) -> Result<Execed, Error> {
        Ok(Execed { supervisor: None, process: Some(ourselves()), terminal: None })
    }

    fn attach(&self, _: &Attach, _: BorrowedFd<'_>, streams: AttachedStreams) -> Result<(), Error> {
        let [_, Some(output), _] = streams else { panic!("{streams:?}") };
        File::from(output).write_all(b"attached").unwrap();
        Ok(())
    }

    fn swap_file(&self, _: &Target, file: LiveFile, _: BorrowedFd<'_>) -> Result<Swapped, Error> {
        Ok(if file == LiveFile::Hosts { Swapped::Done } else { Swapped::NotOurs })
    }

    fn version(&self, runtime: OciRuntime) -> Result<String, Error> {
        Ok(format!("{runtime} 1"))
    }

    fn limits(&self) -> Result<Limits, Error> {
        Ok(Limits { capabilities: 5, resources: [("RLIMIT_NOFILE".into(), 6)].into() })
    }

    fn load_profile(&self, profile: &Profile) -> Result<(), Error> {
        self.profiles.lock().unwrap().insert(profile.name().to_string());
        Ok(())
    }

    fn unload_profile(&self, name: &ProfileName) -> Result<(), Error> {
        self.profiles.lock().unwrap().remove(name.as_str());
        Ok(())
    }

    fn make_users(&self, map: &UserMap) -> Result<OwnedFd, Error> {
        assert_eq!(map.uids[0].size, 65_536);
        Ok(ourselves().pidfd)
    }

    fn cleanup_cgroup(&self, cgroup: &CgroupPath, _: Extent) -> Result<(), Error> {
        let source = io::Error::from_raw_os_error(libc::EBUSY);
        let cause = Cause::Step { step: "clear it".into(), source };
        Err(Error::Cleanup { cgroup: cgroup.clone(), cause })
    }

    fn make_cgroup(&self, _: &CgroupPath) -> Result<(), Error> {
        Ok(())
    }

    fn remove_empty_cgroup(&self, _: &CgroupPath) -> Result<(), Error> {
        panic!("a call that panics")
    }
}

/// A server on a socket of a test's own.
struct Served {
    dir: tempfile::TempDir,
    fake: Arc<Fake>,
    inner: Arc<Inner>,
    stop: std::io::PipeWriter,
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

impl Served {
    fn new(fake: Fake) -> Self {
        Self::with_patience(fake, Duration::from_secs(60))
    }

    fn with_patience(fake: Fake, patience: Duration) -> Self {
        let (dir, fake) = (tempfile::tempdir().unwrap(), Arc::new(fake));
        let listener = Listener::bind(&dir.path().join("s")).unwrap();
        let server = Server::with_patience(Box::new(fake.clone()), "/run/x".into(), patience);
        let inner = server.0.clone();
        let (stopped, stop) = std::io::pipe().unwrap();
        let thread = Some(thread::spawn(move || server.serve(listener, stopped.as_fd())));
        Self { dir, fake, inner, stop, thread }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// Returns when so many calls for a container are under way: one at work, the others waiting.
    /// A call that was only just made may not have been taken yet.
    fn until_interested(&self, id: &ContainerId, number: usize) {
        within(|| self.inner.locks.interested(id) == number);
    }

    fn remote(&self) -> Remote {
        Remote::connect(self.path(), "/run/x").unwrap()
    }

    /// A connection on which nothing has been said.
    fn connect(&self) -> OwnedFd {
        let client = socket::connect_to(&self.path(), Duration::from_secs(9)).unwrap();
        socket::set_timeout(&client, rustix::net::sockopt::Timeout::Recv, Duration::from_secs(9))
            .unwrap();
        client
    }

    /// A connection on which both have greeted.
    fn greeted(&self) -> OwnedFd {
        let client = self.connect();
        say(&client, &Hello { oldest: 1, newest: VERSION }, 0);
        assert!(matches!(reply(&client), Reply::Welcome(welcome) if welcome.version == VERSION));
        client
    }

    fn stop(&mut self) {
        io::Write::write_all(&mut self.stop, b"x").unwrap();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

fn say(client: &OwnedFd, message: &impl serde::Serialize, fds: usize) {
    say_raw(client, &wire::encode(message).unwrap(), fds);
}

fn say_raw(client: &OwnedFd, text: &[u8], fds: usize) {
    let null = File::open("/dev/null").unwrap();
    socket::send(client, text, &vec![null.as_fd(); fds]).unwrap();
}

fn reply(client: &OwnedFd) -> Reply {
    match socket::receive(client).unwrap() {
        Received::Packet(Packet { text, .. }) => wire::decode(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn rejection(client: &OwnedFd) -> Rejection {
    let Reply::Rejected(rejection) = reply(client) else { panic!("it was accepted") };
    assert!(matches!(socket::receive(client).unwrap(), Received::Closed), "nothing follows");
    rejection
}

fn id(digit: char) -> ContainerId {
    digit.to_string().repeat(ContainerId::LEN).parse().unwrap()
}

fn request(digit: char) -> Create {
    Create {
        id: id(digit),
        incarnation: Incarnation(1),
        runtime: OciRuntime::Crun,
        cgroup: "/tare/x".parse().unwrap(),
        log: crate::Log::File("/log".into()),
        stdin: Stdin::Null,
        restore: None,
    }
}

fn rootfs() -> Vec<PlacedMount> {
    vec![PlacedMount { place: Place::Rootfs, mount: File::open("/dev/null").unwrap().into() }]
}

fn within(done: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(std::time::Instant::now() < end, "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn each_call_arrives_and_is_answered() {
    let mut served = Served::new(Fake::default());
    let remote = served.remote();
    let created = remote.create(&request('a'), rootfs()).unwrap();
    assert_eq!((created.supervisor.pid, created.init.pid), (7, 7));
    assert!(served.fake.created.lock().unwrap().contains(&id('a')));
    let (target, conmon) = (request('a').target(), created.supervisor.pidfd);
    remote.start(&target, conmon.as_fd()).unwrap();
    let exec = exec_in(target.clone());
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let execed = remote.exec(&exec, conmon.as_fd(), [null(), null(), null()]).unwrap();
    assert!(execed.supervisor.is_none() && execed.process.unwrap().pid == 7);
    let attach = Attach { target: target.clone(), stdin: Stdin::Open, owner: Some(7) };
    let (mut output, pipe) = std::io::pipe().unwrap();
    remote.attach(&attach, conmon.as_fd(), [None, Some(pipe.into()), None]).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "attached");
    let delete = |conmon| remote.delete(&target, conmon, Force::No).unwrap();
    assert_eq!(delete(Some(conmon.as_fd())), Deleted::Deleted);
    assert_eq!(delete(None), Deleted::AlreadyGone);
    assert_eq!(remote.version(OciRuntime::Runc).unwrap(), "runc 1");
    assert_eq!(remote.limits().unwrap(), served.fake.limits().unwrap());
    let profile =
        "profile \"tare-default\" flags=(attach_disconnected, mediate_deleted) {\n  file,\n}\n";
    let profile = Profile::try_from(profile.to_string()).unwrap();
    remote.load_profile(&profile).unwrap();
    assert!(served.fake.profiles.lock().unwrap().contains("tare-default"));
    remote.unload_profile(profile.name()).unwrap();
    assert!(served.fake.profiles.lock().unwrap().is_empty());
    let range = IdRange { inside: 0, outside: 100_000, size: 65_536 };
    remote.make_users(&UserMap { uids: vec![range], gids: vec![range] }).unwrap();
    remote.make_cgroup(&exec.cgroup).unwrap();
    let error = remote.cleanup_cgroup(&exec.cgroup, Extent::Whole).unwrap_err();
    let Some(Cause::Step { step, source }) = error.cause() else { panic!("{error:?}") };
    assert_eq!((step.as_str(), source.raw_os_error()), ("clear it", Some(libc::EBUSY)));
    let error = remote.create(&request('b'), vec![]).unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::Refused(Refusal::Places))), "{error:?}");
    served.stop();
    assert!(!served.path().exists(), "the socket goes with the server");
}

#[test]
fn who_speaks_an_older_version_is_spoken_to_in_that() {
    let served = Served::new(Fake::default());
    for (newest, want) in [(OLDEST, OLDEST), (VERSION, VERSION), (VERSION + 5, VERSION)] {
        let client = served.connect();
        say(&client, &Hello { oldest: OLDEST, newest }, 0);
        let version = match reply(&client) {
            Reply::Welcome(welcome) => welcome.version,
            other => panic!("{other:?}"),
        };
        assert_eq!(version, want);
    }
    let null = || File::open("/dev/null").unwrap().into();
    drop(served.remote().prepare(&request('a'), vec![null(), null()]).unwrap());
    assert_eq!(served.fake.kept.load(Ordering::Relaxed), 2);
}

#[test]
fn who_does_not_say_what_it_speaks_is_not_heard() {
    let served = Served::new(Fake::default());
    for (oldest, newest) in
        [(VERSION + 1, VERSION + 2), (0, OLDEST - 1), (VERSION + 1, VERSION), (2, 1)]
    {
        let client = served.connect();
        say(&client, &Hello { oldest, newest }, 0);
        let want = Rejection::Version { oldest: OLDEST, newest: VERSION };
        assert_eq!(rejection(&client), want, "{oldest} to {newest}");
    }
    let client = served.connect();
    say(&client, &Call::Limits {}, 0);
    assert!(matches!(rejection(&client), Rejection::Malformed { .. }));
    let client = served.connect();
    say(&client, &Hello { oldest: 0, newest: 99 }, 1);
    assert_eq!(rejection(&client), Rejection::Descriptors);
    say(&served.greeted(), &Call::Limits {}, 0);
}

#[test]
fn what_is_malformed_or_too_much_is_refused() {
    let served = Served::new(Fake::default());
    let refused = |text: &[u8], fds| {
        let client = served.greeted();
        say_raw(&client, text, fds);
        rejection(&client)
    };
    assert!(matches!(refused(b"{\"verb\":", 0), Rejection::Malformed { .. }));
    assert!(matches!(refused(&[0xff, 0], 0), Rejection::Malformed { .. }));
    let verb = "run".to_string();
    assert_eq!(refused(br#"{"verb":"run","args":{}}"#, 0), Rejection::UnknownVerb { verb });
    assert_eq!(refused(&vec![b' '; MAX_MESSAGE + 1], 0), Rejection::TooLong);
    assert_eq!(refused(&vec![b' '; 3 * MAX_MESSAGE], 0), Rejection::TooLong);
    let target = || request('a').target();
    let exec = exec_in(target());
    for (call, fds) in [
        (Call::Prepare(request('a')), crate::MAX_KEPT + 1),
        (Call::Start(target()), 0),
        (Call::Start(target()), 2),
        (Call::Delete { target: target(), force: Force::No }, 2),
        (Call::Exec(exec.clone()), 3),
        (Call::Commit {}, 1),
        (Call::Limits {}, MAX_FDS),
        // The right number, of the wrong kind.
        (Call::Start(target()), 1),
        (Call::Delete { target: target(), force: Force::No }, 1),
        (Call::Exec(exec), 4),
    ] {
        assert_eq!(refused(&wire::encode(&call).unwrap(), fds), Rejection::Descriptors, "{call:?}");
    }
    let create = Call::Create { places: vec![] };
    assert_eq!(refused(&wire::encode(&create).unwrap(), 0), Rejection::OutOfTurn);
    assert!(served.fake.prepared.lock().unwrap().is_empty());
}

#[test]
fn what_was_prepared_is_taken_back_if_nothing_sensible_follows() {
    let served = Served::new(Fake::default());
    let prepared = || !served.fake.prepared.lock().unwrap().is_empty();
    let prepare = || {
        let client = served.greeted();
        say(&client, &Call::Prepare(request('a')), 0);
        assert!(matches!(reply(&client), Reply::Done(_)));
        assert!(prepared());
        client
    };
    drop(prepare());
    within(|| !prepared());
    let client = prepare();
    say(&client, &Call::Limits {}, 0);
    assert_eq!(rejection(&client), Rejection::OutOfTurn);
    assert!(!prepared());
    let client = prepare();
    say(&client, &Call::Create { places: vec![Place::Rootfs] }, 2);
    assert_eq!(rejection(&client), Rejection::Descriptors);
    assert!(!prepared());
    let waits = served.remote().prepare(&request('a'), Vec::new()).unwrap();
    assert_eq!(waits.supervisor().pid, 7);
    drop(waits);
    within(|| !prepared());
    assert!(served.fake.created.lock().unwrap().is_empty());
}

#[test]
fn what_stands_still_goes_on_if_nothing_sensible_follows() {
    let served = Served::new(Fake::default());
    served.remote().create(&request('a'), rootfs()).unwrap();
    let stands_still = || !served.fake.still.lock().unwrap().is_empty();
    let exists = || served.fake.created.lock().unwrap().contains(&id('a'));
    let images = || OwnedFd::from(File::open("/").unwrap());
    let dump = |after| {
        let request =
            Checkpoint { target: request('a').target(), after, extras: Extras::default() };
        let conmon = ourselves().pidfd;
        let dumped = served.remote().checkpoint(&request, conmon.as_fd(), images()).unwrap();
        assert!(stands_still());
        dumped
    };
    drop(dump(After::Ends));
    within(|| !stands_still());
    assert!(exists());
    dump(After::GoesOn).commit().unwrap();
    assert!(exists() && !stands_still());
    dump(After::Ends).commit().unwrap();
    assert!(!exists() && !stands_still());

    let client = served.greeted();
    say(&client, &Call::Commit {}, 0);
    assert_eq!(rejection(&client), Rejection::OutOfTurn);
}

#[test]
fn a_tare_spawn_of_another_directory_is_not_used() {
    let served = Served::new(Fake::default());
    let error = Remote::connect(served.path(), "/run/y").unwrap_err();
    let Some(Cause::Rejected(rejection)) = error.cause() else { panic!("{error:?}") };
    assert_eq!(*rejection, Rejection::RunDir("/run/x".into()));
}

#[test]
fn a_panic_ends_one_call_alone() {
    let served = Served::new(Fake::default());
    let remote = served.remote();
    let error = remote.remove_empty_cgroup(&"/tare/x".parse().unwrap()).unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::NoAnswer)), "{error:?}");
    remote.limits().unwrap();
}

#[test]
fn calls_for_one_container_take_turns_and_end_with_their_caller() {
    let (begun, begins) = channel();
    let (go, goes) = channel();
    let mut served = Served::new(Fake { gate: Some((begun, Mutex::new(goes))), ..Fake::default() });
    let (first, after) = (served.remote(), served.remote());
    let (conmon, target) = (ourselves().pidfd, request('a').target());
    thread::scope(|scope| {
        let first = scope.spawn(|| first.start(&target, conmon.as_fd()));
        begins.recv().unwrap();
        // One that goes away before its turn, and its successor.
        let late = served.greeted();
        let start = wire::encode(&Call::Start(target.clone())).unwrap();
        socket::send(&late, &start, &[conmon.as_fd()]).unwrap();
        served.until_interested(&target.id, 2);
        let after = scope.spawn(|| after.delete(&target, None, Force::Kill));
        served.until_interested(&target.id, 3);
        // Others are served.
        served.remote().delete(&request('b').target(), None, Force::Kill).unwrap();
        drop(late);
        assert!(!after.is_finished() && !first.is_finished());
        // What is under way when it is asked to end is carried through.
        io::Write::write_all(&mut served.stop, b"x").unwrap();
        within(|| !served.path().exists());
        go.send(()).unwrap();
        first.join().unwrap().unwrap();
        assert_eq!(after.join().unwrap().unwrap(), Deleted::AlreadyGone);
    });
    served.thread.take().unwrap().join().unwrap().unwrap();
    assert!(begins.try_recv().is_err(), "nobody wants it any more");
}

#[test]
fn who_says_nothing_keeps_nobody_out() {
    // All of one process's slots, and more: this one's, so it is told that it has too many.
    let served = Served::new(Fake::default());
    let remote = served.remote();
    let silent: Vec<_> = (0..100).map(|_| served.connect()).collect();
    let error = remote.limits().unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::Rejected(Rejection::Busy))), "{error:?}");
    drop(silent);
    // In the end they are not waited for any longer.
    let served = Served::with_patience(Fake::default(), Duration::from_millis(100));
    let remote = served.remote();
    let silent: Vec<_> = (0..100).map(|_| served.connect()).collect();
    within(|| remote.limits().is_ok());
    drop(silent);
}

/// A `tare-spawn` that greets each of its callers with one of these versions, and then goes.
fn greets(path: &Path, versions: impl IntoIterator<Item = u32> + Send + 'static) {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, accept, bind, listen, socket};
    let listener = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&listener, 9).unwrap();
    thread::spawn(move || {
        for version in versions {
            let server = accept(&listener).unwrap();
            socket::receive(&server).unwrap();
            say(&server, &Reply::Welcome(wire::Welcome { version, run_dir: "/run/x".into() }), 0);
        }
    });
}

#[test]
fn one_from_before_the_journal_is_not_asked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    greets(&path, [VERSION, wire::JOURNALS - 1, wire::JOURNALS]);
    let remote = Remote::connect(&path, "/run/x").unwrap();
    assert!(!remote.can_log_to_journal(), "it is older");
    assert!(remote.can_log_to_journal());
}
