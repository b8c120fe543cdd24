//! The troubles that brokers and networks make, one after the other, each with its end.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use crate::brokers::Brokers;
use crate::proxy::{NetworkFault, Way};
use crate::run::{Result, eventually};
use crate::scene::{PATIENCE, Scene};

/// Which brokers a trouble is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Any,
    /// The one that leads the first partition.
    Leader,
    /// One that doesn't.
    Follower,
    Controller,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    /// Killed, and started again so much later.
    Crash(Whose, Duration),
    /// Stopped where it is, so long.
    Pause(Whose, Duration),
    /// All but one are stopped.
    TooFew(Duration),
    /// Connections are reset, so many one after the other.
    Resets(u32),
    /// All bytes are late, come one by one, or not at all.
    Network(NetworkFault, Duration),
}

/// One that may come in the middle of others, on several brokers, and that no push should fail of.
pub fn any(chance: &mut fastrand::Rng) -> Trouble {
    let whose = [Whose::Any, Whose::Leader, Whose::Follower, Whose::Controller][chance.usize(..4)];
    let seconds = Duration::from_millis(chance.u64(500..12_000));
    match chance.u32(..8) {
        0 | 1 => Trouble::Crash(whose, seconds),
        2 => Trouble::Pause(whose, seconds),
        3 => Trouble::TooFew(seconds),
        4 => Trouble::Resets(chance.u32(1..10)),
        5 => Trouble::Network(NetworkFault::Delay(Duration::from_millis(chance.u64(10..400))), seconds),
        6 => Trouble::Network(NetworkFault::Trickle, seconds.min(Duration::from_secs(4))),
        _ => Trouble::Network(NetworkFault::BlackHole, seconds),
    }
}

impl Trouble {
    /// Makes it, ends it, and waits until events flow again; how long that took once the brokers were well.
    pub fn make(self, scene: &mut Scene, brokers: &mut Brokers, chance: &mut fastrand::Rng) -> Result<Duration> {
        scene.run.say(format_args!("{self}"));
        match self {
            Trouble::Crash(whose, down) => {
                let broker = whose.pick(scene, brokers, chance)?;
                brokers.kill(broker)?;
                sleep(down);
                brokers.restart(broker)?;
            }
            Trouble::Pause(whose, how_long) => {
                let broker = whose.pick(scene, brokers, chance)?;
                brokers.stop(broker);
                sleep(how_long);
                brokers.go_on(broker);
            }
            Trouble::TooFew(how_long) => {
                let left = chance.usize(..brokers.count());
                let others = || (0..brokers.count()).filter(move |broker| *broker != left);
                let stopped: Vec<usize> = others().collect();
                stopped.iter().for_each(|broker| brokers.stop(*broker));
                sleep(how_long);
                stopped.iter().for_each(|broker| brokers.go_on(*broker));
            }
            Trouble::Resets(count) => (0..count).try_for_each(|_| reset_one(brokers, chance))?,
            Trouble::Network(fault, how_long) => {
                brokers.set(fault);
                sleep(how_long);
                brokers.set(NetworkFault::None);
            }
        }
        scene.await_flow(PATIENCE)
    }
}

impl Whose {
    fn pick(self, scene: &Scene, brokers: &Brokers, chance: &mut fastrand::Rng) -> Result<usize> {
        let count = brokers.count();
        match self {
            _ if count == 1 => Ok(0),
            Whose::Any => Ok(chance.usize(..count)),
            Whose::Leader => brokers.leader(&scene.topic, 0),
            Whose::Follower => Ok((brokers.leader(&scene.topic, 0)? + chance.usize(1..count)) % count),
            Whose::Controller => brokers.controller(),
        }
    }
}

/// Resets the next connection that so many bytes go through, in the middle of a request or of an answer.
fn reset_one(brokers: &Brokers, chance: &mut fastrand::Rng) -> Result<()> {
    let way = if chance.bool() { Way::Requests } else { Way::Answers };
    let done = brokers.faults_done();
    // Wherever they go: a broker that leads nothing has hardly any.
    brokers.set(NetworkFault::ResetAfter(way, chance.u64(..30_000)));
    eventually("a connection was reset", PATIENCE, || Ok((brokers.faults_done() > done).then_some(())))?;
    brokers.set(NetworkFault::None);
    Ok(())
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Crash(whose, down) => write!(f, "a crash of the broker ({whose:?}), back after {down:?}"),
            Trouble::Pause(whose, how_long) => write!(f, "a broker ({whose:?}) stands still for {how_long:?}"),
            Trouble::TooFew(how_long) => write!(f, "all brokers but one stand still for {how_long:?}"),
            Trouble::Resets(count) => write!(f, "{count} connections are reset"),
            Trouble::Network(fault, how_long) => write!(f, "the network: {fault:?} for {how_long:?}"),
        }
    }
}
