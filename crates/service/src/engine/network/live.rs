//! Changing the network of a container that runs.

use std::net::IpAddr;

use tare_netns::{ContainerRules, NetworkName};
use tare_runtime::ContainerName;

use super::{Networks, without};
use crate::engine::Error;
use crate::engine::blocking::brief;
use crate::engine::records::volatile::{Incarnation, NetworkRecord, Place};

impl Networks {
    /// Makes the interface that a container has on a network by its record, and lets it through. Ports that
    /// led elsewhere by the rules `before` lead where its record says.
    pub(in crate::engine) async fn attach(
        &self,
        name: &ContainerName,
        before: ContainerRules,
        record: &Incarnation,
        network: &NetworkName,
        unrested: Vec<IpAddr>,
    ) -> Result<(), Error> {
        let Some((known, place)) = place(record, network) else { return Ok(()) };
        let failed = failed(name);
        let network = self.get(network);
        let rules = known.rules();
        let firewall =
            if rules == before { None } else { Some(self.firewall.open().await.map_err(&failed)?) };
        let (namespace, names) = (known.namespace.clone(), self.names.clone());
        self.forget_others_of(unrested, failed.clone()).await?;
        brief(move || {
            if let Some(network) = network {
                network.ensure(&names).map_err(&failed)?;
            }
            tare_netns::attach(&namespace, &place.attachment).map_err(&failed)?;
            let Some(firewall) = firewall else { return Ok(()) };
            // A port leads to one place at a time.
            firewall.withdraw(&before, &rules).map_err(&failed)?;
            firewall.admit(&rules).map_err(&failed)?;
            if before.publications == rules.publications {
                return Ok(());
            }
            firewall.take_over(&rules).map_err(&failed)
        })
        .await
    }

    /// Takes that back, or what is there of it, with the ports that lead there.
    pub(in crate::engine) async fn detach(
        &self,
        name: &ContainerName,
        record: &Incarnation,
        network: &NetworkName,
    ) -> Result<(), Error> {
        let Some((known, place)) = place(record, network) else { return Ok(()) };
        self.withdraw(name, known.rules(), without(known, network).rules()).await?;
        let (failed, namespace) = (failed(name), known.namespace.clone());
        brief(move || tare_netns::detach(&namespace, &place.attachment).map_err(&failed)).await
    }

    /// Lets the firewall do something for a container.
    pub(in crate::engine) async fn admit(
        &self,
        name: &ContainerName,
        rules: ContainerRules,
    ) -> Result<(), Error> {
        if rules.elements().is_empty() {
            return Ok(());
        }
        let failed = failed(name);
        let firewall = self.firewall.open().await.map_err(&failed)?;
        brief(move || {
            firewall.admit(&rules).map_err(&failed)?;
            firewall.take_over(&rules).map_err(&failed)
        })
        .await
    }

    /// Takes that back, but for what it asks for still. Connections that exist stay.
    pub(in crate::engine) async fn withdraw(
        &self,
        name: &ContainerName,
        rules: ContainerRules,
        still: ContainerRules,
    ) -> Result<(), Error> {
        if rules == still {
            return Ok(());
        }
        let failed = failed(name);
        let firewall = self.firewall.open().await.map_err(&failed)?;
        brief(move || firewall.withdraw(&rules, &still).map_err(&failed)).await
    }
}

fn place<'r>(record: &'r Incarnation, network: &NetworkName) -> Option<(&'r NetworkRecord, Place)> {
    let known = record.network.as_ref()?;
    let place = known.places.iter().find(|place| place.network == *network)?;
    Some((known, place.clone()))
}

fn failed(
    name: &ContainerName,
) -> impl Fn(tare_netns::Error) -> Error + Clone + Send + 'static + use<> {
    let name = name.clone();
    move |source| Error::Network { name: name.clone(), source: Box::new(source) }
}
