//! The clients of a driver's producers: producers with the same properties share one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::shared_client::member::Member;
use super::shared_client::{ClientPool, MakeMember, Pool, ProducerClient};
use crate::config::Properties;
use crate::kafka::Connection;
use crate::support::error::Result;

/// The clients that producers can join, by their properties.
pub struct ProducerClients {
    clients: Mutex<HashMap<Properties, Arc<ProducerClient>>>,
    /// How long a client without members waits for the next one.
    idle_limit: Duration,
}

impl ProducerClients {
    pub fn new(idle_limit: Duration) -> Arc<Self> {
        Arc::new(ProducerClients { clients: Mutex::default(), idle_limit })
    }

    /// Makes a producer a member of the client with these properties. Creates the client if there
    /// is none or it accepts no more members.
    pub fn join(
        self: &Arc<Self>,
        connection: &Connection,
        name: &str,
        properties: Properties,
        make: &MakeMember,
    ) -> Result<Arc<Member>> {
        let mut clients = self.clients.lock();
        if let Some(member) = clients.get(&properties).and_then(|client| client.join(make)) {
            return Ok(member);
        }
        let pool: Pool = Arc::downgrade(&(self.clone() as Arc<dyn ClientPool>));
        let (client, member) = ProducerClient::start(connection, name, properties.clone(), pool, make)?;
        clients.insert(properties, client);
        Ok(member)
    }
}

impl ClientPool for ProducerClients {
    fn idle_limit(&self) -> Duration {
        self.idle_limit
    }

    fn remove_unused(&self, client: &Arc<ProducerClient>) -> bool {
        let mut clients = self.clients.lock();
        if client.has_members() {
            return false;
        }
        clients.retain(|_, known| !Arc::ptr_eq(known, client));
        true
    }
}

impl Drop for ProducerClients {
    /// No producer can join any more: wakes the serving threads, so that clients without members
    /// end.
    fn drop(&mut self) {
        self.clients.get_mut().values().for_each(|client| client.client.main.wake());
    }
}
