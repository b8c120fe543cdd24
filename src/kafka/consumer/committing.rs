//! Committing: where the group stands, and what of a consumer's acknowledgements it is told when.

use std::ffi::c_void;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::{OFFSET_INVALID, Shared};
use crate::deadline::{Deadline, as_millis_rounded_up};
use crate::error::{Error, Kind, Result};
use crate::kafka::client::IDLE;
use crate::kafka::codes::{self, Code};
use crate::kafka::errors;
use crate::kafka::native::{PartitionList, Queue, QueueEvent};

/// How often what was acknowledged is committed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a rebalance waits to hear where the group stands.
const ASKING_FOR_COMMITS: Duration = Duration::from_secs(5);
/// How long a rebalance waits for the commit of the partitions that it takes away.
const COMMIT_AT_REVOCATION: Duration = Duration::from_secs(5);

impl Shared {
    /// Where the group stands in these partitions, `None` where it stands nowhere, as far as brokers say. librdkafka would
    /// ask the same; with the answer here, records that were removed meanwhile are noticed.
    pub(super) fn committed_offsets(&self, partitions: &[u32]) -> Vec<(u32, Option<u64>)> {
        const PAUSE: Duration = Duration::from_millis(100);
        let asked = PartitionList::new(&self.c_topic, partitions.iter().map(|part| (*part as i32, OFFSET_INVALID)));
        let Ok(list) = asked else { return Vec::new() };
        let deadline = Deadline::after(ASKING_FOR_COMMITS);
        loop {
            let at_most = as_millis_rounded_up(deadline.remaining(ASKING_FOR_COMMITS));
            // SAFETY: client and list are alive; the answer is written into the list.
            let code = unsafe { codes::rd_kafka_committed(self.client.handle.as_ptr(), list.as_ptr(), at_most) };
            if !code.is_error() {
                break;
            }
            let is_asked_again = errors::is_moving(code) && !deadline.remaining(PAUSE).is_zero();
            if !is_asked_again || self.closing.load(Ordering::Acquire) {
                // librdkafka asks again by itself for what is assigned without an offset.
                log::info!(logger: self.client.log(), target: &self.client.name(), "{}", self.asking_failed(code));
                return Vec::new();
            }
            std::thread::sleep(deadline.remaining(PAUSE));
        }
        let mut of_deleted_topic = Vec::new();
        let mut committed = Vec::with_capacity(partitions.len());
        let results: Vec<_> = list.results().filter(|part| !part.error.is_error()).collect();
        let topic = self.topic_beside(&results);
        for part in results {
            let Ok(partition) = u32::try_from(part.partition) else { continue };
            if part.is_of_other_topic(topic) {
                of_deleted_topic.push(partition);
                committed.push((partition, Some(0)));
            } else {
                committed.push((partition, u64::try_from(part.offset).ok()));
            }
        }
        if !of_deleted_topic.is_empty() {
            self.news.set(self.position_of_deleted_topic(&of_deleted_topic));
        }
        committed
    }

    fn position_of_deleted_topic(&self, partitions: &[u32]) -> Error {
        let why = format!(
            "reading topic {:?}: the positions that group {:?} has committed in partitions {partitions:?} are of a topic of that name \
             which was deleted since; reading begins at the beginning of the one that there is now",
            self.topic, self.group
        );
        Error::new(Kind::RecordsLost, why)
    }

    pub(super) fn commit_if_due(&self, commits: &mut Commits) {
        let requested = self.commit_state.lock().requested;
        if !commits.is_due(requested) {
            return;
        }
        let offsets = self.positions.to_commit();
        commits.number = self.commit_state.lock().commit_is_sent();
        let result = match offsets.as_slice() {
            [] => {
                self.answer(requested, commits.number, Ok(()), &[]);
                Ok(())
            }
            offsets => self.send_commit(offsets, &self.events, requested),
        };
        commits.sent_for(requested);
        if let Err(error) = result {
            let partitions: Vec<_> = offsets.iter().map(|(partition, _)| *partition).collect();
            self.answer(requested, commits.number, Err(error), &partitions);
        }
    }

