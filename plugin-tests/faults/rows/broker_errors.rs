//! Row 8: every error code that a broker can return while an event is produced: in the response to
//! a produce request, to the request for a producer id, and to the metadata request for the
//! leaders. The brokers are librdkafka's mock cluster.

mod environment;
mod expected;
mod scenarios;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use environment::Environment;
use expected::{ExpectedResult, expected_result};
use scenarios::Scenario;

use super::host::{lock, run_in_parallel};
use super::mock::{DISCONNECT, broker_error_codes};
use crate::run::{Result, Run, Tally, check};

/// Many, since the scenarios mostly wait.
const THREADS: usize = 12;

pub fn run(run: &Run) -> Result<Tally> {
    let known: Vec<i32> = broker_error_codes().chain([DISCONNECT]).collect();
    check(known.len() > 100, format_args!("librdkafka knows more than {} codes", known.len()))?;
    let mut scenarios = scenarios_of(run, &known);
    // The long scenarios first, so that no thread runs one alone at the end.
    run.rng().shuffle(&mut scenarios);
    scenarios.sort_by_key(|scenario| !scenario.is_long());
    run.report(format_args!("{} codes in {} scenarios", known.len(), scenarios.len()));

    let (events, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let work = |environment: &mut Environment, scenario: &Scenario| {
        run.log(format_args!("{scenario:?} begins"));
        match scenario.run(environment) {
            Ok(seen) => drop(events.fetch_add(seen, Ordering::Relaxed)),
            Err(why) => {
                run.report(format_args!("{scenario:?}: {why}"));
                lock(&failed).push(format!("{scenario:?}: {why}"));
                // The failed scenario may leave errors queued at the brokers, so the next one gets
                // new brokers.
                *environment = Environment::start()?;
            }
        }
        environment.callback_log.write_to(run);
        Ok(())
    };
    run_in_parallel(THREADS, &scenarios, |_| Environment::start(), work)?;
    let failed = lock(&failed);
    let of_all = format_args!("{} of {} scenarios failed:\n{}", failed.len(), scenarios.len(), failed.join("\n"));
    check(failed.is_empty(), of_all)?;
    let lasting = scenarios.iter().filter(|scenario| scenario.is_long()).count();
    Ok(Tally {
        events: events.into_inner(),
        notes: vec![format!(
            "{} codes, {} scenarios, {lasting} of them until events time out",
            known.len(),
            scenarios.len()
        )],
    })
}

/// In CI each code is returned once to a produce request; the other scenarios are a sample.
fn scenarios_of(run: &Run, known: &[i32]) -> Vec<Scenario> {
    let of = |scenario: fn(i32) -> Scenario, codes: &[i32]| codes.iter().copied().map(scenario).collect::<Vec<_>>();
    let mut rng = run.rng();
    let mut sample = |codes: &[i32], share: usize| {
        let mut codes = codes.to_vec();
        rng.shuffle(&mut codes);
        codes.truncate(run.pick(share, usize::MAX));
        codes
    };
    let retried: Vec<i32> =
        known.iter().copied().filter(|code| matches!(expected_result(*code), ExpectedResult::Retried)).collect();
    let by_kafka: Vec<i32> = known.iter().copied().filter(|code| *code != DISCONNECT).collect();
    let fatal: Vec<i32> =
        by_kafka.iter().copied().filter(|code| expected::producer_id_failure(*code).is_some()).collect();
    // Events after a gap are sent again, which closes it; a fatal error leaves no gap.
    let gaps: Vec<i32> = by_kafka.iter().copied().filter(|code| scenarios::leaves_a_gap(*code)).collect();
    [
        of(Scenario::ProduceOnce, known),
        of(Scenario::ProduceAlways, &sample(&retried, 6)),
        of(Scenario::ProduceGap, &sample(&gaps, 12)),
        of(Scenario::ProducerIdOnce, &fatal),
        of(Scenario::ProducerIdOnce, &sample(&by_kafka, 10)),
        of(Scenario::ProducerIdAlways, &sample(&by_kafka, 3)),
        of(Scenario::Metadata, &sample(&by_kafka, 12)),
        vec![Scenario::BrokersDown, Scenario::SlowBrokers],
    ]
    .concat()
}
