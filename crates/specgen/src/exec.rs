//! A further process in a running container.

use serde_json::{Value, json};

use crate::effective::overlaid;
use crate::error::{Cause, Error};
use crate::facts::RootfsFacts;
use crate::process::{env_var, oci_user};
use crate::text::{Argument, EnvVar, InvalidText, Problem, WorkingDir};
use crate::user::{self, UserSpec};

/// Largest config.json that is read back, in bytes: above what a call on the bus can make.
pub const MAX_CONFIG: usize = 64 << 20;

/// A command to run in a container; what is left out is as for the container's first process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExecRequest {
    /// The program and its arguments.
    pub argv: Vec<Argument>,
    /// Added to the container's environment, or in place of its entries of the same name.
    pub env: Vec<EnvVar>,
    /// Where the process starts.
    pub working_dir: Option<WorkingDir>,
    /// Who the process is.
    pub user: Option<UserSpec>,
    /// Whether it has a terminal of its own, and how large that is.
    pub terminal: Option<TerminalSize>,
}

/// How large a terminal is, in characters; nought: nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// How many lines.
    pub rows: u16,
    /// How many characters a line.
    pub columns: u16,
}

impl ExecRequest {
    /// A command with everything else as in the container.
    pub fn new(argv: Vec<Argument>) -> Self {
        Self { argv, env: Vec::new(), working_dir: None, user: None, terminal: None }
    }
}

/// Makes the process.json (the `process` of the runtime-spec) of a further process.
///
/// It has the bounding set, limits, `noNewPrivileges` and security labels of the container's own
/// `config`; the seccomp filter is the container's anyhow. Root gets the bounding set, others
/// get no capabilities.
///
/// # Errors
/// [`Error::NoCommand`] without arguments, [`Error::User`] for an unknown one, and
/// [`Error::ContainerConfig`] when `config` is not what [`crate::generate`] made.
pub fn exec_process(
    config: &[u8],
    rootfs: &RootfsFacts,
    request: &ExecRequest,
) -> Result<Vec<u8>, Error> {
    if request.argv.is_empty() {
        return Err(Error::NoCommand);
    }
    let mut process = container_process(config)?;
    let mut env: Vec<EnvVar> = part(&process, "env")?;
    if let Some(user) = &request.user {
        env = with_home_of(user, rootfs, &process, &env)?;
        set_user(&mut process, user, rootfs)?;
    }
    process["args"] = json!(request.argv);
    process["env"] = json!(overlaid([&env, &request.env]));
    process["terminal"] = json!(request.terminal.is_some());
    if let Some(TerminalSize { rows, columns }) = request.terminal {
        process["consoleSize"] = json!({"height": rows, "width": columns});
        let named = env.iter().chain(&request.env).any(|entry| entry.name() == "TERM");
        if !named {
            process["env"] = json!(overlaid([&env, &[env_var("TERM", "xterm")], &request.env]));
        }
    }
    if let Some(working_dir) = &request.working_dir {
        process["cwd"] = json!(working_dir);
    }
    serde_json::to_vec(&process).map_err(Error::encode)
}

fn container_process(config: &[u8]) -> Result<Value, Error> {
    if config.len() > MAX_CONFIG {
        return Err(broken("is larger than 64 MiB"));
    }
    let mut config: Value = serde_json::from_slice(config).map_err(Error::container_config)?;
    match config.get_mut("process").map(Value::take) {
        Some(process @ Value::Object(_)) => Ok(process),
        _ => Err(broken("has no process")),
    }
}

fn part<T: serde::de::DeserializeOwned>(process: &Value, key: &str) -> Result<T, Error> {
    serde_json::from_value(process[key].clone()).map_err(Error::container_config)
}

/// Moves `HOME` to that of the new user, unless image or request had set it to something else
/// than the first user's home.
fn with_home_of(
    user: &UserSpec,
    rootfs: &RootfsFacts,
    process: &Value,
    env: &[EnvVar],
) -> Result<Vec<EnvVar>, Error> {
    let first: u32 = part(&process["user"], "uid")?;
    let name = first.to_string();
    let begins_in = process["cwd"].as_str().unwrap_or("/");
    let before = user::home_of(first, rootfs, begins_in)
        .map_err(|source| Error::User { user: name, source })?;
    if env.iter().any(|entry| entry.name() == "HOME" && entry.value() != before) {
        return Ok(env.to_vec());
    }
    let after = resolve(user, rootfs)?.home;
    Ok(overlaid([env, &[env_var("HOME", &after)]]))
}

fn set_user(process: &mut Value, user: &UserSpec, rootfs: &RootfsFacts) -> Result<(), Error> {
    let user = resolve(user, rootfs)?;
    // The one of the container, as in podman.
    let umask = part::<Option<u32>>(&process["user"], "umask")?;
    let umask = umask.map(TryInto::try_into).transpose().map_err(Error::container_config)?;
    let bounding = process["capabilities"]["bounding"].clone();
    let held = if user.uid == 0 { bounding.clone() } else { json!([]) };
    process["capabilities"] = json!({
        "bounding": bounding, "effective": held, "permitted": held, "inheritable": [], "ambient": [],
    });
    process["user"] = serde_json::to_value(oci_user(&user, umask)).map_err(Error::encode)?;
    Ok(())
}

fn resolve(user: &UserSpec, rootfs: &RootfsFacts) -> Result<user::ResolvedUser, Error> {
    user::resolve(user, rootfs, "/")
        .map_err(|source| Error::User { user: user.to_string(), source })
}

