//! Changing a network.

use std::collections::HashMap;

use system_tests::{Client, Options};
use zbus::{OwnedObjectPath, Variant};

use super::{CreateNetwork, Operation, Owes, Until};
use crate::helper::Helper;
use crate::lab::Lab;

const LABEL: &str = "org.tare.public.changed";
const SERVER: &str = "192.0.2.1";

/// Gives a network a resolver and a label.
#[derive(Debug, Default)]
pub struct UpdateNetwork;

impl Operation for UpdateNetwork {
    const NAME: &str = "update a network";
    const METHODS: &[&str] = &["Network.Update"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;
    const HELPERS: &[Helper] = &[Helper::Names];

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
}

async fn path(client: &Client) -> OwnedObjectPath {
    client.manager("GetNetwork", &"n").await.unwrap()
}
