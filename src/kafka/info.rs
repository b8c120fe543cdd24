//! Reading and writing info topics. The driver's admin client reads them, without a group; a
//! producers' client writes them. Each is created when it is first needed.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::client::{Client, ServedClient};
use super::overdue::WhenOverdue;
use super::{Connection, KafkaProducer, ProducerClients, Target};
use crate::config::ClientSettings;
use crate::delivery::future::Future;
use crate::delivery::in_flight::PermitRequest;
use crate::kafka::librdkafka::errors;
use crate::kafka::librdkafka::message::Message;
use crate::kafka::librdkafka::queue::Queue;
use crate::kafka::librdkafka::topic_handle::TopicHandle;
use crate::record::RawBytes;
use crate::support::deadline::{Deadline, as_millis_rounded_up};
use crate::support::error::{Error, Kind, Result};
use crate::topics::{InfoRecord, InfoTopic, InfoTopics};

const PARTITION: i32 = 0;
/// How long one wait for a record takes before the deadlines are checked.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the remaining topics are waited for after the last record of any topic.
const STRAGGLER_TIMEOUT: Duration = Duration::from_secs(5);

/// The info topics of a driver.
pub struct KafkaInfoTopics {
    connection: Connection,
    reader: OnceCell<InfoReader>,
    writer: InfoWriter,
}

impl KafkaInfoTopics {
    pub fn new(connection: &Connection) -> Self {
        KafkaInfoTopics {
            connection: connection.clone(),
            reader: OnceCell::new(),
            writer: InfoWriter {
                connection: connection.clone(),
                clients: ProducerClients::new(InfoWriter::IDLE_LIMIT),
            },
        }
    }

    pub fn reader(&self) -> Result<&InfoReader> {
        self.reader.get_or_try_init(|| InfoReader::new(&self.connection))
    }
}

impl InfoTopics for KafkaInfoTopics {
    fn read(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<InfoTopic>> {
        self.reader()?.read(kafka_name, InfoTopic::RECORDS + 1, deadline)
    }

    fn write(&self, kafka_name: &str, records: &[&str], deadline: Deadline) -> Result<()> {
        self.writer.write(kafka_name, records, deadline)
    }
}

/// Reads info topics.
pub struct InfoReader {
    served: Arc<ServedClient>,
    /// Serializes reads: a client can read a partition only once at a time.
    lock: Mutex<()>,
}

impl InfoReader {
    fn new(connection: &Connection) -> Result<Self> {
        Ok(InfoReader { served: connection.admin_client()?, lock: Mutex::new(()) })
    }

    /// The first records of one topic, at most `max_records`; `None` if there is no such topic.
    pub fn read(&self, kafka_name: &str, max_records: usize, deadline: Deadline) -> Result<Option<InfoTopic>> {
        let Some(partitions) = self.client().partition_count(kafka_name, deadline)? else { return Ok(None) };
        let mut found = self.read_all(&[(kafka_name, partitions)], max_records, deadline)?;
        match found.pop() {
            Some(Err(error)) if error.kind() == Kind::UnknownTopic => Ok(None),
            Some(found) => found.map(Some),
            None => Ok(None),
        }
    }

    /// All topics that this client is authorized to see, with their numbers of partitions.
    pub fn topics(&self, deadline: Deadline) -> Result<BTreeMap<String, u32>> {
        self.client().topics(deadline)
    }

    /// The first records of each of these topics, at most `max_records`, in the order of `topics`.
    /// The caller has checked that they exist with these numbers of partitions: librdkafka would
    /// report a missing topic only after a long time.
    pub fn read_all(
        &self,
        topics: &[(&str, u32)],
        max_records: usize,
        deadline: Deadline,
    ) -> Result<Vec<Result<InfoTopic>>> {
        let operation = || match topics {
            [(name, _)] => format!("reading the info topic {name:?}"),
            _ => format!("reading {} info topics", topics.len()),
        };
        let late = || self.client().unreachable(operation());
        let _lock = match deadline.instant() {
            Some(end) => self.lock.try_lock_until(end).ok_or_else(late)?,
            None => self.lock.lock(),
        };
        let mut read =
            InfoRead::start(self.client(), topics, max_records).map_err(|error| error.context(operation()))?;
        let began = Instant::now();
        let mut stragglers_end = deadline;
        while read.unfinished > 0 {
            match read.next(stragglers_end.remaining(POLL_TIMEOUT)) {
                Some(message) => {
                    read.take(&message);
                    stragglers_end = deadline.sooner(Deadline::after(STRAGGLER_TIMEOUT));
                }
                // A topic that can't be read, for example for want of a leader, must not prevent
                // the others.
                None if stragglers_end.has_passed() && read.unfinished < topics.len() => read.give_up(late),
                None if deadline.has_passed() => return Err(late()),
                None => self.client().check_wait(began, operation())?,
            }
        }
        let found = std::mem::take(&mut read.found);
        Ok(found
            .into_iter()
            .map(|one| match one.failure {
                None => Ok(one.info),
                Some(error) => Err(error.context(format_args!("reading the info topic {:?}", one.name))),
            })
            .collect())
    }

