//! Info topics, read and written: one client of the driver reads them, without a group, and one writes them.
//! Each is made when it is first needed.

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
use super::native::{Message, Queue, TopicHandle};
use super::overdue::WhenOverdue;
use super::{Connection, KafkaProducer, ProducerClients, errors};
use crate::admin::{InfoRecord, InfoTopic, InfoTopics};
use crate::config::ClientSettings;
use crate::deadline::{Deadline, as_millis_rounded_up};
use crate::error::{Error, Kind, Result};
use crate::future::Future;
use crate::in_flight::Claim;
use crate::record::Bare;

const PARTITION: i32 = 0;
/// A look at the clock between two waits for a record.
const SLICE: Duration = Duration::from_secs(1);
/// How long some topics are waited for after the last record of another one.
const STRAGGLERS: Duration = Duration::from_secs(5);

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

pub struct InfoReader {
    attended: Arc<ServedClient>,
    /// A partition can be read by one at a time within a client.
    turn: Mutex<()>,
}

impl InfoReader {
    fn new(connection: &Connection) -> Result<Self> {
        Ok(InfoReader { attended: connection.control()?, turn: Mutex::new(()) })
    }

    /// The first records of one topic, at most `most`; `None` when there is no such topic.
    pub fn read(&self, kafka_name: &str, most: usize, deadline: Deadline) -> Result<Option<InfoTopic>> {
        let Some(partitions) = self.client().partition_count(kafka_name, deadline)? else { return Ok(None) };
        let mut found = self.read_all(&[(kafka_name, partitions)], most, deadline)?;
        match found.pop() {
            Some(Err(error)) if error.kind() == Kind::UnknownTopic => Ok(None),
            Some(found) => found.map(Some),
            None => Ok(None),
        }
    }

    /// All topics that this client may see, with their numbers of partitions.
    pub fn topics(&self, deadline: Deadline) -> Result<BTreeMap<String, u32>> {
        self.client().topics(deadline)
    }

    /// The first records of each of these topics, at most `most`, read together and given in the same order. That
    /// they exist, with so many partitions, has been asked before: librdkafka would hold the news back for long.
    pub fn read_all(&self, topics: &[(&str, u32)], most: usize, deadline: Deadline) -> Result<Vec<Result<InfoTopic>>> {
        let doing = || match topics {
            [(name, _)] => format!("reading the info topic {name:?}"),
            _ => format!("reading {} info topics", topics.len()),
        };
        let late = || self.client().unreachable(doing());
        let _turn = match deadline.instant() {
            Some(end) => self.turn.try_lock_until(end).ok_or_else(late)?,
            None => self.turn.lock(),
        };
        let mut reading = Reading::start(self.client(), topics, most).map_err(|error| error.context(doing()))?;
        let began = Instant::now();
        let mut stragglers_end = deadline;
        while reading.unfinished > 0 {
            match reading.next(stragglers_end.remaining(SLICE)) {
                Some(message) => {
                    reading.take(&message);
                    stragglers_end = deadline.sooner(Deadline::after(STRAGGLERS));
                }
                // One topic that can't be read, because it has no leader, say, must not hide the others.
                None if stragglers_end.has_passed() && reading.unfinished < topics.len() => reading.give_up(late),
                None if deadline.has_passed() => return Err(late()),
                None => self.client().check_wait(began, doing())?,
            }
        }
        let found = std::mem::take(&mut reading.found);
        Ok(found
            .into_iter()
            .map(|one| match one.failure {
                None => Ok(one.info),
                Some(error) => Err(error.context(format_args!("reading the info topic {:?}", one.name))),
            })
            .collect())
    }

    fn client(&self) -> &Client {
        &self.attended.client
    }
}

/// Partition 0 of some topics, being consumed onto one queue.
struct Reading<'a> {
    /// The messages' client, which goes after them.
    _client: PhantomData<&'a Client>,
    queue: Queue,
    started: Vec<TopicHandle>,
    found: Vec<Found<'a>>,
    places: HashMap<&'a str, usize>,
    unfinished: usize,
    most: usize,
}

struct Found<'a> {
    name: &'a str,
    info: InfoTopic,
    failure: Option<Error>,
    is_finished: bool,
}

