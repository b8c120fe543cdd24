//! What is played: a code, when it is answered, and what must come of it.

use std::time::{Duration, Instant};

use octopus_loader::{Error, Persisted, Status};
use rdkafka::types::RDKafkaApiKey;

use super::super::host::within;
use super::super::mock::{ALL, HANGS_UP, words};
use super::expected::*;
use super::stage::{Actor, FIRST, Outcome, PATIENCE, SECOND, Stage};
use crate::run::{Failure, OrFail, Result, check, eventually};

/// Short, where events are meant to time out.
const SOON: Duration = Duration::from_millis(2_500);
/// Never meant to pass.
const LATE: Duration = Duration::from_mins(1);
const TIMED_OUT: i32 = -192;
/// More than a client asks until its events time out.
const MANY: usize = 2_000;

#[derive(Debug, Clone, Copy)]
pub enum Scene {
    /// The first of several events' requests is answered with the code, one time.
    Once(i32),
    /// So is each request until the events' time is over.
    Lasting(i32),
    /// So is the first of three under way; the two behind it are then out of order, as Kafka says of them.
    Gap(i32),
    /// So is a producer that asks for its id, one time.
    NoId(i32),
    /// As often as it asks.
    NeverAnId(i32),
    /// So is who asks for the leaders of the topic, some times.
    NoLeader(i32),
    /// The brokers go, and come back.
    Away,
    /// The brokers take their time.
    Slow,
}

/// Whether the events behind the one that is answered so have something missing in front of them.
pub fn leaves_a_gap(code: i32) -> bool {
    let forgotten = 59;
    match fate(code) {
        Fate::Refused(_) => code != TOPIC_AUTHORIZATION_FAILED,
        Fate::SentAgain => code != forgotten,
        Fate::Delivered | Fate::Fatal => false,
    }
}

impl Scene {
    pub fn is_long(self) -> bool {
        matches!(self, Scene::Lasting(_) | Scene::NeverAnId(_))
    }

    /// Gives the number of events whose fate was looked at.
    pub fn play(self, stage: &Stage) -> Result<u64> {
        match self {
            Scene::Once(code) => once(stage, code),
            Scene::Lasting(code) => lasting(stage, code),
            Scene::Gap(code) => gap(stage, code),
            Scene::NoId(code) => no_id(stage, code),
            Scene::NeverAnId(code) => never_an_id(stage, code),
            Scene::NoLeader(code) => no_leader(stage, code),
            Scene::Away => away(stage),
            Scene::Slow => slow(stage),
        }
    }
}

fn once(stage: &Stage, code: i32) -> Result<u64> {
    const EVENTS: usize = 5;
    let actor = stage.actor(LATE, &[])?;
    actor.warm_up()?;
    stage.mock.answer_by(FIRST, RDKafkaApiKey::Produce, &[code])?;
    let (hit, spared) = (actor.push_several(0, EVENTS)?, actor.push_several(1, EVENTS)?);
    let outcomes = actor.outcomes(&hit)?;
    actor.all_was_answered(RDKafkaApiKey::Produce)?;
    // On a busy machine the linger can be over before the last push; then only the first ones were in that request.
    let refused = outcomes.iter().take_while(|outcome| outcome.is_err()).count();
    let expect_refused = |stored| {
        check(refused > 0, format_args!("an event is refused, not {:?}", outcomes[0]))?;
        outcomes[..refused].iter().try_for_each(|outcome| is_refused(&actor, outcome, code, stored))?;
        actor.delivered(&hit[refused..], 0, 1)
    };
    match fate(code) {
        Fate::SentAgain => actor.delivered(&hit, 0, 1)?,
        Fate::Refused(stored) => expect_refused(stored)?,
        Fate::Delivered => {
            let unknown =
                outcomes.iter().take_while(|outcome| outcome.as_ref().is_ok_and(|at| at.id.is_none())).count();
            let all = format_args!("an event that was stored before is delivered, nobody knows where: {outcomes:?}");
            check(unknown > 0, all)?;
            actor.delivered(&hit[unknown..], 0, 1)?;
        }
        Fate::Fatal => {
            // What was queued behind it fails with the client, which is all of one request mostly.
            is_refused(&actor, &outcomes[0], code, Persisted::Possibly)?;
            for outcome in actor.outcomes(&spared)? {
                let says_why = outcome.as_ref().err().is_none_or(|error| error.kafka_code == Some(code));
                check(says_why, format_args!("an event that fails with its producer names {code}, not {outcome:?}"))?;
            }
            return has_ended(&actor, code).map(|()| 2 * EVENTS as u64 + 2);
        }
    }
    actor.delivered(&spared, 1, 1)?;
    if code != TOPIC_AUTHORIZATION_FAILED {
        actor.works_again(0)?;
    } else {
        is_allowed_again(&actor)?;
    }
    actor.concludes(refused, code)?;
    Ok(2 * EVENTS as u64 + 3)
}

