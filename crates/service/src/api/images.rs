//! What callers say about images, but for `ImportImage`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{SealFlags, fcntl_get_seals};
use tare_storage::{Compression, Digest, Platform};

use super::error::ApiError;
use super::files::read_only;
use super::import::{Way, is_stream};
use super::options::{Options, Values};
use super::text::{text, wrong};
use crate::engine::clock::Usec;
use crate::engine::{
    ArchiveFormat, ExportImages, OpenImageRoot, Prune, Pruned, PullImage, PullWhen, PushImage,
    Reference, view,
};
use crate::pull::{Credentials, MAX_AUTH, Tls};

/// How often a layer is begun again, if nobody says otherwise.
const RETRIES: u32 = 3;
/// How often it may be.
const MOST_RETRIES: u32 = 100;
/// Most images in one archive.
const MOST: usize = 1000;

/// Arguments and options of `OpenRootDirectory`.
pub(crate) fn open_root(image: Arc<view::Image>, given: u64) -> Result<OpenImageRoot, ApiError> {
    read_only(given)?;
    Ok(OpenImageRoot { image })
}

/// Arguments and options of `ExportImages`; those of an image's own `Export` name that one.
pub(crate) fn export(
    names: Vec<String>,
    archive: OwnedFd,
    options: Values,
) -> Result<ExportImages, ApiError> {
    if !is_stream(&archive, Way::Write) {
        let message = "the archive must be a regular file, a pipe or a connected stream socket, \
                       open for writing";
        return Err(ApiError::invalid_args(message));
    }
    if names.is_empty() || names.len() > MOST {
        return Err(ApiError::invalid_args(format!("1 to {MOST} images make an archive")));
    }
    for name in &names {
        if name.parse::<Digest>().is_err() {
            name.parse::<Reference>()?;
        }
    }
    let mut o = Options::new(options);
    let format = match o.string("Format")?.as_deref() {
        None | Some("oci-archive") => ArchiveFormat::Oci,
        Some("docker-archive") => ArchiveFormat::Docker,
        Some(other) => {
            return Err(wrong("Format", &format_args!("'{}' is not known", other.escape_debug())));
        }
    };
    let compression = match format {
        ArchiveFormat::Oci => compression(&mut o)?,
        ArchiveFormat::Docker => uncompressed(&mut o)?,
    };
    o.finish()?;
    Ok(ExportImages { names, archive: archive.into(), format, compression })
}

/// Arguments and options of `PullImage`. A name without a registry is yet to be
/// [resolved](crate::engine::Engine::resolve_pull).
pub(crate) fn pull(name: &str, options: Values) -> Result<PullImage, ApiError> {
    let reference = name.parse::<Reference>()?;
    let mut o = Options::new(options);
    let pull = PullImage {
        names: if Reference::is_short(name) { Vec::new() } else { vec![reference.clone()] },
        reference,
        platform: text::<Platform>(&mut o, "Platform")?,
        when: match o.string("Policy")?.as_deref() {
            None | Some("missing") => PullWhen::Missing,
            Some("always") => PullWhen::Always,
            Some("newer") => PullWhen::Newer,
            Some(_) => return Err(wrong("Policy", &"must be missing, always or newer")),
        },
        tls: tls(&mut o)?,
        credentials: o.fd("Auth")?.map(credentials).transpose()?,
        retries: o.number("Retries")?.unwrap_or(RETRIES),
    };
    o.finish()?;
    if pull.retries > MOST_RETRIES {
        return Err(wrong("Retries", &format_args!("cannot be more than {MOST_RETRIES}")));
    }
    Ok(pull)
}

/// Arguments and options of `Push`.
pub(crate) fn push(
    image: Arc<view::Image>,
    destination: &str,
    options: Values,
) -> Result<PushImage, ApiError> {
    let destination = destination.parse::<Reference>()?.for_tag()?;
    let mut o = Options::new(options);
    let push = PushImage {
        image,
        destination,
        tls: tls(&mut o)?,
        credentials: o.fd("Auth")?.map(credentials).transpose()?,
        compression: compression(&mut o)?,
    };
    o.finish()?;
    Ok(push)
}

fn tls(o: &mut Options) -> Result<Option<Tls>, ApiError> {
    Ok(o.boolean("TLSVerify")?.map(|verify| if verify { Tls::Verify } else { Tls::Any }))
}

fn compression(o: &mut Options) -> Result<Compression, ApiError> {
    match o.string("Compression")?.as_deref() {
        Some("none") => Ok(Compression::None),
        None | Some("gzip") => Ok(Compression::Gzip),
        Some("zstd") => Ok(Compression::Zstd),
        Some(_) => Err(wrong("Compression", &"must be none, gzip or zstd")),
    }
}

