//! The attendant's side of a consumer: one thread of ours serves rebalances, commits, errors, and the end.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::committing::Commits;
use super::{OFFSET_INVALID, Shared};
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::kafka::client::IDLE;
use crate::kafka::codes::{self, Code};
use crate::kafka::errors;
use crate::kafka::native::{self, Message, PartitionList, Queue, QueueEvent};
use crate::services::Rebalance;

/// `RD_KAFKA_PARTITION_UA`, a macro that the bindings lack.
const ANY_PARTITION: i32 = -1;

/// How long the taking of targets waits to hear who leads them.
const ASKING_FOR_LEADERS: Duration = Duration::from_secs(1);
/// How long leaving a group may take; then the session's end tells it.
const LEAVING: Duration = Duration::from_secs(30);
/// How long a consumer that leaves waits for a rebalance to let it commit, and how often it tries meanwhile.
const COMMIT_BEFORE_LEAVING: Duration = Duration::from_secs(10);
/// How long the partitions may take to come after the generation that they belong to.
const ASSIGNMENT_AFTER_JOIN: Duration = Duration::from_secs(2);
const REBALANCE_PAUSE: Duration = Duration::from_millis(100);

impl Shared {
    pub(super) fn subscribe(&self) -> Result<()> {
        let topics = PartitionList::new(&self.c_topic, [(ANY_PARTITION, 0)])?;
        // SAFETY: client and list are alive; the list is copied.
        let code = unsafe { rd::rd_kafka_subscribe(self.client.handle.as_ptr(), topics.as_ptr()) };
        match Code::from(code).number() {
            0 => Ok(()),
            _ => Err(errors::error(code, "").context(format_args!("subscribing to topic {:?}", self.topic))),
        }
    }

    pub(super) fn run(&self) {
        let mut commits = Commits::default();
        let mut asked = Instant::now();
        if !self.targets.is_empty() {
            self.guarded(|| self.assign_targets());
        }
        while !self.closing.load(Ordering::Acquire) {
            let event = self.events.poll(commits.until_next());
            self.guarded(|| {
                if let Some(event) = &event {
                    self.serve(event, &mut commits);
                }
                self.client.look_again();
                self.client.warn_unless_reached();
                self.look_for_brokers(&mut asked);
                self.ask_for_history();
                self.look_at_topic();
                self.commit_if_due(&mut commits);
                self.unsubscribe_if_asked(&mut commits);
            });
        }
        self.guarded(|| self.leave(&mut commits));
        self.end();
    }

    /// Asks, once brokers have been away for long enough to be told of, since nothing tells when they are back while no
    /// record comes. Here, not in the wait that tells of it: that has its own time.
    fn look_for_brokers(&self, asked: &mut Instant) {
        let is_due = self.are_brokers_away() && asked.elapsed() >= IDLE;
        if is_due && self.client.is_answered() {
            self.cut_off.clear();
        }
        if is_due {
            *asked = Instant::now();
        }
    }

