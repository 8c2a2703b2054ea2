//! Files of variables, as podman reads them.

use std::ffi::OsString;
use std::path::PathBuf;

use zbus::{Fd, Variant};

use crate::Failure;
use crate::memory::memory;

/// What all these files say, as one file that is handed over open; nothing if there are none. A line
/// with only a name stands for what this program has under it, if it has that.
pub(crate) fn option(files: &[PathBuf]) -> Result<Option<Variant<'static>>, Failure> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut text = String::new();
    for file in files {
        let problem = format!("cannot read {}", file.display());
        let said = std::fs::read_to_string(file).map_err(Failure::io(problem))?;
        text.push_str(&completed(&said, |name| std::env::var_os(name)));
    }
    let memory = memory("env", text.as_bytes());
    let memory = memory.map_err(Failure::io("cannot hand the variables over"))?;
    Ok(Some(Variant::Fd(Fd::from(memory))))
}

fn completed(text: &str, value: impl Fn(&str) -> Option<OsString>) -> String {
    let mut whole = String::new();
    for line in text.lines() {
        let name = line.trim_start();
        if name.is_empty() || name.starts_with('#') || name.contains('=') {
            whole.push_str(line);
        } else if let Some(value) = value(name).and_then(|value| value.into_string().ok()) {
            whole.extend([name, "=", &value]);
        }
        whole.push('\n');
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_stands_for_what_we_have() {
        let value = |name: &str| (name == "HOME").then(|| "/home/a".into());
        let text = "# HOME\nA=b\n  HOME\nABSENT\n\nHOME=x";
        assert_eq!(completed(text, value), "# HOME\nA=b\nHOME=/home/a\n\n\nHOME=x\n");
    }
}