    fn client(&self) -> &Client {
        &self.served.client
    }
}

/// A read of partition 0 of some topics through one queue.
struct InfoRead<'a> {
    /// The client of the messages, which outlives them.
    _client: PhantomData<&'a Client>,
    queue: Queue,
    started: Vec<TopicHandle>,
    found: Vec<InfoTopicRead<'a>>,
    index_by_name: HashMap<&'a str, usize>,
    unfinished: usize,
    max_records: usize,
}

struct InfoTopicRead<'a> {
    name: &'a str,
    info: InfoTopic,
    failure: Option<Error>,
    is_finished: bool,
}

impl<'a> InfoRead<'a> {
    fn start(client: &'a Client, topics: &[(&'a str, u32)], max_records: usize) -> Result<Self> {
        let found = |&(name, partitions)| InfoTopicRead {
            name,
            info: InfoTopic { partitions, ..InfoTopic::default() },
            failure: None,
            is_finished: false,
        };
        let mut read = InfoRead {
            _client: PhantomData,
            queue: Queue::new(&client.handle)?,
            started: Vec::with_capacity(topics.len()),
            found: topics.iter().map(found).collect(),
            index_by_name: topics.iter().enumerate().map(|(index, (name, _))| (*name, index)).collect(),
            unfinished: topics.len(),
            max_records,
        };
        for (name, _) in topics {
            let topic = TopicHandle::new(&client.handle, name)?;
            // SAFETY: `started` and `queue` keep topic and queue alive until the partition is
            // stopped; the caller holds the reader's lock.
            let result = unsafe { rd::rd_kafka_consume_start_queue(topic.as_ptr(), PARTITION, 0, read.queue.as_ptr()) };
            if result != 0 {
                return Err(errors::last_error());
            }
            read.started.push(topic);
        }
        Ok(read)
    }

    fn next(&self, timeout: Duration) -> Option<Message> {
        // SAFETY: `self` keeps the queue alive.
        let message = unsafe { rd::rd_kafka_consume_queue(self.queue.as_ptr(), as_millis_rounded_up(timeout)) };
        // SAFETY: the message has no other owner and is dropped before `self`, which borrows the
        // client.
        unsafe { Message::from_raw(message) }
    }

    fn take(&mut self, message: &Message) {
        let Some(found) = self.index_by_name.get(message.topic().as_str()).and_then(|index| self.found.get_mut(*index))
        else {
            // An error of the client, which also arrives on its main queue and is handled there.
            return;
        };
        if found.is_finished {
            return;
        }
        found.take(message);
        found.is_finished |= found.info.records.len() >= self.max_records;
        self.unfinished -= usize::from(found.is_finished);
    }

    fn give_up(&mut self, error: impl Fn() -> Error) {
        for found in self.found.iter_mut().filter(|found| !found.is_finished) {
            (found.failure, found.is_finished) = (Some(error()), true);
        }
        self.unfinished = 0;
    }
}

impl InfoTopicRead<'_> {
    fn take(&mut self, message: &Message) {
        match RDKafkaErrorCode::from(message.error()) {
            RDKafkaErrorCode::NoError => self.take_record(message),
            RDKafkaErrorCode::PartitionEOF => self.is_finished = true,
            // librdkafka has passed offsets without records.
            RDKafkaErrorCode::Noop => {}
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                self.info.is_truncated = true;
                self.is_finished = true;
            }
            _ => {
                self.failure = Some(errors::error(message.error(), &message.error_text()));
                self.is_finished = true;
            }
        }
    }

    fn take_record(&mut self, message: &Message) {
        let (offset, expected) = (message.offset(), self.info.records.len());
        if offset == expected as i64 {
            let record = InfoRecord { payload: message.payload().to_vec(), timestamp: message.timestamp().0 };
            self.info.records.push(record);
        } else if expected == 0 {
            self.info.is_truncated = true;
            self.is_finished = true;
        } else {
            let reason = format!("offset {expected} is missing, {offset} follows");
            self.failure = Some(Error::new(Kind::Component, reason));
            self.is_finished = true;
        }
    }
}

impl Drop for InfoRead<'_> {
    fn drop(&mut self) {
        for topic in &self.started {
            // SAFETY: `topic` is alive, and its consumption was started.
            unsafe { rd::rd_kafka_consume_stop(topic.as_ptr(), PARTITION) };
        }
    }
}

/// Queues one record. Waiting for its future does not end the linger, so that all records are one
/// batch.
fn send(producer: &KafkaProducer, record: &str, deadline: Deadline) -> Result<Arc<Future>> {
    let (future, partition, bytes) = (producer.lingering_future(), PARTITION as u32, record.len());
    let request = PermitRequest { bytes: bytes as u64, partition: Some(partition), future: Some(future.clone()) };
    let permit = producer.in_flight().acquire(request, || deadline, |began| producer.unreached(began))?;
    producer.send(Target::partition(partition), &RawBytes(record.as_bytes()), bytes, permit)?;
    Ok(future)
}

