//! The thread that serves a producer: delivery reports in, futures settled, room given back; what is overdue is told, and what
//! nobody waits for any more is dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::Shared;
use crate::deadline::{Deadline, as_millis_rounded_up};
use crate::error::{Error, Kind, Result, Stored};
use crate::future::{Delivered, Hurry};
use crate::in_flight::{Overdue, Place, Report};
use crate::kafka::client::IDLE;
use crate::kafka::codes::Code;
use crate::kafka::errors;
use crate::kafka::native::{self, QueueEvent};
use crate::process_exit::{ExitFlush, Progress};

impl Hurry for Shared {
    fn hurry(&self, at_most: Duration) {
        if self.hurrying.swap(true, Ordering::AcqRel) {
            return;
        }
        // While a flush runs, librdkafka takes linger.ms as over. It returns early when nothing is in flight.
        // SAFETY: the client is alive.
        unsafe { rd::rd_kafka_flush(self.client.handle.as_ptr(), as_millis_rounded_up(at_most)) };
        self.hurrying.store(false, Ordering::Release);
    }

    fn unreached(&self, began: Option<Instant>) -> Option<Error> {
        let doing = format_args!("waiting for deliveries to topic {:?}", self.topic_name);
        // What is waited for is kept, and may still be delivered.
        self.client.unreached(began, doing).map(|error| error.stored(Stored::Perhaps))
    }
}

impl ExitFlush for Shared {
    fn name(&self) -> String {
        format!("{} of topic {:?}", self.client.name(), self.topic_name)
    }

    fn close(&self) {
        self.in_flight.end(Error::bare(Kind::Closed));
    }

    /// As the serving thread does, which may be in the callback of the host that exits.
    fn advance(&self) {
        const SLICE: Duration = Duration::from_millis(1);
        self.hurry(SLICE);
        let mut event = self.client.main.poll(SLICE);
        while event.is_some() {
            self.serve_guarded(event);
            event = self.client.main.poll(Duration::ZERO);
        }
    }

    fn progress(&self) -> Progress {
        self.in_flight.progress()
    }

    fn reason(&self) -> String {
        self.client.why_timed_out()
    }
}

impl Shared {
    pub(super) fn serve_until_closed(&self) {
        const FIRST_PAUSE: Duration = Duration::from_millis(1);
        const LONGEST_PAUSE: Duration = Duration::from_millis(64);
        let (mut pause, mut due) = (FIRST_PAUSE, Instant::now());
        while !(self.closing.load(Ordering::Acquire) && self.in_flight.all_told()) {
            let event = if self.in_flight.is_flushing() || self.closing.load(Ordering::Acquire) {
                // By the clock, not for each event: what librdkafka says of a flush would have us flush again.
                if Instant::now() >= due {
                    self.hurry(Duration::from_millis(1));
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    due = Instant::now() + pause;
                }
                self.client.main.poll(due.saturating_duration_since(Instant::now()))
            } else {
                (pause, due) = (FIRST_PAUSE, Instant::now());
                self.client
                    .main
                    .poll(self.overdue_after.map_or(IDLE, |limit| self.in_flight.until_overdue(limit).min(IDLE)))
            };
            self.guarded(|| {
                self.look_after_trouble();
                self.client.warn_unless_reached();
                self.give_up_on_overdue();
            });
            self.serve_guarded(event);
        }
        self.drop_overdue();
    }

    /// A panic in here, in a host's callback say, must not stop the reports.
    fn serve_guarded(&self, event: Option<QueueEvent>) {
        let Some(event) = event else { return };
        self.guarded(|| self.serve(&event));
    }

