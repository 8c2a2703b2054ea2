//! Prints the config.json of a small container, and writes its text files beside it.
//!
//! `cargo run -p tare-specgen --example print_config BUNDLE COMMAND [ARGUMENT...]` fills the
//! directory `BUNDLE`, in which `rootfs` and `shm` are expected; then `crun run` or `runc run`.
//! In place of the command there may be a whole request, `{"v":1,...}`.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the example is the I/O around the pure crate"
)]

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use tare_specgen::{
    CapabilitySet, Foreign, HostFacts, ImageDefaults, NetworkMode, Placement, Request, RlimitKind,
    RootfsFacts, SeccompProfile, effective, generate, reasons,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let bundle = fs::canonicalize(arguments.next().ok_or("which bundle?")?)?;
    let request = request(&arguments.collect::<Vec<_>>())?;

    let effective =
        effective(&request, &ImageDefaults::parse(br#"{"config":{}}"#)?, &Foreign::default())?;
    let made = generate(&effective, &host()?, &rootfs(&bundle), &placement(&bundle)?)?;

    for file in &made.files {
        fs::write(bundle.join(&file.name), &file.content)?;
    }
    // A real service resolves these inside the root.
    for file in &made.rootfs_files {
        fs::write(format!("{}/rootfs{}", bundle.display(), file.path), &file.content)?;
    }
    fs::write(bundle.join("config.json"), &made.config)?;
    println!("{}", String::from_utf8(made.config)?);
    for reason in reasons(&effective) {
        println!("needs permission: {reason}");
    }
    for warning in made.warnings {
        println!("warning: {warning}");
    }
    Ok(())
}

/// A command without network, or the whole of a request.
fn request(arguments: &[String]) -> Result<Request, Box<dyn Error>> {
    if let [json] = arguments
        && json.starts_with('{')
    {
        return Ok(serde_json::from_str(json)?);
    }
    let mut request = Request::default();
    let words = arguments.iter().map(|word| word.parse());
    request.command = words.collect::<Result<_, _>>()?;
    request.network_mode = NetworkMode::None;
    Ok(request)
}

fn host() -> Result<HostFacts, Box<dyn Error>> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut host =
        HostFacts::new(env::consts::ARCH.parse()?, release.parse()?, SeccompProfile::embedded());
    let status = fs::read_to_string("/proc/self/status")?;
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap_or("0");
    host.capabilities = CapabilitySet::from_bits(u64::from_str_radix(bounding, 16)?);
    let limits = fs::read_to_string("/proc/self/limits")?;
    for (kind, label) in
        [(RlimitKind::Nofile, "Max open files"), (RlimitKind::Nproc, "Max processes")]
    {
        let hard =
            limits.lines().find_map(|line| line.strip_prefix(label)?.split_whitespace().nth(1));
        if let Some(hard) = hard.and_then(|hard| hard.parse().ok()) {
            host.hard_limits.insert(kind, hard);
        }
    }
    Ok(host)
}

/// A real service reads these without leaving the root file system.
fn rootfs(bundle: &Path) -> RootfsFacts {
    let mut rootfs = RootfsFacts::default();
    rootfs.passwd = fs::read(bundle.join("rootfs/etc/passwd")).ok();
    rootfs.group = fs::read(bundle.join("rootfs/etc/group")).ok();
    rootfs
}

fn placement(bundle: &Path) -> Result<Placement, Box<dyn Error>> {
    let bundle = bundle.to_str().ok_or("the path of the bundle is not UTF-8")?;
    Ok(Placement::new(
        format!("{bundle}/rootfs").try_into()?,
        bundle.parse()?,
        format!("{bundle}/shm").try_into()?,
        "0123456789ab".parse()?,
        "/tare-example",
    ))
}