/// Writes info topics through one client, which is kept for a few seconds, as topics are often
/// created one after the other.
struct InfoWriter {
    connection: Connection,
    clients: Arc<ProducerClients>,
}

impl InfoWriter {
    const IDLE_LIMIT: Duration = Duration::from_secs(5);
    /// A record is delivered within this time in ms or never. A creator starts to write in the
    /// first half of its lease, and at the end of the lease others may use what is stored: this
    /// time fits between both.
    const DELIVERY: &str = "10000";
    /// Long enough to have all records of an info topic in one batch, which is sent as soon as it
    /// is full.
    const LINGER: &str = "1000";

    fn write(&self, kafka_name: &str, records: &[&str], deadline: Deadline) -> Result<()> {
        let context = |error: Error| error.context(format_args!("writing to {kafka_name:?}"));
        let producer = self.producer(kafka_name).map_err(context)?;
        await_topic(&producer, kafka_name, deadline).map_err(context)?;
        if let Some(record) = records.iter().find(|record| record.len() > producer.max_record()) {
            let reason = format!(
                "a record of {} bytes, more than the {} that kafka.message.max.bytes allows",
                record.len(),
                producer.max_record()
            );
            return Err(context(Error::new(Kind::TooLarge, reason)));
        }
        let sent: Vec<_> = records.iter().map(|record| send(&producer, record, deadline)).collect();
        // Waits for all records even if the first one failed: the error must say if some may still
        // be stored.
        let mut outcome = Ok(());
        for sent in sent {
            let stored = sent.and_then(|future| future.wait(deadline)).map_err(|error| match error.kind() {
                Kind::TimedOut => Error::new(Kind::Unreachable, "not delivered in time").retriable(true),
                _ => error,
            });
            outcome = match (outcome, stored) {
                // That a record may still be stored is more important than another failure.
                (Err(_), Err(later)) if later.kind() == Kind::Unreachable => Err(later),
                (Ok(()), stored) => stored,
                (outcome, _) => outcome,
            };
        }
        outcome.map_err(context)
    }

    fn producer(&self, kafka_name: &str) -> Result<KafkaProducer> {
        let mut settings = ClientSettings { name: "info topics".to_owned(), ..ClientSettings::default() };
        // The three records of an info topic are one batch, which is sent when it has exactly
        // three: less than the minimum of event producers.
        settings.kafka.set("batch.num.messages", InfoTopic::RECORDS.to_string());
        for (name, value) in [
            ("linger.ms", Self::LINGER),
            ("delivery.timeout.ms", Self::DELIVERY),
            // The driver's properties must neither split the batch nor make its records wait for a
            // limit.
            ("batch.size", "1000000"),
            ("queue.buffering.max.messages", "0"),
            ("queue.buffering.max.kbytes", "2147483647"),
        ] {
            settings.kafka.set(name, value);
        }
        KafkaProducer::new(&self.connection, kafka_name, &settings, WhenOverdue::Drop, Some(&self.clients))
    }
}

/// Waits until brokers know the topic. A new topic is not known everywhere at once, and the client
/// may know a deleted one of this name.
fn await_topic(producer: &KafkaProducer, kafka_name: &str, deadline: Deadline) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let give_up = Deadline::after(Duration::from_secs(5)).sooner(deadline);
    while producer.partition_count(deadline)?.is_none() {
        if give_up.has_passed() {
            let reason = format!("Kafka has no topic {kafka_name:?}; somebody may have deleted it");
            return Err(Error::new(Kind::UnknownTopic, reason));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DriverSettings, Properties};
    use crate::support::services::Services;
    use crate::topics::NewTopic;

    #[test]
    fn topic_without_leader_is_its_own_error() {
        let settings = DriverSettings::parse(r#"{"embedded": {}, "timeout_ms": 30000}"#).unwrap();
        let connection = Connection::new(&settings, Services::default()).unwrap();
        let info_topics = KafkaInfoTopics::new(&connection);
        let embedded = connection.embedded.as_ref().unwrap();
        let topics = ["readable", "leaderless", "also-readable"];
        for topic in topics {
            let (kafka_name, config) = (topic.to_owned(), Properties::default());
            embedded.create_topic(&NewTopic { kafka_name, partitions: 1, replication: 1, config }).unwrap();
            info_topics.write(topic, &["1", "2", "3"], Deadline::after(Duration::from_secs(30))).unwrap();
        }
        embedded.remove_leader(c"leaderless");

        let read = |topics: &[(&str, u32)], limit| {
            info_topics.reader().unwrap().read_all(topics, InfoTopic::RECORDS, Deadline::after(limit))
        };
        let found = read(&topics.map(|topic| (topic, 1)), Duration::from_secs(30)).unwrap();
        let records: Vec<_> = found.iter().map(|one| one.as_ref().map(|info| info.records.len()).ok()).collect();
        assert_eq!(records, [Some(3), None, Some(3)]);
        let error = found[1].as_ref().unwrap_err();
        assert!(error.message().contains("leaderless"), "{error}");
        assert!(read(&[("leaderless", 1)], Duration::from_secs(1)).is_err(), "a single topic is waited for");
    }
}
