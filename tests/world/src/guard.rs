//! The world at both ends of a case.

use std::thread;

use crate::{Scope, Watch, World, settle};

/// Looks at a part of a host when it is made, and again when it is dropped: then it has to be as it
/// was, or the case has failed. To be the last thing of a case that goes. One that hangs fails, too.
#[derive(Debug)]
#[must_use = "it compares when it is dropped"]
pub struct Guard {
    scope: Scope,
    before: World,
    #[expect(dead_code, reason = "the case is over when it is dropped")]
    watch: Watch,
}

impl Guard {
    /// Looks for the first time.
    pub fn new(scope: Scope) -> Self {
        let watch = Watch::begin(&scope, String::new);
        let before = World::capture(&scope);
        Self { scope, before, watch }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A case that fails half-way has said why.
        if !thread::panicking() {
            settle("the world is not as it was", || {
                self.before.differences(&World::capture(&self.scope))
            });
        }
    }
}

/// Runs a case, at the end of which a part of a host has to be as it was before.
///
/// # Panics
///
/// If it is not, with each difference.
pub fn leaving_nothing<T>(scope: Scope, body: impl FnOnce() -> T) -> T {
    let guard = Guard::new(scope);
    let done = body();
    drop(guard);
    done
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::process::Command;

    use super::*;

    /// What a case says that leaves something in a directory of that name.
    fn complaint(name: &str, case: impl FnOnce(&std::path::Path)) -> String {
        let dir = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let scope = Scope::of_marked(vec![dir.clone()], vec![dir.display().to_string()]);
        let case = || leaving_nothing(scope, || case(&dir));
        let ended = catch_unwind(AssertUnwindSafe(case));
        fs::remove_dir_all(&dir).unwrap();
        ended.err().map(|panic| panic.downcast_ref::<String>().unwrap().clone()).unwrap_or_default()
    }

    #[test]
    fn what_a_case_leaves_is_told_by_its_name() {
        assert_eq!(complaint("guard-nothing", |_| {}), "");
        let mut left = None;
        let told = complaint("guard-something", |dir| {
            let file = File::create(dir.join("leak")).unwrap();
            let mut command = Command::new("sleep");
            let process = std::os::unix::process::CommandExt::arg0(&mut command, dir.join("me"));
            left = Some((file, process.arg("1000").spawn().unwrap()));
        });
        let (_file, mut process) = left.unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        for wanted in ["new descriptor: ", "new file: ", "new process: "] {
            let is_told =
                told.lines().any(|line| line.starts_with(wanted) && line.contains("-something"));
            assert!(is_told, "{wanted}: {told}");
        }
    }
}
