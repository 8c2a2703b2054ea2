//! AppArmor denies, where the kernel uses it.

use system_tests::Ring::Machine;
use system_tests::{Client, Options, ROOT, Setup, Tared, in_lab, on_scratch_host, run};
use zbus::{OwnedObjectPath, Variant};

const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
/// What every process can read of itself.
const CURRENT: &str = "cat /proc/self/attr/current";

/// A container that waits, with these options.
async fn container(
    client: &Client,
    name: &str,
    options: &[(&'static str, Variant<'_>)],
) -> OwnedObjectPath {
    let mut all = Options::from([("Command", vec!["sleep", "1000"].into())]);
    all.extend(options.iter().map(|(key, value)| (*key, value.try_clone().unwrap())));
    let path = client.create_with(name, all).await.unwrap();
    client.start(&path).await.done();
    path
}

/// The profile of a container's first process, and of one that is executed in it.
async fn profiles(client: &Client, path: &OwnedObjectPath) -> [String; 2] {
    let script = format!("cat /proc/1/attr/current; {CURRENT}");
    let said = client.exec(path, &script).await.stdout;
    let mut lines = said.lines().map(str::to_owned);
    [lines.next().unwrap_or_default(), lines.next().unwrap_or_default()]
}

/// Whether a script is let do in a container what it does, or why it is not.
async fn tries(client: &Client, path: &OwnedObjectPath, script: &str) -> Result<(), String> {
    let ended = client.exec(path, script).await;
    if ended.code == 0 { Ok(()) } else { Err(ended.stderr) }
}

fn denied(tried: &Result<(), String>) -> bool {
    tried.as_ref().is_err_and(|why| why.contains("ermission denied"))
}

#[test]
fn vm_apparmor_confines_containers() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let plain = container(&client, "plain", &[]).await;
        let free = [("AppArmorProfile", Variant::from("unconfined"))];
        let free = container(&client, "free", &free).await;
        let confined = "tare-default (enforce)";
        assert_eq!(profiles(&client, &plain).await, [confined, confined]);
        assert_eq!(profiles(&client, &free).await, ["unconfined", "unconfined"]);
        let tainted: Vec<String> = client.properties(ROOT, "Manager").await.get("Tainted");
        assert!(!tainted.contains(&"no-apparmor-profile".into()), "{tainted:?}");
        for path in [plain, free] {
            client.remove(&path).await.done();
        }
    });
}

/// Two containers that differ in their profile alone: what one is denied, the other does.
#[test]
fn vm_apparmor_denies_what_capabilities_would_allow() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        // Nothing of it is read-only or masked, and it may do all.
        let privileged = || ("Privileged", Variant::from(true));
        let named = ("AppArmorProfile", Variant::from("tare-default"));
        let confined = container(&client, "confined", &[privileged(), named]).await;
        let free = container(&client, "free", &[privileged()]).await;
        for script in [
            // Its own, so it changes nothing for anybody else.
            "echo x >/proc/sys/kernel/domainname",
            "mkdir -p /m && mount -t tmpfs none /m",
        ] {
            let tried = tries(&client, &confined, script).await;
            assert!(denied(&tried), "{script}: {tried:?}");
            assert_eq!(tries(&client, &free, script).await, Ok(()), "{script}");
        }
        // What the profile does not deny it may do.
        assert_eq!(tries(&client, &confined, "echo 1 >/proc/self/oom_score_adj").await, Ok(()));
        for path in [confined, free] {
            client.remove(&path).await.done();
        }
    });
}

#[test]
fn vm_apparmor_a_profile_that_somebody_removed_is_loaded_again() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let remove = "echo 'profile tare-default {}' | apparmor_parser --remove";
        run("sh", &["-c", remove]);
        assert!(!std::fs::read_to_string(LOADED).unwrap().contains("tare-default"));
        let path = container(&client, "c", &[]).await;
        assert_eq!(profiles(&client, &path).await[0], "tare-default (enforce)");
        client.remove(&path).await.done();
    });
}

/// A daemon that is not the installed one has a profile of its own, which goes with it.
#[test]
fn vm_apparmor_each_daemon_has_a_profile_of_its_own() {
    on_scratch_host(async |host| {
        let mut tared = Tared::with(Setup::private(host));
        let client = tared.client().await;
        client.import_busybox().await;
        let path = container(&client, "c", &[]).await;
        let [profile, _] = profiles(&client, &path).await;
        let tag =
            profile.strip_prefix("tare-default-").and_then(|rest| rest.strip_suffix(" (enforce)"));
        assert_eq!(tag.map(str::len), Some(6), "{profile}");
        client.remove(&path).await.done();
        tared.stop();
        let name = profile.split(' ').next().unwrap();
        assert!(!std::fs::read_to_string(LOADED).unwrap().contains(name), "{name} stays");
    });
}
