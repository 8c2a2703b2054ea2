//! Changing a network.

use std::collections::HashMap;

use system_tests::{Client, Options};
use zbus::{OwnedObjectPath, Variant};

use crate::lab::Lab;
use crate::operations::{CreateNetwork, Operation, Owes, Until};

const LABEL: &str = "org.tare.public.changed";
const SERVER: &str = "192.0.2.1";

/// Gives a network a resolver and a label.
#[derive(Debug)]
pub struct UpdateNetwork;

impl Operation for UpdateNetwork {
    const NAME: &str = "update a network";
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        CreateNetwork.prepare(lab).await;
        CreateNetwork.run(lab.client()).await.unwrap();
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let labels = HashMap::from([(LABEL, "yes")]);
        let options = Options::from([
            ("AddDNSServers", vec![SERVER].into()),
            ("AddLabels", Variant::from(labels)),
        ]);
        let done = client.call(&path(client).await, "Network", "Update", &options).await;
        done.map(drop).map_err(|refused| format!("{refused:?}"))
    }

    async fn is_whole(&self, client: &Client) -> bool {
        let path = path(client).await;
        let json = client.call(&path, "Network", "Inspect", &0_u64).await.unwrap();
        let json: String = json.body().deserialize().unwrap();
        let labels: HashMap<String, String> = client
            .properties(&path, "Network")
            .await
            .get::<Variant<'static>>("PublicLabels")
            .try_into()
            .unwrap();
        json.contains(SERVER) && labels.contains_key(LABEL)
    }

    async fn clear(&self, client: &Client) {
        CreateNetwork.clear(client).await;
    }
}

async fn path(client: &Client) -> OwnedObjectPath {
    client.manager("GetNetwork", &"n").await.unwrap()
}
