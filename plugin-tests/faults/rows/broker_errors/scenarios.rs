//! The scenarios of row 8: which request fails with which code, and what the producer must do.

use std::time::{Duration, Instant};

use octopus_loader::{Error, Persisted, Status};
use rdkafka::types::RDKafkaApiKey;

use super::super::host::within;
use super::super::mock::{ALL, DISCONNECT, description};
use super::environment::{Environment, FIRST, MAX_WAIT, Outcome, Participant, SECOND};
use super::expected::*;
use crate::run::{Failure, OrFail, Result, check, eventually};

/// A delivery timeout for events that are meant to time out.
const SHORT_TIMEOUT: Duration = Duration::from_millis(2_500);
/// A delivery timeout that never expires.
const LONG_TIMEOUT: Duration = Duration::from_mins(1);
const TIMED_OUT: i32 = -192;
/// More errors than a client can receive until its events time out.
const MANY_ERRORS: usize = 2_000;

#[derive(Debug, Clone, Copy)]
pub enum Scenario {
    /// One produce request fails with the code.
    ProduceOnce(i32),
    /// Every produce request fails with the code until the events time out.
    ProduceAlways(i32),
    /// The first of three produce requests in flight fails with the code; Kafka then rejects the
    /// other two as out of order.
    ProduceGap(i32),
    /// One request for the producer id fails with the code.
    ProducerIdOnce(i32),
    /// Every request for the producer id fails with the code.
    ProducerIdAlways(i32),
    /// Three metadata requests fail with the code.
    Metadata(i32),
    /// The brokers go down and come back.
    BrokersDown,
    /// The brokers respond slowly.
    SlowBrokers,
}

/// Whether the failed batch leaves a gap in the sequence before the batches after it.
pub fn leaves_a_gap(code: i32) -> bool {
    let forgotten = 59;
    match expected_result(code) {
        ExpectedResult::Failed(_) => code != TOPIC_AUTHORIZATION_FAILED,
        ExpectedResult::Retried => code != forgotten,
        ExpectedResult::Delivered | ExpectedResult::Fatal => false,
    }
}

impl Scenario {
    pub fn is_long(self) -> bool {
        matches!(self, Scenario::ProduceAlways(_) | Scenario::ProducerIdAlways(_))
    }

    /// Returns the number of events whose result was checked.
    pub fn run(self, environment: &Environment) -> Result<u64> {
        match self {
            Scenario::ProduceOnce(code) => produce_once(environment, code),
            Scenario::ProduceAlways(code) => produce_always(environment, code),
            Scenario::ProduceGap(code) => produce_gap(environment, code),
            Scenario::ProducerIdOnce(code) => producer_id_once(environment, code),
            Scenario::ProducerIdAlways(code) => producer_id_always(environment, code),
            Scenario::Metadata(code) => metadata(environment, code),
            Scenario::BrokersDown => brokers_down(environment),
            Scenario::SlowBrokers => slow_brokers(environment),
        }
    }
}

