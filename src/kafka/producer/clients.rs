//! The clients of a driver's producers: one for all producers with the same properties.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::member::Member;
use super::serving::{MakeMember, ProducerClient};
use crate::config::Properties;
use crate::error::Result;
use crate::kafka::Connection;

/// Clients that producers can join, by their properties.
pub struct ProducerClients {
    clients: Mutex<HashMap<Properties, Arc<ProducerClient>>>,
    /// How long a client without members waits for the next one.
    pub idle_limit: Duration,
}

impl ProducerClients {
    pub fn new(idle_limit: Duration) -> Arc<Self> {
        Arc::new(ProducerClients { clients: Mutex::default(), idle_limit })
    }

    /// Makes a producer a member of the client with these properties, which is created if there is none that can be used.
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
        let (client, member) = ProducerClient::start(connection, name, properties.clone(), Arc::downgrade(self), make)?;
        clients.insert(properties, client);
        Ok(member)
    }

    /// Takes out a client that has no members, if that is still so: no producer joins it from then on.
    pub fn take_out(&self, client: &Arc<ProducerClient>) -> bool {
        let mut clients = self.clients.lock();
        if client.has_members() {
            return false;
        }
        clients.retain(|_, known| !Arc::ptr_eq(known, client));
        true
    }
}

impl Drop for ProducerClients {
    /// Nobody will join: clients without members end.
    fn drop(&mut self) {
        self.clients.get_mut().values().for_each(|client| client.client.main.wake());
    }
}

pub type Pool = Weak<ProducerClients>;