fn broken(rule: &'static str) -> Error {
    let cause: Cause = InvalidText::new("it", Problem::Form(rule)).into();
    Error::container_config(cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn exec(request: &str, change: impl FnOnce(&mut ExecRequest)) -> Result<Value, Error> {
        let config = testing::generated(request).config;
        let mut exec = ExecRequest::new(vec!["id".parse().unwrap()]);
        change(&mut exec);
        exec_process(&config, &testing::rootfs(), &exec)
            .map(|json| serde_json::from_slice(&json).unwrap())
    }

    fn value_of<'a>(process: &'a Value, name: &str) -> Vec<&'a str> {
        let entries =
            process["env"].as_array().unwrap().iter().map(|entry| entry.as_str().unwrap());
        entries.filter_map(|entry| entry.strip_prefix(name)?.strip_prefix('=')).collect()
    }

    #[test]
    fn a_terminal_has_a_size_and_a_kind() {
        let size = TerminalSize { rows: 24, columns: 80 };
        let process = exec("", |request| request.terminal = Some(size)).unwrap();
        assert_eq!(process["terminal"], json!(true));
        assert_eq!(process["consoleSize"], json!({"height": 24, "width": 80}));
        assert_eq!(value_of(&process, "TERM"), ["xterm"]);
        let process = exec("", |request| {
            request.terminal = Some(size);
            request.env = vec!["TERM=dumb".parse().unwrap()];
        });
        assert_eq!(value_of(&process.unwrap(), "TERM"), ["dumb"]);
        assert_eq!(exec("", |_| {}).unwrap()["terminal"], json!(false));
    }

    #[test]
    fn the_container_is_the_default() {
        let process = exec(r#""WorkingDir":"/srv","Env":["A=b"],"NoNewPrivileges":true"#, |_| {});
        let process = process.unwrap();
        assert_eq!((&process["args"], &process["cwd"]), (&json!(["id"]), &json!("/srv")));
        assert_eq!(value_of(&process, "A"), ["b"]);
        assert_eq!(process["noNewPrivileges"], true);
        assert_eq!(process["rlimits"].as_array().unwrap().len(), 2);
        assert_eq!(process["capabilities"]["effective"], process["capabilities"]["bounding"]);
    }

    #[test]
    fn another_user_has_its_own_groups_home_and_capabilities() {
        let process = exec("", |exec| exec.user = Some("www".parse().unwrap())).unwrap();
        assert_eq!(process["user"]["uid"], 33);
        assert_eq!(process["user"]["additionalGids"], json!([33, 44]));
        assert_eq!(value_of(&process, "HOME"), ["/srv/www"]);
        assert_eq!(process["capabilities"]["effective"], json!([]));
        assert_eq!(process["capabilities"]["permitted"], json!([]));
        assert_eq!(process["capabilities"]["bounding"].as_array().unwrap().len(), 11);

        let unknown = r#""User":"1234","WorkingDir":"/data""#;
        let process = exec(unknown, |exec| exec.user = Some("www".parse().unwrap())).unwrap();
        assert_eq!(value_of(&process, "HOME"), ["/srv/www"], "that of the first one is not kept");
        assert_eq!(value_of(&exec(unknown, |_| {}).unwrap(), "HOME"), ["/data"]);

        let root = exec(r#""User":"www""#, |exec| exec.user = Some("0".parse().unwrap())).unwrap();
        assert_eq!(value_of(&root, "HOME"), ["/root"]);
        assert_eq!(root["capabilities"]["effective"].as_array().unwrap().len(), 11);
        for empty in ["inheritable", "ambient"] {
            assert_eq!(root["capabilities"][empty], json!([]));
        }
    }

    #[test]
    fn what_was_asked_for_stays() {
        let www = || Some("www".parse().unwrap());
        let process = exec(r#""Env":["HOME=/data"]"#, |exec| exec.user = www()).unwrap();
        assert_eq!(value_of(&process, "HOME"), ["/data"]);
        let process = exec("", |exec| {
            (exec.user, exec.env) = (www(), vec!["HOME=/x".parse().unwrap()]);
            exec.working_dir = Some("/tmp".parse().unwrap());
        });
        let process = process.unwrap();
        assert_eq!(value_of(&process, "HOME"), ["/x"]);
        assert_eq!(process["cwd"], "/tmp");
    }

    #[test]
    fn what_cannot_be() {
        let unknown = exec("", |exec| exec.user = Some("bob".parse().unwrap()));
        assert!(matches!(unknown, Err(Error::User { .. })));
        assert!(matches!(exec("", |exec| exec.argv.clear()), Err(Error::NoCommand)));
        let request = ExecRequest::new(vec!["id".parse().unwrap()]);
        for config in ["", "[]", "{}", r#"{"process":[]}"#, r#"{"process":{"env":["A"]}}"#] {
            let error = exec_process(config.as_bytes(), &testing::rootfs(), &request);
            assert!(matches!(error, Err(Error::ContainerConfig { .. })), "{config}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_configs_are_survived(json in r#"\{"process":\{("(env|user|capabilities)":(\[\]|\{\}|1|null|"A=b"),?){0,3}\}\}"#) {
            let mut request = ExecRequest::new(vec!["id".parse().unwrap()]);
            request.user = Some(UserSpec::default());
            let _ = exec_process(json.as_bytes(), &testing::rootfs(), &request);
        }
    }
}
