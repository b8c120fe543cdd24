//! Row 31: members of a group that are stopped, continued, join and leave, with each of Kafka's
//! group protocols, while another topic is read under the same group name.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::brokers::Brokers;
use crate::journal::Entry;
use crate::oracle::{Evidence, Rules, judge};
use crate::run::{Result, Run, Tally, check};
use crate::scenario::{MAX_WAIT, Participants, Scenario};
use crate::worker::Command;

/// Longer than the session timeout, for the protocols in which the member sets it.
const STOPPED: Duration = Duration::from_secs(8);
/// Some heartbeat intervals, by which members learn of a rebalance.
const SETTLED: Duration = Duration::from_secs(4);
const MAX_MEMBERS: usize = 3;

#[derive(Clone, Copy)]
enum Protocol {
    Static,
    Cooperative,
    StaticCooperative,
    /// KIP-848, in which the broker sets the session timeout.
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

    /// The suffix of the other topic's scenario.
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
    let mut rng = run.rng();
    let participants =
        Participants { consumers: 0, max_data: 2_000, suffix: protocol.suffix(), ..Participants::default() };
    let mut scenario = Scenario::open(run, brokers, participants)?;
    let participants = Participants {
        producers: 1,
        consumers: 0,
        rate: 50,
        suffix: protocol.other_suffix(),
        ..Participants::default()
    };
    let mut other_topic = Scenario::open(run, brokers, participants)?;
    other_topic.add_consumer_of(&scenario.topic, 1000, false, protocol.properties(0))?;
    let started = Instant::now();
    let mut instances = 0;
    // The index and the instance number of each member.
    let mut members = Vec::new();
    let mut join = |scenario: &mut Scenario, members: &mut Vec<(usize, usize)>, instance: Option<usize>| {
        let instance = instance.unwrap_or_else(|| {
            instances += 1;
            instances
        });
        members.push((scenario.add_consumer(1000, false, protocol.properties(instance))?, instance));
        scenario.await_flow(MAX_WAIT)
    };
    join(&mut scenario, &mut members, None)?;
    join(&mut scenario, &mut members, None)?;
    for _ in 0..run.pick(3, 10) {
        let at = rng.usize(..members.len());
        match rng.u32(..4) {
            0 if members.len() < MAX_MEMBERS => drop(join(&mut scenario, &mut members, None)?),
            1 if members.len() > 1 => {
                let (index, instance) = members.swap_remove(at);
                // A member that was stopped may not know yet that the group has rebalanced without
                // it.
                scenario.await_settled_group(SETTLED, MAX_WAIT)?;
                leave(&mut scenario, index)?;
                run.report(format_args!("member {instance} left{}", protocol.suffix()));
                if rng.bool() {
                    join(&mut scenario, &mut members, Some(instance))?;
                }
            }
            _ => {
                let (index, instance) = members[at];
                run.report(format_args!("member {instance} stops{}", protocol.suffix()));
                let member = &mut scenario.consumers()[index];
                member.signal(libc::SIGSTOP)?;
                sleep(STOPPED);
                member.signal(libc::SIGCONT)?;
            }
        }
        scenario.await_flow(MAX_WAIT)?;
    }
    // A commit during a rebalance is rejected, and `close` would report that.
    scenario.await_settled_group(SETTLED, MAX_WAIT)?;
    for (index, _) in members {
        check_no_busy_loop(&mut scenario, index, started.elapsed())?;
    }
    other_topic.await_flow(MAX_WAIT)?;
    check_no_busy_loop(&mut other_topic, 0, started.elapsed())?;
    let mut events = 0;
    for scenario in [scenario, other_topic] {
        let evidence = scenario.end(brokers)?;
        events += judge(&evidence, &Rules::default())?;
        check_closed_without_error(&evidence)?;
    }
    Ok(Tally { events, notes: vec![format!("{instances} members{}", protocol.suffix())] })
}

/// Stops a member and waits for it: everything that it acknowledged is then committed.
fn leave(scenario: &mut Scenario, index: usize) -> Result<()> {
    let member = &mut scenario.consumers()[index];
    member.send(Command::Stop);
    member.await_end(MAX_WAIT)
}

fn check_no_busy_loop(scenario: &mut Scenario, index: usize, elapsed: Duration) -> Result<()> {
    let used = scenario.consumers()[index].processor_time()?;
    check(
        used < elapsed.mul_f64(0.6),
        format_args!("member {index} uses less than 60 % of a CPU, not {used:?} in {elapsed:?}"),
    )
}

/// Each member was closed when everything worked again, so earlier failures no longer matter.
fn check_closed_without_error(evidence: &Evidence) -> Result<()> {
    for (index, member) in evidence.consumers.iter().enumerate() {
        let outcome = member.entries.iter().find_map(|entry| match entry {
            Entry::Called { what, outcome, .. } if what == "close" => Some(outcome.as_str()),
            _ => None,
        });
        check(outcome == Some("Ok"), format_args!("member {index} closes without an error, not with {outcome:?}"))?;
    }
    Ok(())
}
