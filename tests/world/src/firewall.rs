//! What `nft` lists: tables, chains, rules, sets, and each element of a set by itself.

use super::things::Things;
use crate::programs::run;

/// The whole ruleset, without counters and other state (`-s`).
pub(super) fn ruleset() -> Things {
    things(&run("nft", &["--stateless", "list", "ruleset"]))
}

/// A line of the listing is named after what it is in: `inet tare/postrouting: ... masquerade`.
fn things(listing: &str) -> Things {
    let mut within: Vec<String> = Vec::new();
    let mut found = Vec::new();
    let mut lines = listing.lines().map(str::trim).filter(|line| !line.is_empty());
    while let Some(line) = lines.next() {
        if line == "}" {
            within.pop();
        } else if let Some(elements) = line.strip_prefix("elements = {") {
            let mut elements = elements.to_string();
            while !elements.contains('}') {
                elements.push_str(lines.next().expect("a list of elements has an end"));
            }
            found
                .extend(split(&elements).map(|element| format!("{}: {element}", within.join("/"))));
        } else if let Some(block) = opened(line) {
            within.push(block.trim_start_matches("table ").into());
            found.push(within.join("/"));
        } else {
            found.push(format!("{}: {line}", within.join("/")));
        }
    }
    found.into_iter().map(|name| (name, String::new())).collect()
}

/// The name of the block that a line begins. A comment after it says which process owns a table.
fn opened(line: &str) -> Option<&str> {
    let line = line.split(" # ").next().unwrap_or(line);
    line.strip_suffix('{').map(str::trim_end)
}

fn split(elements: &str) -> impl Iterator<Item = &str> {
    let elements = elements.trim_end_matches('}');
    elements.split(',').map(str::trim).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_element_and_rule_has_its_own_name() {
        let listing = "table inet t { # progname tared\n\tflags owner\n\n\tset s {\n\
            \t\ttype ipv4_addr\n\t\telements = { 10.0.0.1, 10.0.0.2,\n\t\t\t     10.0.0.3 }\n\t}\n\n\
            \tchain c {\n\t\tip saddr { 1.1.1.1, 2.2.2.2 } drop\n\t}\n}\n";
        let names = [
            "inet t",
            "inet t: flags owner",
            "inet t/set s",
            "inet t/set s: type ipv4_addr",
            "inet t/set s: 10.0.0.1",
            "inet t/set s: 10.0.0.2",
            "inet t/set s: 10.0.0.3",
            "inet t/chain c",
            "inet t/chain c: ip saddr { 1.1.1.1, 2.2.2.2 } drop",
        ];
        assert_eq!(
            things(listing),
            names.map(|name| (name.into(), String::new())).into_iter().collect()
        );
    }
}
