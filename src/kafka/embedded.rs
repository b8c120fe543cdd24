//! The embedded cluster for experiments and tests: librdkafka's mock cluster. It listens on the
//! loopback interface, keeps records in memory (about 5 MB or 100,000 per partition, then it
//! removes the oldest), and ends with its driver.

use std::ptr::NonNull;

use rdkafka::bindings as rd;

use crate::config::Properties;
use crate::kafka::librdkafka::codes::Code;
use crate::kafka::librdkafka::extensions::Extensions;
use crate::kafka::librdkafka::handle::Handle;
use crate::kafka::librdkafka::text::{c_string, text};
use crate::kafka::librdkafka::{conf, errors};
use crate::support::error::{Error, Kind, Result};
use crate::support::services::Services;
use crate::topics::NewTopic;

/// A running mock cluster.
pub struct EmbeddedCluster {
    cluster: NonNull<rd::rd_kafka_mock_cluster_t>,
    brokers: u32,
    /// The client that the cluster belongs to. It outlives the cluster.
    _host: Handle,
}

// SAFETY: the mock cluster serializes calls through its own queue; they may be made from any thread
// (rdkafka_mock.h).
unsafe impl Send for EmbeddedCluster {}
// SAFETY: as above.
unsafe impl Sync for EmbeddedCluster {}

const OPERATION: &str = "starting the embedded Kafka";

impl EmbeddedCluster {
    pub fn start(brokers: u32, services: &Services) -> Result<Self> {
        let config = conf::native(&Properties::default())?;
        // The log of this client has only closed connections, which the clients of the cluster
        // report themselves.
        let silence = |copy: *mut rd::rd_kafka_conf_t| {
            // SAFETY: `Handle::create` passes a live configuration.
            unsafe { rd::rd_kafka_conf_set_log_cb(copy, None) };
        };
        let host = Handle::create(rd::rd_kafka_type_t::RD_KAFKA_PRODUCER, &config, Extensions::default(), silence)
            .map_err(|error| {
                error.into_error(OPERATION, |reason| Error::new(Kind::Kafka, format!("{OPERATION}: {reason}")))
            })?;
        // SAFETY: `host` keeps the client alive and outlives the cluster.
        let cluster = unsafe { rd::rd_kafka_mock_cluster_new(host.as_ptr(), brokers as i32) };
        let cluster = NonNull::new(cluster).ok_or_else(|| {
            let reason = format!(
                "{OPERATION} with {brokers} brokers: a thread, a socket or a free port is missing; see the limits of the \
                 process (ulimit -u, ulimit -n)"
            );
            Error::new(Kind::ResourceLimit, reason).retriable(true)
        })?;
        // SAFETY: the cluster is alive. Without the delay a group does not wait 3 s for more
        // members.
        unsafe { rd::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster.as_ptr(), 0) };
        let started = EmbeddedCluster { cluster, brokers, _host: host };
        log::info!(
            logger: &*services.log, target: "embedded Kafka",
            "listens on {}", started.bootstrap_servers()
        );
        Ok(started)
    }

    /// Removes the leader of the topic's partition 0.
    #[cfg(test)]
    pub fn remove_leader(&self, topic: &std::ffi::CStr) {
        // SAFETY: `self` owns the live cluster; the name is copied.
        let code = unsafe { rd::rd_kafka_mock_partition_set_leader(self.cluster.as_ptr(), topic.as_ptr(), 0, -1) };
        assert_eq!(code as i32, 0);
    }

    pub fn bootstrap_servers(&self) -> String {
        // SAFETY: `self` owns the live cluster.
        let addresses = unsafe { rd::rd_kafka_mock_cluster_bootstraps(self.cluster.as_ptr()) };
        // SAFETY: the text is NUL-terminated and belongs to the cluster.
        unsafe { text(addresses) }
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
        // SAFETY: `self` owns the live cluster; the name is copied.
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
        if !crate::support::fork::is_forked_child() {
            // SAFETY: `self` owns the cluster, and `_host` is dropped after it.
            unsafe { rd::rd_kafka_mock_cluster_destroy(self.cluster.as_ptr()) };
        }
    }
}
