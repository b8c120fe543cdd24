//! Creating, describing and deleting topics: by Kafka's admin requests, or by the embedded
//! cluster's own functions.

use std::ffi::c_char;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::client::{Client, IDLE, ServedClient};
use super::{Connection, EmbeddedCluster};
use crate::config::Properties;
use crate::kafka::librdkafka::codes::{self, Code};
use crate::kafka::librdkafka::errors;
use crate::kafka::librdkafka::partitions::{PartitionList, results};
use crate::kafka::librdkafka::queue::{Queue, QueueEvent};
use crate::kafka::librdkafka::text::{c_string, text};
use crate::support::deadline::{Deadline, as_millis_rounded_up};
use crate::support::error::{Error, Kind, Result};
use crate::topics::{Admin, NewTopic};

/// The logical offset after the last record.
const END: i64 = rd::RD_KAFKA_OFFSET_END as i64;

/// The admin requests of one driver, through one client.
pub struct KafkaAdmin {
    served: Arc<ServedClient>,
}

impl KafkaAdmin {
    pub fn new(connection: &Connection) -> Result<Self> {
        Ok(KafkaAdmin { served: connection.admin_client()? })
    }

    fn client(&self) -> &Client {
        &self.served.client
    }

    /// Sends one admin request and waits for its response.
    fn request(
        &self,
        kind: rd::rd_kafka_admin_op_t,
        operation: &str,
        deadline: Deadline,
        send: impl FnOnce(*mut rd::rd_kafka_t, *const rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
    ) -> Result<QueueEvent> {
        let client = self.client();
        let results = Queue::new(&client.handle)?;
        let options = AdminOptions::new(client, kind, deadline)?;
        send(client.handle.as_ptr(), options.0, results.as_ptr());
        let began = Instant::now();
        loop {
            if let Some(response) = results.poll(deadline.remaining(IDLE)) {
                return match response.error().number() {
                    0 => Ok(response),
                    _ => Err(client.request_error(response.error(), &response.error_text(), operation)),
                };
            }
            if deadline.has_passed() {
                return Err(client.unreachable(operation));
            }
            client.check_wait(began, operation)?;
        }
    }

    /// The result of a request about one topic.
    fn topic_result(
        &self,
        results: *mut *const rd::rd_kafka_topic_result_t,
        count: usize,
        operation: &str,
    ) -> Result<()> {
        if results.is_null() || count == 0 {
            return Err(Error::new(Kind::Kafka, "the broker's response contains no topic").context(operation));
        }
        // SAFETY: the caller's response is alive and has `count` results, at least one.
        let result = unsafe { *results };
        // SAFETY: the result belongs to the caller's response, which is alive.
        let code = unsafe { codes::rd_kafka_topic_result_error(result) };
        // SAFETY: as above.
        let reason = unsafe { rd::rd_kafka_topic_result_error_string(result) };
        // SAFETY: the text is NULL or NUL-terminated and belongs to the result.
        let reason = unsafe { text(reason) };
        match code.number() {
            0 => Ok(()),
            _ => Err(self.client().request_error(code, &reason, operation)),
        }
    }
}

impl Admin for KafkaAdmin {
    fn create(&self, topic: &NewTopic, deadline: Deadline) -> Result<()> {
        let operation = format!("creating the Kafka topic {:?}", topic.kafka_name);
        let description = TopicToCreate::new(topic)?;
        let response = self.request(
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS,
            &operation,
            deadline,
            |rk, options, to| {
                let mut topics = [description.0];
                // SAFETY: all arguments are alive during the call, which copies them.
                unsafe { rd::rd_kafka_CreateTopics(rk, topics.as_mut_ptr(), 1, options, to) };
            },
        )?;
        let mut count = 0;
        // SAFETY: `response` is alive; librdkafka returns NULL if it is not the result of this
        // operation.
        let result = unsafe { rd::rd_kafka_event_CreateTopics_result(response.as_ptr()) };
        let results = match result.is_null() {
            true => std::ptr::null_mut(),
            // SAFETY: the result is alive, as it belongs to `response`.
            false => unsafe { rd::rd_kafka_CreateTopics_result_topics(result, &mut count) },
        };
        self.topic_result(results, count, &operation).map_err(|error| name_invalid_option(error, topic))
    }

