//! What must hold whatever bytes come, of all that strangers write and root reads.
//!
//! # What it does
//!
//! Each of the [`TARGETS`] takes any bytes for an archive, a document or a file, has the crate whose it is
//! read them, and panics where a promise is broken: nothing panics; what is told of an error is one plain
//! line; what was read and is written again is read as the same; no line comes out that was not meant; and
//! nothing is touched but where an archive is unpacked.
//!
//! The tests of this crate drive them with the seeds in `seeds/` and with some thousand changes of each, the
//! same ones every time.
//!
//! # What it does not do
//!
//! It uses what the crates export, as everybody does, and knows nothing of how they read.
//!
//! # Privileges
//!
//! None. As root, owners and modes of unpacked files are tried besides.
#![expect(clippy::unwrap_used, reason = "where something fails that may not, a promise is broken")]

mod accounts;
mod config;
mod docker;
mod documents;
mod hooks;
mod layer;
mod network_files;
mod room;
mod seccomp;
mod text;

/// What became of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They were read, and what came of them was looked at.
    Taken,
    /// They are an error.
    Refused,
}

/// Something that strangers write.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its seeds' directory, too.
    pub name: &'static str,
    /// Has any bytes read. Panics where a promise is broken.
    pub check: fn(&[u8]) -> Verdict,
    /// What means something in it: who changes bytes puts these in, too.
    pub words: &'static [&'static str],
    /// Whether files are made of it, so that less can be tried in the same time.
    pub makes_files: bool,
}

/// What is in all JSON.
macro_rules! json_words {
    ($($word:literal),* $(,)?) => {
        &["\"", "\\u0000", "\\n", "{}", "[]", "null", ",", ":", "-1", "1e9", "4294967296", $($word),*]
    };
}

/// All there are.
pub const TARGETS: &[Target] = &[
    Target {
        name: "layer",
        check: layer::check,
        makes_files: true,
        words: &[
            "../",
            "/",
            ".wh.",
            ".wh..wh..opq",
            "ustar",
            "path=",
            "linkpath=",
            "SCHILY.xattr.user.",
            "GNU.sparse.map=",
            "GNU.sparse.realsize=",
            "7777777",
            "outside/secret",
            "0",
            "1",
            "2",
            "5",
            "x",
            "L",
            "K",
            "S",
        ],
    },
    Target {
        name: "docker_manifest",
        check: docker::check,
        makes_files: true,
        words: json_words![
            "Config",
            "Layers",
            "RepoTags",
            "../",
            "0/layer.tar",
            "link/layer.tar",
            "out",
            "round"
        ],
    },
    Target {
        name: "manifest",
        check: documents::manifest,
        makes_files: false,
        words: json_words!["mediaType", "digest", "size", "layers", "config", "sha256:", "+zstd"],
    },
    Target {
        name: "index",
        check: documents::index,
        makes_files: false,
        words: json_words![
            "manifests",
            "platform",
            "variant",
            "annotations",
            "os",
            "sha512:",
            "arm64"
        ],
    },
    Target {
        name: "image_config",
        check: documents::config,
        makes_files: false,
        words: json_words![
            "config",
            "Env",
            "Cmd",
            "Entrypoint",
            "User",
            "WorkingDir",
            "Volumes",
            "ExposedPorts",
            "Labels",
            "StopSignal",
            "/proc/self/fd/8",
            "/..",
            "0:0",
            "PATH=",
            "diff_ids",
            "Privileged",
            "\u{85}",
        ],
    },
    Target {
        name: "passwd",
        check: accounts::passwd,
        makes_files: false,
        words: &[
            "\u{85}",
            "\u{a0}",
            "\n",
            ":",
            "\r\n",
            "0",
            "2147483647",
            "2147483648",
            "4294967295",
            "-1",
            "\0",
            "+",
            "#",
            "/",
        ],
    },
    Target {
        name: "group",
        check: accounts::group,
        makes_files: false,
        words: &["\n", ":", "\r\n", "0", "2147483647", "4294967296", ",", "1234", "\0", "www", "#"],
    },
    Target {
        name: "resolv_conf",
        check: network_files::resolv_conf,
        makes_files: false,
        words: &[
            "\n",
            "nameserver ",
            "search ",
            "domain ",
            "options ",
            "#",
            ";",
            "127.0.0.53",
            "::1",
            "fe80::1%",
            "\r",
            "\t",
            "\u{b}",
            "\u{85}",
            "\u{2028}",
            ".",
            "192.0.2.1",
            "ndots:",
        ],
    },
    Target {
        name: "hosts",
        check: network_files::hosts,
        makes_files: false,
        words: &[
            "\n",
            "#",
            "127.0.0.1",
            "::1",
            "localhost",
            "web",
            "asked",
            "\r",
            "\t",
            "\u{b}",
            "\u{85}",
            "\u{2028}",
            " ",
            "host.tare.internal",
            "192.0.2.1",
        ],
    },
    Target {
        name: "hooks",
        check: hooks::check,
        makes_files: false,
        words: json_words![
            "version",
            "1.0.0",
            "hook",
            "path",
            "args",
            "env",
            "timeout",
            "when",
            "always",
            "annotations",
            "commands",
            "hasBindMounts",
            "stages",
            "precreate",
            "poststop",
            "(a*)*",
            "\u{9b}",
            "/..",
            "true",
        ],
    },
    Target {
        name: "seccomp",
        check: seccomp::check,
        makes_files: false,
        words: json_words![
            "defaultAction",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_NOTIFY",
            "architectures",
            "archMap",
            "syscalls",
            "names",
            "args",
            "includes",
            "excludes",
            "caps",
            "minKernel",
            "SCMP_CMP_MASKED_EQ",
            "listenerPath",
            "flags",
            "errnoRet",
        ],
    },
];

/// The target of a name.
///
/// # Panics
///
/// If there is none.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    *found.unwrap_or_else(|| panic!("there is no target {name}"))
}
