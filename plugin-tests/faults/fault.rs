//! Faults of brokers and of the network. Each is injected, lasts for its duration, and is ended.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use octopus_testkit::proxy::{Direction, NetworkFault};

use crate::brokers::Brokers;
use crate::run::{Result, eventually};
use crate::scenario::{MAX_WAIT, Scenario};

/// The broker that a fault affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Any,
    /// The leader of partition 0.
    Leader,
    /// A broker that does not lead partition 0.
    Follower,
    Controller,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// The broker is killed, and restarted after the duration.
    Crash(Target, Duration),
    /// The broker's process is stopped (SIGSTOP) for the duration.
    Pause(Target, Duration),
    /// All brokers but one are stopped for the duration.
    TooFew(Duration),
    /// This many connections are reset, one after the other.
    Resets(u32),
    /// All traffic is delayed, sent byte by byte, or dropped for the duration.
    Network(NetworkFault, Duration),
}

/// A random fault that no push may fail for, for a cluster of several brokers.
pub fn random(rng: &mut fastrand::Rng) -> Fault {
    let target = [Target::Any, Target::Leader, Target::Follower, Target::Controller][rng.usize(..4)];
    let seconds = Duration::from_millis(rng.u64(500..12_000));
    match rng.u32(..8) {
        0 | 1 => Fault::Crash(target, seconds),
        2 => Fault::Pause(target, seconds),
        3 => Fault::TooFew(seconds),
        4 => Fault::Resets(rng.u32(1..10)),
        5 => Fault::Network(NetworkFault::Delay(Duration::from_millis(rng.u64(10..400))), seconds),
        6 => Fault::Network(NetworkFault::Trickle, seconds.min(Duration::from_secs(4))),
        _ => Fault::Network(NetworkFault::BlackHole, seconds),
    }
}

impl Fault {
    /// Injects the fault, ends it, and waits until events flow again. Returns how long that took
    /// after the fault had ended.
    pub fn inject(self, scenario: &mut Scenario, brokers: &mut Brokers, rng: &mut fastrand::Rng) -> Result<Duration> {
        scenario.run.report(format_args!("{self}"));
        match self {
            Fault::Crash(target, down) => {
                let broker = target.pick(scenario, brokers, rng)?;
                brokers.kill(broker)?;
                sleep(down);
                brokers.restart(broker)?;
            }
            Fault::Pause(target, duration) => {
                let broker = target.pick(scenario, brokers, rng)?;
                brokers.pause(broker);
                sleep(duration);
                brokers.resume(broker);
            }
            Fault::TooFew(duration) => {
                let running = rng.usize(..brokers.count());
                let others = || (0..brokers.count()).filter(move |broker| *broker != running);
                let stopped: Vec<usize> = others().collect();
                stopped.iter().for_each(|broker| brokers.pause(*broker));
                sleep(duration);
                stopped.iter().for_each(|broker| brokers.resume(*broker));
            }
            Fault::Resets(count) => (0..count).try_for_each(|_| reset_one(brokers, rng))?,
            Fault::Network(fault, duration) => {
                brokers.set_network_fault(fault);
                sleep(duration);
                brokers.set_network_fault(NetworkFault::None);
            }
        }
        scenario.await_flow(MAX_WAIT)
    }
}

impl Target {
    fn pick(self, scenario: &Scenario, brokers: &Brokers, rng: &mut fastrand::Rng) -> Result<usize> {
        let count = brokers.count();
        match self {
            _ if count == 1 => Ok(0),
            Target::Any => Ok(rng.usize(..count)),
            Target::Leader => brokers.leader(&scenario.topic, 0),
            Target::Follower => Ok((brokers.leader(&scenario.topic, 0)? + rng.usize(1..count)) % count),
            Target::Controller => brokers.controller(),
        }
    }
}

/// Resets the next connection that has transferred a random number of bytes, in the middle of a
/// request or of a response.
fn reset_one(brokers: &Brokers, rng: &mut fastrand::Rng) -> Result<()> {
    let direction = if rng.bool() { Direction::Requests } else { Direction::Responses };
    let done = brokers.fault_count();
    // On all brokers, since one that leads no partition has hardly any traffic.
    brokers.set_network_fault(NetworkFault::ResetAfter(direction, rng.u64(..30_000)));
    eventually("a connection was reset", MAX_WAIT, || Ok((brokers.fault_count() > done).then_some(())))?;
    brokers.set_network_fault(NetworkFault::None);
    Ok(())
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crash(target, down) => write!(f, "a crash of the broker ({target:?}), restarted after {down:?}"),
            Fault::Pause(target, duration) => write!(f, "a broker ({target:?}) is stopped for {duration:?}"),
            Fault::TooFew(duration) => write!(f, "all brokers but one are stopped for {duration:?}"),
            Fault::Resets(count) => write!(f, "{count} connections are reset"),
            Fault::Network(fault, duration) => write!(f, "the network: {fault:?} for {duration:?}"),
        }
    }
}
