//! Topics made, found and deleted by Kafka's admin requests, or, in the embedded cluster, by its own means.

use std::ffi::c_char;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::client::{Client, IDLE, ServedClient};
use super::codes::{self, Code};
use super::native::{PartitionList, Queue, QueueEvent, c_string, results, text};
use super::{Connection, EmbeddedCluster, errors};
use crate::admin::{Admin, NewTopic};
use crate::config::Properties;
use crate::deadline::{Deadline, as_millis_rounded_up};
use crate::error::{Error, Kind, Result};

/// "Behind the last record", whatever its offset is.
const END: i64 = rd::RD_KAFKA_OFFSET_END as i64;

/// Requests of one driver, all through one client.
pub struct KafkaAdmin {
    attended: Arc<ServedClient>,
}

impl KafkaAdmin {
    pub fn new(connection: &Connection) -> Result<Self> {
        Ok(KafkaAdmin { attended: connection.control()? })
    }

    fn client(&self) -> &Client {
        &self.attended.client
    }

    /// Sends one admin request and waits for its answer.
    fn request(
        &self,
        operation: rd::rd_kafka_admin_op_t,
        doing: &str,
        deadline: Deadline,
        send: impl FnOnce(*mut rd::rd_kafka_t, *const rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
    ) -> Result<QueueEvent> {
        let client = self.client();
        let answers = Queue::new(&client.handle)?;
        let options = AdminOptions::new(client, operation, deadline)?;
        send(client.handle.as_ptr(), options.0, answers.as_ptr());
        let began = Instant::now();
        loop {
            if let Some(answer) = answers.poll(deadline.remaining(IDLE)) {
                return match answer.error().number() {
                    0 => Ok(answer),
                    _ => Err(client.request_error(answer.error(), &answer.error_text(), doing)),
                };
            }
            if deadline.has_passed() {
                return Err(client.unreachable(doing));
            }
            client.check_wait(began, doing)?;
        }
    }

    fn topic_result(&self, results: *mut *const rd::rd_kafka_topic_result_t, count: usize, doing: &str) -> Result<()> {
        if results.is_null() || count == 0 {
            return Err(Error::new(Kind::Kafka, "the broker's answer is about no topic").context(doing));
        }
        // SAFETY: the caller's answer is alive and has `count` results, one for the one topic that was asked about.
        let (code, reason) = unsafe {
            let result = *results;
            (codes::rd_kafka_topic_result_error(result), text(rd::rd_kafka_topic_result_error_string(result)))
        };
        match code.number() {
            0 => Ok(()),
            _ => Err(self.client().request_error(code, &reason, doing)),
        }
    }
}

impl Admin for KafkaAdmin {
    fn create(&self, topic: &NewTopic, deadline: Deadline) -> Result<()> {
        let doing = format!("creating the Kafka topic {:?}", topic.kafka_name);
        let description = TopicDescription::new(topic)?;
        let answer = self.request(
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS,
            &doing,
            deadline,
            |rk, options, to| {
                let mut topics = [description.0];
                // SAFETY: all are alive during the call, which copies them.
                unsafe { rd::rd_kafka_CreateTopics(rk, topics.as_mut_ptr(), 1, options, to) };
            },
        )?;
        let mut count = 0;
        // SAFETY: the answer is alive and is the one to this request.
        let results = unsafe {
            let result = rd::rd_kafka_event_CreateTopics_result(answer.as_ptr());
            if result.is_null() {
                std::ptr::null_mut()
            } else {
                rd::rd_kafka_CreateTopics_result_topics(result, &mut count)
            }
        };
        self.topic_result(results, count, &doing).map_err(|error| say_which_option(error, topic))
    }

    fn delete(&self, kafka_name: &str, deadline: Deadline) -> Result<()> {
        let doing = format!("deleting the Kafka topic {kafka_name:?}");
        let name = c_string(kafka_name)?;
        let answer = self.request(
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETETOPICS,
            &doing,
            deadline,
            |rk, options, to| {
                // SAFETY: all are alive during the call, which copies them; the description is destroyed once.
                unsafe {
                    let mut topics = [rd::rd_kafka_DeleteTopic_new(name.as_ptr())];
                    rd::rd_kafka_DeleteTopics(rk, topics.as_mut_ptr(), 1, options, to);
                    rd::rd_kafka_DeleteTopic_destroy(topics[0]);
                }
            },
        )?;
        let mut count = 0;
        // SAFETY: the answer is alive and is the one to this request.
        let results = unsafe {
            let result = rd::rd_kafka_event_DeleteTopics_result(answer.as_ptr());
            if result.is_null() {
                std::ptr::null_mut()
            } else {
                rd::rd_kafka_DeleteTopics_result_topics(result, &mut count)
            }
        };
        self.topic_result(results, count, &doing)
    }

