//! Ports of the host that lead to a container.

use std::sync::Arc;

use tare_netns::{
    ContainerRules, HeldPort, PortRequest, Publication, PublishedPort, Reach, Reservation,
};
use tare_runtime::ContainerName;
use tare_specgen::NetworkMode;

use super::blocking::brief;
use super::connect::question;
use super::container::{Now, Running};
use super::network::{Network, publications};
use super::ports::Ports;
use super::records::durable::Connections;
use super::records::volatile::Incarnation;
use super::{Engine, Error, Inner, view};
use crate::authority::{Ask, Authorized, Caller, Question};

/// A container of which ports are to be published.
#[derive(Debug)]
pub struct Publish {
    /// Which.
    pub container: Arc<view::Container>,
    /// Which ports.
    pub ports: Vec<PortRequest>,
}

/// A container of which ports are to be published no more.
#[derive(Debug)]
pub struct Unpublish {
    /// Which.
    pub container: Arc<view::Container>,
    /// Which ports, as they are published; port 0 of the host stands for any.
    pub ports: Vec<PortRequest>,
}

impl Ask for Publish {
    fn question(&self, _: &Caller) -> Question {
        question(&self.container, "publish")
    }
}

impl Ask for Unpublish {
    fn question(&self, _: &Caller) -> Question {
        question(&self.container, "unpublish")
    }
}

impl Inner {
    /// An error if nothing of the outside would reach these ports.
    pub(super) fn check_ports(
        &self,
        connections: &Connections,
        ports: &[PortRequest],
    ) -> Result<(), Error> {
        tare_netns::check_ports(ports).map_err(Error::InvalidPorts)?;
        let reached = |network: Arc<Network>| {
            let definition = network.definition();
            definition.bridge().is_some() && definition.network.reach() != Reach::Internal
        };
        let mut networks =
            connections.networks.iter().filter_map(|joined| self.networks.get(&joined.network));
        if ports.is_empty() || networks.any(reached) { Ok(()) } else { Err(Error::Unreachable) }
    }
}

impl Engine {
    /// Takes ports of the host.
    ///
    /// # Errors
    ///
    /// [`Error::PortInUse`] says which container has it, if one has; [`Error::NoHostAddress`].
    pub(super) async fn reserve(&self, ports: &[PortRequest]) -> Result<Reservation, Error> {
        if ports.is_empty() {
            return Ok(Reservation::default());
        }
        let wanted = ports.to_vec();
        let reserved = brief(move || Ok(tare_netns::reserve(&wanted))).await?;
        reserved.map_err(|error| match error {
            tare_netns::Error::PortInUse { port } => {
                let by = self.who_has(ports, &port);
                Error::PortInUse { port, by }
            }
            tare_netns::Error::NoHostAddress { address } => Error::NoHostAddress(address),
            other => Error::Host {
                what: "take a port of the host",
                source: std::io::Error::other(other),
            },
        })
    }

    /// The container that has one of these ports, which is called `text`.
    fn who_has(&self, ports: &[PortRequest], text: &str) -> Option<ContainerName> {
        let port = ports.iter().find(|port| port.to_string() == text)?;
        let overlaps = |other: &view::Port| other.request().is_ok_and(|it| port.overlaps(&it));
        let has =
            |view: &Arc<view::Container>| view.process.is_some() && view.ports.iter().any(overlaps);
        self.containers().into_iter().find(has).map(|view| view.name.clone())
    }

    /// The ports of a container that runs since before this daemon: those that its conmon keeps, and
    /// the others are taken again.
    pub(super) async fn hold_again(&self, record: &Incarnation, running: &Running) -> Ports {
        let mut ports = Ports::of_conmon(running.supervisor.as_ref());
        let published: Vec<_> = record.publications().iter().map(|it| it.port).collect();
        let offered: Vec<view::Port> = published.iter().map(view::Port::from).collect();
        ports.retain(|socket| offered.iter().any(|port| covers(port, socket))).await;
        let is_held = |port: &view::Port| ports.held().iter().any(|socket| covers(port, socket));
        let missing: Vec<PortRequest> = published
            .iter()
            .filter(|port| !is_held(&(*port).into()))
            .copied()
            .map(Into::into)
            .collect();
        match self.reserve(&missing).await {
            Ok(reservation) => ports.add(reservation.sockets),
            Err(error) => {
                tracing::warn!(container_id = %record.container, "{}", error.chain());
            }
        }
        ports
    }

