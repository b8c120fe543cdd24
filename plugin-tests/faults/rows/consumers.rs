//! Rows 11 to 13: consumers that die, acknowledge in any order, come and go.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::brokers::Brokers;
use crate::journal::Entry;
use crate::oracle::{Evidence, Rules, Work, judge};
use crate::run::{Result, Run, Tally, check};
use crate::scene::{Cast, PATIENCE, Scene};
use crate::worker::Command;

/// A member that dies is missed soon.
fn short_session() -> serde_json::Value {
    json!({"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000})
}

fn no_consumers() -> Cast {
    Cast { consumers: 0, largest: 5_000, ..Cast::default() }
}

/// Row 11.
pub fn killed(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut chance = run.chance();
    let mut scene = Scene::open(run, brokers, no_consumers())?;
    let kills = run.pick(2, 8);
    for kill in 0..kills {
        let place = scene.add_consumer(chance.u32(20..=1000), false, short_session())?;
        let mut left = chance.u32(1..300);
        let consumer = &mut scene.consumers()[place];
        // Some news at a time: the last of them is then a little old, at any moment of its work.
        while left > 0 {
            let acknowledged = consumer.await_entry("an event is acknowledged", PATIENCE, |entry| {
                matches!(entry, Entry::Acknowledged { .. }).then_some(())
            });
            acknowledged?;
            left = left.saturating_sub(20);
        }
        run.say(format_args!("killing consumer {kill}"));
        consumer.kill()?;
    }
    scene.add_consumer(1000, false, short_session())?;
    let evidence = scene.end(brokers)?;
    let events = judge(&evidence, &Rules::default())?;
    for (place, consumed) in evidence.consumers.iter().enumerate().skip(1) {
        starts_in_time(place, consumed, &evidence.consumers[..place])?;
    }
    Ok(Tally { events, notes: vec![format!("{kills} killed")] })
}

/// In each partition a consumer begins no later than behind what those before it have acknowledged.
fn starts_in_time(place: usize, consumed: &Work, before: &[Work]) -> Result<()> {
    let acknowledged = highest(before.iter().flat_map(|consumed| &consumed.entries), |entry| match entry {
        Entry::Acknowledging { partition, id, .. } => Some((*partition, *id)),
        _ => None,
    });
    let mut first = BTreeMap::new();
    for entry in &consumed.entries {
        if let Entry::Got { partition, id, .. } = entry {
            first.entry(*partition).or_insert(*id);
        }
    }
    first.into_iter().try_for_each(|(partition, first)| {
        let latest = acknowledged.get(&partition).map_or(0, |id| id + 1);
        check(
            first <= latest,
            format_args!("consumer {place} starts partition {partition} at {latest} or before, not at {first}"),
        )
    })
}

fn highest<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    of: impl Fn(&Entry) -> Option<(u32, u64)>,
) -> BTreeMap<u32, u64> {
    let mut highest = BTreeMap::new();
    for (partition, id) in entries.filter_map(of) {
        let so_far = highest.entry(partition).or_insert(id);
        *so_far = id.max(*so_far);
    }
    highest
}

/// Row 12. Members acknowledge in any order what they hold, also what they held when the partition was taken away.
pub fn out_of_order(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let cast = no_consumers();
    let most_members = cast.partitions as usize;
    let mut scene = Scene::open(run, brokers, cast)?;
    let group = scene.topic.clone();
    let mut lowest = BTreeMap::new();
    for _ in 0..run.pick(3, 12) {
        let newest = scene.add_consumer(0, true, json!({}))?;
        // One more would have no partition.
        if let Some(oldest) = newest.checked_sub(most_members) {
            scene.consumers()[oldest].tell(Command::Stop);
        }
        scene.await_flow(PATIENCE)?;
        sleep(Duration::from_millis(1_500));
        never_goes_back(&mut lowest, brokers.committed(&group, &scene.topic)?)?;
    }
    let evidence = scene.end(brokers)?;
    let mut events = judge(&evidence, &Rules { acknowledged_comes_again: false, ..Rules::default() })?;
    events += evidence.consumers.iter().map(|consumed| consumed.entries.len() as u64).sum::<u64>();
    let committed = brokers.committed(&group, &group)?;
    never_goes_back(&mut lowest, committed.clone())?;
    stands_at_the_highest(&evidence, &committed)?;
    let stale = evidence.seen().filter(|entry| matches!(entry, Entry::Stale { .. })).count();
    check(stale > 0, "some events were acknowledged after their partition was taken away")?;
    Ok(Tally { events, notes: vec![format!("{stale} stale")] })
}

/// Behind the highest acknowledgement that was taken; or, if the partition came back to the same member before anybody else had
/// it, one that came in between, which was told to be stale.
fn stands_at_the_highest(evidence: &Evidence, committed: &BTreeMap<u32, u64>) -> Result<()> {
    let taken = |entry: &Entry| match entry {
        Entry::Acknowledged { partition, id, .. } => Some((*partition, *id)),
        _ => None,
    };
    let taken_or_stale = |entry: &Entry| match entry {
        Entry::Stale { partition, id } => Some((*partition, *id)),
        other => taken(other),
    };
    let (least, most) = (highest(evidence.seen(), taken), highest(evidence.seen(), taken_or_stale));
    for (partition, least) in &least {
        let (stands, least, most) = (committed.get(partition).copied().unwrap_or(0), least + 1, most[partition] + 1);
        check(
            (least..=most).contains(&stands),
            format_args!("the group stands at {least} to {most} in partition {partition}, not at {stands}"),
        )?;
    }
    Ok(())
}

fn never_goes_back(lowest: &mut BTreeMap<u32, u64>, committed: BTreeMap<u32, u64>) -> Result<()> {
    for (partition, before) in lowest.iter() {
        let now = committed.get(partition).copied().unwrap_or(0);
        check(
            now >= *before,
            format_args!("the group stands at {before} or later in partition {partition}, not at {now}"),
        )?;
    }
    *lowest = committed;
    Ok(())
}

/// Row 13.
pub fn rebalances(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let how_long = run.pick(Duration::from_secs(14), Duration::from_mins(3));
    let mut chance = run.chance();
    let mut scene = Scene::open(run, brokers, Cast { partitions: 6, ..no_consumers() })?;
    let mut members = vec![scene.add_consumer(1000, false, json!({}))?];
    scene.await_flow(PATIENCE)?;
    let (started, mut changes) = (Instant::now(), 0);
    while started.elapsed() < how_long {
        sleep(Duration::from_secs(2));
        changes += 1;
        if members.len() < 2 || (members.len() < 5 && chance.bool()) {
            members.push(scene.add_consumer(chance.u32(500..=1000), chance.u32(..4) == 0, json!({}))?);
        } else {
            let leaving = members.swap_remove(chance.usize(..members.len()));
            scene.consumers()[leaving].tell(Command::Stop);
        }
    }
    let evidence = scene.end(brokers)?;
    let events = judge(&evidence, &Rules { acknowledged_comes_again: false, ..Rules::default() })?;
    let (seen, again) =
        (evidence.seen().filter(|entry| matches!(entry, Entry::Got { .. })).count(), evidence.log.len());
    let again = seen.saturating_sub(again);
    Ok(Tally {
        events: events + seen as u64,
        notes: vec![format!("{changes} joined or left, {again} events came again")],
    })
}