    fn guarded(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.fail("a panic while serving an event of librdkafka; this is a defect of Octopus");
        }
    }

    /// Fails what is in flight for longer than it may be. librdkafka keeps it: `overdue` says why.
    fn give_up_on_overdue(&self) {
        let Some(limit) = self.overdue_after else { return };
        let given_up = self
            .in_flight
            .overdue(limit)
            .into_iter()
            .map(|event| (event.place, Some(self.overdue_error(event, limit))));
        let given_up: Vec<_> = given_up.collect();
        if !given_up.is_empty() {
            self.in_flight.give_up(given_up);
        }
    }

    fn overdue_error(&self, event: Overdue, limit: Duration) -> Error {
        let code = Code::from(rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT);
        let reason = format!(
            "{}: no broker has confirmed it within delivery.timeout.ms ({}); it is kept, and may still be stored; {}",
            errors::describe(code),
            limit.as_millis(),
            self.client.why_timed_out()
        );
        let doing = delivering(event.events, event.bytes, event.partition, &self.topic_name);
        errors::error(code, &reason).stored(Stored::Perhaps).during(doing)
    }

    /// Everything was told: what librdkafka still has is nobody's any more.
    fn drop_overdue(&self) {
        const AT_MOST: Duration = Duration::from_secs(5);
        let deadline = Deadline::after(AT_MOST);
        let flags = rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT | rd::RD_KAFKA_PURGE_F_NON_BLOCKING;
        while !self.in_flight.is_empty() && !deadline.has_passed() {
            // SAFETY: the client is alive. It answers by delivery reports, which give back what the events hold.
            unsafe { rd::rd_kafka_purge(self.client.handle.as_ptr(), flags) };
            self.serve_guarded(self.client.main.poll(deadline.remaining(Duration::from_millis(100))));
        }
    }

    /// What is in flight when something comes between this client and the brokers stays there for its delivery time-out.
    /// But a client that has never been let in fails what it holds: nothing of that has left, and nothing is about to.
    fn look_after_trouble(&self) {
        if self.client.look_again() && self.client.kept_out_by().is_some() {
            let flags = rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_NON_BLOCKING;
            // SAFETY: the client is alive. It answers by delivery reports.
            unsafe { rd::rd_kafka_purge(self.client.handle.as_ptr(), flags) };
        }
    }

    fn serve(&self, event: &QueueEvent) {
        if event.kind() == rd::RD_KAFKA_EVENT_DR {
            self.settle(event);
        } else if self.client.serve(event).is_some()
            && let Some(fatal) = self.client.fatal()
        {
            self.in_flight.end(fatal);
        }
    }

    fn fail(&self, why: &str) {
        log::error!(logger: self.client.log(), target: self.client.name(), "{why}");
        self.in_flight.end(Error::new(Kind::Panicked, why.to_owned()));
    }

    /// Takes in a whole array of delivery reports, then tells of them at once.
    fn settle(&self, event: &QueueEvent) {
        const AT_ONCE: usize = 512;
        let mut messages = [std::ptr::null::<rd::rd_kafka_message_t>(); AT_ONCE];
        // SAFETY: the event is alive.
        let expected = unsafe { rd::rd_kafka_event_message_count(event.as_ptr()) };
        let mut reports = Vec::with_capacity(expected.min(AT_ONCE));
        // The reports of a batch come together. Where its first record is unknown, librdkafka counts on from -1.
        let mut is_placed = true;
        loop {
            // SAFETY: the event is alive and the array as long as said.
            let count = unsafe { rd::rd_kafka_event_message_array(event.as_ptr(), messages.as_mut_ptr(), AT_ONCE) };
            if count == 0 {
                return;
            }
            // SAFETY: the messages live as long as the event.
            for message in messages[..count].iter().filter_map(|message| unsafe { message.as_ref() }) {
                // SAFETY: a field of what is alive.
                is_placed &= message.offset >= 0 || unsafe { Code::read(&raw const message.err) }.is_error();
                let Some(place) = Place::from_opaque(message._private) else { continue };
                // A panic over one report must not leave the others' events waiting for ever.
                let result = catch_unwind(AssertUnwindSafe(|| self.result_of(message, is_placed)));
                let bytes = message.len as u64;
                reports.push(Report { place, bytes, result: result.unwrap_or_else(|_| Err(self.panicked())) });
            }
            if reports.iter().any(|report| report.result.is_ok()) {
                self.client.note_success();
            }
            self.in_flight.settle(&mut reports);
        }
    }

    fn panicked(&self) -> Error {
        self.fail("a panic while serving a delivery report; this is a defect of Octopus");
        let why = "a panic while serving the delivery report: whether the event is stored is unknown";
        Error::new(Kind::Panicked, why).stored(Stored::Perhaps)
    }

    fn result_of(&self, message: &rd::rd_kafka_message_t, is_placed: bool) -> Result<Delivered> {
        // SAFETY: a field of what is alive.
        let code = unsafe { Code::read(&raw const message.err) };
        if !code.is_error() {
            let offset = u64::try_from(message.offset).ok().filter(|_| is_placed);
            return Ok(Delivered { partition: message.partition as u32, offset });
        }
        // SAFETY: the message is alive.
        let stored = match unsafe { rd::rd_kafka_message_status(message) } {
            rd::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED if !errors::leaves_open(code) => Stored::No,
            _ => Stored::Perhaps,
        };
        // SAFETY: the message keeps its topic alive; the name is copied.
        let topic_name = unsafe { native::text(rd::rd_kafka_topic_name(message.rkt)) };
        let doing = delivering(1, message.len as u64, message.partition as u32, &topic_name);
        if matches!(code.into(), RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
            && let Some(why) = self.client.kept_out_by().or_else(|| self.client.ended_by())
        {
            return Err(why.stored(stored).during(doing));
        }
        if let Some(gone) = errors::gone(code) {
            return Err(gone.stored(stored).during(doing));
        }
        // SAFETY: the message is alive; the text is copied.
        let reason = unsafe { native::text(rd::rd_kafka_message_produce_errstr(message)) };
        let reason = match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::MessageTimedOut => self.client.why_timed_out(),
            _ => reason,
        };
        Err(errors::error(code, &reason).stored(stored).during(doing))
    }
}

fn delivering(events: u64, bytes: u64, partition: u32, topic: &str) -> String {
    let several = if events > 1 { format!("{events} events, together ") } else { String::new() };
    format!("delivering {several}{bytes} bytes to partition {partition} of topic {topic:?}")
}
