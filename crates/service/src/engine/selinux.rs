//! The `SELinux` labels of containers, on a host that uses it.
//!
//! What its policy has for containers is read when the daemon starts. Categories, which keep containers of one
//! type apart, are given to a container before it first runs, and are its own until it is removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tare_specgen::{
    Categories, Effective, NamespaceKind, SELinuxContext, SELinuxLabels, SELinuxPolicy,
    keeps_its_labels, selinux_labels,
};
use tare_storage::{FileLabel, selinux_enabled};

use super::container::Container;
use super::records::durable;
use super::{Error, Inner, random_id};

/// What a distribution has for containers, in place of what the policy says.
const CONTEXTS: &str = "/usr/share/containers/selinux/contexts";
/// Which policy it is.
const CONFIG: &str = "/etc/selinux/config";
/// The policy where that does not say.
const USUAL_POLICY: &str = "targeted";

/// The first id of a person; those before it are of services.
const FIRST_PERSON: u32 = 1000;

/// The labels of what a container may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Labels {
    /// Of what is its own; nothing if its processes have no label of a container.
    pub(super) own: Option<FileLabel>,
    /// Of what every container may use.
    pub(super) shared: FileLabel,
}

/// What of `SELinux` there is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// It is used, but nothing says how containers are labelled.
    NoContexts,
    /// This is what its policy has for containers.
    Policy(SELinuxPolicy),
}

impl Found {
    /// Looks for it.
    pub(super) fn now() -> Self {
        if selinux_enabled() {
            Self::by(|path| fs::read_to_string(path).ok())
        } else {
            Self::Nothing
        }
    }

    /// The same where files say this.
    fn by(read: impl Fn(&str) -> Option<String>) -> Self {
        let parse = |path: &str| read(path).and_then(|text| SELinuxPolicy::parse(&text));
        let of_policy = || {
            let config = read(CONFIG).unwrap_or_default();
            parse(&format!("/etc/selinux/{}/contexts/lxc_contexts", policy_name(&config)))
        };
        parse(CONTEXTS).or_else(of_policy).map_or(Self::NoContexts, Self::Policy)
    }

    pub(super) fn policy(self) -> Option<SELinuxPolicy> {
        match self {
            Self::Policy(policy) => Some(policy),
            Self::Nothing | Self::NoContexts => None,
        }
    }
}

/// The name of the policy, by the file that says so.
fn policy_name(config: &str) -> &str {
    let settings = config.lines().filter_map(|line| line.split_once('='));
    let mut names = settings.filter(|(key, _)| key.trim() == "SELINUXTYPE").map(|it| it.1.trim());
    let name = names.next().filter(|name| !name.is_empty() && !name.contains('/'));
    name.unwrap_or(USUAL_POLICY)
}

/// Where people live, by a file like `/etc/passwd`: that is not relabelled for a container.
fn homes(passwd: &str) -> Vec<PathBuf> {
    let home = |line: &str| {
        let mut fields = line.split(':');
        let uid: u32 = fields.nth(2)?.parse().ok()?;
        let home = fields.nth(2)?;
        (uid >= FIRST_PERSON && home.starts_with('/')).then(|| home.into())
    };
    passwd.lines().filter_map(home).collect()
}

/// Where people live on this host, by the paths that these places have once they are open.
pub(super) fn homes_now() -> Vec<PathBuf> {
    let homes = homes(&fs::read_to_string("/etc/passwd").unwrap_or_default());
    homes.into_iter().map(|home| home.canonicalize().unwrap_or(home)).collect()
}

/// Whether the host needs the labels that there are at a path; people live there, or below.
pub(super) fn is_of_host(path: &Path, homes: &[PathBuf]) -> bool {
    path.to_str().is_none_or(keeps_its_labels) || homes.iter().any(|home| home.starts_with(path))
}

fn file_label(label: &SELinuxContext) -> Result<FileLabel, Error> {
    let label = label.as_str().parse();
    label.map_err(|error: tare_storage::InvalidName| Error::Bug(error.to_string()))
}

impl Inner {
    /// Gives a container categories that no other has, unless it has some or needs none.
    ///
    /// # Errors
    ///
    /// [`Error::CategoriesExhausted`], and of the database.
    pub(super) async fn give_categories(
        &self,
        container: &Container,
        effective: &Effective,
    ) -> Result<(), Error> {
        if self.selinux_labels_of(container, effective)?.is_none() {
            return Ok(());
        }
        let holder = self.categories_holder(container)?;
        let holder = holder.as_deref().unwrap_or(container);
        if holder.categories.get().is_some() {
            return Ok(());
        }
        let (id, drawn) = (holder.id.clone(), draw()?);
        let given = self.state.run(move |c| durable::give_categories(c, &id, &drawn)).await?;
        let given = given.ok_or(Error::CategoriesExhausted)?;
        // Whoever was quicker was given the same.
        holder.categories.get_or_init(|| given);
        Ok(())
    }

