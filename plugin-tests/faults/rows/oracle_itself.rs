//! Row 0: checks that the oracle finds a corrupted run, since one that finds nothing would pass
//! every row.

use crate::brokers::Brokers;
use crate::oracle::{Rules, judge};
use crate::run::{Failure, Result, Run, Tally};
use crate::scenario::{Participants, Scenario};
use crate::worker::Corruption;

pub fn run(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let cases = [
        (None, "", "-clean"),
        (Some(Corruption::Lose), "lost: ", "-lost"),
        (Some(Corruption::Duplicate), "duplicated: ", "-duplicated"),
        (Some(Corruption::Reorder), "reordered: ", "-reordered"),
        (Some(Corruption::OmitResult), "unreported: ", "-unreported"),
    ];
    let mut events = 0;
    for (corruption, wanted, suffix) in cases {
        let mut scenario =
            Scenario::open(run, brokers, Participants { corruption, suffix, producers: 1, ..Participants::default() })?;
        scenario.await_number(110)?;
        match (corruption, judge(&scenario.end(brokers)?, &Rules::default())) {
            (None, clean) => events += clean?,
            (Some(_), Err(found)) if found.0.contains(wanted) => run.report(format_args!("found: {found}")),
            (Some(corruption), other) => {
                return Err(Failure(format!("{corruption:?} is reported as {wanted:?}, not as {other:?}")));
            }
        }
    }
    Ok(Tally { events, notes: Vec::new() })
}
