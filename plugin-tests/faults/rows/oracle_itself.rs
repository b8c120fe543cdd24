//! Row 0: an oracle that never finds anything would pass everything.

use crate::brokers::Brokers;
use crate::oracle::{Rules, judge};
use crate::run::{Failure, Result, Run, Tally};
use crate::scene::{Cast, Scene};
use crate::worker::Spoil;

pub fn run(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let wrongs = [
        (None, "", "-clean"),
        (Some(Spoil::Lose), "lost: ", "-lost"),
        (Some(Spoil::Double), "doubled: ", "-doubled"),
        (Some(Spoil::Swap), "swapped: ", "-swapped"),
        (Some(Spoil::Swallow), "swallowed: ", "-swallowed"),
    ];
    let mut events = 0;
    for (spoil, wanted, suffix) in wrongs {
        let mut scene = Scene::open(run, brokers, Cast { spoil, suffix, producers: 1, ..Cast::default() })?;
        scene.await_number(110)?;
        match (spoil, judge(&scene.end(brokers)?, &Rules::default())) {
            (None, clean) => events += clean?,
            (Some(_), Err(found)) if found.0.contains(wanted) => run.say(format_args!("found: {found}")),
            (Some(spoil), other) => return Err(Failure(format!("{spoil:?} is found as {wanted:?}, not as {other:?}"))),
        }
    }
    Ok(Tally { events, notes: Vec::new() })
}
