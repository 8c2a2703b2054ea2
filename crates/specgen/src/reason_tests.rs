use proptest::prelude::*;

use super::*;
use crate::effective::effective;
use crate::image::ImageDefaults;
use crate::request::Request;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn of(request: &Request, image: &ImageDefaults, foreign: &Foreign) -> Vec<String> {
    let effective = effective(request, image, foreign).unwrap();
    reasons(&effective).iter().map(ToString::to_string).collect()
}

fn texts(request: &Request, image: &ImageDefaults) -> Vec<String> {
    of(request, image, &Foreign::default())
}

fn request(json: &str) -> Request {
    serde_json::from_str(&format!("{{\"v\":1,{json}}}")).unwrap()
}

/// Every option that is no reason, whatever it says here; by its part of the JSON.
const HARMLESS: [&str; 49] = [
    r#""Command":["x"]"#,
    r#""TTY":true"#,
    r#""OpenStdin":true"#,
    r#""Entrypoint":["x"]"#,
    r#""Env":["A=b"]"#,
    r#""WorkingDir":"/x""#,
    r#""User":"0""#,
    r#""Hostname":"x""#,
    r#""Labels":{"a":"b"}"#,
    r#""Annotations":{"a":"b"}"#,
    r#""ReadOnlyRootfs":true"#,
    r#""StopSignal":9"#,
    r#""StopTimeoutUSec":9"#,
    r#""Healthcheck":{"Command":["x"],"OnFailure":"kill"}"#,
    r#""NetworkMode":"none""#,
    r#""DNS":["127.0.0.1"]"#,
    r#""DNSSearch":["a"]"#,
    r#""DNSOptions":["a"]"#,
    r#""Hosts":{"a":"host-gateway"}"#,
    r#""CapAdd":["KILL"]"#,
    r#""CapDrop":["ALL"]"#,
    r#""NoNewPrivileges":true"#,
    r#""Ulimits":[["core",0,0],["nofile",9,1048576],["nproc",9,1048576],["memlock",0,8388608]]"#,
    r#""Ulimits":[["nice",0,20],["rtprio",0,0],["msgqueue",0,819200],["stack",0,18446744073709551615]]"#,
    r#""ShmSize":4096"#,
    r#""Seccomp":"default""#,
    r#""AppArmorProfile":"default""#,
    r#""Resources":{"Memory":1048576,"PidsMax":18446744073709551615}"#,
    r#""Resources":{"Unified":{"memory.high":"1","cpu.weight":"9","io.max":"8:0 rbps=1","hugetlb.2MB.max":"0"}}"#,
    r#""TTY":true"#,
    r#""Init":true"#,
    r#""Namespaces":{"UserNamespace":"private","TimeMode":"private"},"TimeOffsets":{"Monotonic":5}"#,
    r#""GroupAdd":["0"]"#,
    r#""Umask":0"#,
    r#""Timezone":"local""#,
    r#""Systemd":"always""#,
    r#""SdNotify":"healthy""#,
    r#""ListenFDs":["http"]"#,
    r#""OOMScoreAdjust":500"#,
    r#""Mounts":[{"Target":"/d","Source":{"Volume":{"Name":"v"}},"Options":["rslave","z","exec"]}]"#,
    r#""Mounts":[{"Target":"/d","Source":"Tmpfs"},{"Target":"/e","Source":"Devpts"}]"#,
    r#""Secrets":[{"Name":"s","Target":{"Env":"S"}}]"#,
    r#""Sysctls":{"net.ipv4.ip_forward":"1"}"#,
    r#""BaseHosts":"host""#,
    r#""HostsFile":"image","ResolvConf":"image","HostnameFile":"image""#,
    r#""PasswdEntry":false"#,
    r#""ReadOnlyRootfs":true,"ReadOnlyTmpfs":false"#,
    r#""LogDriver":"journald""#,
    r#""LogOptions":{"max-size":"5"}"#,
];