    fn delete(&self, kafka_name: &str, deadline: Deadline) -> Result<()> {
        let operation = format!("deleting the Kafka topic {kafka_name:?}");
        let name = c_string(kafka_name)?;
        let response = self.request(
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETETOPICS,
            &operation,
            deadline,
            |rk, options, to| {
                // SAFETY: the name is copied.
                let topic = unsafe { rd::rd_kafka_DeleteTopic_new(name.as_ptr()) };
                let mut topics = [topic];
                // SAFETY: all arguments are alive during the call, which copies them.
                unsafe { rd::rd_kafka_DeleteTopics(rk, topics.as_mut_ptr(), 1, options, to) };
                // SAFETY: this closure owns the topic and does not use it again.
                unsafe { rd::rd_kafka_DeleteTopic_destroy(topic) };
            },
        )?;
        let mut count = 0;
        // SAFETY: `response` is alive; librdkafka returns NULL if it is not the result of this
        // operation.
        let result = unsafe { rd::rd_kafka_event_DeleteTopics_result(response.as_ptr()) };
        let results = match result.is_null() {
            true => std::ptr::null_mut(),
            // SAFETY: the result is alive, as it belongs to `response`.
            false => unsafe { rd::rd_kafka_DeleteTopics_result_topics(result, &mut count) },
        };
        self.topic_result(results, count, &operation)
    }

    fn empty(&self, kafka_name: &str, partitions: u32, deadline: Deadline) -> Result<()> {
        let operation = format!("emptying the Kafka topic {kafka_name:?}");
        let up_to_the_end = (0..partitions).map(|partition| (partition as i32, END));
        let list = PartitionList::new(&c_string(kafka_name)?, up_to_the_end)?;
        let response = self.request(
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETERECORDS,
            &operation,
            deadline,
            |rk, options, to| {
                // SAFETY: the list is alive and copied.
                let request = unsafe { rd::rd_kafka_DeleteRecords_new(list.as_ptr()) };
                let mut requests = [request];
                // SAFETY: all arguments are alive during the call, which copies them.
                unsafe { rd::rd_kafka_DeleteRecords(rk, requests.as_mut_ptr(), 1, options, to) };
                // SAFETY: this closure owns the request and does not use it again.
                unsafe { rd::rd_kafka_DeleteRecords_destroy(request) };
            },
        )?;
        // SAFETY: `response` is alive; librdkafka returns NULL if it is not the result of this
        // operation.
        let result = unsafe { rd::rd_kafka_event_DeleteRecords_result(response.as_ptr()) };
        if result.is_null() {
            return Err(Error::new(Kind::Kafka, "the broker's response contains no records").context(operation));
        }
        // SAFETY: the result is alive, as it belongs to `response`.
        let list = unsafe { rd::rd_kafka_DeleteRecords_result_offsets(result) };
        // SAFETY: the list belongs to `response`, which is alive.
        let first_failure = results(unsafe { &*list }).find(|partition| partition.error.is_error());
        match first_failure {
            None => Ok(()),
            Some(failed) => Err(self.client().request_error(
                failed.error,
                "",
                format!("{operation}: partition {}", failed.partition),
            )),
        }
    }

