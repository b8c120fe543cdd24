//! librdkafka's mock cluster: brokers that return prescribed errors. Unlike rdkafka's wrapper, this
//! one can address a single broker and can be called from any thread.

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::run::{Failure, OrFail, Result};

/// Stands for all brokers where a broker is expected.
pub const ALL: i32 = -1;

/// Not a code that brokers send: the broker closes the connection instead.
pub const DISCONNECT: i32 = RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT as i32;

pub struct Mock {
    cluster: NonNull<rd::rd_kafka_mock_cluster_t>,
    /// The client whose threads run the cluster; it outlives the cluster.
    _client: BaseProducer,
}

// SAFETY: the functions of rdkafka_mock.h that are called here are thread-safe: they pass through
// the cluster's own queue and lock.
unsafe impl Send for Mock {}
// SAFETY: see `Send`.
unsafe impl Sync for Mock {}

impl Mock {
    pub fn start(brokers: i32) -> Result<Self> {
        let client: BaseProducer = ClientConfig::new().create().or_fail("creating the client of a mock cluster")?;
        // SAFETY: `client` is alive, and the field `_client` keeps it alive until the cluster is
        // destroyed.
        let cluster = unsafe { rd::rd_kafka_mock_cluster_new(client.client().native_ptr(), brokers) };
        let cluster = NonNull::new(cluster)
            .ok_or_else(|| Failure::new(format_args!("a mock cluster of {brokers} brokers can't be started")))?;
        // SAFETY: the cluster is alive. Without this a group waits 3 s for further members.
        unsafe { rd::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster.as_ptr(), 0) };
        Ok(Mock { cluster, _client: client })
    }

    pub fn bootstrap(&self) -> String {
        // SAFETY: the cluster is alive.
        let servers = unsafe { rd::rd_kafka_mock_cluster_bootstraps(self.cluster.as_ptr()) };
        // SAFETY: the cluster owns the NUL-terminated string, which is copied here.
        unsafe { CStr::from_ptr(servers) }.to_string_lossy().into_owned()
    }

    /// Creates a topic with one partition per entry, led by that broker; broker ids start at 1.
    pub fn topic(&self, name: &str, leaders: &[i32]) -> Result<()> {
        let name = CString::new(name).or_fail("converting a topic's name")?;
        let partitions = leaders.len() as i32;
        // SAFETY: the cluster is alive; the name is a NUL-terminated string that the call copies.
        let made = unsafe { rd::rd_kafka_mock_topic_create(self.cluster.as_ptr(), name.as_ptr(), partitions, 1) };
        check_code(made, format_args!("creating the topic {name:?} of a mock cluster"))?;
        for (partition, leader) in leaders.iter().enumerate() {
            // SAFETY: the cluster is alive; the name is a NUL-terminated string that the call
            // copies.
            let assigned = unsafe {
                rd::rd_kafka_mock_partition_set_leader(self.cluster.as_ptr(), name.as_ptr(), partition as i32, *leader)
            };
            check_code(assigned, format_args!("assigning partition {partition} of {name:?} to broker {leader}"))?;
        }
        Ok(())
    }

    /// The next requests of this type fail with these codes, one each, at whichever broker they
    /// arrive.
    pub fn push_errors(&self, request: RDKafkaApiKey, codes: &[i32]) -> Result<()> {
        let codes = codes.iter().map(|code| code_of(*code)).collect::<Result<Vec<_>>>()?;
        // SAFETY: the cluster is alive; `codes` has `codes.len()` elements, which the call copies.
        unsafe {
            rd::rd_kafka_mock_push_request_errors_array(
                self.cluster.as_ptr(),
                request as i16,
                codes.len(),
                codes.as_ptr(),
            )
        };
        Ok(())
    }

    /// As [`push_errors`](Self::push_errors), for one broker.
    pub fn push_errors_to(&self, broker: i32, request: RDKafkaApiKey, codes: &[i32]) -> Result<()> {
        for code in codes {
            let (code, at_once) = (code_of(*code)?, 0);
            // SAFETY: the cluster is alive; the count of 1 matches the one pair of code and delay.
            let pushed = unsafe {
                rd::rd_kafka_mock_broker_push_request_error_rtts(
                    self.cluster.as_ptr(),
                    broker,
                    request as i16,
                    1,
                    code,
                    at_once,
                )
            };
            check_code(pushed, format_args!("having broker {broker} return {code:?}"))?;
        }
        Ok(())
    }

    /// The number of prescribed errors that a broker has not returned yet.
    pub fn remaining_errors(&self, broker: i32, request: RDKafkaApiKey) -> Result<usize> {
        let mut left = 0;
        // SAFETY: the cluster is alive, and `left` is writable.
        let counted = unsafe {
            rd::rd_kafka_mock_broker_error_stack_cnt(self.cluster.as_ptr(), broker, request as i16, &mut left)
        };
        check_code(counted, format_args!("counting the pending errors of broker {broker}"))?;
        Ok(left)
    }

    /// Requests of this type succeed again, except at brokers with errors of their own.
    pub fn clear_errors(&self, request: RDKafkaApiKey) {
        // SAFETY: the cluster is alive.
        unsafe { rd::rd_kafka_mock_clear_request_errors(self.cluster.as_ptr(), request as i16) };
    }

    /// Closes a broker's connections and accepts no new ones.
    pub fn down(&self, broker: i32) -> Result<()> {
        // SAFETY: the cluster is alive.
        check_code(unsafe { rd::rd_kafka_mock_broker_set_down(self.cluster.as_ptr(), broker) }, "taking a broker down")
    }

    pub fn up(&self, broker: i32) -> Result<()> {
        // SAFETY: the cluster is alive.
        check_code(unsafe { rd::rd_kafka_mock_broker_set_up(self.cluster.as_ptr(), broker) }, "bringing a broker up")
    }

    /// Delays a broker's responses.
    pub fn delay(&self, broker: i32, by: Duration) -> Result<()> {
        let by = by.as_millis() as i32;
        // SAFETY: the cluster is alive.
        check_code(unsafe { rd::rd_kafka_mock_broker_set_rtt(self.cluster.as_ptr(), broker, by) }, "delaying a broker")
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // SAFETY: this object owns the cluster, and `_client` is dropped after it.
        unsafe { rd::rd_kafka_mock_cluster_destroy(self.cluster.as_ptr()) };
    }
}

/// librdkafka's description of a code.
pub fn description(code: i32) -> Result<String> {
    let code = code_of(code)?;
    // SAFETY: `rd_kafka_err2str` has no preconditions.
    let text = unsafe { rd::rd_kafka_err2str(code) };
    // SAFETY: `rd_kafka_err2str` returns a static NUL-terminated string for any code.
    Ok(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Each code that a broker can send and that librdkafka has a name for.
pub fn broker_error_codes() -> impl Iterator<Item = i32> {
    let end = RDKafkaRespErr::RD_KAFKA_RESP_ERR_END_ALL as i32;
    (-1..end).filter(|code| *code != 0 && code_of(*code).is_ok())
}

fn code_of(code: i32) -> Result<RDKafkaRespErr> {
    RDKafkaRespErr::try_from(code).map_err(|_| Failure::new(format_args!("librdkafka has no error {code}")))
}

fn check_code(code: RDKafkaRespErr, doing: impl std::fmt::Display) -> Result<()> {
    match code as i32 {
        0 => Ok(()),
        code => Err(Failure::new(format_args!("{doing}: {}", description(code)?))),
    }
}