    /// The labels of what a container may use; nothing if the host has none.
    pub(super) fn file_labels(
        &self,
        container: &Container,
        effective: &Effective,
    ) -> Result<Option<Labels>, Error> {
        let Some(shared) = self.volume_label()? else { return Ok(None) };
        Ok(Some(match self.selinux_labels_of(container, effective)? {
            None => Labels { own: None, shared },
            Some(SELinuxLabels { files, shared_files, .. }) => {
                Labels { own: Some(file_label(&files)?), shared: file_label(&shared_files)? }
            }
        }))
    }

    /// What a new volume is labelled with: every container may use it.
    pub(super) fn volume_label(&self) -> Result<Option<FileLabel>, Error> {
        let policy = self.host.selinux();
        policy.map(|policy| file_label(&policy.shared_files())).transpose()
    }

    fn selinux_labels_of(
        &self,
        container: &Container,
        effective: &Effective,
    ) -> Result<Option<SELinuxLabels>, Error> {
        let Some(policy) = self.host.selinux() else { return Ok(None) };
        let categories = self.categories_of(container)?;
        selinux_labels(effective, policy, categories).map_err(Error::InvalidSpec)
    }

    /// The categories that a container has; nothing where there is nothing to keep apart by them.
    pub(super) fn categories_of(&self, container: &Container) -> Result<Option<Categories>, Error> {
        if self.host.selinux().is_none() {
            return Ok(None);
        }
        let holder = self.categories_holder(container)?;
        Ok(holder.as_deref().unwrap_or(container).categories.get().copied())
    }

    /// Whose categories a container has, if not its own: who shares memory or processes of another could do
    /// nothing with them else, as in podman.
    fn categories_holder(&self, container: &Container) -> Result<Option<Arc<Container>>, Error> {
        let mut holder = None;
        let mut request = container.definition().row.request.clone();
        // No container is there before those that it shares something of.
        loop {
            let next = match self.owner_of(NamespaceKind::Ipc, &request)? {
                None => self.owner_of(NamespaceKind::Pid, &request)?,
                owner => owner,
            };
            let Some(next) = next else { return Ok(holder) };
            request = next.definition().row.request.clone();
            holder = Some(next);
        }
    }
}

/// Pairs of numbers that nobody can foretell, as many as are in an id.
fn draw() -> Result<Vec<(u16, u16)>, Error> {
    let id = random_id()?;
    let numbers: Vec<u16> = id
        .as_str()
        .as_bytes()
        .chunks(4)
        .filter_map(|digits| u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok())
        .collect();
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "process = \"u:r:t:s0\"\nfile = \"u:o:f:s0\"\n";

    #[test]
    fn what_a_policy_has_is_found_where_it_says() {
        let parsed = SELinuxPolicy::parse(POLICY).unwrap();
        let of = |name: &str| format!("/etc/selinux/{name}/contexts/lxc_contexts");
        let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        for (about, files, found) in [
            ("nothing", vec![], false),
            ("the usual policy", vec![file(&of("targeted"), POLICY)], true),
            (
                "another one",
                vec![file(CONFIG, "# x\nSELINUXTYPE = mls \n"), file(&of("mls"), POLICY)],
                true,
            ),
            (
                "a policy without containers",
                vec![file(CONFIG, "SELINUXTYPE=mls\n"), file(&of("targeted"), POLICY)],
                false,
            ),
            ("of the distribution", vec![file(CONTEXTS, POLICY), file(&of("targeted"), "x")], true),
            ("elsewhere", vec![file(CONFIG, "SELINUXTYPE=../x"), file(&of("../x"), POLICY)], false),
        ] {
            let read =
                |path: &str| files.iter().find(|(at, _)| at == path).map(|(_, text)| text.clone());
            let want = if found { Found::Policy(parsed.clone()) } else { Found::NoContexts };
            assert_eq!(Found::by(read), want, "{about}");
        }
    }

    #[test]
    fn homes_are_those_of_people() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n\
            ann:x:1000:1000:Ann:/data/ann:/bin/sh\nben:x:1001:1001::relative:/bin/sh\n\
            broken:x:one\n\nshort:x:1002:1\n";
        assert_eq!(homes(passwd), [PathBuf::from("/data/ann")]);
    }

    #[test]
    fn where_people_live_is_of_the_host_and_so_is_what_that_is_in() {
        let homes = [PathBuf::from("/data/people/ann")];
        for (path, host) in [
            ("/data", true),
            ("/data/people", true),
            ("/data/people/ann", true),
            ("/data/people/ann/files", false),
            ("/data/peo", false),
            ("/usr/bin", true),
            ("/srv/files", false),
        ] {
            assert_eq!(is_of_host(Path::new(path), &homes), host, "{path}");
        }
    }

    #[test]
    fn what_is_drawn_are_pairs_and_never_the_same() {
        let (one, other) = (draw().unwrap(), draw().unwrap());
        assert_eq!((one.len(), other.len()), (8, 8));
        assert_ne!(one, other);
    }
}
