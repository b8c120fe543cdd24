//! Commits: which offsets the group has committed, and when the acknowledged positions are
//! committed.

use std::ffi::c_void;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::{OFFSET_INVALID, Shared};
use crate::kafka::client::IDLE;
use crate::kafka::librdkafka::codes::{self, Code};
use crate::kafka::librdkafka::errors;
use crate::kafka::librdkafka::partitions::PartitionList;
use crate::kafka::librdkafka::queue::{Queue, QueueEvent};
use crate::kafka::librdkafka::topic_id::TopicId;
use crate::support::deadline::{Deadline, as_millis_rounded_up};
use crate::support::error::{Error, Kind, Result};

/// The time between two commits of acknowledged positions.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How long an assignment waits for the committed offsets.
const COMMITTED_OFFSETS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a revocation waits for the commit of the revoked partitions.
const REVOCATION_COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the group has committed.
pub(super) struct CommittedOffsets {
    /// The topic that has these offsets; `None` if it is unknown.
    pub topic: Option<TopicId>,
    /// By partition, `None` where nothing is committed. Partitions for which brokers return an
    /// error are missing.
    pub offsets: Vec<(u32, Option<u64>)>,
}

impl Shared {
    /// The committed offsets of these partitions. librdkafka would request the same; requested
    /// here, the offsets show which records were removed meanwhile.
    pub(super) fn committed_offsets(&self, partitions: &[u32]) -> CommittedOffsets {
        const PAUSE: Duration = Duration::from_millis(100);
        let list = PartitionList::new(&self.c_topic, partitions.iter().map(|part| (*part as i32, OFFSET_INVALID)));
        let none = || CommittedOffsets { topic: self.topic_in_use(), offsets: Vec::new() };
        let Ok(list) = list else { return none() };
        let deadline = Deadline::after(COMMITTED_OFFSETS_TIMEOUT);
        loop {
            let timeout_ms = as_millis_rounded_up(deadline.remaining(COMMITTED_OFFSETS_TIMEOUT));
            // SAFETY: `self` keeps the client alive and `list` is alive; librdkafka writes the
            // offsets into it.
            let code = unsafe { codes::rd_kafka_committed(self.client.handle.as_ptr(), list.as_ptr(), timeout_ms) };
            if !code.is_error() {
                break;
            }
            let is_retried = errors::is_coordinator_moving(code) && !deadline.remaining(PAUSE).is_zero();
            if !is_retried || self.closing.load(Ordering::Acquire) {
                // librdkafka requests the offset itself for partitions that are assigned without
                // one.
                let error = self.committed_offsets_error(code);
                log::info!(logger: self.client.log(), target: &self.client.name(), "{error}");
                return none();
            }
            std::thread::sleep(deadline.remaining(PAUSE));
        }
        let mut of_deleted_topic = Vec::new();
        let mut committed = Vec::with_capacity(partitions.len());
        let results: Vec<_> = list.results().filter(|part| !part.error.is_error()).collect();
        let topic = self.topic_in_use_or_newer(&results);
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
            self.pending_error.set(self.deleted_topic_position_error(&of_deleted_topic));
        }
        CommittedOffsets { topic, offsets: committed }
    }

    fn deleted_topic_position_error(&self, partitions: &[u32]) -> Error {
        let reason = format!(
            "reading topic {:?}: the committed positions of group {:?} in partitions {partitions:?} belong to a topic of \
             that name that was deleted; reading starts at the beginning of the current topic",
            self.topic, self.group
        );
        Error::new(Kind::RecordsLost, reason)
    }

    /// Commits the acknowledged positions if a commit is due.
    pub(super) fn commit_if_due(&self, schedule: &mut CommitSchedule) {
        let requested = self.commit_state.lock().requested;
        if !schedule.is_due(requested) {
            return;
        }
        let offsets = self.positions.to_commit();
        schedule.number = self.commit_state.lock().begin_commit();
        let result = match offsets.as_slice() {
            [] => {
                self.complete_request(requested, schedule.number, Ok(()), &[]);
                Ok(())
            }
            offsets => self.send_commit(offsets, &self.events, requested),
        };
        schedule.mark_sent(requested);
        if let Err(error) = result {
            let partitions: Vec<_> = offsets.iter().map(|(partition, _)| *partition).collect();
            self.complete_request(requested, schedule.number, Err(error), &partitions);
        }
    }

    /// Commits these offsets and waits for the result.
    pub(super) fn commit_before_revocation(&self, offsets: &[(u32, u64)]) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let deadline = Deadline::after(REVOCATION_COMMIT_TIMEOUT);
        let number = self.commit_state.lock().begin_commit();
        let committed = Queue::new(&self.client.handle).and_then(|results| {
            self.send_commit(offsets, &results, 0)?;
            while !deadline.has_passed() {
                if let Some(event) = results.poll(deadline.remaining(IDLE)) {
                    return self.read_commit(&event, number);
                }
            }
            Err(self.client.unreachable(self.commit_operation()))
        });
        let partitions = offsets.iter().map(|(partition, _)| *partition);
        committed.inspect_err(|error| self.note_commit_failure(number, error.clone(), partitions))
    }

    /// Sends a commit whose result arrives on `results`. `request` is the number of the host's
    /// request.
    fn send_commit(&self, offsets: &[(u32, u64)], results: &Queue, request: u64) -> Result<()> {
        let list = self.offsets_to_commit(offsets)?;
        // SAFETY: `self` keeps the client alive, the caller the queue; the list is copied; the
        // opaque pointer is a number and never dereferenced.
        let code = unsafe {
            rd::rd_kafka_commit_queue(
                self.client.handle.as_ptr(),
                list.as_ptr(),
                results.as_ptr(),
                None,
                request as usize as *mut c_void,
            )
        };
        match Code::from(code).is_error() {
            false => Ok(()),
            true => Err(errors::error(code, "").context(self.commit_operation())),
        }
    }

    /// These offsets as a list for a commit, with the topic that has them.
    pub(super) fn offsets_to_commit(&self, offsets: &[(u32, u64)]) -> Result<PartitionList> {
        let offsets = offsets.iter().map(|(partition, offset)| (*partition as i32, *offset as i64));
        let list = PartitionList::new(&self.c_topic, offsets)?;
        Ok(match self.positions.topic() {
            None => list,
            Some(topic) => list.with_metadata(&self.client.handle, &topic.commit_metadata()),
        })
    }

    /// Processes the result of a commit that [`commit_if_due`](Self::commit_if_due) sent.
    pub(super) fn process_commit_result(&self, event: &QueueEvent, schedule: &mut CommitSchedule) {
        let request = event.opaque() as usize as u64;
        match self.read_commit(event, schedule.number) {
            Err(error) if error.is_retriable() => {
                // The positions stay acknowledged: the next commit includes them and completes the
                // request.
                log::info!(logger: self.client.log(), target: &self.client.name(), "{error}; retrying");
                schedule.retry_later(self.commit_state.lock().completed);
            }
            result => {
                let partitions = event.partitions();
                let failed = partitions.iter().filter(|part| event.error().is_error() || part.error.is_error());
                let failed: Vec<_> = failed.filter_map(|part| u32::try_from(part.partition).ok()).collect();
                self.complete_request(request, schedule.number, result, &failed);
            }
        }
    }

    /// Records which partitions are committed. Returns the first error.
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
            Some(code) => {
                Err(self.explain_unknown_member(self.client.request_error(code, "", self.commit_operation())))
            }
        }
    }

    /// Completes the host's requests up to `request`. `failed` are the partitions of a failed
    /// commit.
    fn complete_request(&self, request: u64, number: u64, result: Result<()>, failed: &[u32]) {
        if let Err(error) = result {
            log::warn!(logger: self.client.log(), target: &self.client.name(), "{error}");
            if error.kafka_code().is_some_and(|code| code == RDKafkaErrorCode::GroupAuthorizationFailed as i32) {
                self.persistent_error.set(error.clone());
            }
            self.note_commit_failure(number, error, failed.iter().copied());
        }
        let mut commit_state = self.commit_state.lock();
        commit_state.completed = commit_state.completed.max(request);
        drop(commit_state);
        self.changed.notify_all();
    }

    fn note_commit_failure(&self, number: u64, error: Error, partitions: impl Iterator<Item = u32>) {
        let (assigned, revoked) = partitions.partition(|partition| self.positions.is_assigned(*partition));
        self.commit_state.lock().commit_failed(number, error, assigned, revoked);
    }

    /// Adds the cause to an "unknown member" error: a group accepts commits of its members only, or
    /// of any client while it has no members.
    fn explain_unknown_member(&self, error: Error) -> Error {
        let is_unknown_member = error.kafka_code() == Some(RDKafkaErrorCode::UnknownMemberId as i32);
        if !is_unknown_member || self.targets.is_empty() {
            return error;
        }
        error.with_note(format_args!(
            "the group {:?} has members that joined it, and a consumer with target partitions can't share its name \
             with them; use another name for one of them",
            self.group
        ))
    }

    pub(super) fn commit_operation(&self) -> String {
        format!("committing positions of group {:?} in topic {:?}", self.group, self.topic)
    }
}

/// When the consumer thread sends the next commit.
pub(super) struct CommitSchedule {
    next: Instant,
    /// The host's latest request that a commit was sent for.
    sent_for: u64,
    /// The number of the latest commit.
    number: u64,
    /// The latest commit failed with a retriable error: the next one waits until `next` despite
    /// requests.
    backing_off: bool,
}

impl Default for CommitSchedule {
    fn default() -> Self {
        CommitSchedule { next: Instant::now() + COMMIT_INTERVAL, sent_for: 0, number: 0, backing_off: false }
    }
}

impl CommitSchedule {
    pub(super) fn until_next(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now()).min(IDLE)
    }

    fn is_due(&self, requested: u64) -> bool {
        Instant::now() >= self.next || (requested > self.sent_for && !self.backing_off)
    }

    fn mark_sent(&mut self, requested: u64) {
        let next = Instant::now() + COMMIT_INTERVAL;
        *self = CommitSchedule { next, sent_for: requested, backing_off: false, number: self.number };
    }

    fn retry_later(&mut self, completed: u64) {
        let next = Instant::now() + COMMIT_INTERVAL / 4;
        *self = CommitSchedule { next, sent_for: completed, backing_off: true, number: self.number };
    }
}
