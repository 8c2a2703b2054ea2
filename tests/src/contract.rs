//! Interfaces in introspection data, in a form in which they can be compared.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

const EMITS: &str = "org.freedesktop.DBus.Property.EmitsChangedSignal";
const UNIX_FD: &str = "org.gtk.GDBus.C.UnixFD";

/// Interfaces by name; each is its members by kind and name, each of which is one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces(pub BTreeMap<String, BTreeMap<String, String>>);

impl Interfaces {
    /// Reads introspection data. Documentation, order, and all annotations but
    /// `EmitsChangedSignal` do not matter.
    ///
    /// # Panics
    ///
    /// If it is not introspection data, or has one member twice.
    pub fn parse(xml: &str) -> Self {
        let node: Node = quick_xml::de::from_str(xml).unwrap_or_else(|e| panic!("{e} in\n{xml}"));
        let mut interfaces = Self::default();
        for interface in node.interface {
            let (name, members) = interface.members();
            assert!(!interfaces.0.contains_key(&name), "{name} is there twice");
            interfaces.0.insert(name, members);
        }
        interfaces
    }

    /// Methods that have descriptors as arguments and do not say so to `gdbus-codegen`, whose
    /// functions could not pass them.
    ///
    /// # Panics
    ///
    /// If it is not introspection data.
    pub fn unannounced_descriptors(xml: &str) -> Vec<String> {
        let node: Node = quick_xml::de::from_str(xml).unwrap_or_else(|e| panic!("{e} in\n{xml}"));
        let methods = node.interface.into_iter().flat_map(|interface| interface.method);
        methods.filter(Member::hides_descriptors).map(|method| method.name).collect()
    }

    /// Only those that are ours.
    #[must_use]
    pub fn ours(mut self) -> Self {
        self.0.retain(|name, _| name.starts_with("org.tare."));
        self
    }

    /// What `live` has and this contract has not, and the other way round; a line each.
    pub fn differences(&self, live: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        compare(&self.0, &live.0, |name, pair| match pair {
            Pair::OnlyContract(_) => differences.push(format!("{name}: not served")),
            Pair::OnlyLive(_) => differences.push(format!("{name}: in no file")),
            Pair::Both(contract, live) => compare(contract, live, |member, pair| {
                differences.extend(pair.difference().map(|it| format!("{name}: {member}{it}")));
            }),
        });
        differences
    }
}

enum Pair<'a, T> {
    OnlyContract(&'a T),
    OnlyLive(&'a T),
    Both(&'a T, &'a T),
}

impl Pair<'_, String> {
    /// How the lines of one member differ.
    fn difference(&self) -> Option<String> {
        match self {
            Self::OnlyContract(line) => Some(format!("{line} is not served")),
            Self::OnlyLive(line) => Some(format!("{line} is not in the file")),
            Self::Both(file, served) => {
                (file != served).then(|| format!(" differs:\n  file   {file}\n  served {served}"))
            }
        }
    }
}