    fn empty(&self, kafka_name: &str, partitions: u32, deadline: Deadline) -> Result<()> {
        let doing = format!("emptying the Kafka topic {kafka_name:?}");
        let up_to_the_end = (0..partitions).map(|partition| (partition as i32, END));
        let list = PartitionList::new(&c_string(kafka_name)?, up_to_the_end)?;
        let answer = self.request(
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETERECORDS,
            &doing,
            deadline,
            |rk, options, to| {
                // SAFETY: all are alive during the call, which copies them; the description is destroyed once.
                unsafe {
                    let mut records = [rd::rd_kafka_DeleteRecords_new(list.as_ptr())];
                    rd::rd_kafka_DeleteRecords(rk, records.as_mut_ptr(), 1, options, to);
                    rd::rd_kafka_DeleteRecords_destroy(records[0]);
                }
            },
        )?;
        // SAFETY: the answer is alive and is the one to this request; the list in it belongs to it.
        let failed = unsafe {
            let result = rd::rd_kafka_event_DeleteRecords_result(answer.as_ptr());
            match result.is_null() {
                true => return Err(Error::new(Kind::Kafka, "the broker's answer is about no records").context(doing)),
                false => results(&*rd::rd_kafka_DeleteRecords_result_offsets(result))
                    .find(|partition| partition.error.is_error()),
            }
        };
        match failed {
            None => Ok(()),
            Some(of) => Err(self.client().request_error(of.error, "", format!("{doing}: partition {}", of.partition))),
        }
    }