impl<'a> Reading<'a> {
    fn start(client: &'a Client, topics: &[(&'a str, u32)], most: usize) -> Result<Self> {
        let found = |&(name, partitions)| Found {
            name,
            info: InfoTopic { partitions, ..InfoTopic::default() },
            failure: None,
            is_finished: false,
        };
        let mut reading = Reading {
            _client: PhantomData,
            queue: Queue::new(&client.handle)?,
            started: Vec::with_capacity(topics.len()),
            found: topics.iter().map(found).collect(),
            places: topics.iter().enumerate().map(|(place, (name, _))| (*name, place)).collect(),
            unfinished: topics.len(),
            most,
        };
        for (name, _) in topics {
            let topic = TopicHandle::new(&client.handle, name)?;
            // SAFETY: topic and queue are alive until the partition is stopped, and it's the reader's turn.
            let refused =
                unsafe { rd::rd_kafka_consume_start_queue(topic.as_ptr(), PARTITION, 0, reading.queue.as_ptr()) };
            if refused != 0 {
                return Err(errors::last_error());
            }
            reading.started.push(topic);
        }
        Ok(reading)
    }

    fn next(&self, at_most: Duration) -> Option<Message> {
        // SAFETY: the queue is alive; the message is ours, and is dropped while there is this reading, and with it the client.
        unsafe {
            let message = rd::rd_kafka_consume_queue(self.queue.as_ptr(), as_millis_rounded_up(at_most));
            Message::from_raw(message)
        }
    }

    fn take(&mut self, message: &Message) {
        let Some(found) = self.places.get(message.topic().as_str()).and_then(|place| self.found.get_mut(*place)) else {
            // About the client, not about a topic: it also comes on the client's main queue, where it is served.
            return;
        };
        if found.is_finished {
            return;
        }
        found.take(message);
        found.is_finished |= found.info.records.len() >= self.most;
        self.unfinished -= usize::from(found.is_finished);
    }

    fn give_up(&mut self, why: impl Fn() -> Error) {
        for found in self.found.iter_mut().filter(|found| !found.is_finished) {
            (found.failure, found.is_finished) = (Some(why()), true);
        }
        self.unfinished = 0;
    }
}

impl Found<'_> {
    fn take(&mut self, message: &Message) {
        match RDKafkaErrorCode::from(message.error()) {
            RDKafkaErrorCode::NoError => self.take_record(message),
            RDKafkaErrorCode::PartitionEOF => self.is_finished = true,
            // Offsets without records were passed.
            RDKafkaErrorCode::Noop => {}
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                self.info.begins_later = true;
                self.is_finished = true;
            }
            _ => {
                self.failure = Some(errors::error(message.error(), &message.error_text()));
                self.is_finished = true;
            }
        }
    }

    fn take_record(&mut self, message: &Message) {
        let (at, expected) = (message.offset(), self.info.records.len());
        if at == expected as i64 {
            let record = InfoRecord { payload: message.payload().to_vec(), timestamp: message.timestamp() };
            self.info.records.push(record);
        } else if expected == 0 {
            self.info.begins_later = true;
            self.is_finished = true;
        } else {
            let why = format!("offset {expected} is missing, {at} follows");
            self.failure = Some(Error::new(Kind::Component, why));
            self.is_finished = true;
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        for topic in &self.started {
            // SAFETY: the topic is alive and was started.
            unsafe { rd::rd_kafka_consume_stop(topic.as_ptr(), PARTITION) };
        }
    }
}

/// Together with others: waiting for it doesn't cut the linger short.
fn send(producer: &KafkaProducer, record: &str, deadline: Deadline) -> Result<Arc<Future>> {
    let (future, partition, bytes) = (producer.lingering_future(), PARTITION as u32, record.len());
    let claim = Claim { bytes: bytes as u64, partition: Some(partition), future: Some(future.clone()) };
    let place = producer.in_flight().take(claim, || deadline, |began| producer.unreached(began))?;
    producer.send(partition, &Bare(record.as_bytes()), bytes, place)?;
    Ok(future)
}

/// Fills info topics through one client, which is kept for a moment, as topics are often created one after the other.
struct InfoWriter {
    connection: Connection,
    clients: Arc<ProducerClients>,
}