fn produce_once(environment: &Environment, code: i32) -> Result<u64> {
    const EVENTS: usize = 5;
    let participant = environment.add_participant(LONG_TIMEOUT, &[])?;
    participant.warm_up()?;
    environment.mock.push_errors_to(FIRST, RDKafkaApiKey::Produce, &[code])?;
    let (hit, spared) = (participant.push_several(0, EVENTS)?, participant.push_several(1, EVENTS)?);
    let outcomes = participant.outcomes(&hit)?;
    participant.check_all_errors_sent(RDKafkaApiKey::Produce)?;
    // On a busy machine the linger may end before the last push; then the request had only the
    // first events.
    let failed = outcomes.iter().take_while(|outcome| outcome.is_err()).count();
    let check_failures = |stored| {
        check(failed > 0, format_args!("an event fails, not {:?}", outcomes[0]))?;
        outcomes[..failed].iter().try_for_each(|outcome| check_failed(&participant, outcome, code, stored))?;
        participant.check_delivered(&hit[failed..], 0, 1)
    };
    match expected_result(code) {
        ExpectedResult::Retried => participant.check_delivered(&hit, 0, 1)?,
        ExpectedResult::Failed(stored) => check_failures(stored)?,
        ExpectedResult::Delivered => {
            let unknown =
                outcomes.iter().take_while(|outcome| outcome.as_ref().is_ok_and(|at| at.id.is_none())).count();
            let all = format_args!("an event that was stored before is delivered, without an offset: {outcomes:?}");
            check(unknown > 0, all)?;
            participant.check_delivered(&hit[unknown..], 0, 1)?;
        }
        ExpectedResult::Fatal => {
            // Events that were queued behind the failed batch fail with the client; they are mostly
            // one request.
            check_failed(&participant, &outcomes[0], code, Persisted::Possibly)?;
            for outcome in participant.outcomes(&spared)? {
                let says_why = outcome.as_ref().err().is_none_or(|error| error.kafka_code == Some(code));
                check(says_why, format_args!("an event that fails with its producer names {code}, not {outcome:?}"))?;
            }
            return check_producer_ended(&participant, code).map(|()| 2 * EVENTS as u64 + 2);
        }
    }
    participant.check_delivered(&spared, 1, 1)?;
    if code != TOPIC_AUTHORIZATION_FAILED {
        participant.check_push_succeeds(0)?;
    } else {
        check_allowed_again(&participant)?;
    }
    participant.check_flush_and_close(failed, code)?;
    Ok(2 * EVENTS as u64 + 3)
}

/// Checks that the event failed with the code, as expected for it, and that the error names the
/// topic and Kafka's reason.
fn check_failed(participant: &Participant<'_>, outcome: &Outcome, code: i32, persisted: Persisted) -> Result<()> {
    let error = match outcome {
        Err(error) => error,
        Ok(at) => {
            return Err(Failure::new(format_args!("an event fails with code {code}, it was delivered at {at:?}")));
        }
    };
    let actual = (error.kafka_code, error.persisted, error.status, error.retriable);
    let retriable = match expected_result(code) {
        ExpectedResult::Fatal => false,
        _ => is_retriable(code),
    };
    let expected = (Some(code), persisted, status(code), retriable);
    check(
        actual == expected,
        format_args!("an event fails with {expected:?} (code, stored, status, retriable), not {actual:?}: {error}"),
    )?;
    check_message_contains(error, &participant.name)?;
    check_message_contains(error, &description(code)?)
}

fn check_message_contains(error: &Error, what: &str) -> Result<()> {
    check(error.message.contains(what), format_args!("an error names {what:?}, not only: {error}"))
}

/// A topic that was unauthorized can be used again once the client's metadata says so.
fn check_allowed_again(participant: &Participant<'_>) -> Result<()> {
    let began = Instant::now();
    eventually("pushes to the topic succeed again", MAX_WAIT, || {
        match participant.try_push(0).and_then(|push| push.wait(MAX_WAIT)) {
            Ok(_) => Ok(Some(())),
            Err(error) => {
                let is_expected =
                    error.kafka_code == Some(TOPIC_AUTHORIZATION_FAILED) && error.persisted == Persisted::No;
                check(
                    is_expected,
                    format_args!("an unauthorized topic is reported as such after {:?}: {error:?}", began.elapsed()),
                )?;
                Ok(None)
            }
        }
    })
}

/// Checks that the producer rejects further pushes at once and can be closed.
fn check_producer_ended(participant: &Participant<'_>, code: i32) -> Result<()> {
    eventually("the host's callback for fatal errors was called", MAX_WAIT, || {
        Ok((!participant.environment.callback_log.fatal_codes(&participant.name).is_empty()).then_some(()))
    })?;
    for _ in 0..2 {
        let failed = within(Duration::ZERO, "a push after a fatal error", || participant.try_push(0))?;
        let actual = failed.as_ref().err().map(|error| (error.status, error.kafka_code, error.retriable));
        let expected = Some((Status::Kafka, Some(code), false));
        check(actual == expected, format_args!("a push after a fatal error is {expected:?}, not {failed:?}"))?;
    }
    let flush = within(MAX_WAIT, "a flush after a fatal error", || participant.producer.flush()?.wait(MAX_WAIT))?;
    let expectation = format_args!("a flush after a fatal error reports the failures: {flush:?}");
    check(flush.as_ref().is_err_and(|error| error.kafka_code == Some(code)), expectation)?;
    within(MAX_WAIT, "closing after a fatal error", || participant.producer.close(MAX_WAIT))?.or_fail("closing")?;
    let reported = participant.environment.callback_log.fatal_codes(&participant.name);
    check(reported == [code], format_args!("the host's callback is called once, with {code}: {reported:?}"))
}

