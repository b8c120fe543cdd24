//! Reads the first records of info topics, through one client of the driver and without a group.

use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::client::{Attended, Client, ClientRole};
use super::native::{Message, TopicHandle, c_string};
use super::{Connection, errors};
use crate::deadline::{Deadline, as_millis_rounded_up};
use crate::error::{Error, Kind, Result};

const PARTITION: i32 = 0;
/// A look at the clock between two waits for a record.
const SLICE: Duration = Duration::from_secs(1);

pub struct InfoReader {
    attended: Attended,
    /// A partition can be read by one at a time within a client.
    turn: Mutex<()>,
}

/// What an info topic holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Info {
    /// There is no such topic.
    Missing,
    /// Fewer records than asked for, or the first ones are gone.
    Short,
    Records(Vec<Vec<u8>>),
}

impl InfoReader {
    pub fn new(connection: &Connection) -> Result<Self> {
        let mut properties = connection.properties.clone();
        properties.set("enable.partition.eof", "false");
        let client = Client::new(connection, ClientRole::InfoReader, "", properties)?;
        Ok(InfoReader { attended: Attended::start(client)?, turn: Mutex::new(()) })
    }

    /// The records at offsets 0 to `count` - 1 of the topic's only partition.
    pub fn read(&self, kafka_name: &str, count: u64, deadline: Deadline) -> Result<Info> {
        let doing = || format!("reading the info topic {kafka_name:?}");
        let late = || self.client().unreachable(doing());
        let _turn = match deadline.instant() {
            Some(end) => self.turn.try_lock_until(end).ok_or_else(late)?,
            None => self.turn.lock(),
        };
        match self.watermarks(kafka_name, deadline)? {
            None => Ok(Info::Missing),
            Some((low, high)) if low > 0 || high < count => Ok(Info::Short),
            Some(_) => self.consume(kafka_name, count, deadline).map_err(|error| error.during(doing())),
        }
    }

    fn client(&self) -> &Client {
        &self.attended.client
    }

    /// First and next offset; `None` when there is no such topic.
    fn watermarks(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<(u64, u64)>> {
        let client = self.client();
        let name = c_string(kafka_name)?;
        let (mut low, mut high) = (0, 0);
        let at_most = as_millis_rounded_up(deadline.remaining(Duration::from_secs(24 * 3600)));
        // SAFETY: client and name are alive; the places are writable.
        let code = unsafe {
            rd::rd_kafka_query_watermark_offsets(
                client.handle.as_ptr(),
                name.as_ptr(),
                PARTITION,
                &mut low,
                &mut high,
                at_most,
            )
        };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => Ok(Some((u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0)))),
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => Ok(None),
            _ => Err(client.request_error(code, "", format_args!("looking up the info topic {kafka_name:?}"))),
        }
    }

    fn consume(&self, kafka_name: &str, count: u64, deadline: Deadline) -> Result<Info> {
        let topic = TopicHandle::new(&self.client().handle, kafka_name)?;
        // SAFETY: the topic is alive, and it's this reader's turn.
        if unsafe { rd::rd_kafka_consume_start(topic.as_ptr(), PARTITION, 0) } != 0 {
            return Err(errors::last_error());
        }
        let records = self.collect(&topic, count, deadline);
        // SAFETY: started above.
        unsafe { rd::rd_kafka_consume_stop(topic.as_ptr(), PARTITION) };
        records.map(Info::Records)
    }

    fn collect(&self, topic: &TopicHandle, count: u64, deadline: Deadline) -> Result<Vec<Vec<u8>>> {
        let mut records = Vec::new();
        while (records.len() as u64) < count {
            // SAFETY: the topic is alive and being consumed; the message is ours.
            let message = unsafe {
                let at_most = as_millis_rounded_up(deadline.remaining(SLICE));
                Message::from_raw(&self.client().handle, rd::rd_kafka_consume(topic.as_ptr(), PARTITION, at_most))
            };
            match message {
                Some(message) if errors::number(message.error()) != 0 => {
                    return Err(errors::error(message.error(), &message.error_text()));
                }
                Some(message) if message.offset() != records.len() as i64 => {
                    let (found, expected) = (message.offset(), records.len());
                    return Err(Error::new(Kind::Component, format!("offset {expected} is missing, {found} follows")));
                }
                Some(message) => records.push(message.payload().to_vec()),
                None if deadline.has_passed() => return Err(self.client().unreachable("waiting for its records")),
                None => {}
            }
        }
        Ok(records)
    }
}
