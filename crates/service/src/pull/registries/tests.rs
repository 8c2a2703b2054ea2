use super::*;

fn text(path: &str, toml: &str) -> Text {
    Text { path: path.into(), toml: toml.into() }
}

fn parse(toml: &str) -> Result<Registries, InvalidRegistries> {
    Registries::parse(Some(&text("main", toml)), &[])
}

/// Names, with `!` where anything is taken for the registry.
fn sources(registries: &Registries, name: &str) -> String {
    let shown = |endpoint: Endpoint| {
        format!("{}{}", endpoint.name, if endpoint.insecure { "!" } else { "" })
    };
    match registries.sources(name) {
        Ok(all) => all.into_iter().map(shown).collect::<Vec<_>>().join(" "),
        Err(Blocked(_)) => "blocked".into(),
    }
}

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn the_longest_prefix_counts_and_is_replaced() {
    let registries = parse(
        r#"
        [[registry]]
        prefix = "a.test/foo"
        location = "b.test:5000/bar/"
        [[registry.mirror]]
        location = "m0.test/for-foo"
        [[registry.mirror]]
        location = "m1.test"
        insecure = true
        [[registry]]
        location = "a.test"
        insecure = true
        [[registry]]
        location = "a.test/foo/secret"
        blocked = true
        [[registry]]
        prefix = "a.test/one:1"
        location = "c.test/two:2"
        [[registry]]
        prefix = "*.wild.test"
        insecure = true
        [[registry]]
        prefix = "*.deep.wild.test"
        location = "d.test/deep"
        [[registry]]
        location = "gone.test"
        blocked = true
        [[registry]]
        prefix = "e.test"
        location = "gone.test/e"
        [[registry]]
        location = "f.test"
        [[registry.mirror]]
        location = "gone.test/f"
        [[registry]]
        prefix = "p.test"
        location = "lab.test:5000"
        insecure = true
        [[registry]]
        prefix = "*.port.test:5000/ns"
        blocked = true
        [[registry]]
        location = "UPPER.test/Path"
        blocked = true
        "#,
    )
    .unwrap();
    for (name, wanted) in [
        ("a.test/foo/x:1", "m0.test/for-foo/x:1 m1.test/x:1! b.test:5000/bar/x:1"),
        ("a.test/foo:1", "m0.test/for-foo:1 m1.test:1! b.test:5000/bar:1"),
        ("a.test/foobar:1", "a.test/foobar:1!"),
        ("a.test/foo/secret/x:1", "blocked"),
        (
            "a.test/foo/secret2:1",
            "m0.test/for-foo/secret2:1 m1.test/secret2:1! b.test:5000/bar/secret2:1",
        ),
        ("a.test/one:1", "c.test/two:2"),
        ("a.test/one:12", "a.test/one:12!"),
        ("a.test:5000/x:1", "a.test:5000/x:1!"),
        ("a.test2/x:1", "a.test2/x:1"),
        ("x.wild.test/a:1", "x.wild.test/a:1!"),
        ("y.x.wild.test:5000/a:1", "y.x.wild.test:5000/a:1!"),
        ("x.deep.wild.test/a:1", "d.test/deep/a:1"),
        ("wild.test/a:1", "wild.test/a:1"),
        ("x.test/x.wild.test/a:1", "x.test/x.wild.test/a:1"),
        ("other.test/a:1", "other.test/a:1"),
        ("gone.test/a:1", "blocked"),
        ("e.test/a:1", "blocked"),
        ("f.test/a:1", "f.test/a:1"),
        ("p.test/a:1", "lab.test:5000/a:1!"),
        ("x.y.port.test:5000/ns/a:1", "blocked"),
        ("x.port.test/ns/a:1", "x.port.test/ns/a:1"),
        ("port.test:5000/ns/a:1", "port.test:5000/ns/a:1"),
        ("upper.test/Path/a:1", "blocked"),
        ("upper.test/path/a:1", "upper.test/path/a:1"),
    ] {
        assert_eq!(sources(&registries, name), wanted, "{name}");
    }
    let target = |name: &str| registries.target(name);
    assert_eq!(target("a.test/foo/x:1"), Ok(plain("a.test/foo/x:1")), "no push is redirected");
    assert!(target("a.test/x:1").unwrap().insecure);
    assert!(!target("p.test/a:1").unwrap().insecure, "it is said of another place");
    assert_eq!(target("gone.test/a:1"), Err(Blocked("gone.test/a:1".into())));
}