fn compare<'a, T>(
    contract: &'a BTreeMap<String, T>,
    live: &'a BTreeMap<String, T>,
    mut see: impl FnMut(&str, Pair<'a, T>),
) {
    for (name, wanted) in contract {
        match live.get(name) {
            Some(served) => see(name, Pair::Both(wanted, served)),
            None => see(name, Pair::OnlyContract(wanted)),
        }
    }
    for (name, served) in live.iter().filter(|(name, _)| !contract.contains_key(*name)) {
        see(name, Pair::OnlyLive(served));
    }
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    interface: Vec<Interface>,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(rename = "@name")]
    name: String,
    #[serde(default)]
    method: Vec<Member>,
    #[serde(default)]
    signal: Vec<Member>,
    #[serde(default)]
    property: Vec<Property>,
    #[serde(default)]
    annotation: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Member {
    #[serde(rename = "@name")]
    name: String,
    #[serde(default)]
    arg: Vec<Arg>,
    #[serde(default)]
    annotation: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Arg {
    #[serde(rename = "@name", default)]
    name: String,
    #[serde(rename = "@type")]
    signature: String,
    #[serde(rename = "@direction")]
    direction: Option<Direction>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Direction {
    In,
    Out,
}

#[derive(Deserialize)]
struct Property {
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@type")]
    signature: String,
    #[serde(rename = "@access")]
    access: String,
    #[serde(default)]
    annotation: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Annotation {
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@value")]
    value: String,
}

impl Interface {
    fn members(self) -> (String, BTreeMap<String, String>) {
        let default = emits(&self.annotation).unwrap_or("true").to_string();
        let methods = self.method.iter().map(|it| it.line("method", Direction::In));
        let signals = self.signal.iter().map(|it| it.line("signal", Direction::Out));
        let properties = self.property.iter().map(|it| it.line(&default));
        let mut members = BTreeMap::new();
        for (member, line) in methods.chain(signals).chain(properties) {
            let twice = members.insert(member.clone(), line);
            assert!(twice.is_none(), "{}: {member} is there twice", self.name);
        }
        (self.name, members)
    }
}

impl Member {
    fn line(&self, kind: &str, direction: Direction) -> (String, String) {
        let args = self.arg.iter().map(|arg| {
            let direction = arg.direction.unwrap_or(direction);
            format!("{direction} {} {}", arg.signature, arg.name)
        });
        let args: Vec<String> = args.collect();
        (format!("{kind} {}", self.name), format!("({})", args.join(", ")))
    }

    fn hides_descriptors(&self) -> bool {
        let announced = self.annotation.iter().any(|it| it.name == UNIX_FD);
        !announced && self.arg.iter().any(|arg| arg.signature.contains('h'))
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::Out => "out",
        })
    }
}

impl Property {
    fn line(&self, default: &str) -> (String, String) {
        let emits = emits(&self.annotation).unwrap_or(default);
        let line = format!(" {} {}, emits changes: {emits}", self.signature, self.access);
        (format!("property {}", self.name), line)
    }
}

fn emits(annotations: &[Annotation]) -> Option<&str> {
    annotations.iter().find(|it| it.name == EMITS).map(|it| it.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"<!DOCTYPE node PUBLIC "x" "y"><node>
      <!-- said of it -->
      <interface name="org.tare.A">
        <method name="M"><annotation name="org.gtk.GDBus.C.UnixFD" value="1"/>
          <arg name="a" type="s" direction="in"/><arg name="b" type="o" direction="out"/></method>
        <property name="P" type="s" access="read"/>
        <signal name="S"><arg name="x" type="u"/></signal>
      </interface>
      <interface name="org.freedesktop.DBus.Peer"/></node>"#;

    fn parsed(xml: &str) -> Interfaces {
        Interfaces::parse(xml).ours()
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        let same = r#"<node name="/a"><interface name="org.tare.A">
            <signal name="S"><arg name="x" type="u" direction="out"/></signal>
            <property name="P" type="s" access="read">
              <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="true"/>
            </property>
            <method name="M"><arg name="a" type="s"/><arg name="b" type="o" direction="out"/></method>
            </interface><node name="child"/></node>"#;
        assert_eq!(parsed(BEFORE).differences(&parsed(same)), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_seen_from_both_sides() {
        for (about, from, to, want) in [
            ("type", r#"type="u""#, r#"type="t""#, "signal S differs"),
            ("argument", r#"name="a""#, r#"name="c""#, "method M differs"),
            ("direction", r#"direction="in""#, r#"direction="out""#, "method M differs"),
            ("access", r#"access="read""#, r#"access="readwrite""#, "property P differs"),
            ("member", r#"name="M""#, r#"name="N""#, "method M(in s a, out o b) is not served"),
            ("interface", "org.tare.A", "org.tare.B", "org.tare.B: in no file"),
        ] {
            let changed = BEFORE.replace(from, to);
            let differences = parsed(BEFORE).differences(&parsed(&changed));
            assert!(differences.iter().any(|line| line.contains(want)), "{about}: {differences:?}");
            let back = parsed(&changed).differences(&parsed(BEFORE));
            assert_eq!(differences.len(), back.len(), "{about}");
        }
    }

    #[test]
    fn who_passes_descriptors_says_so() {
        let passes = BEFORE.replace(r#"type="s" direction="in""#, r#"type="ah" direction="in""#);
        assert_eq!(Interfaces::unannounced_descriptors(&passes), Vec::<String>::new());
        let silent = passes.replace(r#"<annotation name="org.gtk.GDBus.C.UnixFD" value="1"/>"#, "");
        assert_eq!(Interfaces::unannounced_descriptors(&silent), ["M"]);
        for file in
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/dbus")).unwrap()
        {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|it| it == "xml") {
                let xml = std::fs::read_to_string(&path).unwrap();
                let silent = Interfaces::unannounced_descriptors(&xml);
                assert_eq!(silent, Vec::<String>::new(), "{}", path.display());
            }
        }
    }

    #[test]
    fn whether_changes_are_told_matters() {
        let quiet = BEFORE.replace(
            r#"access="read"/>"#,
            r#"access="read"><annotation
               name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="const"/></property>"#,
        );
        let differences = parsed(BEFORE).differences(&parsed(&quiet));
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert!(differences[0].contains("emits changes: const"), "{differences:?}");
    }
}
