//! Addresses that were given back rest before others get them: until the kernel knows no connections of
//! those who had them.

use std::net::IpAddr;

use tare_netns::NetworkName;

use super::Networks;
use crate::db::Db;
use crate::engine::Error;
use crate::engine::blocking::brief;
use crate::engine::clock::Usec;
use crate::engine::records::volatile::leases;

impl Networks {
    /// Makes the kernel forget the connections of all addresses that were given back, which can be
    /// given to others then. Not waited for: the kernel takes its time.
    pub(in crate::engine) fn rest(&self) {
        let (run, resting) = (self.run.clone(), self.resting.clone());
        tokio::spawn(async move {
            if let Err(error) = let_rest(&run, &resting).await {
                tracing::warn!("addresses cannot be given to others yet: {}", error.chain());
            }
        });
    }

    /// Forgets who had which addresses of a network that nobody has an address of. All of them rest before:
    /// what is not known is taken for an address that nobody had.
    pub(super) async fn forget_leases(&self, network: &NetworkName) -> Result<(), Error> {
        let_rest(&self.run, &self.resting).await?;
        let network = network.clone();
        Ok(self.run.run(move |c| leases::forget_free_leases(c, &network)).await?)
    }

    /// Makes the kernel forget what others had with addresses that a container has by now, and that did not
    /// rest before; to be done before it can make connections. Whoever lets addresses rest, and found these
    /// to be nobody's, is waited for: what came later would be forgotten, too.
    pub(super) async fn forget_others_of(
        &self,
        unrested: Vec<IpAddr>,
        failed: impl FnOnce(tare_netns::Error) -> Error + Send + 'static,
    ) -> Result<(), Error> {
        if unrested.is_empty() {
            return Ok(());
        }
        let _alone = self.resting.lock().await;
        brief(move || forget(&unrested).map_err(failed)).await
    }
}

async fn let_rest(run: &Db, resting: &tokio::sync::Mutex<()>) -> Result<(), Error> {
    // Whoever waits here finds more to do at once, or nothing.
    let _alone = resting.lock().await;
    let addresses = run.run(leases::unrested).await?;
    if addresses.is_empty() {
        return Ok(());
    }
    let known = addresses.clone();
    brief(move || {
        forget(&known).map_err(|error| Error::Host {
            what: "make the kernel forget connections",
            source: std::io::Error::other(error),
        })
    })
    .await?;
    Ok(run.run(move |c| leases::rest(c, &addresses, Usec::now())).await?)
}

fn forget(addresses: &[IpAddr]) -> Result<(), tare_netns::Error> {
    let connections: Vec<_> = addresses.iter().copied().map(tare_netns::Connections::Of).collect();
    tare_netns::forget_connections(&connections)
}