    /// Publishes ports of a container; at once if it runs.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPorts`], [`Error::Unreachable`], [`Error::PortInUse`], [`Error::NoHostAddress`],
    /// [`Error::Network`].
    pub async fn publish(&self, request: Authorized<Publish>) -> Result<Vec<view::Port>, Error> {
        let (Publish { container: asked, ports }, _) = request.into_parts();
        let container = &self.container(&asked.id)?;
        let mut life = container.lock_unchanged(&asked).await?;
        let row = container.definition().row.clone();
        if row.request.network_mode != NetworkMode::Private {
            return Err(Error::NoOwnNetwork);
        }
        let all = [row.connections.ports.as_slice(), ports.as_slice()].concat();
        self.check_ports(&row.connections, &all)?;
        let mut published: Vec<view::Port> = ports.iter().map(view::Port::from).collect();
        if let Now::Running { record, ports: held, .. } = &mut life.now {
            let reservation = self.reserve(&ports).await?;
            published = reservation.ports.iter().map(view::Port::from).collect();
            held.add(reservation.sockets);
            let done = self.publish_now(&row.name, record, &reservation.ports).await;
            if done.is_err() {
                hold_published(held, record).await;
                container.show(&life);
                return done.map(|()| published);
            }
        }
        let written =
            self.redefine(container, &life, |row| row.connections.ports.extend(ports)).await;
        if let Now::Running { record, ports: held, .. } = &mut life.now {
            let done = match written {
                Ok(()) => Ok(()),
                Err(error) => {
                    let taken_back =
                        self.unpublish_now(&row.name, record, |port| published.contains(&port));
                    let taken_back = taken_back.await;
                    hold_published(held, record).await;
                    taken_back.and(Err(error))
                }
            };
            held.lead(record.publications());
            container.show(&life);
            return done.map(|()| published);
        }
        written.map(|()| published)
    }

    /// Publishes ports of a container no more. Connections that exist stay.
    ///
    /// # Errors
    ///
    /// [`Error::NotPublished`], [`Error::Network`].
    pub async fn unpublish(&self, request: Authorized<Unpublish>) -> Result<(), Error> {
        let (Unpublish { container: asked, ports }, _) = request.into_parts();
        let container = &self.container(&asked.id)?;
        let mut life = container.lock_unchanged(&asked).await?;
        let row = container.definition().row.clone();
        let known: Vec<view::Port> = match &life.now {
            Now::Running { .. } => container.view().ports.clone(),
            _ => row.connections.ports.iter().map(view::Port::from).collect(),
        };
        let doomed: Vec<view::Port> = ports.iter().map(view::Port::from).collect();
        if let Some(unknown) = doomed.iter().position(|port| !known.iter().any(|k| fits(port, k))) {
            return Err(Error::NotPublished { name: row.name, port: ports[unknown].to_string() });
        }
        let gone = |port: view::Port| doomed.iter().any(|d| fits(d, &port));
        // Should the daemon end before all is done: what is not promised is taken back.
        self.redefine(container, &life, |row| take_out(&mut row.connections.ports, &doomed))
            .await?;
        if let Now::Running { record, ports: held, .. } = &mut life.now {
            self.unpublish_now(&row.name, record, gone).await?;
            hold_published(held, record).await;
            container.show(&life);
        }
        Ok(())
    }

    /// Lets ports of the host lead to a container that runs. They are written down before: should
    /// the daemon end in between, the next one brings the firewall to what is written.
    pub(super) async fn publish_now(
        &self,
        name: &ContainerName,
        record: &mut Incarnation,
        ports: &[PublishedPort],
    ) -> Result<(), Error> {
        if ports.is_empty() {
            return Ok(());
        }
        let Some(network) = &mut record.network else { return Err(Error::NoOwnNetwork) };
        let publications = publications(&network.places, ports);
        network.publications.extend(publications.clone());
        let written = self.write_record(record).await;
        let rules = ContainerRules { members: Vec::new(), publications: publications.clone() };
        let done = match written {
            Ok(()) => self.networks.admit(name, rules.clone()).await,
            Err(error) => Err(error),
        };
        if done.is_err() {
            self.networks.withdraw(name, rules, ContainerRules::default()).await?;
            if let Some(network) = &mut record.network {
                network.publications.retain(|publication| !publications.contains(publication));
            }
            self.write_record(record).await?;
        }
        done
    }

