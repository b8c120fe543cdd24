//! A Kafka inside the plugin, to try things: librdkafka's mock cluster. It listens on the loopback, keeps records in
//! memory (about 5 MB or 100,000 a partition, then the oldest go), and ends with its driver.

use std::ptr::NonNull;

use rdkafka::bindings as rd;

use super::codes::Code;
use super::handle::Handle;
use super::native::{c_string, text};
use super::{conf, errors};
use crate::admin::NewTopic;
use crate::config::Properties;
use crate::error::{Error, Kind, Result};
use crate::services::Services;

pub struct EmbeddedCluster {
    cluster: NonNull<rd::rd_kafka_mock_cluster_t>,
    brokers: u32,
    /// The client whose threads the cluster runs on; it outlives the cluster.
    _host: Handle,
}

// SAFETY: the mock cluster takes requests through a queue of its own, from any thread (rdkafka_mock.h).
unsafe impl Send for EmbeddedCluster {}
// SAFETY: as above.
unsafe impl Sync for EmbeddedCluster {}

const DOING: &str = "starting the embedded Kafka";

impl EmbeddedCluster {
    pub fn start(brokers: u32, services: &Services) -> Result<Self> {
        let config = conf::native(&Properties::default())?;
        // Its clients tell of trouble themselves; what their absence means to the cluster interests nobody.
        let silence = |copy: *mut rd::rd_kafka_conf_t| {
            // SAFETY: the configuration is alive.
            unsafe { rd::rd_kafka_conf_set_log_cb(copy, None) };
        };
        let host = Handle::make(rd::rd_kafka_type_t::RD_KAFKA_PRODUCER, &config, silence)
            .map_err(|why| why.into_error(DOING, |why| Error::new(Kind::Kafka, format!("{DOING}: {why}"))))?;
        // SAFETY: the client is alive and outlives the cluster.
        let cluster = unsafe { rd::rd_kafka_mock_cluster_new(host.as_ptr(), brokers as i32) };
        let cluster = NonNull::new(cluster).ok_or_else(|| {
            let why = format!(
                "{DOING} with {brokers} brokers: a thread, a socket or a free port is missing; see the limits of the \
                 process (ulimit -u, ulimit -n)"
            );
            Error::new(Kind::ResourceLimit, why).retriable(true)
        })?;
        // SAFETY: the cluster is alive. Kafka waits 3 s for more members of a group; nobody else comes here.
        unsafe { rd::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster.as_ptr(), 0) };
        let started = EmbeddedCluster { cluster, brokers, _host: host };
        log::info!(
            logger: &*services.log, target: "embedded Kafka",
            "listens on {}", started.bootstrap_servers()
        );
        Ok(started)
    }

    /// Of the topic's partition 0.
    #[cfg(test)]
    pub fn take_leader_away(&self, topic: &std::ffi::CStr) {
        // SAFETY: the cluster is alive, and the name is copied.
        let code = unsafe { rd::rd_kafka_mock_partition_set_leader(self.cluster.as_ptr(), topic.as_ptr(), 0, -1) };
        assert_eq!(code as i32, 0);
    }

    pub fn bootstrap_servers(&self) -> String {
        // SAFETY: the cluster is alive; the text is its own and is copied.
        unsafe { text(rd::rd_kafka_mock_cluster_bootstraps(self.cluster.as_ptr())) }
    }

    pub fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        if topic.replication > self.brokers {
            return Err(Error::invalid(format!(
                "the option \"replication_factor\" is {}, more than the embedded Kafka's brokers ({}); set it to at most \
                 that, or \"embedded\": {{\"brokers\": …}} higher",
                topic.replication, self.brokers
            )));
        }
        let name = c_string(&topic.kafka_name)?;
        // SAFETY: the cluster is alive; the name is copied.
        let code = unsafe {
            rd::rd_kafka_mock_topic_create(
                self.cluster.as_ptr(),
                name.as_ptr(),
                topic.partitions as i32,
                topic.replication as i32,
            )
        };
        let code = Code::from(code);
        match code.number() {
            0 => Ok(()),
            _ => Err(errors::error(code, "").context(format_args!("creating topic {:?}", topic.kafka_name))),
        }
    }
}

impl Drop for EmbeddedCluster {
    fn drop(&mut self) {
        if !crate::fork::is_forked_child() {
            // SAFETY: ours, and its client is still there.
            unsafe { rd::rd_kafka_mock_cluster_destroy(self.cluster.as_ptr()) };
        }
    }
}