/// It told of these events alone, with Kafka's code, and where they are.
fn is_refused(actor: &Actor<'_>, outcome: &Outcome, code: i32, persisted: Persisted) -> Result<()> {
    let error = match outcome {
        Err(error) => error,
        Ok(at) => {
            return Err(Failure::new(format_args!("an event is refused with code {code}, not delivered at {at:?}")));
        }
    };
    let is = (error.kafka_code, error.persisted, error.status, error.retriable);
    let retriable = match fate(code) {
        Fate::Fatal => false,
        _ => is_retriable(code),
    };
    let expected = (Some(code), persisted, status(code), retriable);
    check(
        is == expected,
        format_args!("an event fails with {expected:?} (code, stored, status, retriable), not {is:?}: {error}"),
    )?;
    names(error, &actor.name)?;
    names(error, &words(code)?)
}

fn names(error: &Error, what: &str) -> Result<()> {
    check(error.message.contains(what), format_args!("an error names {what:?}, not only: {error}"))
}

/// A topic that was forbidden is allowed again when the client hears so.
fn is_allowed_again(actor: &Actor<'_>) -> Result<()> {
    let began = Instant::now();
    eventually("what was forbidden once goes through again", PATIENCE, || {
        match actor.try_push(0).and_then(|push| push.wait(PATIENCE)) {
            Ok(_) => Ok(Some(())),
            Err(error) => {
                let is = error.kafka_code == Some(TOPIC_AUTHORIZATION_FAILED) && error.persisted == Persisted::No;
                check(is, format_args!("a topic that is forbidden says so after {:?}: {error:?}", began.elapsed()))?;
                Ok(None)
            }
        }
    })
}

/// The producer takes nothing more, says so at once, and can be ended.
fn has_ended(actor: &Actor<'_>, code: i32) -> Result<()> {
    eventually("the host is told of a fatal error", PATIENCE, || {
        Ok((!actor.stage.heard.ends_of(&actor.name).is_empty()).then_some(()))
    })?;
    for _ in 0..2 {
        let refused = within(Duration::ZERO, "a push after a fatal error", || actor.try_push(0))?;
        let is = refused.as_ref().err().map(|error| (error.status, error.kafka_code, error.retriable));
        let expected = Some((Status::Kafka, Some(code), false));
        check(is == expected, format_args!("a push after a fatal error is {expected:?}, not {refused:?}"))?;
    }
    let flush = within(PATIENCE, "a flush after a fatal error", || actor.producer.flush()?.wait(PATIENCE))?;
    let tells = format_args!("a flush after a fatal error tells of what failed: {flush:?}");
    check(flush.as_ref().is_err_and(|error| error.kafka_code == Some(code)), tells)?;
    within(PATIENCE, "closing after a fatal error", || actor.producer.close(PATIENCE))?.or_fail("closing")?;
    let told = actor.stage.heard.ends_of(&actor.name);
    check(told == [code], format_args!("the host is told once, of {code}: {told:?}"))
}

fn lasting(stage: &Stage, code: i32) -> Result<u64> {
    let actor = stage.actor(SOON, &[])?;
    actor.warm_up()?;
    stage.mock.answer(RDKafkaApiKey::Produce, &[code; MANY])?;
    let hit = actor.push_several(0, 4)?;
    let outcomes = actor.outcomes(&hit)?;
    stage.mock.answer_well(RDKafkaApiKey::Produce);
    outcomes.iter().try_for_each(|outcome| has_timed_out(&actor, outcome, code))?;
    actor.works_again(0)?;
    actor.concludes(hit.len(), TIMED_OUT)?;
    Ok(7)
}

fn has_timed_out(actor: &Actor<'_>, outcome: &Outcome, last: i32) -> Result<()> {
    let error = match outcome {
        Err(error) => error,
        Ok(at) => return Err(Failure::new(format_args!("an event that no broker takes times out, not: {at:?}"))),
    };
    let is = (error.kafka_code, error.persisted, error.retriable);
    let expected = (Some(TIMED_OUT), Persisted::Possibly, true);
    check(is == expected, format_args!("it fails with {expected:?} (code, stored, retriable), not {is:?}: {error}"))?;
    names(error, &actor.name)?;
    match last {
        HANGS_UP => names(error, "isconnected"),
        code => names(error, &words(code)?),
    }
}

fn gap(stage: &Stage, code: i32) -> Result<u64> {
    let actor = stage.actor(LATE, &[("batch.num.messages", "2"), ("debug", "eos")])?;
    actor.warm_up()?;
    // All three requests are under way before the first is answered.
    stage.mock.delay(FIRST, Duration::from_millis(400))?;
    let out_of_order = OUT_OF_ORDER_SEQUENCE;
    stage.mock.answer_by(FIRST, RDKafkaApiKey::Produce, &[code, out_of_order, out_of_order])?;
    let pushes = actor.push_several(0, 6)?;
    let outcomes = actor.outcomes(&pushes)?;
    stage.mock.delay(FIRST, Duration::ZERO)?;
    actor.all_was_answered(RDKafkaApiKey::Produce)?;
    let failed = match fate(code) {
        Fate::Refused(stored) => {
            outcomes[..2].iter().try_for_each(|outcome| is_refused(&actor, outcome, code, stored))?;
            2
        }
        _ => {
            // Under a new one, brokers would not know again what they have stored already in other partitions.
            check(!stage.heard.of(&actor.name, "bumped epoch"), "a producer that sends again keeps its epoch")?;
            0
        }
    };
    actor.delivered(&pushes[failed..], 0, 1)?;
    actor.works_again(0)?;
    actor.concludes(failed, code)?;
    Ok(9)
}

