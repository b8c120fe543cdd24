//! Rows 11 to 13: consumers that are killed, acknowledge out of order, join and leave.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use octopus_testkit::tools::committed_offsets;
use serde_json::json;

use crate::brokers::Brokers;
use crate::journal::Entry;
use crate::oracle::{Evidence, Rules, WorkerJournal, judge};
use crate::run::{Result, Run, Tally, check};
use crate::scenario::{MAX_WAIT, Participants, Scenario};
use crate::worker::Command;

/// A short session timeout, so that the group soon notices a killed member.
fn short_session() -> serde_json::Value {
    json!({"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000})
}

fn no_consumers() -> Participants {
    Participants { consumers: 0, max_data: 5_000, ..Participants::default() }
}

/// Row 11: consumers are killed after a random number of acknowledgements.
pub fn killed(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut rng = run.rng();
    let mut scenario = Scenario::open(run, brokers, no_consumers())?;
    let kills = run.pick(2, 8);
    for kill in 0..kills {
        let index = scenario.add_consumer(rng.u32(20..=1000), false, short_session())?;
        let mut left = rng.u32(1..300);
        let consumer = &mut scenario.consumers()[index];
        // In steps of 20, so that the counted acknowledgements lag behind, and the kill comes at
        // any moment of the worker's loop.
        while left > 0 {
            let acknowledged = consumer.await_entry("an event is acknowledged", MAX_WAIT, |entry| {
                matches!(entry, Entry::Acknowledged { .. }).then_some(())
            });
            acknowledged?;
            left = left.saturating_sub(20);
        }
        run.report(format_args!("killing consumer {kill}"));
        consumer.kill()?;
    }
    scenario.add_consumer(1000, false, short_session())?;
    let evidence = scenario.end(brokers)?;
    let events = judge(&evidence, &Rules::default())?;
    for (index, journal) in evidence.consumers.iter().enumerate().skip(1) {
        check_start_offsets(index, journal, &evidence.consumers[..index])?;
    }
    Ok(Tally { events, notes: vec![format!("{kills} killed")] })
}

/// Checks that the consumer started each partition no later than after the last event that the
/// consumers before it acknowledged.
fn check_start_offsets(index: usize, journal: &WorkerJournal, before: &[WorkerJournal]) -> Result<()> {
    let acknowledged = max_offsets(before.iter().flat_map(|journal| &journal.entries), |entry| match entry {
        Entry::Acknowledging { partition, id, .. } => Some((*partition, *id)),
        _ => None,
    });
    let mut first = BTreeMap::new();
    for entry in &journal.entries {
        if let Entry::Received { partition, id, .. } = entry {
            first.entry(*partition).or_insert(*id);
        }
    }
    first.into_iter().try_for_each(|(partition, first)| {
        let latest = acknowledged.get(&partition).map_or(0, |id| id + 1);
        check(
            first <= latest,
            format_args!("consumer {index} starts partition {partition} at {latest} or before, not at {first}"),
        )
    })
}

fn max_offsets<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    of: impl Fn(&Entry) -> Option<(u32, u64)>,
) -> BTreeMap<u32, u64> {
    let mut max_offsets = BTreeMap::new();
    for (partition, id) in entries.filter_map(of) {
        let so_far = max_offsets.entry(partition).or_insert(id);
        *so_far = id.max(*so_far);
    }
    max_offsets
}

/// Row 12. Members acknowledge their events in random order, including events of partitions that
/// they have lost.
pub fn out_of_order(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let participants = no_consumers();
    let max_members = participants.partitions as usize;
    let mut scenario = Scenario::open(run, brokers, participants)?;
    let group = scenario.topic.clone();
    let mut previous = BTreeMap::new();
    for _ in 0..run.pick(3, 12) {
        let newest = scenario.add_consumer(0, true, json!({}))?;
        // A further member would have no partition.
        if let Some(oldest) = newest.checked_sub(max_members) {
            scenario.consumers()[oldest].send(Command::Stop);
        }
        scenario.await_flow(MAX_WAIT)?;
        sleep(Duration::from_millis(1_500));
        check_no_regression(&mut previous, committed_offsets(&brokers.bootstrap(), &group, &scenario.topic)?)?;
    }
    let evidence = scenario.end(brokers)?;
    let mut events = judge(&evidence, &Rules { may_redeliver_acknowledged: false, ..Rules::default() })?;
    events += evidence.consumers.iter().map(|journal| journal.entries.len() as u64).sum::<u64>();
    let committed = committed_offsets(&brokers.bootstrap(), &group, &group)?;
    check_no_regression(&mut previous, committed.clone())?;
    check_committed_offsets(&evidence, &committed)?;
    let stale = evidence.consumer_entries().filter(|entry| matches!(entry, Entry::Stale { .. })).count();
    check(stale > 0, "some events were acknowledged after their partition was revoked")?;
    Ok(Tally { events, notes: vec![format!("{stale} stale")] })
}

/// The group's committed offset follows the highest acknowledgement that was accepted. If a
/// partition returned to the same member before another one had it, an acknowledgement in between
/// may count although it was reported as stale.
fn check_committed_offsets(evidence: &Evidence, committed: &BTreeMap<u32, u64>) -> Result<()> {
    let acknowledged = |entry: &Entry| match entry {
        Entry::Acknowledged { partition, id, .. } => Some((*partition, *id)),
        _ => None,
    };
    let acknowledged_or_stale = |entry: &Entry| match entry {
        Entry::Stale { partition, id } => Some((*partition, *id)),
        other => acknowledged(other),
    };
    let (min, max) = (
        max_offsets(evidence.consumer_entries(), acknowledged),
        max_offsets(evidence.consumer_entries(), acknowledged_or_stale),
    );
    for (partition, min) in &min {
        let (offset, min, max) = (committed.get(partition).copied().unwrap_or(0), min + 1, max[partition] + 1);
        check(
            (min..=max).contains(&offset),
            format_args!("the group's committed offset of partition {partition} is {min} to {max}, not {offset}"),
        )?;
    }
    Ok(())
}

fn check_no_regression(previous: &mut BTreeMap<u32, u64>, committed: BTreeMap<u32, u64>) -> Result<()> {
    for (partition, before) in previous.iter() {
        let now = committed.get(partition).copied().unwrap_or(0);
        check(
            now >= *before,
            format_args!("the group's committed offset of partition {partition} is {before} or higher, not {now}"),
        )?;
    }
    *previous = committed;
    Ok(())
}

/// Row 13: members join and leave every 2 s.
pub fn rebalances(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let duration = run.pick(Duration::from_secs(14), Duration::from_mins(3));
    let mut rng = run.rng();
    let mut scenario = Scenario::open(run, brokers, Participants { partitions: 6, ..no_consumers() })?;
    let mut members = vec![scenario.add_consumer(1000, false, json!({}))?];
    scenario.await_flow(MAX_WAIT)?;
    let (started, mut changes) = (Instant::now(), 0);
    while started.elapsed() < duration {
        sleep(Duration::from_secs(2));
        changes += 1;
        if members.len() < 2 || (members.len() < 5 && rng.bool()) {
            members.push(scenario.add_consumer(rng.u32(500..=1000), rng.u32(..4) == 0, json!({}))?);
        } else {
            let leaving = members.swap_remove(rng.usize(..members.len()));
            scenario.consumers()[leaving].send(Command::Stop);
        }
    }
    let evidence = scenario.end(brokers)?;
    let events = judge(&evidence, &Rules { may_redeliver_acknowledged: false, ..Rules::default() })?;
    let (seen, again) = (
        evidence.consumer_entries().filter(|entry| matches!(entry, Entry::Received { .. })).count(),
        evidence.log.len(),
    );
    let again = seen.saturating_sub(again);
    Ok(Tally {
        events: events + seen as u64,
        notes: vec![format!("{changes} joined or left, {again} events redelivered")],
    })
}
