//! Registries as `registries.conf` and the host's own file with credentials have them.

use std::fs::{self, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use system_tests::archive::{Picture, id_of};
use system_tests::registry::{Access, REGISTRY, Registry, USER};
use system_tests::{Client, Ended, Host, Options, Properties, ROOT, Refused, Setup, Tared};
use system_tests::{on_scratch_host, run};
use zbus::{Fd, OwnedObjectPath, Variant};

use super::bad_input::there;
use super::images::pictures;
use super::pull::{Cutter, output, remove, sealed};
use super::{ERROR, failure};

/// Where another registry listens.
const MIRROR: &str = "127.0.0.1:5001";

/// What the host says of registries, for as long as this is there.
struct Said(PathBuf);

impl Said {
    fn new(host: &Host, conf: &str) -> Self {
        let said = Self(host.path("containers"));
        fs::create_dir(&said.0).unwrap();
        said.is(conf);
        mount_bind(&said.0, "/etc/containers").unwrap();
        said
    }

    fn is(&self, conf: &str) {
        self.write("registries.conf", conf);
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        unmount("/etc/containers", UnmountFlags::DETACH).unwrap();
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A registry that needs no certificate.
fn insecure(address: &str) -> String {
    format!("[[registry]]\nlocation = '{address}'\ninsecure = true\n")
}

fn options<'a>(more: impl IntoIterator<Item = (&'a str, Variant<'a>)>) -> Options<'a> {
    more.into_iter().collect()
}

fn always<'a>(more: impl IntoIterator<Item = (&'a str, Variant<'a>)>) -> Options<'a> {
    more.into_iter().chain([("Policy", "always".into())]).collect()
}

async fn pull(client: &Client, name: &str, options: Options<'_>) -> Result<Ended, Refused> {
    client.job(ROOT, "Manager", "PullImage", &(name, options)).await
}

/// What a pull brings that works.
async fn pulled(client: &Client, name: &str, options: Options<'_>) -> Properties {
    let ended = pull(client, name, options).await.unwrap();
    ended.done();
    output(client, &ended).await
}

/// How one ends that does not.
async fn failed(client: &Client, name: &str, options: Options<'_>) -> String {
    let ended = pull(client, name, options).await.unwrap();
    failure(&ended).trim_start_matches(ERROR).trim_start_matches('.').to_owned()
}

async fn push(client: &Client, image: &OwnedObjectPath, to: &str) -> Ended {
    client.job(image, "Image", "Push", &(to, options([]))).await.unwrap()
}

fn two_pictures() -> [Picture; 2] {
    pictures().try_into().unwrap()
}

#[test]
fn privileged_mirrors_are_asked_first_and_the_name_stays() {
    let conf = |mirror: bool, primary: bool| {
        format!(
            "[[registry]]\nprefix = 'images.test/app'\nlocation = '{REGISTRY}/real'\n\
             insecure = {primary}\n\
             [[registry.mirror]]\nlocation = '{MIRROR}/copy'\ninsecure = {mirror}\n"
        )
    };
    on_scratch_host(async |host| {
        let primary = Registry::start(host, Access::Open);
        let mirror = Registry::start_at(MIRROR, host.path("mirror"), Access::Open);
        let [one, two] = two_pictures();
        mirror.put(&one, "copy/x:1");
        primary.put(&two, "real/x:1");
        primary.put(&two, "real/x:2");
        let said = Said::new(host, &conf(true, true));
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let before = there(host, &client).await;

        let first = pulled(&client, "images.test/app/x:1", options([])).await;
        assert_eq!(first.text("Id"), id_of(&one), "the mirror's");
        assert_eq!(first.text("Reference"), "images.test/app/x:1");
        let seen = client.properties(&first.get::<OwnedObjectPath>("Image"), "Image").await;
        assert_eq!(seen.get::<Vec<String>>("References"), ["images.test/app/x:1"]);
        // It does not have everything.
        let other = pulled(&client, "images.test/app/x:2", options([])).await;
        assert_eq!(other.text("Id"), id_of(&two));

        // How one is spoken with is no matter of the other.
        said.is(&conf(false, true));
        let again = pulled(&client, "images.test/app/x:1", always([])).await;
        assert_eq!(again.text("Id"), id_of(&two), "the mirror has no certificate");
        said.is(&conf(true, false));
        let again = pulled(&client, "images.test/app/x:1", always([])).await;
        assert_eq!(again.text("Id"), id_of(&one), "the mirror needs none");
        let missing = failed(&client, "images.test/app/x:2", always([])).await;
        assert_eq!(missing, "RegistryUnreachable", "the registry has none");
        said.is(&conf(true, true));
        let strict = always([("TLSVerify", true.into())]);
        assert_eq!(failed(&client, "images.test/app/x:1", strict).await, "RegistryUnreachable");

        // Who says whom it is taken from says it of the name.
        said.write("policy.json", POLICY);
        assert_eq!(failed(&client, "images.test/app/x:1", always([])).await, "SignatureRejected");
        fs::remove_file(host.path("containers/policy.json")).unwrap();

        drop(mirror);
        let again = pulled(&client, "images.test/app/x:1", always([])).await;
        assert_eq!(again.text("Id"), id_of(&two), "the mirror is down");
        remove(&client, &first.get("Image")).await;
        remove(&client, &again.get("Image")).await;
        assert_eq!(there(host, &client).await, before, "nothing stays");
        tared.stop();
    });
}

/// Takes all but what goes by one name.
const POLICY: &str = r#"{
    "default": [{"type": "insecureAcceptAnything"}],
    "transports": {"docker": {"images.test": [{"type": "reject"}]}}
}"#;

#[test]
fn privileged_what_is_blocked_is_not_even_asked() {
    on_scratch_host(async |host| {
        let registry = TcpListener::bind("127.0.0.1:0").unwrap();
        registry.set_nonblocking(true).unwrap();
        let at = registry.local_addr().unwrap();
        let blocked = format!("[[registry]]\nlocation = '{at}'\nblocked = true\n");
        let said = Said::new(host, &blocked);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let busybox = client.import_busybox().await;
        let name = format!("{at}/x:1");
        for (about, options) in
            [("as it is", options([])), ("insecure", options([("TLSVerify", false.into())]))]
        {
            assert_eq!(failed(&client, &name, options).await, "RegistryBlocked", "{about}");
        }
        let ended = push(&client, &busybox, &name).await;
        assert_eq!(failure(&ended), format!("{ERROR}.RegistryBlocked"));
        // By another name, it is the same.
        said.is(&format!(
            "{blocked}[[registry]]\nprefix = 'images.test'\nlocation = '{at}/images'\n"
        ));
        assert_eq!(failed(&client, "images.test/x:1", options([])).await, "RegistryBlocked");
        let asked = registry.accept().unwrap_err();
        assert_eq!(asked.kind(), io::ErrorKind::WouldBlock, "nobody has come");

        // What cannot be read blocks everything.
        said.is("[[registry]]\nprefix = 'a.test'\n");
        assert_eq!(failed(&client, &name, options([])).await, "InvalidConfiguration");
        said.is("");
        said.write("registries.conf.d/a.conf", &blocked);
        assert_eq!(failed(&client, &name, options([])).await, "RegistryBlocked", "a drop-in");
        let drop_in = host.path("containers/registries.conf.d/a.conf");
        fs::set_permissions(&drop_in, Permissions::from_mode(0o666)).unwrap();
        assert_eq!(failed(&client, &name, options([])).await, "InvalidConfiguration");
        remove(&client, &busybox).await;
        tared.stop();
    });
}

#[test]
fn privileged_a_short_name_is_what_the_host_says() {
    on_scratch_host(async |host| {
        let first = Registry::start(host, Access::Open);
        let second = Registry::start_at(MIRROR, host.path("second"), Access::Open);
        let [one, two] = two_pictures();
        first.put(&one, "team/app:1");
        second.put(&two, "other:latest");
        let both = insecure(REGISTRY) + &insecure(MIRROR);
        let said = Said::new(host, &both);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let before = there(host, &client).await;

        let refused = pull(&client, "app:1", options([])).await.unwrap_err();
        assert_eq!(refused.short(), "InvalidReference", "{refused:?}");
        assert!(refused.message.contains("write registry.example/app:1"), "{refused:?}");
        said.write("registries.conf.d/a.conf", &format!("[aliases]\napp = '{REGISTRY}/team/app'"));
        let app = pulled(&client, "app:1", options([])).await;
        assert_eq!(app.text("Reference"), format!("{REGISTRY}/team/app:1"));
        assert_eq!(app.text("Id"), id_of(&one));

        let search = format!("unqualified-search-registries = ['{REGISTRY}', '{MIRROR}']\n");
        said.is(&(search.clone() + &both));
        let other = pulled(&client, "other", options([])).await;
        assert_eq!(
            other.text("Reference"),
            format!("{MIRROR}/other:latest"),
            "the one that has it"
        );
        assert_eq!(failed(&client, "nobody", options([])).await, "ManifestUnknown");
        said.is(&(search + "short-name-mode = 'enforcing'\n" + &both));
        let refused = pull(&client, "nobody", options([])).await.unwrap_err();
        let choice = format!("write {REGISTRY}/nobody:latest or {MIRROR}/nobody:latest");
        assert!(refused.message.contains(&choice), "{refused:?}");

        // One of this host is what is meant first, and nobody is asked for it.
        let tag = ("app:1", 0_u64);
        let image: OwnedObjectPath = other.get("Image");
        client.call(&image, "Image", "Tag", &tag).await.unwrap();
        let here = pulled(&client, "app:1", options([])).await;
        assert_eq!(here.text("Reference"), "localhost/app:1");
        assert_eq!(here.text("Id"), id_of(&two));
        for image in [image, app.get("Image")] {
            remove(&client, &image).await;
        }
        assert_eq!(there(host, &client).await, before, "nothing stays");
        tared.stop();
    });
}

/// `{"auths": ...}`, with [`USER`] for all of these.
fn auth(registries: &[&str]) -> String {
    let encoded = run("sh", &["-c", &format!("printf %s '{USER}' | base64")]);
    let entry = |registry: &&str| format!(r#""{registry}":{{"auth":"{}"}}"#, encoded.trim());
    format!(r#"{{"auths":{{{}}}}}"#, registries.iter().map(entry).collect::<Vec<_>>().join(","))
}

/// The same of a caller.
fn auth_of(user: &str) -> Variant<'static> {
    Variant::Fd(Fd::from(OwnedFd::from(sealed(user))))
}

#[test]
fn privileged_the_host_s_credentials_go_where_they_are_for_and_nowhere_else() {
    on_scratch_host(async |host| {
        let registry = Registry::start(host, Access::Password);
        registry.put(&pictures()[0], "app:1");
        // The same, by another name: all that is asked there is seen.
        let mirror = Cutter::start(usize::MAX);
        let mirror_at = format!("127.0.0.1:{}", mirror.port);
        let conf = format!(
            "{}[[registry.mirror]]\nlocation = '{mirror_at}'\ninsecure = true\n",
            insecure(REGISTRY)
        );
        let said = Said::new(host, &conf);
        let (settings, file) = (host.path("tared.toml"), host.path("auth.json"));
        let setting = format!("[registries]\nauth-file = '{}'\n", file.display());
        fs::write(&settings, setting).unwrap();
        let setup = Setup { config: Some(settings), ..Setup::private(host) };
        let mut tared = Tared::with(setup);
        let client = tared.client().await;
        let name = format!("{REGISTRY}/app:1");
        assert_eq!(failed(&client, &name, always([])).await, "RegistryDenied", "there is no file");

        let write = |registries: &[&str], mode| {
            fs::write(&file, auth(registries)).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        };
        write(&[REGISTRY], 0o600);
        let image: OwnedObjectPath = pulled(&client, &name, always([])).await.get("Image");
        let asked = || String::from_utf8_lossy(&mirror.asked.lock().unwrap()).to_lowercase();
        assert!(asked().contains("get /v2/app/manifests/1"), "{}", asked());
        assert!(!asked().contains("authorization"), "{}", asked());
        push(&client, &image, &format!("{REGISTRY}/pushed:1")).await.done();
        // Those of a caller are in place of them, and no less careful.
        let given = always([("Auth", auth_of("me:wrong"))]);
        assert_eq!(failed(&client, &name, given).await, "RegistryDenied");
        assert!(!asked().contains("authorization"), "{}", asked());
        // Where it is for the mirror, it gets it.
        write(&[REGISTRY, &mirror_at], 0o600);
        pulled(&client, &name, always([])).await;
        assert!(asked().contains("authorization"), "{}", asked());

        // No caller can have them sent in the clear.
        said.is("");
        let lax = always([("TLSVerify", false.into())]);
        assert_eq!(failed(&client, &name, lax).await, "RegistryDenied");
        said.is(&insecure(REGISTRY));
        for mode in [0o644, 0o640, 0o606] {
            write(&[REGISTRY], mode);
            let refused = failed(&client, &name, always([])).await;
            assert_eq!(refused, "InvalidConfiguration", "{mode:o}");
        }
        write(&[REGISTRY], 0o600);
        chown(&file, Some(1000), None).unwrap();
        assert_eq!(failed(&client, &name, always([])).await, "InvalidConfiguration");
        let own = always([("Auth", auth_of(USER))]);
        pulled(&client, &name, own).await;
        chown(&file, Some(0), None).unwrap();
        said.is(&format!("credential-helpers = ['elsewhere']\n{}", insecure(REGISTRY)));
        assert_eq!(
            failed(&client, &name, always([])).await,
            "RegistryDenied",
            "they are elsewhere"
        );
        assert!(!tared.log().contains("secret"), "no password is in the log");
        remove(&client, &image).await;
        tared.stop();
    });
}