fn produce_always(environment: &Environment, code: i32) -> Result<u64> {
    let participant = environment.add_participant(SHORT_TIMEOUT, &[])?;
    participant.warm_up()?;
    environment.mock.push_errors(RDKafkaApiKey::Produce, &[code; MANY_ERRORS])?;
    let hit = participant.push_several(0, 4)?;
    let outcomes = participant.outcomes(&hit)?;
    environment.mock.clear_errors(RDKafkaApiKey::Produce);
    outcomes.iter().try_for_each(|outcome| check_timed_out(&participant, outcome, code))?;
    participant.check_push_succeeds(0)?;
    participant.check_flush_and_close(hit.len(), TIMED_OUT)?;
    Ok(7)
}

fn check_timed_out(participant: &Participant<'_>, outcome: &Outcome, last: i32) -> Result<()> {
    let error = match outcome {
        Err(error) => error,
        Ok(at) => {
            return Err(Failure::new(format_args!(
                "an event that no broker stores times out, it was delivered at {at:?}"
            )));
        }
    };
    let actual = (error.kafka_code, error.persisted, error.retriable);
    let expected = (Some(TIMED_OUT), Persisted::Possibly, true);
    check(
        actual == expected,
        format_args!("it fails with {expected:?} (code, stored, retriable), not {actual:?}: {error}"),
    )?;
    check_message_contains(error, &participant.name)?;
    match last {
        DISCONNECT => check_message_contains(error, "isconnected"),
        code => check_message_contains(error, &description(code)?),
    }
}

fn produce_gap(environment: &Environment, code: i32) -> Result<u64> {
    let participant = environment.add_participant(LONG_TIMEOUT, &[("batch.num.messages", "2"), ("debug", "eos")])?;
    participant.warm_up()?;
    // The delay has all three requests in flight before the first response.
    environment.mock.delay(FIRST, Duration::from_millis(400))?;
    let out_of_order = OUT_OF_ORDER_SEQUENCE;
    environment.mock.push_errors_to(FIRST, RDKafkaApiKey::Produce, &[code, out_of_order, out_of_order])?;
    let pushes = participant.push_several(0, 6)?;
    let outcomes = participant.outcomes(&pushes)?;
    environment.mock.delay(FIRST, Duration::ZERO)?;
    participant.check_all_errors_sent(RDKafkaApiKey::Produce)?;
    let failed = match expected_result(code) {
        ExpectedResult::Failed(stored) => {
            outcomes[..2].iter().try_for_each(|outcome| check_failed(&participant, outcome, code, stored))?;
            2
        }
        _ => {
            // Under a new epoch, brokers could not recognize batches that they have already stored
            // in other partitions.
            check(
                !environment.callback_log.has_line(&participant.name, "bumped epoch"),
                "a producer that retries keeps its epoch",
            )?;
            0
        }
    };
    participant.check_delivered(&pushes[failed..], 0, 1)?;
    participant.check_push_succeeds(0)?;
    participant.check_flush_and_close(failed, code)?;
    Ok(9)
}

fn producer_id_once(environment: &Environment, code: i32) -> Result<u64> {
    environment.mock.push_errors(RDKafkaApiKey::InitProducerId, &[code])?;
    let participant = environment.add_participant(LONG_TIMEOUT, &[])?;
    let pushes = [participant.push_several(0, 3)?, participant.push_several(1, 3)?];
    match producer_id_failure(code) {
        None => {
            participant.check_delivered(&pushes[0], 0, 0)?;
            participant.check_delivered(&pushes[1], 1, 0)?;
            participant.check_flush_and_close(0, 0)?;
        }
        Some(code) => {
            for outcome in participant.outcomes(&pushes.concat())? {
                let actual = outcome.as_ref().err().map(|error| (error.kafka_code, error.persisted, error.retriable));
                let expected = Some((Some(code), Persisted::No, false));
                check(
                    actual == expected,
                    format_args!("an event that was never sent fails with {expected:?}, not {outcome:?}"),
                )?;
            }
            check_producer_ended(&participant, code)?;
        }
    }
    Ok(6)
}