    pub(super) fn commit_before_revocation(&self, offsets: &[(u32, u64)]) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let deadline = Deadline::after(COMMIT_AT_REVOCATION);
        let number = self.commit_state.lock().commit_is_sent();
        let committed = Queue::new(&self.client.handle).and_then(|answers| {
            self.send_commit(offsets, &answers, 0)?;
            while !deadline.has_passed() {
                if let Some(answer) = answers.poll(deadline.remaining(IDLE)) {
                    return self.read_commit(&answer, number);
                }
            }
            Err(self.client.unreachable(self.committing()))
        });
        let partitions = offsets.iter().map(|(partition, _)| *partition);
        committed.inspect_err(|error| self.note_commit_failure(number, error.clone(), partitions))
    }

    fn send_commit(&self, offsets: &[(u32, u64)], answers: &Queue, request: u64) -> Result<()> {
        let mut list =
            PartitionList::new(&self.c_topic, offsets.iter().map(|(part, offset)| (*part as i32, *offset as i64)))?;
        if let Some(topic) = self.topic_id() {
            list = list.with_metadata(&self.client.handle, &topic.commit_metadata());
        }
        // SAFETY: client, list and queue are alive, the list is copied; the opaque is a number, never followed.
        let code = unsafe {
            rd::rd_kafka_commit_queue(
                self.client.handle.as_ptr(),
                list.as_ptr(),
                answers.as_ptr(),
                None,
                request as usize as *mut c_void,
            )
        };
        match Code::from(code).is_error() {
            false => Ok(()),
            true => Err(errors::error(code, "").context(self.committing())),
        }
    }

    pub(super) fn note_commit(&self, event: &QueueEvent, commits: &mut Commits) {
        let request = event.opaque() as usize as u64;
        match self.read_commit(event, commits.number) {
            Err(error) if error.is_retriable() => {
                // The positions are still there: the next round takes them along, and answers whoever waits.
                log::info!(logger: self.client.log(), target: &self.client.name(), "{error}; trying again");
                commits.again(self.commit_state.lock().answered);
            }
            result => {
                let partitions = event.partitions();
                let failed = partitions.iter().filter(|part| event.error().is_error() || part.error.is_error());
                let failed: Vec<_> = failed.filter_map(|part| u32::try_from(part.partition).ok()).collect();
                self.answer(request, commits.number, result, &failed);
            }
        }
    }

    fn read_commit(&self, event: &QueueEvent, number: u64) -> Result<()> {
        let partitions = event.partitions();
        for part in partitions.iter().filter(|part| !part.error.is_error()) {
            if !event.error().is_error()
                && let (Ok(partition), Ok(offset)) = (u32::try_from(part.partition), u64::try_from(part.offset))
            {
                self.positions.committed(partition, offset);
                self.commit_state.lock().commit_succeeded(number, partition);
            }
        }
        let first_error =
            std::iter::once(event.error()).chain(partitions.iter().map(|p| p.error)).find(|code| code.is_error());
        match first_error {
            None => Ok(()),
            Some(code) => Err(self.explain_unknown_member(self.client.request_error(code, "", self.committing()))),
        }
    }

    fn answer(&self, request: u64, number: u64, result: Result<()>, failed: &[u32]) {
        if let Err(error) = result {
            log::warn!(logger: self.client.log(), target: &self.client.name(), "{error}");
            if error.kafka_code().is_some_and(|code| code == RDKafkaErrorCode::GroupAuthorizationFailed as i32) {
                self.standing.set(error.clone());
            }
            self.note_commit_failure(number, error, failed.iter().copied());
        }
        let mut commit_state = self.commit_state.lock();
        commit_state.answered = commit_state.answered.max(request);
        drop(commit_state);
        self.changed.notify_all();
    }

    fn note_commit_failure(&self, number: u64, error: Error, partitions: impl Iterator<Item = u32>) {
        let (held, gone) = partitions.partition(|partition| self.positions.is_assigned(*partition));
        self.commit_state.lock().commit_failed(number, error, held, gone);
    }

    /// Kafka takes commits from a group's members, or, while it has none, from anybody.
    fn explain_unknown_member(&self, error: Error) -> Error {
        let is_unknown_member = error.kafka_code() == Some(RDKafkaErrorCode::UnknownMemberId as i32);
        if !is_unknown_member || self.targets.is_empty() {
            return error;
        }
        error.with_note(format_args!(
            "the group {:?} has members that joined it, and a reader with target partitions can't share its name with \
             them; give one of them another name",
            self.group
        ))
    }

    pub(super) fn committing(&self) -> String {
        format!("committing positions of group {:?} in topic {:?}", self.group, self.topic)
    }
}

/// The attendant's notes on commits.
pub(super) struct Commits {
    next: Instant,
    /// The host's last request that a commit was sent for.
    sent_for: u64,
    /// Of the last one that was sent.
    number: u64,
    /// The last one failed in a way that passes: not again before `next`, whoever asks.
    backing_off: bool,
}

impl Default for Commits {
    fn default() -> Self {
        Commits { next: Instant::now() + COMMIT_INTERVAL, sent_for: 0, number: 0, backing_off: false }
    }
}

impl Commits {
    pub(super) fn until_next(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now()).min(IDLE)
    }

    fn is_due(&self, requested: u64) -> bool {
        Instant::now() >= self.next || (requested > self.sent_for && !self.backing_off)
    }

    fn sent_for(&mut self, requested: u64) {
        let next = Instant::now() + COMMIT_INTERVAL;
        *self = Commits { next, sent_for: requested, backing_off: false, number: self.number };
    }

    fn again(&mut self, answered: u64) {
        let next = Instant::now() + COMMIT_INTERVAL / 4;
        *self = Commits { next, sent_for: answered, backing_off: true, number: self.number };
    }
}