/// Every option that is one, with what it is called.
const WIDENING: [(&str, &str); 52] = [
    (r#""NetworkMode":"host""#, "host network"),
    (r#""NetworkMode":"ns:/x""#, "network namespace /x"),
    (r#""Namespaces":{"PIDMode":"host"}"#, "host pid, no SELinux"),
    (r#""Namespaces":{"IPCMode":"host"}"#, "host ipc, no SELinux"),
    (r#""Namespaces":{"UTSMode":"host"}"#, "host uts"),
    (r#""Namespaces":{"CgroupMode":"host"}"#, "host cgroup"),
    (r#""Namespaces":{"MountMode":"ns:/x"}"#, "mount namespace /x"),
    (r#""Namespaces":{"UserNamespace":"ns:/x"}"#, "user namespace /x"),
    (r#""Namespaces":{"TimeMode":"ns:/x"}"#, "time namespace /x"),
    (
        r#""Namespaces":{"UserNamespace":"private"},"UIDMap":[[0,0,1]],"GIDMap":[[0,0,1]]"#,
        "choice of user ids",
    ),
    (r#""CapAdd":["SYS_ADMIN"]"#, "capability SYS_ADMIN"),
    (r#""Seccomp":"unconfined""#, "no seccomp"),
    (r#""Seccomp":"{\"defaultAction\":\"SCMP_ACT_ALLOW\"}""#, "own seccomp profile"),
    (r#""AppArmorProfile":"unconfined""#, "no AppArmor"),
    (r#""AppArmorProfile":"mine""#, "AppArmor profile mine"),
    (r#""SELinuxLabel":"disable""#, "no SELinux"),
    (r#""SELinuxLabel":"a:b:c:s0""#, "SELinux label a:b:c:s0"),
    (r#""SELinuxLabel":"::spc_t""#, "SELinux label ::spc_t"),
    (r#""OOMScoreAdjust":-1"#, "OOM score -1"),
    (r#""Ulimits":[["rtprio",0,1]]"#, "limit RLIMIT_RTPRIO"),
    (r#""Ulimits":[["nice",0,21]]"#, "limit RLIMIT_NICE"),
    (r#""Ulimits":[["memlock",0,8388609]]"#, "limit RLIMIT_MEMLOCK"),
    (r#""Ulimits":[["nofile",0,1048577]]"#, "limit RLIMIT_NOFILE"),
    (r#""Ulimits":[["nproc",0,1048577]]"#, "limit RLIMIT_NPROC"),
    (r#""Ulimits":[["msgqueue",0,819201]]"#, "limit RLIMIT_MSGQUEUE"),
    (r#""Resources":{"Unified":{"io.prio.class":"0"}}"#, "cgroup file io.prio.class"),
    (r#""Resources":{"Unified":{"io.latency":"0"}}"#, "cgroup file io.latency"),
    (
        r#""Resources":{"Unified":{"cpuset.cpus.partition":"0"}}"#,
        "cgroup file cpuset.cpus.partition",
    ),
    (
        r#""Resources":{"Unified":{"cpuset.cpus.exclusive":"0"}}"#,
        "cgroup file cpuset.cpus.exclusive",
    ),
    (r#""Resources":{"Unified":{"cpu.uclamp.min":"0"}}"#, "cgroup file cpu.uclamp.min"),
    (r#""Resources":{"Unified":{"memory.min":"0"}}"#, "cgroup file memory.min"),
    (r#""IntelRdt":{"ClosID":"x"}"#, "cache and memory bandwidth"),
    (r#""CgroupParent":"/x""#, "cgroup parent /x"),
    (r#""CgroupParent":"x.slice""#, "cgroup parent x.slice"),
    (r#""Unit":{"ExecStop":"x"}"#, "unit property ExecStop"),
    (r#""Runtime":"kata""#, "runtime kata"),
    (r#""HooksDirs":["/x"]"#, "hooks in /x"),
    (r#""LogOptions":{"path":"/x"}"#, "log in a host path"),
    (r#""SpecPatch":"{}""#, "changed configuration"),
    (r#""BaseHosts":"/x""#, "host path /x"),
    (r#""Mounts":[{"Target":"/d","Source":{"Host":"/x"},"ReadOnly":true}]"#, "host path /x"),
    (
        r#""Mounts":[{"Target":"/d","Source":{"Host":"/x"},"Options":["Z"]}]"#,
        "host path /x, mount option Z",
    ),
    (r#""Mounts":[{"Target":"/d","Source":"Tmpfs","Options":["dev"]}]"#, "mount option dev"),
    (r#""Mounts":[{"Target":"/d","Source":"Tmpfs","Options":["suid"]}]"#, "mount option suid"),
    (
        r#""Mounts":[{"Target":"/d","Source":{"Volume":{"Name":"v"}},"Options":["rshared"]}]"#,
        "mount option rshared",
    ),
    (
        r#""Mounts":[{"Target":"/d","Source":{"Volume":{"Name":"v"}},"Options":["idmap=uids=0-0-1"]}]"#,
        "mount option idmap",
    ),
    (
        r#""Devices":[{"Path":"/dev/x","Target":"/dev/x","Kind":"c","Number":"1:2","Mode":0,"UID":0,"GID":0}]"#,
        "device /dev/x",
    ),
    (r#""DeviceCgroupRules":["c 1:* r"]"#, "devices c 1:* r"),
    (r#""CDIDevices":["v.com/c=d"]"#, "device v.com/c=d"),
    (r#""Sysctls":{},"NetworkMode":"host""#, "host network"),
    (r#""CapAdd":["ALL"],"CapDrop":["ALL","KILL"],"NetworkMode":"host""#, "host network"),
    (
        r#""Privileged":true,"CapDrop":["ALL"],"Seccomp":"default""#,
        "privileged, no seccomp, no AppArmor, no SELinux",
    ),
];

#[test]
fn what_widens_is_a_reason() {
    for (json, want) in WIDENING {
        assert_eq!(texts(&request(json), &ImageDefaults::default()).join(", "), want, "{json}");
    }
    let all = texts(&request(r#""CapAdd":["ALL"]"#), &ImageDefaults::default());
    assert_eq!(all.len(), 41 - 11);
    let privileged = texts(&request(r#""Privileged":true"#), &ImageDefaults::default());
    assert_eq!(privileged.len(), 1 + 30 + 3);
    assert!(
        texts(&request(r#""CapAdd":["BPF"],"CapDrop":["BPF"]"#), &ImageDefaults::default())
            .is_empty()
    );
}

#[test]
fn what_does_not_is_none() {
    for json in HARMLESS {
        let got = texts(&request(json), &ImageDefaults::default());
        assert!(got.is_empty(), "{json}: {got:?}");
    }
    for kind in ["PIDMode", "IPCMode", "UTSMode", "CgroupMode", "MountMode", "UserNamespace"] {
        let json = format!(r#""Namespaces":{{"{kind}":"container:{ID}"}}"#);
        assert!(texts(&request(&json), &ImageDefaults::default()).is_empty(), "{kind}");
    }
}

/// A new option is in one of the two lists: whoever adds it has thought of it.
#[test]
fn every_option_is_in_one_of_the_lists() {
    let lists: String = HARMLESS.into_iter().chain(WIDENING.map(|(json, _)| json)).collect();
    // serde knows the names, and says them when there is another one.
    let said = serde_json::from_str::<Request>(r#"{"?":1}"#).unwrap_err().to_string();
    let known: Vec<_> = said.split('`').skip(3).step_by(2).filter(|name| *name != "v").collect();
    assert!(known.len() > 50, "{known:?}");
    for option in known {
        assert!(lists.contains(&format!("\"{option}\":")), "{option}");
    }
}

#[test]
fn what_is_not_the_owners_is_a_reason() {
    let mut foreign = Foreign::default();
    foreign.things.insert((ForeignKind::Volume, "data".to_owned()));
    foreign.things.insert((ForeignKind::Container, "w\neb".to_owned()));
    foreign.root = RootSource::Bundle;
    let image = ImageDefaults::default();
    let want =
        ["bundle of the host", "volume data of another user", r"container w\neb of another user"];
    assert_eq!(of(&request(r#""Env":[]"#), &image, &foreign), want);

    let mut foreign = Foreign::default();
    foreign.privileged.insert("o\nwn".to_owned());
    let want = [r"namespaces of privileged container o\nwn"];
    assert_eq!(of(&request(r#""Env":[]"#), &image, &foreign), want);

    let strict = Foreign { user_namespace_required: true, ..Foreign::default() };
    assert_eq!(of(&request(r#""Env":[]"#), &image, &strict), ["no user namespace"]);
    let own = request(r#""Namespaces":{"UserNamespace":"private"}"#);
    assert!(of(&own, &image, &strict).is_empty());
}

proptest! {
    #[test]
    fn an_image_never_adds_a_reason(
        key in "(CapAdd|Privileged|Seccomp|NetworkMode|Labels|Env|User|Entrypoint|WorkingDir|Volumes)",
        value in r#"(true|"host"|"unconfined"|\["ALL"\]|\{"run.oci.x":"y"\}|"0"|"/x"|\{"/x":\{\}\})"#,
    ) {
        let json = format!(r#"{{"config":{{"{key}":{value}}}}}"#);
        if let Ok(image) = ImageDefaults::parse(json.as_bytes()) {
            prop_assert!(texts(&Request::default(), &image).is_empty());
            let effective = effective(&Request::default(), &image, &Foreign::default()).unwrap();
            prop_assert!(effective.request.annotations.is_empty());
        }
    }

    #[test]
    fn a_widening_option_shows_whatever_is_around_it(
        widening in proptest::sample::select(WIDENING.to_vec()),
        harmless in proptest::sample::select(HARMLESS.to_vec()),
    ) {
        let key = |json: &str| -> Vec<String> {
            json.split('"').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let (wide, narrow) = (key(widening.0), key(harmless));
        prop_assume!(!narrow.iter().any(|name| wide.contains(name)));
        let json = format!("{harmless},{}", widening.0);
        let Ok(request) = serde_json::from_str::<Request>(&format!("{{\"v\":1,{json}}}")) else {
            return Err(TestCaseError::fail(json));
        };
        // Some do not go together; what is refused reaches nothing.
        if let Ok(effective) = effective(&request, &ImageDefaults::default(), &Foreign::default()) {
            let texts: Vec<_> = reasons(&effective).iter().map(ToString::to_string).collect();
            prop_assert!(texts.join(", ").contains(widening.1), "{} {:?}", json, texts);
        }
    }
}
