//! Images out of a registry.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use system_tests::archive::{Picture, files_tar, id_of};
use system_tests::registry::{Access, REGISTRY, Registry, USER};
use system_tests::{Client, Ended, Options, Properties, ROOT, Refused, Tared, on_scratch_host};
use zbus::{Fd, OwnedObjectPath, OwnedVariant, Variant};

use super::bad_input::there;
use super::images::pictures;
use super::{ERROR, failure};

fn name(short: &str) -> String {
    format!("{REGISTRY}/{short}")
}

async fn pull(client: &Client, short: &str, options: Options<'_>) -> Result<Ended, Refused> {
    client.job(ROOT, "Manager", "PullImage", &(name(short), options)).await
}

/// Of a registry that has no certificate.
fn insecure<'a>(more: impl IntoIterator<Item = (&'a str, Variant<'a>)>) -> Options<'a> {
    [("TLSVerify", Variant::from(false))].into_iter().chain(more).collect()
}

pub(crate) async fn output(client: &Client, ended: &Ended) -> Properties {
    let output = client.properties(&ended.job, "Job").await.get::<Variant<'static>>("Output");
    Properties(HashMap::<String, OwnedVariant>::try_from(output).unwrap())
}

pub(crate) async fn remove(client: &Client, image: &OwnedObjectPath) {
    client.job(image, "Image", "Remove", &1_u64).await.unwrap().done();
}

fn one_and_two() -> [Picture; 2] {
    pictures().try_into().unwrap()
}

#[test]
fn privileged_an_image_is_pulled_as_often_as_is_asked_for() {
    on_scratch_host(async |host| {
        let registry = Registry::start(host, Access::Open);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let before = there(host, &client).await;
        let [one, two] = one_and_two();
        registry.put(&one, "a/app:1");

        let ended = pull(&client, "a/app:1", insecure([])).await.unwrap();
        ended.done();
        let first = output(&client, &ended).await;
        assert_eq!(first.text("Id"), id_of(&one));
        let image: OwnedObjectPath = first.get("Image");
        let seen = client.properties(&image, "Image").await;
        assert_eq!(seen.get::<Vec<String>>("References"), [name("a/app:1")]);
        assert_eq!(seen.get::<Vec<String>>("Digests"), [first.text("Digest")]);
        assert_eq!(seen.text("Verified"), "digest");

        // For another platform it is not here.
        let other = insecure([("Platform", "linux/s390x".into())]);
        let ended = pull(&client, "a/app:1", other).await.unwrap();
        assert_eq!(failure(&ended), format!("{ERROR}.PlatformMissing"), "{ended:?}");

        // By digest it is the same.
        let by_digest = format!("a/app@{}", first.text("Digest"));
        pull(&client, &by_digest, insecure([])).await.unwrap().done();

        registry.put(&two, "a/app:1");
        let missing = pull(&client, "a/app:1", insecure([])).await.unwrap();
        assert_eq!(output(&client, &missing).await.text("Id"), id_of(&one), "it is here");
        let newer = insecure([("Policy", "newer".into())]);
        let ended = pull(&client, "a/app:1", newer).await.unwrap();
        let second = output(&client, &ended).await;
        assert_eq!(second.text("Id"), id_of(&two));

        drop(registry);
        pull(&client, "a/app:1", insecure([])).await.unwrap().done();
        let always = insecure([("Policy", "always".into())]);
        let ended = pull(&client, "a/app:1", always).await.unwrap();
        assert_eq!(failure(&ended), format!("{ERROR}.RegistryUnreachable"), "{ended:?}");

        remove(&client, &image).await;
        remove(&client, &second.get("Image")).await;
        assert_eq!(there(host, &client).await, before, "nothing stays");
        tared.stop();
    });
}

#[test]
fn privileged_what_a_registry_does_not_give_is_told_apart() {
    on_scratch_host(async |host| {
        let registry = Registry::start(host, Access::Open);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let before = there(host, &client).await;
        registry.put(&pictures()[0], "app:1");
        registry.spoil(500_000);
        let platform = insecure([("Platform", "linux/s390x".into())]);
        for (about, short, options, wanted) in [
            ("no such tag", "app:2", insecure([]), "ManifestUnknown"),
            ("no such repository", "other:1", insecure([]), "ManifestUnknown"),
            ("no certificate", "app:1", Options::new(), "RegistryUnreachable"),
            ("another digest", "app:1", insecure([("Retries", 0.into())]), "DigestMismatch"),
            ("another platform", "app:1", platform, "PlatformMissing"),
        ] {
            let ended = pull(&client, short, options).await.unwrap();
            assert_eq!(failure(&ended), format!("{ERROR}.{wanted}"), "{about}: {ended:?}");
            assert_eq!(there(host, &client).await, before, "{about}");
        }
        for (key, value) in [("Policy", Variant::from("never")), ("Platform", "linux".into())] {
            let refused = pull(&client, "app:1", insecure([(key, value)])).await.unwrap_err();
            assert_eq!(refused.short(), "InvalidArgs", "{key}");
        }
        tared.stop();
    });
}

/// `{"auths": ...}` in a memfd that nobody can change any more.
pub(crate) fn sealed(user: &str) -> File {
    let encoded = system_tests::run("sh", &["-c", &format!("printf %s '{user}' | base64")]);
    let json = format!(r#"{{"auths":{{"{REGISTRY}":{{"auth":"{}"}}}}}}"#, encoded.trim());
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("auth", flags).unwrap());
    file.write_all(json.as_bytes()).unwrap();
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW).unwrap();
    file
}

