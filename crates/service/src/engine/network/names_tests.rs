use std::future::Future;

use futures_util::poll;
use tare_names::{Answer, Local, Question};

use super::*;
use crate::db::Durability;
use crate::engine::records;

const OUR_SERVERS: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))];
const FALLBACK: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7))];

/// A network as it is written down, and who answers its names.
struct Lab {
    networks: Networks,
    server: Arc<Local>,
    _dir: tempfile::TempDir,
}

impl Lab {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str, migrations| {
            Db::open(&dir.path().join(name), Durability::ProcessCrash, migrations).unwrap()
        };
        let run = open("run.db", records::volatile::MIGRATIONS);
        let (server, events) = (Arc::new(crate::names::local()), Events::channel().0);
        let networks = Networks {
            state: open("state.db", durable::MIGRATIONS),
            firewall: HostFirewall::new(run.clone(), Tag::NONE),
            others: Others::new(Tag::NONE.table(), None, events.clone()),
            run,
            tag: Tag::NONE,
            pool: Config::default().network.pool,
            quarantine: std::time::Duration::ZERO,
            events,
            names: Arc::new(Names::new(server.clone())),
            all: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            resting: Arc::default(),
            falling_back: tokio::sync::Mutex::default(),
        };
        let row = NetworkRow::sample("n");
        let written = row.clone();
        networks.state.run(move |c| durable::insert_network(c, &written)).await.unwrap();
        networks.insert(row, &Config::default()).await;
        Self { networks, server, _dir: dir }
    }

    fn network(&self) -> Arc<Network> {
        self.networks.find("n").unwrap()
    }

    /// Who is asked about names of nobody here; nobody knows a network that is not there.
    fn elsewhere(&self) -> Answer {
        let from = [10, 88, 0, 2].into();
        let directory = self.server.directory().read().unwrap();
        directory.answer("n", from, Question::Addresses("example.org"))
    }
}

/// What is begun waits for who is at it, and goes on afterwards.
async fn after<T>(work: impl Future<Output = T>, meanwhile: impl AsyncFnOnce()) -> T {
    let mut work = std::pin::pin!(work);
    assert!(poll!(&mut work).is_pending());
    meanwhile().await;
    work.await
}

#[tokio::test]
async fn whoever_falls_back_does_not_say_what_a_network_was() {
    let lab = Lab::new().await;
    let network = lab.network();
    let alone = network.redefining.lock().await;
    after(lab.networks.fall_back_to(&FALLBACK), async || {
        let servers = OUR_SERVERS.to_vec();
        let now = NetworkDefinition { servers, ..(*network.definition()).clone() };
        lab.networks.names.know(&network.name, &now);
        network.define(now);
        drop(alone);
    })
    .await;
    assert_eq!(lab.elsewhere(), Answer::Elsewhere(OUR_SERVERS.to_vec()));
}

#[tokio::test]
async fn a_network_is_not_known_again_once_it_is_forgotten() {
    let lab = Lab::new().await;
    let network = lab.network();
    let alone = network.redefining.lock().await;
    let mut falls_back = std::pin::pin!(lab.networks.fall_back_to(&FALLBACK));
    assert!(poll!(&mut falls_back).is_pending(), "it has found the network");
    after(lab.networks.forget(&network), async || {
        assert!(lab.networks.has(&network), "who is at it is not done");
        drop(alone);
        falls_back.await;
    })
    .await;
    assert_eq!(lab.elsewhere(), Answer::Refused);
    // Nor by who has found it before.
    lab.networks.know_names(&network).await;
    let changed = lab.networks.redefine(&network, Ok).await;
    assert!(matches!(changed, Err(Error::NoSuchNetwork(_))), "{changed:?}");
    assert_eq!(lab.elsewhere(), Answer::Refused);
}