fn producer_id_always(environment: &Environment, code: i32) -> Result<u64> {
    if producer_id_failure(code).is_some() {
        return Ok(0); // `producer_id_once` covers it: the first error is fatal
    }
    environment.mock.push_errors(RDKafkaApiKey::InitProducerId, &[code; MANY_ERRORS])?;
    let participant = environment.add_participant(SHORT_TIMEOUT, &[])?;
    let pushes = participant.push_several(0, 3)?;
    let outcomes = participant.outcomes(&pushes)?;
    environment.mock.clear_errors(RDKafkaApiKey::InitProducerId);
    outcomes.iter().try_for_each(|outcome| check_timed_out(&participant, outcome, code))?;
    participant.check_push_succeeds(0)?;
    participant.check_flush_and_close(pushes.len(), TIMED_OUT)?;
    Ok(4)
}

fn metadata(environment: &Environment, code: i32) -> Result<u64> {
    let participant = environment.add_participant(LONG_TIMEOUT, &[])?;
    // The producer is about to request metadata.
    environment.mock.push_errors(RDKafkaApiKey::Metadata, &[code; 3])?;
    let pushed: Vec<_> = (0..4).map(|number| participant.try_push(number % 2)).collect();
    let mut failed = 0;
    for pushed in pushed {
        if let Err(error) = pushed.and_then(|push| push.wait(MAX_WAIT)) {
            let unknown_topic = -188;
            let is_expected =
                [Some(code), Some(unknown_topic)].contains(&error.kafka_code) && error.persisted == Persisted::No;
            check(
                is_expected,
                format_args!("an event without a leader is delivered or fails with {code}, not {error:?}"),
            )?;
            failed += 1;
        }
    }
    environment.mock.clear_errors(RDKafkaApiKey::Metadata);
    eventually("events are delivered once there are leaders", MAX_WAIT, || {
        Ok(participant.try_push(0).and_then(|push| push.wait(MAX_WAIT)).ok())
    })?;
    // A push that failed at once is not reported by a flush.
    let flush = participant.producer.flush().or_fail("flushing")?.wait(MAX_WAIT);
    check(failed > 0 || flush.is_ok(), format_args!("a flush reports failures of earlier pushes only: {flush:?}"))?;
    participant.producer.close(MAX_WAIT).or_fail("closing")?;
    Ok(5)
}

fn brokers_down(environment: &Environment) -> Result<u64> {
    let participant = environment.add_participant(LONG_TIMEOUT, &[])?;
    participant.warm_up()?;
    environment.mock.down(ALL)?;
    let (first, second) = (participant.push_several(0, 20)?, participant.push_several(1, 20)?);
    let waited =
        within(Duration::from_millis(500), "waiting for an event", || first[0].wait(Duration::from_millis(500)))?;
    let not_yet = waited.as_ref().is_err_and(|error| error.status == Status::TimedOut);
    check(not_yet, format_args!("an event is not delivered while no broker is up: {waited:?}"))?;
    environment.mock.up(ALL)?;
    participant.check_delivered(&first, 0, 1)?;
    participant.check_delivered(&second, 1, 1)?;
    participant.check_flush_and_close(0, 0)?;
    Ok(42)
}

fn slow_brokers(environment: &Environment) -> Result<u64> {
    let participant = environment.add_participant(LONG_TIMEOUT, &[])?;
    participant.warm_up()?;
    for (broker, late) in [(FIRST, 300), (SECOND, 900)] {
        environment.mock.delay(broker, Duration::from_millis(late))?;
    }
    let (first, second) = (participant.push_several(0, 20)?, participant.push_several(1, 20)?);
    participant.check_delivered(&first, 0, 1)?;
    participant.check_delivered(&second, 1, 1)?;
    environment.mock.delay(ALL, Duration::ZERO)?;
    participant.check_flush_and_close(0, 0)?;
    Ok(42)
}
