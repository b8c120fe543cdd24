//! Reading: the host's threads take records here, one thread at a time.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;
use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::Shared;
use crate::kafka::client::IDLE;
use crate::kafka::librdkafka::codes::Code;
use crate::kafka::librdkafka::errors;
use crate::kafka::librdkafka::message::Message;
use crate::kafka::librdkafka::record::{Fetched, Payload, RawRecord};
use crate::positions::{self, Assignment, DeliveryOrder};
use crate::support::deadline::{Deadline, as_millis_rounded_up};
use crate::support::error::{Error, Kind, OffsetRange, Result};
use crate::support::protection::Protection;
use crate::support::resource_limit;

/// How many messages one call takes from librdkafka.
const BATCH: usize = 256;
/// How long a reader sleeps before it checks again if it should stop.
const MAX_SLEEP: Duration = Duration::from_millis(500);

/// The outcome of reading one message from the data queue.
pub(super) enum ReadOutcome<'a> {
    Record(RawRecord<'a>),
    Failure(Error),
    /// An error for the log only: librdkafka recovers by itself.
    Warning(Error),
    Nothing,
}

impl Shared {
    /// The next record; see [`KafkaConsumer::next`](super::KafkaConsumer::next).
    pub(super) fn next(&self, deadline: Deadline, interrupted: impl Fn() -> bool) -> Result<Option<RawRecord<'_>>> {
        // Reading the clock can cost as much as the rest of a pull.
        let began = (!self.client.has_reached()).then(Instant::now);
        loop {
            if self.closing.load(Ordering::Acquire) || self.unsubscribed.load(Ordering::Acquire) {
                return Err(Error::from_kind(Kind::Closed));
            }
            if interrupted() {
                return Ok(None);
            }
            match self.read_one(deadline) {
                ReadOutcome::Record(record) => return Ok(Some(record)),
                ReadOutcome::Failure(error) => return Err(error),
                ReadOutcome::Warning(error) => self.log_warning(&error),
                ReadOutcome::Nothing => {}
            }
            self.check_persistent_error(deadline, began)?;
            if deadline.has_passed() {
                return Err(Error::from_kind(Kind::TimedOut));
            }
        }
    }

    /// The next message of the batch, if it is a record. [`next`](Self::next) handles and reports
    /// everything else.
    pub(super) fn try_next(&self) -> Option<Result<RawRecord<'_>>> {
        let is_ended = self.closing.load(Ordering::Acquire) || self.unsubscribed.load(Ordering::Acquire);
        if is_ended || self.rebalancing.load(Ordering::Acquire) || self.pending_error.is_some() {
            return None;
        }
        let mut batch = self.batch.try_lock()?;
        let message = batch.pop_front()?;
        if let Some(next) = batch.front() {
            next.prefetch_payload();
        }
        let outcome = self.examine(message, &mut batch, &mut self.positions.lock());
        // The host's log may call this consumer.
        drop(batch);
        match outcome {
            ReadOutcome::Record(record) => return Some(Ok(record)),
            ReadOutcome::Failure(error) => return Some(Err(error)),
            ReadOutcome::Warning(error) => self.log_warning(&error),
            ReadOutcome::Nothing => {}
        }
        None
    }

    /// Reads the available records, at most `max_records`, under one lock of the batch. Ends at a
    /// message that is no record, which may be an error.
    pub(super) fn read_available<'a>(&'a self, max_records: usize, records: &mut Vec<RawRecord<'a>>) -> Option<Error> {
        match self.read_available_records(max_records, records) {
            ReadOutcome::Failure(error) => return Some(error),
            ReadOutcome::Warning(error) => self.log_warning(&error),
            ReadOutcome::Record(_) | ReadOutcome::Nothing => {}
        }
        None
    }

    fn read_available_records<'a>(&'a self, max_records: usize, records: &mut Vec<RawRecord<'a>>) -> ReadOutcome<'a> {
        let Some(mut batch) = self.lock_batch(Deadline::PASSED) else { return ReadOutcome::Nothing };
        let enough = records.len().saturating_add(max_records);
        // The lock of the positions is released after each batch, for threads that acknowledge
        // events, and a rebalance ends the loop.
        while records.len() < enough && !self.rebalancing.load(Ordering::Acquire) {
            if batch.is_empty() {
                self.drain_available(&mut batch);
            }
            if batch.is_empty() {
                break;
            }
            let mut positions = self.positions.lock();
            while records.len() < enough
                && let Some(message) = batch.pop_front()
            {
                message.prefetch_payload();
                match self.examine(message, &mut batch, &mut positions) {
                    ReadOutcome::Record(record) => records.push(record),
                    ReadOutcome::Nothing => {}
                    other => return other,
                }
            }
        }
        ReadOutcome::Nothing
    }

    fn log_warning(&self, error: &Error) {
        log::warn!(logger: self.client.log(), target: &self.client.name(), "{error}");
    }

    fn read_one(&self, deadline: Deadline) -> ReadOutcome<'_> {
        let Some(mut batch) = self.lock_batch(deadline) else { return ReadOutcome::Nothing };
        if let Some(error) = self.pending_error.take() {
            return ReadOutcome::Failure(error);
        }
        match self.next_message(&mut batch, deadline) {
            Some(message) => self.examine(message, &mut batch, &mut self.positions.lock()),
            None => ReadOutcome::Nothing,
        }
    }

    /// Locks batch and data queue. `None` at the deadline or if the consumer thread wants the lock.
    fn lock_batch(&self, deadline: Deadline) -> Option<MutexGuard<'_, VecDeque<Message>>> {
        if self.rebalancing.load(Ordering::Acquire) {
            std::thread::sleep(deadline.remaining(Duration::from_millis(1)));
            return None;
        }
        self.batch.try_lock().or_else(|| self.batch.try_lock_for(deadline.remaining(MAX_SLEEP)))
    }

    /// Waits for one message, then drains what else is available.
    fn next_message(&self, batch: &mut VecDeque<Message>, deadline: Deadline) -> Option<Message> {
        if batch.is_empty() {
            let timeout_ms = as_millis_rounded_up(deadline.remaining(MAX_SLEEP));
            // SAFETY: `self` keeps the queue alive; this function owns the message.
            let first = unsafe { rd::rd_kafka_consume_queue(self.data.as_ptr(), timeout_ms) };
            // SAFETY: the message has no other owner; the batch is dropped before the client
            // (`Shared`).
            batch.extend(unsafe { Message::from_raw(first) });
            if !batch.is_empty() {
                self.drain_available(batch);
            }
        }
        batch.pop_front()
    }

    fn drain_available(&self, batch: &mut VecDeque<Message>) {
        let mut more = [std::ptr::null_mut(); BATCH];
        // SAFETY: `self` keeps the queue alive; the array has the given length; the caller holds
        // the batch's lock.
        let count = unsafe { rd::rd_kafka_consume_batch_queue(self.data.as_ptr(), 0, more.as_mut_ptr(), BATCH) };
        for message in &more[..usize::try_from(count).unwrap_or(0)] {
            // SAFETY: the message has no other owner; the batch is dropped before the client
            // (`Shared`).
            if let Some(message) = unsafe { Message::from_raw(*message) } {
                batch.push_back(message);
            }
        }
    }

    /// Turns a message into a record or an error, and advances the position.
    fn examine(
        &self,
        message: Message,
        batch: &mut VecDeque<Message>,
        positions: &mut positions::PositionsGuard,
    ) -> ReadOutcome<'_> {
        if message.error().is_error() {
            return self.read_error(&message, positions);
        }
        let (Ok(partition), Ok(offset)) = (u32::try_from(message.partition()), u64::try_from(message.offset())) else {
            return ReadOutcome::Nothing;
        };
        let assignment = match positions.deliver(partition, offset) {
            DeliveryOrder::InOrder(assignment) => assignment,
            DeliveryOrder::Skipped(_, expected) if self.are_removed(partition, expected) => {
                positions.set_next(partition, offset);
                batch.push_front(message);
                return ReadOutcome::Failure(self.removed_records_error(partition, expected, offset));
            }
            // Offsets without records, such as those of transaction markers, are no loss.
            DeliveryOrder::Skipped(assignment, _) => assignment,
            DeliveryOrder::Behind(expected) => {
                batch.push_front(message);
                return ReadOutcome::Failure(self.start_over(positions, partition, offset, expected));
            }
            DeliveryOrder::NotAssigned => return ReadOutcome::Nothing,
        };
        self.persistent_error.clear();
        self.unreachable_since.clear();
        ReadOutcome::Record(self.raw_record(message, partition, offset, assignment))
    }

    /// The position is outside of the partition, and librdkafka continues at `next`, the first
    /// offset now.
    fn handle_offset_out_of_range(
        &self,
        partition: u32,
        next: u64,
        positions: &mut positions::PositionsGuard,
    ) -> ReadOutcome<'_> {
        match positions.next(partition) {
            Some(expected) if expected < next => {
                positions.pass_to(partition, next);
                ReadOutcome::Failure(self.removed_records_error(partition, expected, next))
            }
            Some(expected) if expected > next => {
                ReadOutcome::Failure(self.start_over(positions, partition, next, expected))
            }
            _ => ReadOutcome::Nothing,
        }
    }

    /// Restarts in a partition that delivers lower offsets than those that were read: its records
    /// from there on are other ones. Returns the error of the pull.
    #[cold]
    fn start_over(&self, positions: &mut positions::PositionsGuard, partition: u32, from: u64, expected: u64) -> Error {
        if positions.start_over(partition, from, self.topic_in_use()) {
            return self.recreated_topic_error(&[partition]);
        }
        let reason = format!(
            "reading topic {:?}: partition {partition} was truncated: records that had been read up to offset \
             {expected} were lost, and others have their offsets now (a broker that lacked them became the leader); \
             reading goes on at offset {from}",
            self.topic
        );
        Error::new(Kind::RecordsLost, reason)
    }

    fn raw_record(&self, message: Message, partition: u32, offset: u64, assignment: Assignment) -> RawRecord<'_> {
        let payload = Payload::Fetched(Fetched::new(message, &self.responses));
        RawRecord { payload, partition, offset, assignment }
    }

    /// Whether the partition now starts after this offset.
    #[cold]
    fn are_removed(&self, partition: u32, expected: u64) -> bool {
        let (mut low, mut high) = (0_i64, 0_i64);
        // SAFETY: `self` keeps client and name alive; both pointers are writable. The call reads
        // cached values.
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
    fn removed_records_error(&self, partition: u32, from: u64, to: u64) -> Error {
        let offsets = OffsetRange { partition, first: from, last: to - 1 };
        let error = Error::new(
            Kind::RecordsLost,
            format!(
                "reading topic {:?}: offsets {from} to {} of partition {partition} were removed from the topic before \
                 this consumer read them (see the topic's retention); reading goes on at offset {to}",
                self.topic, offsets.last
            ),
        );
        error.with_skipped(offsets)
    }

    /// Handles an error in the place of a record. The host gets it if it is persistent.
    #[cold]
    fn read_error(&self, message: &Message, positions: &mut positions::PositionsGuard) -> ReadOutcome<'_> {
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
                    return ReadOutcome::Nothing;
                }
                RDKafkaErrorCode::OffsetOutOfRange => {
                    return self.handle_offset_out_of_range(partition, next, positions);
                }
                _ => {}
            }
        }
        let error = match code {
            // librdkafka lacks memory to decompress a batch, and retries.
            RDKafkaErrorCode::CriticalSystemResource => resource_limit::of_errno(message.error_text(), libc::ENOMEM),
            _ => errors::error(message.error(), &message.error_text()),
        };
        let error = error.context(format_args!("reading topic {:?}", self.topic));
        if code == RDKafkaErrorCode::MessageSizeTooLarge
            && Protection::TooLarge.is_on()
            && let Ok(partition) = u32::try_from(message.partition())
        {
            // The batch is intact but larger than a limit of this client, so that it is not
            // skipped.
            positions.block(partition, error.clone());
            return ReadOutcome::Failure(error);
        }
        if errors::is_persistent(code) || code == RDKafkaErrorCode::CriticalSystemResource {
            self.persistent_error.set(error.clone());
            return ReadOutcome::Failure(error);
        }
        if errors::is_broker_error(code) {
            self.fetch_failures.add(&error);
        }
        ReadOutcome::Warning(error)
    }

    /// The persistent error that prevents records, if there is one. Each pull reports it, but only
    /// at its deadline, unless it is fatal, so that a loop of pulls is no busy loop.
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
        if let Some(error) = self.persistent_error.get().or_else(|| self.positions.obstacle()) {
            return Err(error);
        }
        if let Some(failure) = self.fetch_failures.persistent() {
            return Err(failure);
        }
        if let Some(error) = self.client.persistent_error() {
            return Err(error.context(format_args!("reading topic {:?}", self.topic)));
        }
        if self.are_brokers_unreachable() {
            return Err(self.client.unreachable(format_args!("reading topic {:?}", self.topic)));
        }
        Ok(())
    }

    /// Whether brokers have been unreachable for so long that pulls report it.
    pub(super) fn are_brokers_unreachable(&self) -> bool {
        self.unreachable_since.get().is_some_and(|since| since.elapsed() >= self.timeout)
    }

    /// Requests a commit from the consumer thread and waits for its result.
    pub(super) fn commit(&self, deadline: Deadline) -> Result<()> {
        let mut commit_state = self.commit_state.lock();
        commit_state.requested += 1;
        let request = commit_state.requested;
        let began = Instant::now();
        self.events.wake();
        loop {
            if commit_state.completed >= request {
                return commit_state.take_commit_failure().map_or(Ok(()), Err);
            }
            if self.closing.load(Ordering::Acquire) {
                return Err(Error::from_kind(Kind::Closed));
            }
            if deadline.has_passed() {
                let error = commit_state.take_commit_failure();
                let error = error.or_else(|| Some(self.client.persistent_error()?.context(self.commit_operation())));
                return Err(error.unwrap_or_else(|| Error::from_kind(Kind::TimedOut)));
            }
            self.changed.wait_for(&mut commit_state, deadline.remaining(IDLE));
            if let Some(error) =
                MutexGuard::unlocked(&mut commit_state, || self.client.unreached(Some(began), self.commit_operation()))
            {
                return Err(error);
            }
        }
    }

    /// Ends reading and makes the consumer thread commit and leave.
    pub(super) fn start_closing(&self) {
        self.closing.store(true, Ordering::Release);
        self.data.wake();
        self.events.wake();
        self.changed.notify_all();
    }
}