#[test]
fn mirrors_are_for_tags_or_digests_or_both() {
    let registries = parse(
        r#"
        [[registry]]
        location = "a.test"
        [[registry.mirror]]
        location = "any.test"
        pull-from-mirror = "all"
        [[registry.mirror]]
        location = "tag.test"
        pull-from-mirror = "tag-only"
        [[registry.mirror]]
        location = "digest.test"
        pull-from-mirror = "digest-only"
        [[registry]]
        location = "b.test"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "m.test"
        "#,
    )
    .unwrap();
    for (host, end, mirrors) in [
        ("a.test", "/x:1", &["any.test", "tag.test"][..]),
        ("a.test", "/x@", &["any.test", "digest.test"]),
        ("b.test", "/x:1", &[]),
        ("b.test", "/x:1@", &["m.test"]),
    ] {
        let end = end.replace('@', &format!("@{DIGEST}"));
        let hosts = mirrors.iter().copied().chain([host]);
        let wanted: Vec<_> = hosts.map(|host| format!("{host}{end}")).collect();
        assert_eq!(sources(&registries, &format!("{host}{end}")), wanted.join(" "));
    }
}

#[test]
fn a_short_name_stands_for_what_is_said_of_it() {
    let said = |search: &str, mode: &str| {
        let toml = format!(
            "unqualified-search-registries = [{search}]\nshort-name-mode = '{mode}'\n\
             [aliases]\n'app' = 'a.test/team/app'\n'me/app' = 'b.test:5000/app'\n'no' = ''"
        );
        parse(&toml).unwrap()
    };
    let (one, two) = ("'s.test'", "'s.test', 't.test:5000'");
    let with_digest = format!("app@{DIGEST}");
    let of_alias = format!("a.test/team/app@{DIGEST}");
    for (short, search, mode, wanted) in [
        ("app:1", two, "enforcing", Ok(&["a.test/team/app:1"][..])),
        (&with_digest, "", "", Ok(&[of_alias.as_str()])),
        ("me/app:latest", "", "", Ok(&["b.test:5000/app:latest"])),
        ("you/app:1", one, "enforcing", Ok(&["s.test/you/app:1"])),
        ("other:1", two, "", Ok(&["s.test/other:1", "t.test:5000/other:1"])),
        ("other:1", two, "permissive", Ok(&["s.test/other:1", "t.test:5000/other:1"])),
        ("other:1", two, "disabled", Ok(&["s.test/other:1", "t.test:5000/other:1"])),
        ("other:1", two, "enforcing", Err("s.test/other:1 or t.test:5000/other:1")),
        ("other:1", "", "disabled", Err("write registry.example/other:1")),
        ("no:1", "", "", Err("neither an alias")),
    ] {
        let found = said(search, mode).resolve(short);
        match wanted {
            Ok(names) => assert_eq!(found.unwrap(), names, "{short}, [{search}], {mode}"),
            Err(part) => {
                let told = found.unwrap_err().to_string();
                assert!(told.contains(part), "{short}, [{search}], {mode}: {told}");
            }
        }
    }
}

#[test]
fn later_files_are_laid_over_earlier_ones() {
    let main = text(
        "main",
        "unqualified-search-registries = ['s.test']\nshort-name-mode = 'enforcing'\n\
         credential-helpers = ['secretservice']\n\
         [[registry]]\nlocation = 'a.test'\nblocked = true\n\
         [[registry]]\nlocation = 'b.test'\nblocked = true\n\
         [aliases]\na = 'a.test/a'\nb = 'b.test/b'",
    );
    let drop_ins = [
        text("1", "[[registry]]\nlocation = 'a.test'\n[aliases]\na = ''\nc = 'c.test/c'"),
        text("2", "unqualified-search-registries = ['t.test', 'u.test']\n"),
    ];
    let merged = Registries::parse(Some(&main), &drop_ins).unwrap();
    assert_eq!(sources(&merged, "a.test/x:1"), "a.test/x:1");
    assert_eq!(sources(&merged, "b.test/x:1"), "blocked");
    let enforced = merged.resolve("a:1").unwrap_err();
    assert!(matches!(&enforced, Unresolved::Ambiguous(all) if all.len() == 2), "{enforced}");
    assert_eq!(merged.resolve("b:1").unwrap(), ["b.test/b:1"]);
    assert_eq!(merged.resolve("c:1").unwrap(), ["c.test/c:1"]);
    assert!(!merged.uses_auth_file(), "credentials are elsewhere");
    assert_eq!(merged.other_helpers().collect::<Vec<_>>(), ["secretservice"]);
    let both = "credential-helpers = ['secretservice', 'containers-auth.json']";
    let merged = Registries::parse(Some(&main), &[text("1", both)]).unwrap();
    assert!(merged.uses_auth_file());
    // Nobody has said anything.
    let nothing = Registries::parse(None, &[]).unwrap();
    assert_eq!(nothing, Registries::default());
    assert!(nothing.uses_auth_file());
    let emptied = [text("1", "unqualified-search-registries = []")];
    let emptied = Registries::parse(Some(&main), &emptied).unwrap();
    assert!(matches!(emptied.resolve("x"), Err(Unresolved::Unknown(_))), "an empty list is one");
}

