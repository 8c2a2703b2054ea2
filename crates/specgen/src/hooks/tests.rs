use serde_json::{Value, json};

use super::*;
use crate::testing;

fn hook(when: &str, stage: &str) -> String {
    format!(r#"{{"version":"1.0.0","hook":{{"path":"/h"}},"when":{when},"stages":["{stage}"]}}"#)
}

fn runs(file: &str, request: &str) -> bool {
    let hooks = Hooks::parse([vec![("a.json", file.as_bytes())]]).unwrap();
    !hooks.select(&testing::effective(request)).prestart.is_empty()
}

const BIND: &str = r#""Command":["/bin/x"],"Annotations":{"k":"v"},
    "Mounts":[{"Target":"/d","Source":{"Volume":{"Name":"v"}}}]"#;
const PLAIN: &str = r#""Command":["/bin/x"],"Annotations":{"k":"v"}"#;

/// As podman has it, `TestHasBindMountsAndCommands` and `TestAnnotations`.
#[test]
fn conditions_of_version_1_must_all_hold() {
    for (when, request, want) in [
        (r#"{"always":true}"#, PLAIN, true),
        (r#"{"always":false}"#, PLAIN, false),
        ("{}", PLAIN, false),
        (r#"{"hasBindMounts":true}"#, BIND, true),
        (r#"{"hasBindMounts":true}"#, PLAIN, false),
        (r#"{"hasBindMounts":false}"#, BIND, false),
        (r#"{"commands":["^/bin/x$"]}"#, PLAIN, true),
        (r#"{"commands":["y","x"]}"#, PLAIN, true),
        (r#"{"commands":["^x"]}"#, PLAIN, false),
        (r#"{"annotations":{"^k$":"^v$"}}"#, PLAIN, true),
        (r#"{"annotations":{"^k$":"^w$"}}"#, PLAIN, false),
        (r#"{"annotations":{"k":"v","other":"v"}}"#, PLAIN, false),
        (r#"{"always":true,"commands":["nope"]}"#, PLAIN, false),
        (r#"{"always":true,"hasBindMounts":true,"commands":["x"]}"#, BIND, true),
        (r#"{"hasBindMounts":true,"commands":["x"]}"#, PLAIN, false),
    ] {
        assert_eq!(runs(&hook(when, "prestart"), request), want, "{when}");
    }
}

#[test]
fn conditions_of_version_0_are_alternatives() {
    for (file, request, want) in [
        (r#"{"hook":"/h","stages":["prestart"],"cmds":["nope"],"hasbindmounts":true}"#, BIND, true),
        (
            r#"{"hook":"/h","stages":["prestart"],"cmds":["nope"],"hasbindmounts":true}"#,
            PLAIN,
            false,
        ),
        (r#"{"hook":"/h","stage":["prestart"],"cmd":["x"]}"#, PLAIN, true),
        (r#"{"hook":"/h","stages":["prestart"],"annotation":["^v$"]}"#, PLAIN, true),
        (r#"{"hook":"/h","stages":["prestart"]}"#, PLAIN, false),
    ] {
        assert_eq!(runs(file, request), want, "{file}");
    }
}

#[test]
fn later_directories_mask_and_names_order() {
    let always = |path: &str| hook(r#"{"always":true}"#, "poststop").replace("/h", path);
    let (a, b, c, d) = (always("/a"), always("/b"), always("/c"), always("/d"));
    let hooks = Hooks::parse([
        vec![("b.json", b.as_bytes()), ("C.json", c.as_bytes()), ("x.txt", b"junk".as_slice())],
        vec![("b.json", d.as_bytes()), ("a.json", a.as_bytes())],
    ])
    .unwrap();
    let selected = hooks.select(&testing::effective(""));
    let paths: Vec<_> = selected.poststop.iter().map(|hook| hook.path.as_str()).collect();
    assert_eq!(paths, ["/a", "/d", "/c"]);
}

#[test]
fn every_stage_has_its_place() {
    let stages =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    for stage in stages {
        let file = hook(r#"{"always":true}"#, stage);
        let hooks = Hooks::parse([vec![("a.json", file.as_bytes())]]).unwrap();
        let selected = hooks.select(&testing::effective(""));
        assert_eq!(serde_json::to_value(&selected).unwrap(), json!({stage: [{"path": "/h"}]}));
        assert!(!selected.is_empty_for_runtime());
    }
    let file = hook(r#"{"always":true}"#, "precreate");
    let hooks = Hooks::parse([vec![("a.json", file.as_bytes())]]).unwrap();
    let selected = hooks.select(&testing::effective(""));
    assert_eq!((selected.precreate.len(), selected.is_empty_for_runtime()), (1, true));
}

#[test]
fn hooks_are_in_the_configuration() {
    let file = r#"{"version":"1.0.0","hook":{"path":"/usr/bin/h","args":["h","a"],"env":["A=b"],
        "timeout":5},"when":{"always":true},"stages":["createRuntime","poststop"]}"#;
    let hooks = Hooks::parse([vec![("a.json", file.as_bytes())]]).unwrap();
    let effective = testing::effective("");
    let mut placement = testing::placement();
    placement.hooks = hooks.select(&effective);
    let made = crate::generate(&effective, &testing::host(), &testing::rootfs(), &placement);
    let config: Value = serde_json::from_slice(&made.unwrap().config).unwrap();
    let hook = json!([{"path": "/usr/bin/h", "args": ["h", "a"], "env": ["A=b"], "timeout": 5}]);
    assert_eq!(config["hooks"], json!({"createRuntime": hook, "poststop": hook}));
}

#[test]
fn broken_files_are_named() {
    for bad in [
        "",
        "[]",
        r#"{"version":"2.0.0"}"#,
        r#"{"version":"1.0.0","hook":{"path":"relative"},"when":{"always":true},"stages":["prestart"]}"#,
        r#"{"version":"1.0.0","hook":{"path":"/h"},"when":{"always":true},"stages":["never"]}"#,
        r#"{"version":"1.0.0","hook":{"path":"/h"},"when":{"always":true},"stages":[]}"#,
        r#"{"version":"1.0.0","hook":{"path":"/h"},"when":{"commands":["("]},"stages":["prestart"]}"#,
        r#"{"version":"1.0.0","hook":{"path":"/h","env":["A"]},"when":{},"stages":["prestart"]}"#,
        r#"{"version":"1.0.0","hook":{"path":"/h"},"when":{"Always":true},"stages":["prestart"]}"#,
        &hook(r#"{"commands":["a{1000}{1000}{1000}"]}"#, "prestart"),
        &" ".repeat(MAX_HOOK_FILE + 1),
    ] {
        let error = Hooks::parse([vec![("x.json", bad.as_bytes())]]).unwrap_err();
        assert!(error.to_string().contains("x.json"), "{bad}");
    }
}

#[test]
fn programs_of_the_host_are_where_they_were_found() {
    let of = |stages: &str| {
        let file = format!(
            r#"{{"version":"1.0.0","hook":{{"path":"/h"}},"when":{{"always":true}},"stages":[{stages}]}}"#
        );
        let hooks = Hooks::parse([vec![("a.json", file.as_bytes())]]).unwrap();
        hooks.select(&testing::effective(PLAIN))
    };
    let there = |_: &AbsolutePath| Ok::<_, ()>("/real/h".parse().unwrap());
    let moved = of(r#""poststop","createContainer","startContainer""#).relocated(there).unwrap();
    for programs in [&moved.poststop, &moved.create_container] {
        assert_eq!(programs[0].path.as_str(), "/real/h");
        assert_eq!(programs[0].args[0].as_str(), "/h", "it goes by the name it had");
    }
    assert_eq!(moved.start_container[0].path.as_str(), "/h", "that is the container's");
    let nowhere = |_: &AbsolutePath| Err("no");
    for stage in
        ["prestart", "createRuntime", "createContainer", "poststart", "poststop", "precreate"]
    {
        assert_eq!(of(&format!("{stage:?}")).relocated(nowhere).unwrap_err(), "no", "{stage}");
    }
    of(r#""startContainer""#).relocated(nowhere).unwrap();
}