    fn partition_count(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<u32>> {
        self.client().partition_count(kafka_name, deadline)
    }

    fn settings(&self, kafka_name: &str, deadline: Deadline) -> Result<Properties> {
        let operation = format!("describing the Kafka topic {kafka_name:?}");
        let resource = TopicResource::new(kafka_name)?;
        let response = self.request(
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
            &operation,
            deadline,
            |rk, options, to| {
                let mut resources = [resource.0];
                // SAFETY: all arguments are alive during the call, which copies them.
                unsafe { rd::rd_kafka_DescribeConfigs(rk, resources.as_mut_ptr(), 1, options, to) };
            },
        )?;
        let mut count = 0;
        // SAFETY: `response` is alive; librdkafka returns NULL if it is not the result of this
        // operation.
        let result = unsafe { rd::rd_kafka_event_DescribeConfigs_result(response.as_ptr()) };
        let resources = match result.is_null() {
            true => std::ptr::null_mut(),
            // SAFETY: the result is alive, as it belongs to `response`.
            false => unsafe { rd::rd_kafka_DescribeConfigs_result_resources(result, &mut count) },
        };
        if resources.is_null() || count == 0 {
            return Err(Error::new(Kind::Kafka, "the broker's response contains no topic").context(operation));
        }
        // SAFETY: the array has `count` resources, at least one.
        let described = unsafe { *resources };
        // SAFETY: `described` belongs to `response`, which is alive.
        let reason = unsafe { rd::rd_kafka_ConfigResource_error_string(described) };
        // SAFETY: the text is NULL or NUL-terminated and belongs to `described`.
        let reason = unsafe { text(reason) };
        // SAFETY: `described` belongs to `response`, which is alive.
        let code = unsafe { codes::rd_kafka_ConfigResource_error(described) };
        if code.is_error() {
            return Err(self.client().request_error(code, &reason, operation));
        }
        // SAFETY: `described` belongs to `response`, which is alive.
        let entries = unsafe { rd::rd_kafka_ConfigResource_configs(described, &mut count) };
        let mut settings = Properties::default();
        for index in 0..count {
            // SAFETY: the array has `count` entries.
            let entry = unsafe { entries.add(index) };
            // SAFETY: as above.
            let entry = unsafe { *entry };
            // SAFETY: the entry belongs to `response`, which is alive.
            let name = unsafe { rd::rd_kafka_ConfigEntry_name(entry) };
            // SAFETY: as above.
            let value = unsafe { rd::rd_kafka_ConfigEntry_value(entry) };
            // SAFETY: the name is NUL-terminated and belongs to the entry.
            let name = unsafe { text(name) };
            // SAFETY: the value is NULL or NUL-terminated and belongs to the entry.
            let value = unsafe { text(value) };
            settings.set(&name, value);
        }
        Ok(settings)
    }
}

/// Adds the option that is responsible for an error.
fn name_invalid_option(error: Error, topic: &NewTopic) -> Error {
    let invalid_replication = RDKafkaErrorCode::InvalidReplicationFactor as i32;
    if error.kafka_code() == Some(invalid_replication) {
        return error.context(format_args!(
            "the option \"replication_factor\" is {}; set it to at most the number of brokers",
            topic.replication
        ));
    }
    error
}

/// Whether an operation has a timeout of its own, which makes the controller wait until the change
/// is effective and not only accepted.
fn changes_topics(operation: rd::rd_kafka_admin_op_t) -> bool {
    use rd::rd_kafka_admin_op_t::{RD_KAFKA_ADMIN_OP_CREATETOPICS, RD_KAFKA_ADMIN_OP_DELETETOPICS};
    matches!(operation, RD_KAFKA_ADMIN_OP_CREATETOPICS | RD_KAFKA_ADMIN_OP_DELETETOPICS)
}

/// The options of an admin request.
struct AdminOptions(*mut rd::rd_kafka_AdminOptions_t);

impl AdminOptions {
    fn new(client: &Client, operation: rd::rd_kafka_admin_op_t, deadline: Deadline) -> Result<Self> {
        // SAFETY: `client` is alive; this function owns the options.
        let options = unsafe { rd::rd_kafka_AdminOptions_new(client.handle.as_ptr(), operation) };
        if options.is_null() {
            return Err(Error::new(Kind::Kafka, "librdkafka created no admin options"));
        }
        let options = AdminOptions(options);
        let max_wait = Duration::from_secs(3600);
        let timeout = as_millis_rounded_up(deadline.remaining(max_wait)).max(1);
        let mut reason = [0 as c_char; 256];
        // SAFETY: `options` are alive; the buffer has the given length.
        let code = unsafe {
            rd::rd_kafka_AdminOptions_set_request_timeout(options.0, timeout, reason.as_mut_ptr(), reason.len())
        };
        let mut is_rejected = Code::from(code).is_error();
        if !is_rejected && changes_topics(operation) {
            // SAFETY: as above.
            let code = unsafe {
                rd::rd_kafka_AdminOptions_set_operation_timeout(options.0, timeout, reason.as_mut_ptr(), reason.len())
            };
            is_rejected = Code::from(code).is_error();
        }
        if is_rejected {
            // SAFETY: the call failed, so librdkafka has written a NUL-terminated text.
            let reason = unsafe { text(reason.as_ptr()) };
            return Err(Error::new(Kind::Kafka, format!("setting the timeout of an admin request: {reason}")));
        }
        Ok(options)
    }
}

impl Drop for AdminOptions {
    fn drop(&mut self) {
        // SAFETY: `self` owns the object; requests copy it.
        unsafe { rd::rd_kafka_AdminOptions_destroy(self.0) };
    }
}

/// The topic to create.
struct TopicToCreate(*mut rd::rd_kafka_NewTopic_t);

impl TopicToCreate {
    fn new(topic: &NewTopic) -> Result<Self> {
        let name = c_string(&topic.kafka_name)?;
        let mut reason = [0 as c_char; 256];
        // SAFETY: the name is copied; the buffer has the given length.
        let description = unsafe {
            rd::rd_kafka_NewTopic_new(
                name.as_ptr(),
                topic.partitions as i32,
                topic.replication as i32,
                reason.as_mut_ptr(),
                reason.len(),
            )
        };
        if description.is_null() {
            // SAFETY: the call failed, so librdkafka has written a NUL-terminated text.
            let reason = unsafe { text(reason.as_ptr()) };
            return Err(Error::invalid(format!("topic {:?}: {reason}", topic.kafka_name)));
        }
        let description = TopicToCreate(description);
        for (name, value) in topic.config.iter() {
            let (c_name, c_value) = (c_string(name)?, c_string(value)?);
            // SAFETY: `description` is alive; both texts are copied.
            let code = unsafe { rd::rd_kafka_NewTopic_set_config(description.0, c_name.as_ptr(), c_value.as_ptr()) };
            let code = Code::from(code);
            if code.is_error() {
                return Err(Error::configuration(format_args!("config.{name}"), errors::describe(code)));
            }
        }
        Ok(description)
    }
}

impl Drop for TopicToCreate {
    fn drop(&mut self) {
        // SAFETY: `self` owns the object; requests copy it.
        unsafe { rd::rd_kafka_NewTopic_destroy(self.0) };
    }
}

/// The topic whose settings are described.
struct TopicResource(*mut rd::rd_kafka_ConfigResource_t);

impl TopicResource {
    fn new(kafka_name: &str) -> Result<Self> {
        let name = c_string(kafka_name)?;
        let kind = rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        // SAFETY: the name is copied.
        let resource = unsafe { rd::rd_kafka_ConfigResource_new(kind, name.as_ptr()) };
        match resource.is_null() {
            true => Err(Error::invalid(format!("librdkafka accepts no topic named {kafka_name:?}"))),
            false => Ok(TopicResource(resource)),
        }
    }
}

impl Drop for TopicResource {
    fn drop(&mut self) {
        // SAFETY: `self` owns the object; requests copy it.
        unsafe { rd::rd_kafka_ConfigResource_destroy(self.0) };
    }
}

/// The admin of the embedded cluster, which does not support admin requests: topics are created by
/// direct calls and described by metadata requests.
pub struct EmbeddedAdmin {
    kafka: KafkaAdmin,
    cluster: Arc<EmbeddedCluster>,
}

impl EmbeddedAdmin {
    pub fn new(connection: &Connection, cluster: Arc<EmbeddedCluster>) -> Result<Self> {
        Ok(EmbeddedAdmin { kafka: KafkaAdmin::new(connection)?, cluster })
    }
}

impl Admin for EmbeddedAdmin {
    fn create(&self, topic: &NewTopic, deadline: Deadline) -> Result<()> {
        if self.partition_count(&topic.kafka_name, deadline)?.is_some() {
            return Err(Error::new(Kind::TopicExists, format!("the topic {:?} exists already", topic.kafka_name)));
        }
        self.cluster.create_topic(topic)
    }

    fn delete(&self, kafka_name: &str, _: Deadline) -> Result<()> {
        Err(Error::new(
            Kind::Unsupported,
            format!("deleting the topic {kafka_name:?}: the embedded Kafka keeps its topics until its driver ends"),
        ))
    }

    fn empty(&self, kafka_name: &str, _: u32, _: Deadline) -> Result<()> {
        Err(Error::new(
            Kind::Unsupported,
            format!("emptying the topic {kafka_name:?}: the embedded Kafka removes no records on demand"),
        ))
    }

    fn partition_count(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<u32>> {
        self.kafka.partition_count(kafka_name, deadline)
    }

    fn settings(&self, kafka_name: &str, _: Deadline) -> Result<Properties> {
        Err(Error::new(
            Kind::Unsupported,
            format!("describing the topic {kafka_name:?}: the embedded Kafka has no topic settings"),
        ))
    }
}
