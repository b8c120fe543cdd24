//! An opened topic: its partitions, its components, and what is made from it.

use std::sync::Arc;

use crate::components::{Components, Parts};
use crate::config::ClientSettings;
use crate::consumer::Consumer;
use crate::driver::Driver;
use crate::error::Result;
use crate::poison::Poison;
use crate::producer::Producer;
use crate::thread_pool::ThreadPool;

pub struct Topic {
    pub poison: Poison,
    driver: Arc<Driver>,
    name: String,
    kafka_name: String,
    partitions: u32,
    parts: Parts,
    components_json: String,
}

impl Topic {
    pub fn new(
        driver: Arc<Driver>,
        name: String,
        kafka_name: String,
        partitions: u32,
        components: &Components,
        parts: Parts,
    ) -> Self {
        let components_json = serde_json::to_string(components).unwrap_or_default();
        Topic { poison: Poison::default(), driver, name, kafka_name, partitions, parts, components_json }
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

    /// Who validates, selects and serializes.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// `{"validator":…,"selector":…,"serializer":…}`, each as it was given when the topic was made.
    pub fn components_json(&self) -> &str {
        &self.components_json
    }

    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// `pool` prepares what is pushed; none: the driver's default pool, so the caller.
    pub fn make_producer(
        self: &Arc<Self>,
        settings: &ClientSettings,
        pool: Option<Arc<ThreadPool>>,
    ) -> Result<Producer> {
        let pool = pool.unwrap_or_else(|| self.driver.default_pool().clone());
        Producer::new(self.clone(), settings, pool)
            .map_err(|error| error.context(format_args!("making a producer of topic {:?}", self.name)))
    }

    pub fn make_consumer(self: &Arc<Self>, settings: ClientSettings) -> Result<Consumer> {
        Consumer::new(self.clone(), settings)
            .map_err(|error| error.context(format_args!("making a consumer of topic {:?}", self.name)))
    }
}