fn no_id(stage: &Stage, code: i32) -> Result<u64> {
    stage.mock.answer(RDKafkaApiKey::InitProducerId, &[code])?;
    let actor = stage.actor(LATE, &[])?;
    let pushes = [actor.push_several(0, 3)?, actor.push_several(1, 3)?];
    match ends_without_id(code) {
        None => {
            actor.delivered(&pushes[0], 0, 0)?;
            actor.delivered(&pushes[1], 1, 0)?;
            actor.concludes(0, 0)?;
        }
        Some(code) => {
            for outcome in actor.outcomes(&pushes.concat())? {
                let is = outcome.as_ref().err().map(|error| (error.kafka_code, error.persisted, error.retriable));
                let expected = Some((Some(code), Persisted::No, false));
                check(is == expected, format_args!("an event that never left is {expected:?}, not {outcome:?}"))?;
            }
            has_ended(&actor, code)?;
        }
    }
    Ok(6)
}

fn never_an_id(stage: &Stage, code: i32) -> Result<u64> {
    if ends_without_id(code).is_some() {
        return Ok(0); // played by `no_id`, since once is enough
    }
    stage.mock.answer(RDKafkaApiKey::InitProducerId, &[code; MANY])?;
    let actor = stage.actor(SOON, &[])?;
    let pushes = actor.push_several(0, 3)?;
    let outcomes = actor.outcomes(&pushes)?;
    stage.mock.answer_well(RDKafkaApiKey::InitProducerId);
    outcomes.iter().try_for_each(|outcome| has_timed_out(&actor, outcome, code))?;
    actor.works_again(0)?;
    actor.concludes(pushes.len(), TIMED_OUT)?;
    Ok(4)
}

fn no_leader(stage: &Stage, code: i32) -> Result<u64> {
    let actor = stage.actor(LATE, &[])?;
    // As the producer begins to ask.
    stage.mock.answer(RDKafkaApiKey::Metadata, &[code; 3])?;
    let pushed: Vec<_> = (0..4).map(|number| actor.try_push(number % 2)).collect();
    let mut failed = 0;
    for pushed in pushed {
        if let Err(error) = pushed.and_then(|push| push.wait(PATIENCE)) {
            let unknown_topic = -188;
            let is = [Some(code), Some(unknown_topic)].contains(&error.kafka_code) && error.persisted == Persisted::No;
            check(is, format_args!("an event without a leader is delivered or fails with {code}, not {error:?}"))?;
            failed += 1;
        }
    }
    stage.mock.answer_well(RDKafkaApiKey::Metadata);
    eventually("events go through once there are leaders", PATIENCE, || {
        Ok(actor.try_push(0).and_then(|push| push.wait(PATIENCE)).ok())
    })?;
    // A failure that was told at once is no flush's.
    let flush = actor.producer.flush().or_fail("flushing")?.wait(PATIENCE);
    check(failed > 0 || flush.is_ok(), format_args!("a flush tells of failures: {flush:?}"))?;
    actor.producer.close(PATIENCE).or_fail("closing")?;
    Ok(5)
}

fn away(stage: &Stage) -> Result<u64> {
    let actor = stage.actor(LATE, &[])?;
    actor.warm_up()?;
    stage.mock.down(ALL)?;
    let (first, second) = (actor.push_several(0, 20)?, actor.push_several(1, 20)?);
    let waited =
        within(Duration::from_millis(500), "waiting for an event", || first[0].wait(Duration::from_millis(500)))?;
    let not_yet = waited.as_ref().is_err_and(|error| error.status == Status::TimedOut);
    check(not_yet, format_args!("an event is not delivered while no broker is there: {waited:?}"))?;
    stage.mock.up(ALL)?;
    actor.delivered(&first, 0, 1)?;
    actor.delivered(&second, 1, 1)?;
    actor.concludes(0, 0)?;
    Ok(42)
}

fn slow(stage: &Stage) -> Result<u64> {
    let actor = stage.actor(LATE, &[])?;
    actor.warm_up()?;
    for (broker, late) in [(FIRST, 300), (SECOND, 900)] {
        stage.mock.delay(broker, Duration::from_millis(late))?;
    }
    let (first, second) = (actor.push_several(0, 20)?, actor.push_several(1, 20)?);
    actor.delivered(&first, 0, 1)?;
    actor.delivered(&second, 1, 1)?;
    stage.mock.delay(ALL, Duration::ZERO)?;
    actor.concludes(0, 0)?;
    Ok(42)
}