    /// A panic in here, in a host's callback say, must not end the attendant: its consumer would wait for ever.
    fn guarded(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.rebalancing.store(false, Ordering::Release);
            self.standing.set(Error::new(
                Kind::Panicked,
                "a panic while serving an event of librdkafka; this is a defect of Octopus",
            ));
        }
    }

    /// Whatever led here: nothing is handed out or acknowledged any more, and whoever waits is told.
    fn end(&self) {
        self.batch.lock().clear();
        let uncommitted = self.positions.revoke_all();
        let mut commit_state = self.commit_state.lock();
        if uncommitted && !commit_state.has_failure() {
            commit_state
                .failed(Error::new(Kind::Kafka, format!("{}: the consumer ended before they were", self.committing())));
        }
        commit_state.closed = true;
        drop(commit_state);
        self.changed.notify_all();
    }

    fn serve(&self, event: &QueueEvent, commits: &mut Commits) {
        match event.kind() {
            rd::RD_KAFKA_EVENT_REBALANCE => self.rebalance(event),
            rd::RD_KAFKA_EVENT_OFFSET_COMMIT => self.note_commit(event, commits),
            rd::RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT => self.read_topic_id(event),
            _ => {
                let code = self.client.serve(event);
                if code == Some(RDKafkaErrorCode::AllBrokersDown) && self.cut_off.get().is_none() {
                    self.cut_off.set(Instant::now());
                }
                if code.is_some_and(errors::is_standing) {
                    let error = errors::error(event.error(), &event.error_text())
                        .context(format_args!("reading topic {:?} as group {:?}", self.topic, self.group));
                    self.standing.set(error);
                    self.data.wake();
                }
            }
        }
    }

    /// Takes the partitions that the host named, at the group's positions, without joining the group.
    fn assign_targets(&self) {
        let committed = self.committed_offsets(&self.targets);
        self.learn_leaders();
        if let Err(error) = self.while_readers_wait(|_| self.assign(&self.targets, &committed)) {
            self.standing.set(error.context(format_args!("taking partitions {:?}", self.targets)));
        }
    }

    /// A group is joined only when the topic is known; assigned without one, librdkafka learns of the leaders by its next look
    /// at all topics, of which there is one in a second.
    pub(super) fn learn_leaders(&self) {
        if let Err(error) = self.client.partition_count(&self.topic, Deadline::after(ASKING_FOR_LEADERS)) {
            log::info!(logger: self.client.log(), target: &self.client.name(), "{error}");
        }
    }

    /// Readers give way at once: those that sleep are woken, those that come wait.
    pub(super) fn while_readers_wait<T>(&self, work: impl FnOnce(&mut VecDeque<Message>) -> T) -> T {
        self.rebalancing.store(true, Ordering::Release);
        self.data.wake();
        let mut batch = self.batch.lock();
        let result = work(&mut batch);
        drop(batch);
        self.rebalancing.store(false, Ordering::Release);
        result
    }

    fn rebalance(&self, event: &QueueEvent) {
        let assigning = RDKafkaErrorCode::from(event.error()) == RDKafkaErrorCode::AssignPartitions;
        let partitions: Vec<u32> =
            event.partitions().iter().filter_map(|part| u32::try_from(part.partition).ok()).collect();
        let committed = if assigning { self.committed_offsets(&partitions) } else { Vec::new() };
        let (kind, result) = self.while_readers_wait(|batch| {
            if assigning {
                return (Rebalance::Assigned, self.assign(&partitions, &committed));
            }
            // SAFETY: the client is alive.
            let lost = unsafe { rd::rd_kafka_assignment_lost(self.client.handle.as_ptr()) } != 0;
            (if lost { Rebalance::Lost } else { Rebalance::Revoked }, self.revoke(&partitions, lost, batch))
        });

        if !assigning {
            self.commit_state.lock().taken_away(&partitions);
        }
        if let Err(error) = result {
            log::error!(logger: self.client.log(), target: &self.client.name(), "rebalance: {error}");
            if assigning {
                self.standing.set(error);
            }
        }
        log::info!(logger: self.client.log(), target: &self.client.name(), "{kind:?} partitions {partitions:?}");
        if let Some(told) = &self.client.services().rebalance {
            told(&self.group, kind, &partitions);
        }
    }

    fn assign(&self, partitions: &[u32], committed: &[(u32, Option<u64>)]) -> Result<()> {
        let generation = self.generation();
        let mut starts = Vec::with_capacity(partitions.len());
        for &partition in partitions {
            // Before the fetching starts, so that nothing arrives on the attendant's queue.
            Queue::of_partition(&self.client.handle, &self.c_topic, partition as i32)?.forward_to(&self.data);
            if self.positions.is_stopped(partition) {
                self.pause(partition, false);
            }
            let told = committed.iter().find(|(of, _)| *of == partition).map(|(_, offset)| *offset);
            // ErrorInner that there is nothing committed, librdkafka need not ask the same, nor wait before it looks for the start.
            let otherwise = if told.is_some() { self.start } else { OFFSET_INVALID };
            if self.positions.is_acknowledged_up_to(partition, told.flatten()) {
                self.commit_state.lock().found_committed(partition);
            }
            let next = self.positions.assign(partition, generation, told.flatten());
            starts.push((partition as i32, next.map_or(otherwise, |offset| offset as i64)));
        }
        self.standing.clear();
        self.cut_off.clear();
        self.history.lock().ask_now();
        self.change_assignment(starts, rd::rd_kafka_incremental_assign, true)
    }

    fn revoke(&self, partitions: &[u32], lost: bool, batch: &mut VecDeque<Message>) -> Result<()> {
        let offsets = self.positions.revoke(partitions);
        let committed = if lost { Ok(()) } else { self.commit_before_revocation(&offsets) };
        let changed = self.change_assignment(
            partitions.iter().map(|partition| (*partition as i32, 0)),
            rd::rd_kafka_incremental_unassign,
            false,
        );
        batch.retain(|message| {
            u32::try_from(message.partition()).map_or(true, |partition| self.positions.is_assigned(partition))
        });
        changed.and(committed)
    }

    /// Tells librdkafka of the new assignment, in the way that the group's protocol wants.
    fn change_assignment(
        &self,
        partitions: impl IntoIterator<Item = (i32, i64)>,
        incrementally: unsafe extern "C" fn(
            *mut rd::rd_kafka_t,
            *const rd::rd_kafka_topic_partition_list_t,
        ) -> *mut rd::rd_kafka_error_t,
        assigning: bool,
    ) -> Result<()> {
        let list = PartitionList::new(&self.c_topic, partitions)?;
        let client = self.client.handle.as_ptr();
        // SAFETY: the client is alive; the text is static.
        let protocol = unsafe { native::text(rd::rd_kafka_rebalance_protocol(client)) };
        if protocol != "COOPERATIVE" {
            let all = if assigning { list.as_ptr().cast_const() } else { std::ptr::null() };
            // SAFETY: client and list are alive, the list is copied; NULL assigns nothing.
            let code = unsafe { rd::rd_kafka_assign(client, all) };
            return if Code::from(code).is_error() { Err(errors::error(code, "")) } else { Ok(()) };
        }
        // SAFETY: client and list are alive, the list is copied; the error is ours.
        unsafe {
            let error = incrementally(client, list.as_ptr());
            if error.is_null() {
                return Ok(());
            }
            let result =
                errors::error(codes::rd_kafka_error_code(error), &native::text(rd::rd_kafka_error_string(error)));
            rd::rd_kafka_error_destroy(error);
            Err(result)
        }
    }

    /// The group's generation; -1 when it has none.
    fn generation(&self) -> i32 {
        // SAFETY: the client is alive; the metadata is ours until destroyed.
        unsafe {
            let metadata = rd::rd_kafka_consumer_group_metadata(self.client.handle.as_ptr());
            if metadata.is_null() {
                return -1;
            }
            let generation = rd::rd_kafka_consumer_group_metadata_generation_id(metadata);
            rd::rd_kafka_consumer_group_metadata_destroy(metadata);
            generation
        }
    }

    /// Gives the partitions up, as the host wished; whoever waits for that is told.
    fn unsubscribe_if_asked(&self, commits: &mut Commits) {
        let commit_state = self.commit_state.lock();
        if !commit_state.unsubscribe || commit_state.unsubscribed {
            return;
        }
        drop(commit_state);
        self.give_up_partitions(commits);
        self.commit_state.lock().unsubscribed = true;
        self.changed.notify_all();
    }

    fn give_up_partitions(&self, commits: &mut Commits) {
        let client = self.client.handle.as_ptr();
        if !self.targets.is_empty() {
            // A failure is told by the commit's own way.
            let _ = self.while_readers_wait(|batch| self.revoke(&self.targets, false, batch));
            return;
        }
        // SAFETY: the client is alive.
        let code = unsafe { rd::rd_kafka_unsubscribe(client) };
        if Code::from(code).is_error() {
            let error = errors::error(code, "").context(format_args!("leaving the group {:?}", self.group));
            self.commit_state.lock().failed(error);
        }
        // The group takes the partitions away, which commits what was acknowledged.
        let deadline = Deadline::after(LEAVING);
        while !self.positions.assigned().is_empty() && !deadline.has_passed() {
            if let Some(event) = self.events.poll(deadline.remaining(Duration::from_millis(100))) {
                self.serve(&event, commits);
            }
        }
    }

    /// Commits while this consumer can still take part in a rebalance. In the middle of one the group refuses commits, and
    /// librdkafka takes all partitions away and joins again: those that come back can be committed then.
    fn commit_before_leaving(&self, commits: &mut Commits) {
        let mut deadline = Deadline::after(COMMIT_BEFORE_LEAVING);
        let mut refused_in = self.generation();
        // A failure is kept for whoever closes, unless a later commit succeeds.
        while let Err(error) = self.commit_before_revocation(&self.positions.to_commit())
            && errors::is_refused_in_rebalance(&error)
        {
            // A member that joins again has no generation.
            while (self.generation() <= refused_in || self.positions.to_commit().is_empty()) && !deadline.has_passed() {
                if self.generation() > refused_in {
                    deadline = deadline.sooner(Deadline::after(ASSIGNMENT_AFTER_JOIN));
                }
                if let Some(event) = self.events.poll(deadline.remaining(REBALANCE_PAUSE)) {
                    self.serve(&event, commits);
                }
            }
            if deadline.has_passed() {
                return;
            }
            refused_in = self.generation();
        }
    }

    /// Leaves the group; the last rebalance commits what was acknowledged. Without a group nothing else would.
    fn leave(&self, commits: &mut Commits) {
        if self.targets.is_empty() {
            self.commit_before_leaving(commits);
        } else {
            // A failure is kept for whoever closes.
            let _ = self.commit_before_revocation(&self.positions.revoke(&self.targets));
        }
        // Nobody would wait longer for a group that has no coordinator; the session's end tells it then.
        let deadline = Deadline::after(LEAVING);
        let client = self.client.handle.as_ptr();
        // SAFETY: client and queue are alive; the error is ours.
        unsafe {
            let error = rd::rd_kafka_consumer_close_queue(client, self.events.as_ptr());
            if !error.is_null() {
                // A client with a fatal error has left its group already.
                return rd::rd_kafka_error_destroy(error);
            }
        }
        // SAFETY: the client is alive.
        while unsafe { rd::rd_kafka_consumer_closed(client) } == 0 && !deadline.has_passed() {
            if let Some(event) = self.events.poll(deadline.remaining(Duration::from_millis(100))) {
                self.serve(&event, commits);
            }
        }
    }
}
