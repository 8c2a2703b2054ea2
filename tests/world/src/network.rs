//! Links, addresses, routes and rules.

use serde_json::Value;

use super::things::Things;
use crate::programs::feed;

/// What `ip` says: one call for each family, since it lists the rules of one only.
#[derive(Default)]
pub(super) struct Network {
    links: Vec<Value>,
    routes: Vec<Value>,
    rules: [Vec<Value>; 2],
}

impl Network {
    /// Asks the kernel.
    pub(super) fn look() -> Self {
        let [links, routes, rules4] = lists(&[], "address show\nroute show table all\nrule show\n");
        let [rules6] = lists(&["-6"], "rule show\n");
        Self { links, routes, rules: [rules4, rules6] }
    }

    /// Whether a link has a carrier follows, some time later, from what is connected to it: only
    /// whether it was set up counts.
    pub(super) fn links(&self) -> Things {
        let how = |link: &Value| {
            let up = link["flags"].as_array().is_some_and(|flags| flags.contains(&"UP".into()));
            let state = if up { "up" } else { "down" };
            let kind = &link["linkinfo"]["info_kind"];
            let values = [kind, &link["mtu"], &link["address"], &link["master"]];
            let words = ["kind", "mtu", "address", "master"].iter().zip(values);
            format!("{state} {}", said(words))
        };
        self.links.iter().map(|link| (text(&link["ifname"]), how(link))).collect()
    }

    /// But for the link-local ones of IPv6, which the kernel makes some time after a link is up.
    pub(super) fn addresses(&self) -> Things {
        let of_link = |link: &'_ Value| -> Vec<(String, String)> {
            let on = text(&link["ifname"]);
            let addresses = link["addr_info"].as_array().into_iter().flatten();
            let lasting = addresses.filter(|it| !is_link_local(&it["local"]));
            lasting
                .map(|it| {
                    let name = format!("{}/{} on {on}", text(&it["local"]), it["prefixlen"]);
                    (name, format!("scope {}", text(&it["scope"])))
                })
                .collect()
        };
        self.links.iter().flat_map(of_link).collect()
    }

    /// But for what the kernel makes of link-local addresses, and for its marks that a link is
    /// down or without carrier.
    pub(super) fn routes(&self) -> Things {
        let lasting = self.routes.iter().filter(|it| !is_link_local(&it["dst"]));
        lasting.map(|route| (route_name(route), said(fields(route, &ROUTE_DETAILS)))).collect()
    }

    /// Those of both families.
    pub(super) fn rules(&self) -> Things {
        let families = ["IPv4", "IPv6"].into_iter().zip(&self.rules);
        let name = |family: &str, rule: &Value| {
            let rest = rule.as_object().into_iter().flatten();
            let rest = rest.filter(|(key, _)| !["priority", "protocol"].contains(&key.as_str()));
            format!("{family} {}: {}", rule["priority"], said(rest))
        };
        families
            .flat_map(|(family, rules)| rules.iter().map(move |rule| name(family, rule)))
            .map(|name| (name, String::new()))
            .collect()
    }
}

/// What is said of a route besides its name.
const ROUTE_DETAILS: [&str; 6] = ["gateway", "prefsrc", "metric", "scope", "protocol", "nexthops"];

fn route_name(route: &Value) -> String {
    let (kind, to) = (text(&route["type"]), text(&route["dst"]));
    format!("{kind} {to} {}", said(fields(route, &["dev", "table"])))
}

fn fields<'v>(
    of: &'v Value,
    keys: &'v [&'static str],
) -> impl Iterator<Item = (&'v &'static str, &'v Value)> {
    keys.iter().map(|key| (key, &of[key]))
}

/// `key value` of all that have a value.
fn said<'v, K: std::fmt::Display>(fields: impl Iterator<Item = (K, &'v Value)>) -> String {
    let there = fields.filter(|(_, value)| !value.is_null());
    there.map(|(key, value)| format!("{key} {}", text(value))).collect::<Vec<_>>().join(" ")
}

/// A string without its quotes; anything else as JSON has it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

fn is_link_local(address: &Value) -> bool {
    address.as_str().is_some_and(|it| it.starts_with("fe80:") || it.starts_with("ff00:"))
}

/// The lists that `ip` answers to `commands`, one for each of them.
fn lists<const N: usize>(options: &[&str], commands: &str) -> [Vec<Value>; N] {
    let arguments = [options, &["-json", "-details", "-batch", "-"]].concat();
    let said = feed("ip", &arguments, commands.as_bytes());
    let lists = serde_json::Deserializer::from_str(&said).into_iter::<Vec<Value>>();
    let lists = lists.collect::<Result<Vec<_>, _>>().expect("ip prints JSON");
    lists.try_into().expect("ip prints a list for each command")
}