impl InfoWriter {
    const IDLE_LIMIT: Duration = Duration::from_secs(5);
    /// A record is delivered within this time or never. It fits between the half of a lease, up to which a creator
    /// begins to write, and its end, from which on others may take what is there.
    const DELIVERY: &str = "10000";
    /// Long enough to find all records of an info topic together. It's never waited out.
    const LINGER: &str = "1000";

    fn write(&self, kafka_name: &str, records: &[&str], deadline: Deadline) -> Result<()> {
        let doing = |error: Error| error.context(format_args!("writing to {kafka_name:?}"));
        let producer = self.producer(kafka_name).map_err(doing)?;
        await_topic(&producer, kafka_name, deadline).map_err(doing)?;
        if let Some(record) = records.iter().find(|record| record.len() > producer.max_record()) {
            let why = format!(
                "a record of {} bytes, more than the {} that kafka.message.max.bytes allows",
                record.len(),
                producer.max_record()
            );
            return Err(doing(Error::new(Kind::TooLarge, why)));
        }
        let sent: Vec<_> = records.iter().map(|record| send(&producer, record, deadline)).collect();
        // All are waited for, whatever became of the first: what is still on its way must be known to be.
        let mut outcome = Ok(());
        for sent in sent {
            let stored = sent.and_then(|future| future.wait(deadline)).map_err(|error| match error.kind() {
                Kind::TimedOut => Error::new(Kind::Unreachable, "not delivered in time").retriable(true),
                _ => error,
            });
            outcome = match (outcome, stored) {
                // What may still come weighs more than what went wrong.
                (Err(_), Err(later)) if later.kind() == Kind::Unreachable => Err(later),
                (Ok(()), stored) => stored,
                (outcome, _) => outcome,
            };
        }
        outcome.map_err(doing)
    }

    fn producer(&self, kafka_name: &str) -> Result<KafkaProducer> {
        let mut settings = ClientSettings { name: "info topics".to_owned(), ..ClientSettings::default() };
        // The three records of an info topic are a batch, which goes out when it's complete: that is exactly three, not the
        // least that producers of events have.
        settings.kafka.set("batch.num.messages", InfoTopic::RECORDS.to_string());
        for (name, value) in [
            ("linger.ms", Self::LINGER),
            ("delivery.timeout.ms", Self::DELIVERY),
            // What the driver sets for its producers must not part the three, nor have them wait for room.
            ("batch.size", "1000000"),
            ("queue.buffering.max.messages", "0"),
            ("queue.buffering.max.kbytes", "2147483647"),
        ] {
            settings.kafka.set(name, value);
        }
        KafkaProducer::new(&self.connection, kafka_name, &settings, WhenOverdue::Drop, Some(&self.clients))
    }
}

/// A topic just made may not be known everywhere, and the client may know one of that name which was deleted.
fn await_topic(producer: &KafkaProducer, kafka_name: &str, deadline: Deadline) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let give_up = Deadline::after(Duration::from_secs(5)).sooner(deadline);
    while producer.partition_count(deadline)?.is_none() {
        if give_up.has_passed() {
            let why = format!("Kafka has no topic {kafka_name:?}; somebody may have deleted it");
            return Err(Error::new(Kind::UnknownTopic, why));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::NewTopic;
    use crate::config::{DriverSettings, Properties};
    use crate::services::Services;

    #[test]
    fn topic_without_a_leader_is_an_error_of_its_own() {
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
        embedded.take_leader_away(c"leaderless");

        let read = |topics: &[(&str, u32)], limit| {
            info_topics.reader().unwrap().read_all(topics, InfoTopic::RECORDS, Deadline::after(limit))
        };
        let found = read(&topics.map(|topic| (topic, 1)), Duration::from_secs(30)).unwrap();
        let records: Vec<_> = found.iter().map(|one| one.as_ref().map(|info| info.records.len()).ok()).collect();
        assert_eq!(records, [Some(3), None, Some(3)]);
        let error = found[1].as_ref().unwrap_err();
        assert!(error.message().contains("leaderless"), "{error}");
        assert!(read(&[("leaderless", 1)], Duration::from_secs(1)).is_err(), "alone it is waited for");
    }
}
