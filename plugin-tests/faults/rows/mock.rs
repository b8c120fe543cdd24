//! librdkafka's mock cluster, as a Kafka that answers what it is told to. rdkafka has a wrapper of it too; this one can
//! single out a broker, and be told from any thread.

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::run::{Failure, OrFail, Result};

/// All brokers, where one could be named.
pub const ALL: i32 = -1;

/// What brokers never say, but make felt: they hang up.
pub const HANGS_UP: i32 = RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT as i32;

pub struct Mock {
    cluster: NonNull<rd::rd_kafka_mock_cluster_t>,
    /// The client whose threads the cluster runs on; it outlives the cluster.
    _host: BaseProducer,
}

// SAFETY: the mock cluster takes requests through a queue and a lock of its own, from any thread (rdkafka_mock.h).
unsafe impl Send for Mock {}
// SAFETY: as above.
unsafe impl Sync for Mock {}

impl Mock {
    pub fn start(brokers: i32) -> Result<Self> {
        let host: BaseProducer = ClientConfig::new().create().or_fail("making the client of a mock cluster")?;
        // SAFETY: the client is alive and outlives the cluster.
        let cluster = unsafe { rd::rd_kafka_mock_cluster_new(host.client().native_ptr(), brokers) };
        let cluster = NonNull::new(cluster)
            .ok_or_else(|| Failure::new(format_args!("a mock cluster of {brokers} brokers can't be started")))?;
        // SAFETY: the cluster is alive. Kafka waits 3 s for more members of a group, which nobody needs here.
        unsafe { rd::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster.as_ptr(), 0) };
        Ok(Mock { cluster, _host: host })
    }

    pub fn bootstrap(&self) -> String {
        // SAFETY: the cluster is alive; the text is its own and is copied.
        unsafe { CStr::from_ptr(rd::rd_kafka_mock_cluster_bootstraps(self.cluster.as_ptr())) }
            .to_string_lossy()
            .into_owned()
    }

    /// A topic whose partitions are led by these brokers, the first of which is number 1.
    pub fn topic(&self, name: &str, leaders: &[i32]) -> Result<()> {
        let name = CString::new(name).or_fail("naming a topic")?;
        let partitions = leaders.len() as i32;
        // SAFETY: the cluster is alive; the name is copied.
        let made = unsafe { rd::rd_kafka_mock_topic_create(self.cluster.as_ptr(), name.as_ptr(), partitions, 1) };
        said(made, format_args!("making the topic {name:?} of a mock cluster"))?;
        for (partition, leader) in leaders.iter().enumerate() {
            // SAFETY: as above.
            let led = unsafe {
                rd::rd_kafka_mock_partition_set_leader(self.cluster.as_ptr(), name.as_ptr(), partition as i32, *leader)
            };
            said(led, format_args!("giving partition {partition} of {name:?} to broker {leader}"))?;
        }
        Ok(())
    }

    /// The next requests of this kind are answered with these codes, one each, whoever gets them.
    pub fn answer(&self, request: RDKafkaApiKey, codes: &[i32]) -> Result<()> {
        let codes = codes.iter().map(|code| code_of(*code)).collect::<Result<Vec<_>>>()?;
        // SAFETY: the cluster is alive; the array is as long as said and is copied.
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

    /// As [`answer`](Self::answer), by one broker.
    pub fn answer_by(&self, broker: i32, request: RDKafkaApiKey, codes: &[i32]) -> Result<()> {
        for code in codes {
            let (code, at_once) = (code_of(*code)?, 0);
            // SAFETY: the cluster is alive; one pair of code and delay, as said.
            let put = unsafe {
                rd::rd_kafka_mock_broker_push_request_error_rtts(
                    self.cluster.as_ptr(),
                    broker,
                    request as i16,
                    1,
                    code,
                    at_once,
                )
            };
            said(put, format_args!("having broker {broker} answer {code:?}"))?;
        }
        Ok(())
    }

    /// How many answers that one broker was told to give are still to come.
    pub fn answers_left_by(&self, broker: i32, request: RDKafkaApiKey) -> Result<usize> {
        let mut left = 0;
        // SAFETY: the cluster is alive and the place writable.
        let counted = unsafe {
            rd::rd_kafka_mock_broker_error_stack_cnt(self.cluster.as_ptr(), broker, request as i16, &mut left)
        };
        said(counted, format_args!("counting what broker {broker} is still to answer"))?;
        Ok(left)
    }

    /// Requests of this kind are answered as Kafka does, but for what single brokers were told.
    pub fn answer_well(&self, request: RDKafkaApiKey) {
        // SAFETY: the cluster is alive.
        unsafe { rd::rd_kafka_mock_clear_request_errors(self.cluster.as_ptr(), request as i16) };
    }

    /// Ends a broker's connections, and takes no new ones.
    pub fn down(&self, broker: i32) -> Result<()> {
        // SAFETY: the cluster is alive.
        said(unsafe { rd::rd_kafka_mock_broker_set_down(self.cluster.as_ptr(), broker) }, "taking a broker down")
    }

    pub fn up(&self, broker: i32) -> Result<()> {
        // SAFETY: the cluster is alive.
        said(unsafe { rd::rd_kafka_mock_broker_set_up(self.cluster.as_ptr(), broker) }, "taking a broker up")
    }

    /// Has a broker answer so much later.
    pub fn delay(&self, broker: i32, by: Duration) -> Result<()> {
        let by = by.as_millis() as i32;
        // SAFETY: the cluster is alive.
        said(unsafe { rd::rd_kafka_mock_broker_set_rtt(self.cluster.as_ptr(), broker, by) }, "delaying a broker")
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // SAFETY: ours, and its client is still there.
        unsafe { rd::rd_kafka_mock_cluster_destroy(self.cluster.as_ptr()) };
    }
}

/// librdkafka's words for a code.
pub fn words(code: i32) -> Result<String> {
    let code = code_of(code)?;
    // SAFETY: gives a static text for any code.
    Ok(unsafe { CStr::from_ptr(rd::rd_kafka_err2str(code)) }.to_string_lossy().into_owned())
}

/// Each code that a broker can send and that librdkafka has a name for.
pub fn codes_of_brokers() -> impl Iterator<Item = i32> {
    let end = RDKafkaRespErr::RD_KAFKA_RESP_ERR_END_ALL as i32;
    (-1..end).filter(|code| *code != 0 && code_of(*code).is_ok())
}

fn code_of(code: i32) -> Result<RDKafkaRespErr> {
    RDKafkaRespErr::try_from(code).map_err(|_| Failure::new(format_args!("librdkafka has no error {code}")))
}

fn said(code: RDKafkaRespErr, doing: impl std::fmt::Display) -> Result<()> {
    match code as i32 {
        0 => Ok(()),
        code => Err(Failure::new(format_args!("{doing}: {}", words(code)?))),
    }
}