    fn partition_count(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<u32>> {
        self.client().partition_count(kafka_name, deadline)
    }

    fn settings(&self, kafka_name: &str, deadline: Deadline) -> Result<Properties> {
        let doing = format!("asking for the settings of the Kafka topic {kafka_name:?}");
        let resource = TopicResource::new(kafka_name)?;
        let answer = self.request(
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
            &doing,
            deadline,
            |rk, options, to| {
                let mut resources = [resource.0];
                // SAFETY: all are alive during the call, which copies them.
                unsafe { rd::rd_kafka_DescribeConfigs(rk, resources.as_mut_ptr(), 1, options, to) };
            },
        )?;
        let mut count = 0;
        // SAFETY: the answer is alive, is the one to this request, and is about one resource at most.
        let described = unsafe {
            let result = rd::rd_kafka_event_DescribeConfigs_result(answer.as_ptr());
            let resources = match result.is_null() {
                true => std::ptr::null_mut(),
                false => rd::rd_kafka_DescribeConfigs_result_resources(result, &mut count),
            };
            if resources.is_null() || count == 0 {
                return Err(Error::new(Kind::Kafka, "the broker's answer is about no topic").context(doing));
            }
            *resources
        };
        // SAFETY: belongs to the answer, which is alive.
        let (code, reason) = unsafe {
            let reason = text(rd::rd_kafka_ConfigResource_error_string(described));
            (codes::rd_kafka_ConfigResource_error(described), reason)
        };
        if code.is_error() {
            return Err(self.client().request_error(code, &reason, doing));
        }
        // SAFETY: the array has `count` entries and belongs to the answer, which is alive; texts are copied.
        unsafe {
            let entries = rd::rd_kafka_ConfigResource_configs(described, &mut count);
            let mut settings = Properties::default();
            for index in 0..count {
                let entry = *entries.add(index);
                settings.set(&text(rd::rd_kafka_ConfigEntry_name(entry)), text(rd::rd_kafka_ConfigEntry_value(entry)));
            }
            Ok(settings)
        }
    }
}

fn say_which_option(error: Error, topic: &NewTopic) -> Error {
    let invalid_replication = RDKafkaErrorCode::InvalidReplicationFactor as i32;
    if error.kafka_code() == Some(invalid_replication) {
        return error.context(format_args!(
            "the option \"replication_factor\" is {}; set it to at most the number of brokers",
            topic.replication
        ));
    }
    error
}

/// These have a time limit of their own, which lets the controller answer when the topic is there, not only written
/// down.
fn changes_topics(operation: rd::rd_kafka_admin_op_t) -> bool {
    use rd::rd_kafka_admin_op_t::{RD_KAFKA_ADMIN_OP_CREATETOPICS, RD_KAFKA_ADMIN_OP_DELETETOPICS};
    matches!(operation, RD_KAFKA_ADMIN_OP_CREATETOPICS | RD_KAFKA_ADMIN_OP_DELETETOPICS)
}

struct AdminOptions(*mut rd::rd_kafka_AdminOptions_t);

impl AdminOptions {
    fn new(client: &Client, operation: rd::rd_kafka_admin_op_t, deadline: Deadline) -> Result<Self> {
        // SAFETY: the client is alive; the options are ours.
        let options = unsafe { rd::rd_kafka_AdminOptions_new(client.handle.as_ptr(), operation) };
        if options.is_null() {
            return Err(Error::new(Kind::Kafka, "librdkafka gave no admin options"));
        }
        let options = AdminOptions(options);
        let most = Duration::from_secs(3600);
        let timeout = as_millis_rounded_up(deadline.remaining(most)).max(1);
        let mut why = [0 as c_char; 256];
        // SAFETY: the options are alive and the buffer as long as said.
        let refused = unsafe {
            Code::from(rd::rd_kafka_AdminOptions_set_request_timeout(options.0, timeout, why.as_mut_ptr(), why.len()))
                .is_error()
                || changes_topics(operation)
                    && Code::from(rd::rd_kafka_AdminOptions_set_operation_timeout(
                        options.0,
                        timeout,
                        why.as_mut_ptr(),
                        why.len(),
                    ))
                    .is_error()
        };
        if refused {
            // SAFETY: librdkafka terminates the text.
            let why = unsafe { text(why.as_ptr()) };
            return Err(Error::new(Kind::Kafka, format!("setting the time limit of an admin request: {why}")));
        }
        Ok(options)
    }
}

impl Drop for AdminOptions {
    fn drop(&mut self) {
        // SAFETY: ours; requests copy it.
        unsafe { rd::rd_kafka_AdminOptions_destroy(self.0) };
    }
}

struct TopicDescription(*mut rd::rd_kafka_NewTopic_t);

impl TopicDescription {
    fn new(topic: &NewTopic) -> Result<Self> {
        let name = c_string(&topic.kafka_name)?;
        let mut why = [0 as c_char; 256];
        // SAFETY: the name is copied and the buffer as long as said.
        let description = unsafe {
            rd::rd_kafka_NewTopic_new(
                name.as_ptr(),
                topic.partitions as i32,
                topic.replication as i32,
                why.as_mut_ptr(),
                why.len(),
            )
        };
        if description.is_null() {
            // SAFETY: librdkafka terminates the text.
            let why = unsafe { text(why.as_ptr()) };
            return Err(Error::invalid(format!("topic {:?}: {why}", topic.kafka_name)));
        }
        let description = TopicDescription(description);
        for (name, value) in topic.config.iter() {
            let (c_name, c_value) = (c_string(name)?, c_string(value)?);
            // SAFETY: all are alive and copied.
            let code = unsafe { rd::rd_kafka_NewTopic_set_config(description.0, c_name.as_ptr(), c_value.as_ptr()) };
            let code = Code::from(code);
            if code.is_error() {
                return Err(Error::configuration(format_args!("config.{name}"), errors::describe(code)));
            }
        }
        Ok(description)
    }
}

impl Drop for TopicDescription {
    fn drop(&mut self) {
        // SAFETY: ours; requests copy it.
        unsafe { rd::rd_kafka_NewTopic_destroy(self.0) };
    }
}

struct TopicResource(*mut rd::rd_kafka_ConfigResource_t);

impl TopicResource {
    fn new(kafka_name: &str) -> Result<Self> {
        let name = c_string(kafka_name)?;
        let kind = rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        // SAFETY: the name is copied.
        let resource = unsafe { rd::rd_kafka_ConfigResource_new(kind, name.as_ptr()) };
        match resource.is_null() {
            true => Err(Error::invalid(format!("librdkafka takes no topic named {kafka_name:?}"))),
            false => Ok(TopicResource(resource)),
        }
    }
}

impl Drop for TopicResource {
    fn drop(&mut self) {
        // SAFETY: ours; requests copy it.
        unsafe { rd::rd_kafka_ConfigResource_destroy(self.0) };
    }
}

/// The embedded cluster answers no admin requests; it is told directly, and asked like any other.
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
            format!("asking for the settings of the topic {kafka_name:?}: the embedded Kafka has none"),
        ))
    }
}