/// What is never compressed need not be said to be so.
fn uncompressed(o: &mut Options) -> Result<Compression, ApiError> {
    match o.string("Compression")?.as_deref() {
        None | Some("none") => Ok(Compression::None),
        Some(_) => Err(wrong("Compression", &"must be none: layers of a docker-archive are not")),
    }
}

/// Credentials out of a memfd that nobody can change any more.
fn credentials(file: OwnedFd) -> Result<Credentials, ApiError> {
    let sealed = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    if !fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(sealed)) {
        return Err(wrong("Auth", &"must be a memfd that is sealed: WRITE, SHRINK and GROW"));
    }
    let mut json = vec![0; MAX_AUTH];
    let read = File::from(file).read_at(&mut json, 0);
    let read = read.map_err(|_| wrong("Auth", &"cannot be read"))?;
    if read == MAX_AUTH {
        return Err(wrong("Auth", &format_args!("must have less than {MAX_AUTH} bytes")));
    }
    Credentials::parse(&json[..read]).map_err(|error| wrong("Auth", &error))
}

/// Arguments of `Prune`.
pub(crate) fn prune(kinds: &[String], filter: Values) -> Result<Prune, ApiError> {
    let (mut containers, mut images, mut volumes) = (false, None, false);
    for kind in kinds {
        match kind.as_str() {
            "containers" => containers = true,
            "images" => images = images.or(Some(Pruned::Nameless)),
            "images-all" => images = Some(Pruned::All),
            "volumes" => volumes = true,
            other => {
                let message = format!("nothing of kind '{}' is pruned", other.escape_debug());
                return Err(ApiError::invalid_args(message));
            }
        }
    }
    if !containers && images.is_none() && !volumes {
        return Err(ApiError::invalid_args("no kind is named"));
    }
    let mut o = Options::new(filter);
    let prune = Prune {
        containers,
        images,
        volumes,
        until: o.number("Until")?.map(Usec),
        labels: o.string_map("Labels")?.unwrap_or_default(),
        dry_run: o.boolean("DryRun")?.unwrap_or_default(),
    };
    o.finish()?;
    Ok(prune)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pruned_is_named() {
        let prune = |kinds: &[&str]| {
            let kinds: Vec<_> = kinds.iter().map(ToString::to_string).collect();
            super::prune(&kinds, Values::new()).map(|prune| prune.images)
        };
        assert_eq!(prune(&["images"]).unwrap(), Some(Pruned::Nameless));
        assert_eq!(prune(&["volumes"]).unwrap(), None);
        assert_eq!(prune(&["containers"]).unwrap(), None);
        for both in [["images", "images-all"], ["images-all", "images"]] {
            assert_eq!(prune(&both).unwrap(), Some(Pruned::All));
        }
        for wrong in [&[][..], &["everything"], &["images", "moons"]] {
            assert_eq!(prune(wrong).unwrap_err().short_name(), "InvalidArgs", "{wrong:?}");
        }
    }

    #[test]
    fn an_export_needs_images_and_somewhere_to_write() {
        let sink = || OwnedFd::from(tempfile::tempfile().unwrap());
        let read_only = || OwnedFd::from(File::open("/proc/self/exe").unwrap());
        let device = || {
            let mode = rustix::fs::Mode::empty();
            rustix::fs::open("/dev/null", rustix::fs::OFlags::WRONLY, mode).unwrap()
        };
        let options = |key: &str, text: &str| Values::from([(key.to_owned(), text.into())]);
        let docker_in = |compression: &str| {
            let mut options = options("Format", "docker-archive");
            options.insert("Compression".to_owned(), compression.into());
            options
        };
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (about, result, wanted) in [
            ("fine", export(names(&["a"]), sink(), Values::new()), None),
            ("read only", export(names(&["a"]), read_only(), Values::new()), Some("InvalidArgs")),
            ("a device", export(names(&["a"]), device(), Values::new()), Some("InvalidArgs")),
            ("no image", export(names(&[]), sink(), Values::new()), Some("InvalidArgs")),
            ("no name", export(names(&["A"]), sink(), Values::new()), Some("InvalidReference")),
            ("docker's", export(names(&["a"]), sink(), options("Format", "docker-archive")), None),
            (
                "a format",
                export(names(&["a"]), sink(), options("Format", "docker-dir")),
                Some("InvalidArgs"),
            ),
            ("docker's, not compressed", export(names(&["a"]), sink(), docker_in("none")), None),
            (
                "docker's, compressed",
                export(names(&["a"]), sink(), docker_in("gzip")),
                Some("InvalidArgs"),
            ),
            (
                "a compression",
                export(names(&["a"]), sink(), options("Compression", "xz")),
                Some("InvalidArgs"),
            ),
        ] {
            let refused = result.err();
            assert_eq!(refused.as_ref().map(ApiError::short_name), wanted, "{about}: {refused:?}");
        }
    }
}
