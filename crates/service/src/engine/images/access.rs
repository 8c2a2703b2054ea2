//! Where images are asked for and put, by whom, and how: what a caller says, over what files of the host say.

use super::{Engine, Error};
use crate::engine::jobs::Job;
use crate::engine::of_host;
use crate::engine::reference::Reference;
use crate::pull::{Blocked, Credentials, Endpoint, Registries, Tls};

/// What is told of a [`Place`] that does not get what is there for it.
pub(super) const KEPT_BACK: &str = "the host's credentials are not sent: the caller does without a \
                                    certificate, and registries.conf does not say so";

/// All that is said.
pub(super) struct Access {
    registries: Registries,
    tls: Option<Tls>,
    given: Option<Credentials>,
    /// Those of the host, where none are given.
    hosts: Credentials,
}

/// A place that is asked.
pub(super) struct Place<'a> {
    /// The name of the image there.
    pub(super) at: Reference,
    pub(super) tls: Tls,
    /// Of which those for the place are sent there, and no others.
    pub(super) credentials: &'a Credentials,
    /// Whether the host has some for it which are kept back.
    pub(super) kept_back: bool,
}

impl Access {
    /// Reads what the host says.
    ///
    /// # Errors
    ///
    /// [`Error::Registries`].
    pub(super) async fn read(
        engine: &Engine,
        (tls, given): (Option<Tls>, Option<&Credentials>),
        job: &Job,
    ) -> Result<Self, Error> {
        let registries = of_host::registries().await?;
        let mut hosts = Credentials::default();
        if given.is_none() {
            for helper in registries.other_helpers() {
                job.log(4, format!("credential helper '{helper}' is not asked: none is run here"));
            }
            if registries.uses_auth_file() {
                hosts = of_host::credentials(engine.config().registries.auth_file.clone()).await?;
            }
        }
        Ok(Self { registries, tls, given: given.cloned(), hosts })
    }

    /// Where an image of that name may be pulled from, in the order that is tried.
    ///
    /// # Errors
    ///
    /// [`Error::Blocked`], [`Error::Registries`].
    pub(super) fn sources(&self, name: &Reference) -> Result<Vec<Place<'_>>, Error> {
        let sources = self.registries.sources(name.for_rules().as_str());
        let sources = sources.map_err(|source| blocked(name, source))?;
        sources.into_iter().map(|endpoint| self.place(&endpoint)).collect()
    }

    /// Where an image of that name is pushed to.
    ///
    /// # Errors
    ///
    /// [`Error::Blocked`].
    pub(super) fn target(&self, name: &Reference) -> Result<Place<'_>, Error> {
        let target = self.registries.target(name.for_rules().as_str());
        self.place(&target.map_err(|source| blocked(name, source))?)
    }

    fn place(&self, endpoint: &Endpoint) -> Result<Place<'_>, Error> {
        let Endpoint { name, insecure } = endpoint;
        let at = match name.parse::<Reference>() {
            Ok(at) if !Reference::is_short(name) => at,
            _ => {
                let problem =
                    format!("registries.conf leads to '{name}', which is no image's name");
                return Err(Error::Registries(problem.into()));
            }
        };
        let said = if *insecure { Tls::Any } else { Tls::Verify };
        let tls = self.tls.unwrap_or(said);
        // Where a certificate counts, a caller can do without it for their own password, not for that of the host.
        let kept_back = self.given.is_none() && tls == Tls::Any && !insecure;
        let (registry, repository) = at.place();
        Ok(Place {
            tls,
            kept_back: kept_back && self.hosts.of(registry, repository).is_some(),
            credentials: match &self.given {
                Some(given) => given,
                None if kept_back => Credentials::none(),
                None => &self.hosts,
            },
            at,
        })
    }
}

/// Whose credentials are used, for rules of polkit.
pub(super) fn whose(given: Option<&Credentials>) -> &'static str {
    if given.is_some() { "given" } else { "host" }
}

fn blocked(name: &Reference, source: Blocked) -> Error {
    Error::Blocked { reference: name.to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull::Text;

    fn credentials(user: &str) -> Credentials {
        // `u:p`, whoever it is for.
        let json = format!(r#"{{"auths":{{"{user}":{{"auth":"dTpw"}}}}}}"#);
        Credentials::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_place_gets_what_is_for_it_and_as_it_is_said() {
        let conf = "[[registry]]\nlocation = 'a.test'\n\
                    [[registry.mirror]]\nlocation = 'm.test'\ninsecure = true\n\
                    [[registry]]\nlocation = 'in.test'\ninsecure = true";
        let conf = Text { path: "conf".into(), toml: conf.into() };
        let access = |tls, given: Option<&str>| Access {
            registries: Registries::parse(Some(&conf), &[]).unwrap(),
            tls,
            given: given.map(credentials),
            hosts: credentials("a.test"),
        };
        let (any, verify) = (Tls::Any, Tls::Verify);
        for (name, asked, given, wanted) in [
            ("a.test/x", None, None, &[("m.test", any, false), ("a.test", verify, true)][..]),
            ("a.test/x", Some(any), None, &[("m.test", any, false), ("a.test", any, false)]),
            (
                "a.test/x",
                Some(verify),
                None,
                &[("m.test", verify, false), ("a.test", verify, true)],
            ),
            (
                "a.test/x",
                Some(any),
                Some("a.test"),
                &[("m.test", any, false), ("a.test", any, true)],
            ),
            ("a.test/x", None, Some("m.test"), &[("m.test", any, true), ("a.test", verify, false)]),
            ("in.test/x", None, Some("in.test"), &[("in.test", any, true)]),
            ("in.test/x", Some(any), Some("in.test"), &[("in.test", any, true)]),
        ] {
            let access = access(asked, given);
            let found = access.sources(&name.parse().unwrap()).unwrap();
            let found = found.iter().map(|place| {
                let (registry, repository) = place.at.place();
                (registry, place.tls, place.credentials.of(registry, repository).is_some())
            });
            assert!(found.eq(wanted.iter().copied()), "{name}, {asked:?}, {given:?}");
        }
        let kept_back =
            |tls| access(tls, None).sources(&"a.test/x".parse().unwrap()).unwrap()[1].kept_back;
        assert!(kept_back(Some(any)) && !kept_back(None));
    }

    #[test]
    fn what_leads_to_no_name_is_refused() {
        let conf = "[[registry]]\nprefix = 'a.test'\nlocation = 'nohost'\n\
                    [[registry]]\nprefix = 'b.test'\nlocation = 'c.test/UPPER'\n\
                    [[registry]]\nlocation = 'd.test'\nblocked = true";
        let conf = Text { path: "conf".into(), toml: conf.into() };
        let access = Access {
            registries: Registries::parse(Some(&conf), &[]).unwrap(),
            tls: None,
            given: None,
            hosts: Credentials::default(),
        };
        for (name, wanted) in [
            ("a.test/x", "InvalidConfiguration"),
            ("b.test/x", "InvalidConfiguration"),
            ("d.test/x", "RegistryBlocked"),
        ] {
            let refused = access.sources(&name.parse().unwrap()).err().unwrap();
            assert_eq!(refused.name(), wanted, "{name}");
        }
        let pushed = access.target(&"d.test/x".parse().unwrap());
        assert_eq!(pushed.err().unwrap().name(), "RegistryBlocked");
    }
}
