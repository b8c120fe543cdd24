//! The consumer thread: a thread of the plugin for each consumer, which serves rebalances, commits,
//! errors and the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::Shared;
use super::committing::CommitSchedule;
use crate::kafka::client::IDLE;
use crate::kafka::librdkafka::codes::Code;
use crate::kafka::librdkafka::partitions::PartitionList;
use crate::kafka::librdkafka::queue::QueueEvent;
use crate::kafka::librdkafka::{errors, log_messages};
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};

/// `RD_KAFKA_PARTITION_UA`, a macro that the bindings lack.
const ANY_PARTITION: i32 = -1;

/// How long leaving a group may take. After that, the group notices by the session timeout.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a consumer that leaves waits for the end of a rebalance, during which it can't commit.
const LEAVE_COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the assignment may take to arrive after the generation that it belongs to.
const ASSIGNMENT_TIMEOUT: Duration = Duration::from_secs(2);
const REBALANCE_PAUSE: Duration = Duration::from_millis(100);

impl Shared {
    /// Joins the group.
    pub(super) fn subscribe(&self) -> Result<()> {
        let topics = PartitionList::new(&self.c_topic, [(ANY_PARTITION, 0)])?;
        // SAFETY: `self` keeps the client alive; the list is alive and copied.
        let code = unsafe { rd::rd_kafka_subscribe(self.client.handle.as_ptr(), topics.as_ptr()) };
        match Code::from(code).number() {
            0 => Ok(()),
            _ => Err(errors::error(code, "").context(format_args!("subscribing to topic {:?}", self.topic))),
        }
    }

    /// Serves the consumer until it is closed.
    pub(super) fn run(&self) {
        let mut schedule = CommitSchedule::default();
        let mut last_probe = Instant::now();
        if !self.targets.is_empty() {
            self.guarded(|| self.assign_targets());
        }
        while !self.closing.load(Ordering::Acquire) {
            let event = self.events.poll(schedule.until_next());
            self.guarded(|| {
                if let Some(event) = &event {
                    self.serve(event, &mut schedule);
                }
                self.client.probe_if_due();
                self.client.warn_unless_reached();
                self.probe_brokers(&mut last_probe);
                self.request_topic_id_if_due();
                self.check_topic_in_use();
                self.commit_if_due(&mut schedule);
                self.unsubscribe_if_requested(&mut schedule);
            });
        }
        self.guarded(|| self.leave(&mut schedule));
        self.end();
    }

    /// Probes the brokers once they have been unreachable for so long that pulls report it: while
    /// no record arrives, nothing else shows that they are back. It is done here and not in a pull,
    /// which has its own deadline.
    fn probe_brokers(&self, last_probe: &mut Instant) {
        let is_due = self.are_brokers_unreachable() && last_probe.elapsed() >= IDLE;
        if is_due && self.client.is_reachable() {
            self.unreachable_since.clear();
        }
        if is_due {
            *last_probe = Instant::now();
        }
    }

