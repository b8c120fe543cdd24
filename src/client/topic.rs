//! An opened topic: its name, its number of partitions and its components. Producers and consumers
//! share it.

use std::sync::Arc;

use crate::client::context::DriverContext;
use crate::components::{ComponentInstances, Components};
use crate::support::poison::Poison;

pub struct Topic {
    pub poison: Poison,
    context: Arc<DriverContext>,
    name: String,
    kafka_name: String,
    partitions: u32,
    parts: ComponentInstances,
    components_json: String,
}

impl Topic {
    pub fn new(
        context: Arc<DriverContext>,
        name: String,
        kafka_name: String,
        partitions: u32,
        components: &Components,
        parts: ComponentInstances,
    ) -> Self {
        let components_json = serde_json::to_string(components).unwrap_or_default();
        Topic { poison: Poison::default(), context, name, kafka_name, partitions, parts, components_json }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn kafka_name(&self) -> &str {
        &self.kafka_name
    }

    pub fn partition_count(&self) -> u32 {
        self.partitions
    }

    /// The topic's validator, partition selector and serializer.
    pub fn parts(&self) -> &ComponentInstances {
        &self.parts
    }

    /// `{"validator":…,"selector":…,"serializer":…}`, each as it was when the topic was created.
    pub fn components_json(&self) -> &str {
        &self.components_json
    }

    pub fn context(&self) -> &DriverContext {
        &self.context
    }

    /// Logs a warning for each key of a client's options that is not an option.
    pub(super) fn warn_about_unknown<'a>(&self, keys: impl Iterator<Item = &'a str>, client: &str) {
        for key in keys {
            log::warn!(
                logger: self.context.connection.services.log, target: client,
                "making a {client} of topic {:?}: the option {key:?} is unknown and ignored; check its spelling; \
                 librdkafka's properties belong to \"kafka\"",
                self.name
            );
        }
    }
}
