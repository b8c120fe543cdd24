//! The host's side of a consumer: its threads take records here, one after the other.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;
use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::{Fetched, Payload, RawRecord, Shared};
use crate::deadline::{Deadline, as_millis_rounded_up};
use crate::error::{Error, Kind, OffsetRange, Result};
use crate::kafka::client::IDLE;
use crate::kafka::codes::Code;
use crate::kafka::errors;
use crate::kafka::native::Message;
use crate::positions::{self, Assignment, Step};
use crate::protection::Protection;
use crate::resource_limit;

/// Records taken from librdkafka at once.
const BATCH: usize = 256;
/// How long a reader sleeps at most before it looks whether it should stop.
const READER_SLICE: Duration = Duration::from_millis(500);

/// What came of one look at the data queue.
pub(super) enum Reading<'a> {
    Record(RawRecord<'a>),
    Failure(Error),
    /// For the log only: librdkafka recovers by itself.
    Remark(Error),
    Nothing,
}

impl Shared {
    pub(super) fn next(&self, deadline: Deadline, interrupted: impl Fn() -> bool) -> Result<Option<RawRecord<'_>>> {
        // A clock can cost as much as all else that a pull does.
        let began = (!self.client.has_reached()).then(Instant::now);
        loop {
            if self.closing.load(Ordering::Acquire) || self.unsubscribed.load(Ordering::Acquire) {
                return Err(Error::from_kind(Kind::Closed));
            }
            if interrupted() {
                return Ok(None);
            }
            match self.read_one(deadline) {
                Reading::Record(record) => return Ok(Some(record)),
                Reading::Failure(error) => return Err(error),
                Reading::Remark(error) => self.remark(&error),
                Reading::Nothing => {}
            }
            self.check_persistent_error(deadline, began)?;
            if deadline.has_passed() {
                return Err(Error::from_kind(Kind::TimedOut));
            }
        }
    }

    /// The next of those that were taken along, if it can be had at once; whatever else there is to say, [`next`](Self::next) says.
    pub(super) fn look(&self) -> Option<Result<RawRecord<'_>>> {
        let is_ended = self.closing.load(Ordering::Acquire) || self.unsubscribed.load(Ordering::Acquire);
        if is_ended || self.rebalancing.load(Ordering::Acquire) || self.news.is_some() {
            return None;
        }
        let mut batch = self.batch.try_lock()?;
        let message = batch.pop_front()?;
        if let Some(next) = batch.front() {
            next.prefetch_payload();
        }
        match self.examine(message, &mut batch, &mut self.positions.turn()) {
            Reading::Record(record) => return Some(Ok(record)),
            Reading::Failure(error) => return Some(Err(error)),
            Reading::Remark(error) => self.remark(&error),
            Reading::Nothing => {}
        }
        None
    }

    /// Takes along what else is there, in one turn, at most `most` records. Ends at what is no record, which may be an error.
    pub(super) fn take_more<'a>(&'a self, most: usize, records: &mut Vec<RawRecord<'a>>) -> Option<Error> {
        match self.read_more(most, records) {
            Reading::Failure(error) => return Some(error),
            Reading::Remark(error) => self.remark(&error),
            Reading::Record(_) | Reading::Nothing => {}
        }
        None
    }

    fn read_more<'a>(&'a self, most: usize, records: &mut Vec<RawRecord<'a>>) -> Reading<'a> {
        let Some(mut batch) = self.reading_turn(Deadline::PASSED) else { return Reading::Nothing };
        let enough = records.len().saturating_add(most);
        // In between two batches a rebalance gets its turn, and who acknowledges the positions.
        while records.len() < enough && !self.rebalancing.load(Ordering::Acquire) {
            if batch.is_empty() {
                self.drain_available(&mut batch);
            }
            if batch.is_empty() {
                break;
            }
            let mut positions = self.positions.turn();
            while records.len() < enough
                && let Some(message) = batch.pop_front()
            {
                message.prefetch_payload();
                match self.examine(message, &mut batch, &mut positions) {
                    Reading::Record(record) => records.push(record),
                    Reading::Nothing => {}
                    other => return other,
                }
            }
        }
        Reading::Nothing
    }

    fn remark(&self, error: &Error) {
        log::warn!(logger: self.client.log(), target: &self.client.name(), "{error}");
    }

    fn read_one(&self, deadline: Deadline) -> Reading<'_> {
        let Some(mut batch) = self.reading_turn(deadline) else { return Reading::Nothing };
        if let Some(news) = self.news.take() {
            return Reading::Failure(news);
        }
        match self.take_message(&mut batch, deadline) {
            Some(message) => self.examine(message, &mut batch, &mut self.positions.turn()),
            None => Reading::Nothing,
        }
    }

    /// The lock on batch and data queue; `None` at the deadline or when the attendant should have it first.
    fn reading_turn(&self, deadline: Deadline) -> Option<MutexGuard<'_, VecDeque<Message>>> {
        if self.rebalancing.load(Ordering::Acquire) {
            std::thread::sleep(deadline.remaining(Duration::from_millis(1)));
            return None;
        }
        self.batch.try_lock().or_else(|| self.batch.try_lock_for(deadline.remaining(READER_SLICE)))
    }

    /// Blocks for one message only, then takes along what else is there.
    fn take_message(&self, batch: &mut VecDeque<Message>, deadline: Deadline) -> Option<Message> {
        if batch.is_empty() {
            let at_most = as_millis_rounded_up(deadline.remaining(READER_SLICE));
            // SAFETY: the queue is alive; the message is ours.
            let first = unsafe { rd::rd_kafka_consume_queue(self.data.as_ptr(), at_most) };
            // SAFETY: from this client, which goes after the batch.
            batch.extend(unsafe { Message::from_raw(first) });
            if !batch.is_empty() {
                self.drain_available(batch);
            }
        }
        batch.pop_front()
    }

    fn drain_available(&self, batch: &mut VecDeque<Message>) {
        let mut more = [std::ptr::null_mut(); BATCH];
        // SAFETY: the queue is alive and the array as long as said; the batch's lock keeps others out.
        let count = unsafe { rd::rd_kafka_consume_batch_queue(self.data.as_ptr(), 0, more.as_mut_ptr(), BATCH) };
        for message in &more[..usize::try_from(count).unwrap_or(0)] {
            // SAFETY: from this client, which goes after the batch, and ours.
            if let Some(message) = unsafe { Message::from_raw(*message) } {
                batch.push_back(message);
            }
        }
    }

    fn examine(&self, message: Message, batch: &mut VecDeque<Message>, positions: &mut positions::Turn) -> Reading<'_> {
        if message.error().is_error() {
            return self.read_error(&message, positions);
        }
        let (Ok(partition), Ok(offset)) = (u32::try_from(message.partition()), u64::try_from(message.offset())) else {
            return Reading::Nothing;
        };
        let assignment = match positions.deliver(partition, offset) {
            Step::InOrder(assignment) => assignment,
            Step::Skipped(_, expected) if self.are_lost(partition, expected) => {
                positions.go_back_to(partition, offset);
                batch.push_front(message);
                return Reading::Failure(self.records_lost(partition, expected, offset));
            }
            // Offsets that no record ever had (a transaction's marker, say) are no loss.
            Step::Skipped(assignment, _) => assignment,
            Step::Behind(expected) => {
                positions.start_over_at(partition, offset);
                batch.push_front(message);
                return Reading::Failure(self.started_over(partition, offset, expected));
            }
            Step::NotOurs => return Reading::Nothing,
        };
        self.standing.clear();
        self.cut_off.clear();
        Reading::Record(self.raw_record(message, partition, offset, assignment))
    }

    /// The position is not there any more, and librdkafka goes on at `next`, where the partition begins now.
    fn read_from_elsewhere(&self, partition: u32, next: u64, positions: &mut positions::Turn) -> Reading<'_> {
        match positions.next(partition) {
            Some(expected) if expected < next => {
                positions.pass_to(partition, next);
                Reading::Failure(self.records_lost(partition, expected, next))
            }
            Some(expected) if expected > next => {
                positions.start_over_at(partition, next);
                Reading::Failure(self.started_over(partition, next, expected))
            }
            _ => Reading::Nothing,
        }
    }

    /// Records of a partition come from a lower offset on than before, so that they are others than those that were read.
    #[cold]
    fn started_over(&self, partition: u32, from: u64, expected: u64) -> Error {
        if self.is_topic_replaced() {
            return self.topic_was_recreated(&[partition]);
        }
        let why = format!(
            "reading topic {:?}: partition {partition} lost its records from some offset on that had been read up to {expected}, and \
             has others there now (a broker that lacked them became its leader); reading goes on at offset {from}",
            self.topic
        );
        Error::new(Kind::RecordsLost, why)
    }

    fn raw_record(&self, message: Message, partition: u32, offset: u64, assignment: Assignment) -> RawRecord<'_> {
        let timestamp_ms = message.timestamp();
        let payload = Payload::Fetched(Fetched { message, consumer: self });
        RawRecord { payload, partition, offset, timestamp_ms, assignment }
    }

    /// Whether the topic begins behind the offset.
    #[cold]
    fn are_lost(&self, partition: u32, expected: u64) -> bool {
        let (mut low, mut high) = (0_i64, 0_i64);
        // SAFETY: client and name are alive; the places are writable; it answers from memory.
        let code = unsafe {
            rd::rd_kafka_get_watermark_offsets(
                self.client.handle.as_ptr(),
                self.c_topic.as_ptr(),
                partition as i32,
                &mut low,
                &mut high,
            )
        };
        !Code::from(code).is_error() && u64::try_from(low).is_ok_and(|first_kept| first_kept > expected)
    }

    #[cold]
    fn records_lost(&self, partition: u32, from: u64, to: u64) -> Error {
        let offsets = OffsetRange { partition, first: from, last: to - 1 };
        let error = Error::new(
            Kind::RecordsLost,
            format!(
                "reading topic {:?}: offsets {from} to {} of partition {partition} were removed from the topic before \
                 this consumer read them (see the topic's retention); reading goes on at offset {to}",
                self.topic, offsets.last
            ),
        );
        error.skipping(offsets)
    }

    /// An error that stands where a record would: told to the host if it lasts.
    #[cold]
    fn read_error(&self, message: &Message, positions: &mut positions::Turn) -> Reading<'_> {
        if Protection::DamagedData.is_on()
            && let (Some((first, last)), Ok(partition)) =
                (message.damaged_offsets(), u32::try_from(message.partition()))
        {
            return self.read_damage(partition, first, last, &message.error_text(), positions);
        }
        let code = RDKafkaErrorCode::from(message.error());
        if let (Ok(partition), Ok(next)) = (u32::try_from(message.partition()), u64::try_from(message.offset())) {
            match code {
                RDKafkaErrorCode::Noop => {
                    if Protection::PassedOffsets.is_on() {
                        positions.pass_to(partition, next);
                    }
                    return Reading::Nothing;
                }
                RDKafkaErrorCode::OffsetOutOfRange => return self.read_from_elsewhere(partition, next, positions),
                _ => {}
            }
        }
        let error = match code {
            // For what it decompresses; it tries again until there is memory.
            RDKafkaErrorCode::CriticalSystemResource => resource_limit::of_errno(message.error_text(), libc::ENOMEM),
            _ => errors::error(message.error(), &message.error_text()),
        };
        let error = error.context(format_args!("reading topic {:?}", self.topic));
        if code == RDKafkaErrorCode::MessageSizeTooLarge
            && Protection::TooLarge.is_on()
            && let Ok(partition) = u32::try_from(message.partition())
        {
            // Intact, and larger than a limit of this client: it is not skipped.
            positions.block(partition, error.clone());
            return Reading::Failure(error);
        }
        if errors::is_standing(code) || code == RDKafkaErrorCode::CriticalSystemResource {
            self.standing.set(error.clone());
            return Reading::Failure(error);
        }
        if errors::is_of_broker(code) {
            self.fetch_failures.add(&error);
        }
        Reading::Remark(error)
    }

    /// What keeps records from coming, if something lasting does; said each time, but, unless it ended the client,
    /// not before the host has waited as long as it wanted to, so that a loop of pulls does not spin.
    fn check_persistent_error(&self, deadline: Deadline, began: Option<Instant>) -> Result<()> {
        if let Some(fatal) = self.client.fatal() {
            return Err(fatal);
        }
        if began.is_some() {
            let began = began.filter(|_| !deadline.has_passed());
            if let Some(error) = self.client.unreached(began, format_args!("reading topic {:?}", self.topic)) {
                return Err(error);
            }
        }
        if !deadline.is_never() && !deadline.has_passed() {
            return Ok(());
        }
        if let Some(standing) = self.standing.get().or_else(|| self.positions.obstacle()) {
            return Err(standing);
        }
        if let Some(failure) = self.fetch_failures.persistent() {
            return Err(failure);
        }
        if let Some(error) = self.client.persistent_error() {
            return Err(error.context(format_args!("reading topic {:?}", self.topic)));
        }
        if self.are_brokers_away() {
            return Err(self.client.unreachable(format_args!("reading topic {:?}", self.topic)));
        }
        Ok(())
    }

    /// For so long that the host is told.
    pub(super) fn are_brokers_away(&self) -> bool {
        self.cut_off.get().is_some_and(|since| since.elapsed() >= self.timeout)
    }

    pub(super) fn commit(&self, deadline: Deadline) -> Result<()> {
        let mut commit_state = self.commit_state.lock();
        commit_state.requested += 1;
        let mine = commit_state.requested;
        let began = Instant::now();
        self.events.wake();
        loop {
            if commit_state.answered >= mine {
                return commit_state.take_commit_failure().map_or(Ok(()), Err);
            }
            if self.closing.load(Ordering::Acquire) {
                return Err(Error::from_kind(Kind::Closed));
            }
            if deadline.has_passed() {
                let why = commit_state.take_commit_failure();
                let why = why.or_else(|| Some(self.client.persistent_error()?.context(self.committing())));
                return Err(why.unwrap_or_else(|| Error::from_kind(Kind::TimedOut)));
            }
            self.changed.wait_for(&mut commit_state, deadline.remaining(IDLE));
            if let Some(error) =
                MutexGuard::unlocked(&mut commit_state, || self.client.unreached(Some(began), self.committing()))
            {
                return Err(error);
            }
        }
    }

    pub(super) fn start_closing(&self) {
        self.closing.store(true, Ordering::Release);
        self.data.wake();
        self.events.wake();
        self.changed.notify_all();
    }
}
