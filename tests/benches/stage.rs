//! The system that is measured on: who is there, and how much is done.

use std::fs;
use std::path::PathBuf;

use system_tests::image;

use crate::engine::{Checkpoints, Crun, Engine, Images, Network, Podman, Tare, Unshare, live};
use crate::row::Who;
use crate::service::{PODMAN, Service, TARE};
use crate::{Result, SCRATCH};

/// The user who is not root: one that is everywhere.
const NOBODY: u32 = 65534;
const POLKIT_RULE: &str = r#"polkit.addRule(function(action, subject) {
    if (subject.user == "nobody" && action.id.indexOf("org.tare.containers1.") == 0) {
        return polkit.Result.YES;
    }
});
"#;
/// There may be no such controller here; and a warm service is one that does not go away.
const CONTAINERS_CONF: &str = "[containers]\npids_limit = 0\n[engine]\nservice_timeout = 0\n";

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// For figures.
    Full,
    /// To see that it works.
    Quick,
}

impl Depth {
    /// One or the other.
    pub(crate) fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

/// Everybody, ready.
#[derive(Debug)]
pub(crate) struct Stage {
    /// How much is done.
    pub(crate) depth: Depth,
    tare: Tare,
    tare_for_user: Tare,
    podman: Podman,
    crun: Crun,
    unshare: Unshare,
}

impl Stage {
    /// Makes everybody ready, each with one life behind it.
    pub(crate) async fn set(depth: Depth) -> Result<Self> {
        fs::write("/etc/polkit-1/rules.d/50-tare-bench.rules", POLKIT_RULE)?;
        fs::create_dir_all("/etc/containers/containers.conf.d")?;
        fs::write("/etc/containers/containers.conf.d/50-tare-bench.conf", CONTAINERS_CONF)?;
        PODMAN.listen().await?;
        let rootfs = rootfs()?;
        let stage = Self {
            depth,
            tare: Tare::connect(0).await?,
            tare_for_user: Tare::connect(NOBODY).await?,
            podman: Podman::new(),
            crun: Crun::new(PathBuf::from(SCRATCH).join("crun"), rootfs.clone())?,
            unshare: Unshare::new(rootfs),
        };
        stage.tare.import().await?;
        stage.podman.import().await?;
        for who in [Who::Tare, Who::TareForUser, Who::Podman, Who::Crun, Who::Unshare] {
            live(stage.engine(who)?, Network::Bridge).await?;
        }
        Ok(stage)
    }

    /// Who of them keeps containers.
    pub(crate) fn engine(&self, who: Who) -> Result<&dyn Engine> {
        match who {
            Who::Tare => Ok(&self.tare),
            Who::TareForUser => Ok(&self.tare_for_user),
            Who::Podman => Ok(&self.podman),
            Who::Crun => Ok(&self.crun),
            Who::Unshare => Ok(&self.unshare),
            Who::Library(_) | Who::Programs(_) => {
                Err(format!("{} keeps no containers", who.name()).into())
            }
        }
    }

    /// Ours, for what nobody else does.
    pub(crate) fn tare(&self) -> &Tare {
        &self.tare
    }

    /// Who of them can put a container away.
    pub(crate) fn checkpoints(&self, who: Who) -> Result<&dyn Checkpoints> {
        match who {
            Who::Tare => Ok(&self.tare),
            Who::Podman => Ok(&self.podman),
            Who::Crun => Ok(&self.crun),
            _ => Err(format!("{} makes no checkpoints", who.name()).into()),
        }
    }

    /// Who of them has images.
    pub(crate) fn images(&self, who: Who) -> Result<&dyn Images> {
        match who {
            Who::Tare => Ok(&self.tare),
            Who::Podman => Ok(&self.podman),
            _ => Err(format!("{} has no images", who.name()).into()),
        }
    }

    /// The ids of all containers that anybody has, with whose they are.
    pub(crate) async fn containers(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for who in [Who::Tare, Who::Podman, Who::Crun, Who::Unshare] {
            let ids = self.engine(who)?.list().await?;
            all.extend(ids.iter().map(|id| format!("{} {id}", who.name())));
        }
        Ok(all)
    }
}

/// The service somebody is.
pub(crate) fn service(who: Who) -> Result<Service> {
    match who {
        Who::Tare => Ok(TARE),
        Who::Podman => Ok(PODMAN),
        other => Err(format!("{} is no service", other.name()).into()),
    }
}

/// The root file system of the image, for those who have no images.
fn rootfs() -> Result<PathBuf> {
    let rootfs = PathBuf::from(SCRATCH).join("rootfs");
    tar::Archive::new(image::busybox_tar()).unpack(&rootfs)?;
    Ok(rootfs)
}
