//! Events whose metadata is a number, for rows that check each event themselves.

use std::ops::Range;

use octopus_loader::{Event, NewEvent, Producer};

use crate::run::{OrFail as _, Result};
use crate::scenario::MAX_WAIT;

/// Pushes one event per number and waits until each is delivered.
pub fn push(producer: &Producer, numbers: Range<u64>) -> Result<()> {
    let pushed = numbers.map(|number| producer.push(&NewEvent::text(&number.to_string())).or_fail("pushing"));
    let pushes = pushed.collect::<Result<Vec<_>>>()?;
    pushes.iter().try_for_each(|push| push.wait(MAX_WAIT).map(drop).or_fail("waiting for a delivery"))
}

pub fn number_of(event: &Event) -> Result<u64> {
    let metadata = event.metadata().unwrap_or_default();
    metadata.parse().or_fail(format_args!("parsing the event's metadata {metadata:?} as a number"))
}
