//! A seccomp profile.

use serde_json::{Value, json};
use tare_specgen::{Architecture, KernelVersion, SeccompProfile};

use crate::Verdict;
use crate::config::{Container, document, host_with};
use crate::text::assert_told_plainly;

pub(crate) fn check(data: &[u8]) -> Verdict {
    let profile = match SeccompProfile::parse(&String::from_utf8_lossy(data)) {
        Ok(profile) => profile,
        Err(error) => {
            assert_told_plainly(&error);
            return Verdict::Refused;
        }
    };
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        for caps in [json!([]), json!(["ALL"])] {
            let filter = filter(&profile, architecture, &caps);
            // What a runtime is given is a profile, too: one without conditions.
            let again = SeccompProfile::parse(&filter.to_string()).unwrap();
            assert_eq!(
                self::filter(&again, architecture, &caps),
                filter,
                "read again it is the same"
            );
            assert_rules(&filter);
        }
    }
    Verdict::Taken
}

/// What a container that drops these capabilities is filtered by.
fn filter(profile: &SeccompProfile, architecture: Architecture, drop: &Value) -> Value {
    let mut container = Container::new();
    let kernel = KernelVersion { major: 6, minor: 12 };
    container.host = host_with(architecture, kernel, profile.clone());
    let made = container.generate(json!({ "CapDrop": drop })).unwrap();
    document(&made)["linux"]["seccomp"].clone()
}

/// A rule that names nothing would be one for everything, or an error of the runtime.
fn assert_rules(filter: &Value) {
    for rule in filter["syscalls"].as_array().into_iter().flatten() {
        assert!(!rule["names"].as_array().unwrap().is_empty(), "{rule}");
        assert!(rule["action"].is_string(), "{rule}");
    }
}