    /// The opposite, for those that are `gone`. They are written down until they are.
    pub(super) async fn unpublish_now(
        &self,
        name: &ContainerName,
        record: &mut Incarnation,
        gone: impl Fn(view::Port) -> bool,
    ) -> Result<(), Error> {
        let Some(network) = &mut record.network else { return Err(Error::NoOwnNetwork) };
        let is_gone = |publication: &Publication| gone((&publication.port).into());
        let publications = network.publications.iter().filter(|p| is_gone(p)).cloned().collect();
        let rules = ContainerRules { members: Vec::new(), publications };
        self.networks.withdraw(name, rules, ContainerRules::default()).await?;
        network.publications.retain(|publication| !is_gone(publication));
        self.write_record(record).await
    }
}

/// Lets go what holds ports that are published no more. Those that could not be taken back are held for as
/// long as they may lead to the container: nobody else would be heard there.
async fn hold_published(held: &mut Ports, record: &Incarnation) {
    let published = record.publications().iter();
    let offered: Vec<view::Port> = published.map(|p| (&p.port).into()).collect();
    held.retain(|socket| offered.iter().any(|port| covers(port, socket))).await;
}

/// Which of the ports that are `published` nobody asked for: each that was `asked` for stands for one, and of
/// those that fit one whose port on the host was left open, for the first.
pub(super) fn unpromised(asked: &[view::Port], published: &[view::Port]) -> Vec<view::Port> {
    let (mut left, mut unpromised) = (asked.to_vec(), Vec::new());
    let mut takes = |means: &dyn Fn(&view::Port) -> bool| {
        left.iter().position(means).map(|at| left.swap_remove(at)).is_some()
    };
    for port in published {
        if !takes(&|asked| asked == port) {
            unpromised.push(*port);
        }
    }
    unpromised.retain(|port| !takes(&|asked| fits(asked, port)));
    unpromised
}

/// Whether `asked` means `port`; port 0 of the host stands for any.
fn fits(asked: &view::Port, port: &view::Port) -> bool {
    let host = if asked.host == 0 { port.host } else { asked.host };
    view::Port { host, ..*asked } == *port
}

/// Takes ports out of those that were asked for. One whose port on the host was left open is meant
/// by the port it got, too.
fn take_out(asked: &mut Vec<PortRequest>, doomed: &[view::Port]) {
    for port in doomed {
        let before = asked.len();
        asked.retain(|asked| !fits(port, &asked.into()));
        let left_open = view::Port { host: 0, ..*port };
        if asked.len() == before
            && let Some(at) = asked.iter().position(|asked| left_open == asked.into())
        {
            asked.remove(at);
        }
    }
}

/// Whether a socket is for a port.
fn covers(port: &view::Port, socket: &HeldPort) -> bool {
    let number = socket.address.port();
    socket.protocol == port.protocol
        && (u32::from(port.host)..u32::from(port.host) + u32::from(port.count))
            .contains(&u32::from(number))
        && port.at.is_none_or(|at| at.is_unspecified() || at == socket.address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_netns::Protocol;

    fn request(host: u16, container: u16) -> PortRequest {
        PortRequest::new(None, Protocol::Tcp, host, container, 1).unwrap()
    }

    /// Of two that fit what was asked for once, one was never promised.
    #[test]
    fn each_port_that_was_asked_for_stands_for_one() {
        let port = |host, container| view::Port::from(&request(host, container));
        let [open, fixed] = [port(0, 80), port(8080, 80)];
        let [first, second, other] = [port(41000, 80), port(42000, 80), port(41000, 81)];
        for (about, asked, published, want) in [
            ("one each", vec![open], vec![first], vec![]),
            ("the later one is too many", vec![open], vec![first, second], vec![second]),
            ("as many as asked for", vec![open, open], vec![first, second], vec![]),
            ("one by its number", vec![open, fixed], vec![fixed, first], vec![]),
            ("whichever comes first", vec![fixed, open], vec![first, fixed, second], vec![second]),
            ("another port", vec![open], vec![other], vec![other]),
            ("nothing asked for", vec![], vec![fixed], vec![fixed]),
        ] {
            assert_eq!(unpromised(&asked, &published), want, "{about}");
        }
    }

    #[test]
    fn a_port_is_taken_out_by_what_it_was_asked_for_and_by_what_it_became() {
        let all = [request(0, 80), request(8080, 80), request(0, 80), request(0, 81)];
        let port = |host, container| view::Port::from(&request(host, container));
        for (doomed, left) in [
            (vec![port(8080, 80)], vec![all[0], all[2], all[3]]),
            (vec![port(41000, 80)], vec![all[1], all[2], all[3]]),
            (vec![port(0, 80)], vec![all[3]]),
            (vec![port(0, 82)], all.to_vec()),
        ] {
            let mut asked = all.to_vec();
            take_out(&mut asked, &doomed);
            assert_eq!(asked, left, "{doomed:?}");
        }
    }
}