#[test]
fn the_first_version_of_the_format_is_understood() {
    let first = "[registries.search]\nregistries = ['s.test', 't.test']\n\
                 [registries.insecure]\nregistries = ['i.test', 'x.test']\n\
                 [registries.block]\nregistries = ['b.test', 'x.test']";
    let registries = parse(first).unwrap();
    assert_eq!(sources(&registries, "i.test/a:1"), "i.test/a:1!");
    assert_eq!(sources(&registries, "b.test/a:1"), "blocked");
    assert_eq!(sources(&registries, "x.test/a:1"), "blocked");
    assert_eq!(registries.resolve("a:1").unwrap(), ["s.test/a:1", "t.test/a:1"]);
    for (about, refused) in [
        ("mixed", parse(&format!("short-name-mode = 'disabled'\n{first}"))),
        ("in a drop-in", Registries::parse(None, &[text("main", first)])),
    ] {
        let told = refused.unwrap_err().to_string();
        assert!(told.starts_with("main: ") && told.contains("version"), "{about}: {told}");
    }
}

#[test]
fn what_cannot_be_obeyed_is_refused_and_what_is_unknown_is_not() {
    for (about, toml, part) in [
        ("no TOML", "[", ""),
        ("another type", "unqualified-search-registries = 's.test'", ""),
        ("a table twice", "[aliases]\na = 'a.test/a'\na = 'b.test/a'", ""),
        ("nothing in it", "[[registry]]\ninsecure = true", "neither"),
        ("no location", "[[registry]]\nprefix = 'a.test'", "no location"),
        ("a URI", "[[registry]]\nlocation = 'https://a.test'", "URI"),
        ("slashes", "[[registry]]\nprefix = '//'\nlocation = 'a.test'", "empty"),
        (
            "a mirror nowhere",
            "[[registry]]\nlocation = 'a.test'\n[[registry.mirror]]\ninsecure = true",
            "empty",
        ),
        ("no mirror", "[[registry]]\nlocation = 'a.test'\npull-from-mirror = 'all'", "no mirror"),
        (
            "both restrictions",
            "[[registry]]\nlocation = 'a.test'\nmirror-by-digest-only = true\n\
             [[registry.mirror]]\nlocation = 'm.test'\npull-from-mirror = 'all'",
            "mirror-by-digest-only",
        ),
        (
            "an unknown one",
            "[[registry]]\nlocation = 'a.test'\n\
             [[registry.mirror]]\nlocation = 'm.test'\npull-from-mirror = 'never'",
            "never",
        ),
        (
            "a contradiction",
            "[[registry]]\nprefix = 'a.test'\nlocation = 'b.test'\n\
             [[registry]]\nlocation = 'b.test'\nblocked = true",
            "differs",
        ),
        ("no host", "unqualified-search-registries = ['a.test/b']", "no host"),
        ("a short host", "unqualified-search-registries = ['registry']", "no host"),
        (
            "a wildcard inside",
            "[[registry]]\nprefix = 'a.*.test'\nlocation = 'a.test'",
            "cannot fit",
        ),
        ("no domain", "[[registry]]\nprefix = '*a.test'\nlocation = 'a.test'", "cannot fit"),
        ("an unknown mode", "short-name-mode = 'lax'", "lax"),
        ("a long short name", "[aliases]\n'a.test/b' = 'c.test/d'", "no short name"),
        ("a short name with a tag", "[aliases]\n'b:1' = 'c.test/d'", "no short name"),
        ("an alias for a short name", "[aliases]\nb = 'c/d'", "no registry"),
        ("an alias for a tag", "[aliases]\nb = 'c.test/d:1'", "no registry"),
    ] {
        let told = parse(toml).unwrap_err().to_string();
        assert!(told.starts_with("main: ") && told.contains(part), "{about}: {told}");
    }
    parse("later = 7\n[[registry]]\nlocation = 'a.test'\nlater = [1]\n[other]\na = 1").unwrap();
}