#[test]
fn privileged_a_password_is_given_in_a_sealed_file() {
    on_scratch_host(async |host| {
        let registry = Registry::start(host, Access::Password);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        registry.put(&pictures()[0], "app:1");
        let auth = |file: &File| {
            insecure([(
                "Auth",
                Variant::from(Fd::from(std::os::fd::OwnedFd::from(file.try_clone().unwrap()))),
            )])
        };
        for (about, options) in
            [("nobody", insecure([])), ("a wrong password", auth(&sealed("me:wrong")))]
        {
            let ended = pull(&client, "app:1", options).await.unwrap();
            assert_eq!(failure(&ended), format!("{ERROR}.RegistryDenied"), "{about}: {ended:?}");
        }
        let open = File::from(memfd_create("auth", MemfdFlags::CLOEXEC).unwrap());
        let refused = pull(&client, "app:1", auth(&open)).await.unwrap_err();
        assert_eq!(refused.short(), "InvalidArgs", "it is not sealed");
        let ended = pull(&client, "app:1", auth(&sealed(USER))).await.unwrap();
        ended.done();
        assert!(!tared.log().contains("secret"), "no password is in the log");
        remove(&client, &output(&client, &ended).await.get("Image")).await;
        tared.stop();
    });
}

/// Between a client and the registry: breaks one connection off when it has given so many bytes.
pub(crate) struct Cutter {
    pub(crate) port: u16,
    /// What was asked for.
    pub(crate) asked: Arc<Mutex<Vec<u8>>>,
    /// How many bytes were given.
    given: Arc<AtomicUsize>,
}

impl Cutter {
    pub(crate) fn start(at: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cutter = Self {
            port: listener.local_addr().unwrap().port(),
            asked: Arc::default(),
            given: Arc::default(),
        };
        let (asked, given) = (cutter.asked.clone(), cutter.given.clone());
        let cut = Arc::new(AtomicBool::new(false));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, registry) = (client.unwrap(), TcpStream::connect(REGISTRY).unwrap());
                let (mut to, mut from) =
                    (registry.try_clone().unwrap(), client.try_clone().unwrap());
                let asked = asked.clone();
                std::thread::spawn(move || {
                    pass(&mut from, &mut to, |bytes| {
                        asked.lock().unwrap().extend(bytes);
                        true
                    });
                });
                let (cut, given) = (cut.clone(), given.clone());
                std::thread::spawn(move || {
                    let mut passed = 0;
                    pass(&mut &registry, &mut &client, |bytes| {
                        passed += bytes.len();
                        given.fetch_add(bytes.len(), Ordering::Relaxed);
                        passed < at || cut.swap(true, Ordering::Relaxed)
                    });
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        cutter
    }
}

/// An image with a layer of so many bytes, which nobody can make smaller.
pub(crate) fn incompressible(size: usize) -> Picture {
    let mut random = vec![0; size];
    File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    Picture { layers: vec![files_tar(&[("random", &random)])], ..pictures().remove(0) }
}

/// Passes on what comes, until there is no more or `go_on` says no.
fn pass(from: &mut impl Read, to: &mut impl Write, mut go_on: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() || !go_on(&buffer[..read]) {
            return;
        }
    }
}

#[test]
fn privileged_a_layer_that_breaks_off_goes_on_where_it_was() {
    const SIZE: usize = 8 << 20;
    on_scratch_host(async |host| {
        let registry = Registry::start(host, Access::Open);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let picture = incompressible(SIZE);
        registry.put(&picture, "big:1");
        let cutter = Cutter::start(SIZE / 2);
        let name = format!("127.0.0.1:{}/big:1", cutter.port);
        let ended = client.job(ROOT, "Manager", "PullImage", &(name, insecure([]))).await.unwrap();
        ended.done();
        let pulled = output(&client, &ended).await;
        assert_eq!(pulled.text("Id"), id_of(&picture), "it is whole");
        let asked = String::from_utf8_lossy(&cutter.asked.lock().unwrap()).to_lowercase();
        assert!(asked.contains("range: bytes="), "{asked}");
        let given = cutter.given.load(Ordering::Relaxed);
        assert!(given < SIZE + SIZE / 4, "{given} bytes for {SIZE}: it was begun again");
        // Without being asked again it fails.
        remove(&client, &pulled.get("Image")).await;
        let cutter = Cutter::start(SIZE / 2);
        let name = format!("127.0.0.1:{}/big:1", cutter.port);
        let once = insecure([("Retries", 0_u32.into())]);
        let ended = client.job(ROOT, "Manager", "PullImage", &(name, once)).await.unwrap();
        assert_eq!(failure(&ended), format!("{ERROR}.RegistryUnreachable"), "{ended:?}");
        tared.stop();
    });
}

#[test]
fn privileged_four_images_are_pulled_at_once_and_others_wait() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        // Nobody ever answers there.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let mut jobs = Vec::new();
        for nth in 0..5 {
            let name = format!("127.0.0.1:{port}/image:{nth}");
            let reply = client.call(ROOT, "Manager", "PullImage", &(name, insecure([]))).await;
            jobs.push(reply.unwrap().body().deserialize::<OwnedObjectPath>().unwrap());
        }
        let stage = async |at: usize| client.properties(&jobs[at], "Job").await.text("Stage");
        let reach = async |at: usize, wanted: &str| {
            while stage(at).await != wanted {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        for at in 0..4 {
            reach(at, "resolving").await;
        }
        reach(4, "waiting").await;
        let cancel = async |at: usize| {
            client.call(&jobs[at], "Job", "Cancel", &0_u64).await.unwrap();
            assert_eq!(client.ended(&jobs[at]).await.result, "canceled");
        };
        cancel(0).await;
        reach(4, "resolving").await;
        for at in 1..5 {
            cancel(at).await;
        }
        tared.stop();
    });
}