    /// Catches a panic, for example in a callback of the host: without this thread the consumer's
    /// calls would wait for ever.
    fn guarded(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.rebalancing.store(false, Ordering::Release);
            self.persistent_error.set(Error::new(
                Kind::Panicked,
                "a panic while serving an event of librdkafka; this is a bug of Octopus",
            ));
        }
    }

    /// Ends the consumer: no more records are returned, acknowledgements are stale, and waiting
    /// calls return.
    fn end(&self) {
        self.batch.lock().clear();
        let uncommitted = self.positions.revoke_all();
        let mut commit_state = self.commit_state.lock();
        if uncommitted && !commit_state.has_failure() {
            commit_state.fail_permanently(Error::new(
                Kind::Kafka,
                format!("{}: the consumer ended before they were committed", self.commit_operation()),
            ));
        }
        commit_state.closed = true;
        drop(commit_state);
        self.changed.notify_all();
    }

    /// Processes one event of the consumer thread's queue.
    fn serve(&self, event: &QueueEvent, schedule: &mut CommitSchedule) {
        match event.kind() {
            rd::RD_KAFKA_EVENT_REBALANCE => self.rebalance(event),
            rd::RD_KAFKA_EVENT_OFFSET_COMMIT => self.process_commit_result(event, schedule),
            rd::RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT => self.handle_topic_id(event),
            _ => {
                let code = self.client.serve(event);
                if code == Some(RDKafkaErrorCode::AllBrokersDown) && self.unreachable_since.get().is_none() {
                    self.unreachable_since.set(Instant::now());
                }
                let reason = event.error_text();
                if code.is_some_and(errors::is_persistent) || code.is_some() && log_messages::is_join_refused(&reason) {
                    let error = errors::error(event.error(), &reason)
                        .context(format_args!("reading topic {:?} as group {:?}", self.topic, self.group));
                    self.persistent_error.set(error);
                    self.data.wake();
                }
            }
        }
    }

    /// Gives up the partitions if the host has requested it, and wakes the call that waits for it.
    fn unsubscribe_if_requested(&self, schedule: &mut CommitSchedule) {
        let commit_state = self.commit_state.lock();
        if !commit_state.unsubscribe_requested || commit_state.unsubscribed {
            return;
        }
        drop(commit_state);
        self.release_partitions(schedule);
        self.commit_state.lock().unsubscribed = true;
        self.changed.notify_all();
    }

    fn release_partitions(&self, schedule: &mut CommitSchedule) {
        let client = self.client.handle.as_ptr();
        if !self.targets.is_empty() {
            // `CommitState` has recorded a failure.
            let _ = self.while_readers_wait(|batch| self.revoke(&self.targets, false, batch));
            return;
        }
        // SAFETY: `self` keeps the client alive.
        let code = unsafe { rd::rd_kafka_unsubscribe(client) };
        if Code::from(code).is_error() {
            let error = errors::error(code, "").context(format_args!("leaving the group {:?}", self.group));
            self.commit_state.lock().fail_permanently(error);
        }
        // The revocation by the group commits what was acknowledged.
        let deadline = Deadline::after(LEAVE_TIMEOUT);
        while !self.positions.assigned().is_empty() && !deadline.has_passed() {
            if let Some(event) = self.events.poll(deadline.remaining(Duration::from_millis(100))) {
                self.serve(&event, schedule);
            }
        }
    }

    /// Commits while this consumer is still a member. During a rebalance the group rejects commits;
    /// librdkafka then revokes all partitions and joins again, and the partitions that are assigned
    /// again can be committed.
    fn commit_before_leaving(&self, schedule: &mut CommitSchedule) {
        let mut deadline = Deadline::after(LEAVE_COMMIT_TIMEOUT);
        let mut rejected_in = self.generation();
        // `CommitState` keeps a failure for the call that closes the consumer.
        while let Err(error) = self.commit_before_revocation(&self.positions.to_commit())
            && errors::is_rejected_in_rebalance(&error)
        {
            // A member that is joining again has no generation.
            while (self.generation() <= rejected_in || self.positions.to_commit().is_empty()) && !deadline.has_passed()
            {
                if self.generation() > rejected_in {
                    deadline = deadline.sooner(Deadline::after(ASSIGNMENT_TIMEOUT));
                }
                if let Some(event) = self.events.poll(deadline.remaining(REBALANCE_PAUSE)) {
                    self.serve(&event, schedule);
                }
            }
            if deadline.has_passed() {
                return;
            }
            rejected_in = self.generation();
        }
    }

    /// Leaves the group; the last revocation commits what was acknowledged. A consumer with target
    /// partitions commits here.
    fn leave(&self, schedule: &mut CommitSchedule) {
        if self.targets.is_empty() {
            self.commit_before_leaving(schedule);
        } else {
            // `CommitState` keeps a failure for the call that closes the consumer.
            let _ = self.commit_before_revocation(&self.positions.revoke(&self.targets));
        }
        // A group without a coordinator could block this for ever.
        let deadline = Deadline::after(LEAVE_TIMEOUT);
        let client = self.client.handle.as_ptr();
        // SAFETY: `self` keeps client and queue alive.
        let error = unsafe { rd::rd_kafka_consumer_close_queue(client, self.events.as_ptr()) };
        if !error.is_null() {
            // A client with a fatal error has left its group already.
            // SAFETY: this function owns the error.
            return unsafe { rd::rd_kafka_error_destroy(error) };
        }
        // SAFETY: `self` keeps the client alive.
        while unsafe { rd::rd_kafka_consumer_closed(client) } == 0 && !deadline.has_passed() {
            if let Some(event) = self.events.poll(deadline.remaining(Duration::from_millis(100))) {
                self.serve(&event, schedule);
            }
        }
    }
}
