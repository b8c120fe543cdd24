//! Row 31: members of a group that stop, continue, join and leave, by each protocol of Kafka's for groups, while another topic is
//! read under the same group name.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::brokers::Brokers;
use crate::journal::Entry;
use crate::oracle::{Evidence, Rules, judge};
use crate::run::{Result, Run, Tally, check};
use crate::scene::{Cast, PATIENCE, Scene};
use crate::worker::Command;

/// Longer than the session of a member, where the member says how long that is.
const STOPPED: Duration = Duration::from_secs(8);
/// Some heartbeats, by which members hear of a rebalance.
const SETTLED: Duration = Duration::from_secs(4);
const MAX_MEMBERS: usize = 3;

#[derive(Clone, Copy)]
enum Protocol {
    Static,
    Cooperative,
    StaticCooperative,
    /// KIP-848, in which the broker says how long a session is.
    Consumer,
}

impl Protocol {
    const ALL: [Protocol; 4] =
        [Protocol::Static, Protocol::Cooperative, Protocol::Consumer, Protocol::StaticCooperative];

    fn suffix(self) -> &'static str {
        match self {
            Protocol::Static => "-static",
            Protocol::Cooperative => "-cooperative",
            Protocol::StaticCooperative => "-static-cooperative",
            Protocol::Consumer => "-consumer",
        }
    }

    /// Of the other topic.
    fn other_suffix(self) -> &'static str {
        match self {
            Protocol::Static => "-static-other",
            Protocol::Cooperative => "-cooperative-other",
            Protocol::StaticCooperative => "-static-cooperative-other",
            Protocol::Consumer => "-consumer-other",
        }
    }

    fn properties(self, instance: usize) -> Value {
        let instance = format!("member-{instance}");
        let mut properties = match self {
            Protocol::Consumer => return json!({"group.protocol": "consumer"}),
            Protocol::Static => json!({"group.instance.id": instance}),
            Protocol::Cooperative => json!({"partition.assignment.strategy": "cooperative-sticky"}),
            Protocol::StaticCooperative => {
                json!({"group.instance.id": instance, "partition.assignment.strategy": "cooperative-sticky"})
            }
        };
        properties["session.timeout.ms"] = 6000.into();
        properties["heartbeat.interval.ms"] = 1000.into();
        properties
    }
}

/// Row 31.
pub fn run(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let all = Protocol::ALL;
    let chosen = if run.full { all.to_vec() } else { vec![all[run.seed as usize % all.len()]] };
    let mut tally = Tally::default();
    for protocol in chosen {
        let of_protocol = members_come_and_go(run, brokers, protocol)?;
        tally.events += of_protocol.events;
        tally.notes.extend(of_protocol.notes);
    }
    Ok(tally)
}

fn members_come_and_go(run: &Run, brokers: &mut Brokers, protocol: Protocol) -> Result<Tally> {
    let mut chance = run.chance();
    let cast = Cast { consumers: 0, largest: 2_000, suffix: protocol.suffix(), ..Cast::default() };
    let mut scene = Scene::open(run, brokers, cast)?;
    let cast = Cast { producers: 1, consumers: 0, rate: 50, suffix: protocol.other_suffix(), ..Cast::default() };
    let mut other_topic = Scene::open(run, brokers, cast)?;
    other_topic.add_consumer_of(&scene.topic, 1000, false, protocol.properties(0))?;
    let started = Instant::now();
    let mut instances = 0;
    // The place and the instance of each.
    let mut members = Vec::new();
    let mut join = |scene: &mut Scene, members: &mut Vec<(usize, usize)>, instance: Option<usize>| {
        let instance = instance.unwrap_or_else(|| {
            instances += 1;
            instances
        });
        members.push((scene.add_consumer(1000, false, protocol.properties(instance))?, instance));
        scene.await_flow(PATIENCE)
    };
    join(&mut scene, &mut members, None)?;
    join(&mut scene, &mut members, None)?;
    for _ in 0..run.pick(3, 10) {
        let at = chance.usize(..members.len());
        match chance.u32(..4) {
            0 if members.len() < MAX_MEMBERS => drop(join(&mut scene, &mut members, None)?),
            1 if members.len() > 1 => {
                let (place, instance) = members.swap_remove(at);
                // A member that stood still may not know yet that the group has gone on without it.
                scene.await_settled_group(SETTLED, PATIENCE)?;
                leave(&mut scene, place)?;
                run.say(format_args!("member {instance} left{}", protocol.suffix()));
                if chance.bool() {
                    join(&mut scene, &mut members, Some(instance))?;
                }
            }
            _ => {
                let (place, instance) = members[at];
                run.say(format_args!("member {instance} stops{}", protocol.suffix()));
                let member = &mut scene.consumers()[place];
                member.signal(libc::SIGSTOP)?;
                sleep(STOPPED);
                member.signal(libc::SIGCONT)?;
            }
        }
        scene.await_flow(PATIENCE)?;
    }
    // A commit in the middle of a rebalance is refused, which `close` has to tell.
    scene.await_settled_group(SETTLED, PATIENCE)?;
    for (place, _) in members {
        no_busy_loop(&mut scene, place, started.elapsed())?;
    }
    other_topic.await_flow(PATIENCE)?;
    no_busy_loop(&mut other_topic, 0, started.elapsed())?;
    let mut events = 0;
    for scene in [scene, other_topic] {
        let evidence = scene.end(brokers)?;
        events += judge(&evidence, &Rules::default())?;
        closes_well(&evidence)?;
    }
    Ok(Tally { events, notes: vec![format!("{instances} members{}", protocol.suffix())] })
}

/// All that it has acknowledged is committed when it leaves.
fn leave(scene: &mut Scene, place: usize) -> Result<()> {
    let member = &mut scene.consumers()[place];
    member.tell(Command::Stop);
    member.await_end(PATIENCE)
}

fn no_busy_loop(scene: &mut Scene, place: usize, elapsed: Duration) -> Result<()> {
    let used = scene.consumers()[place].processor_time()?;
    check(
        used < elapsed.mul_f64(0.6),
        format_args!("member {place} uses the processor for what it has to do, not for {used:?} of {elapsed:?}"),
    )
}

/// Each member left when everything worked again: what failed before, while it stood still, is of no interest then.
fn closes_well(evidence: &Evidence) -> Result<()> {
    for (place, member) in evidence.consumers.iter().enumerate() {
        let said = member.entries.iter().find_map(|entry| match entry {
            Entry::Called { what, said, .. } if what == "close" => Some(said.as_str()),
            _ => None,
        });
        check(said == Some("Ok"), format_args!("member {place} closes without an error, not with {said:?}"))?;
    }
    Ok(())
}
