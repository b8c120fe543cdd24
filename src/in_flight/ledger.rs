//! The entries of events in flight. An entry's number is what librdkafka brings back with the event's report: nothing is
//! allocated for an event, and nothing searched.
//!
//! Events that nobody waits for, that go to one partition and came with one tick of the clock, are one entry together: there is
//! nothing to tell them apart by. A hundred thousand entries don't fit in a processor's cache, and each was waited for twice.
//!
//! What librdkafka has stands in line by its age. Entries leave the line from wherever they are, so that those that one partition
//! holds up keep nothing of the others.

use std::ffi::c_void;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::deadline::Moment;
use crate::future::Future;

/// An event's place among those in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(NonZeroU32);

impl Place {
    /// More events can't be in flight.
    pub(super) const MOST: u64 = u32::MAX as u64 - 1;

    /// As librdkafka carries it: in the lower half.
    #[inline]
    pub fn to_opaque(self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.0.get() as usize)
    }

    #[inline]
    pub fn from_opaque(opaque: *mut c_void) -> Option<Self> {
        NonZeroU32::new(opaque.addr() as u32).map(Place)
    }

    /// The last place of so many.
    fn last_of(count: usize) -> Self {
        Place(u32::try_from(count).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// One event, or several that are alike.
pub struct Entry {
    pub epoch: u64,
    /// Those that there was no report of yet, and what they have together.
    pub events: u64,
    pub bytes: u64,
    /// Settled with the event's result, if the host wants it.
    pub future: Option<Arc<Future>>,
    pub partition: u32,
    /// Since when it is in line.
    pub since: Moment,
    /// Whether the result was told before the report: only its room is still taken.
    pub is_reported: bool,
    stage: Stage,
    older: Option<Place>,
    /// Of an entry that is free, the next one that is.
    newer: Option<Place>,
}

/// What is still wanted of an event that left.
pub struct Removed {
    pub epoch: u64,
    pub bytes: u64,
    pub future: Option<Arc<Future>>,
    pub is_reported: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Free,
    Apart,
    InLine,
}

#[derive(Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    free: Option<Place>,
    oldest: Option<Place>,
    newest: Option<Place>,
    /// By partition, the entry that the next event may join.
    open: Vec<Option<Place>>,
}

impl Ledger {
    /// An event that nobody waits for, of which librdkafka is about to get the record.
    pub fn join(&mut self, epoch: u64, bytes: u64, partition: u32, now: Moment) -> Place {
        let index = partition as usize;
        if self.open.len() <= index {
            self.open.resize(index + 1, None);
        }
        if let Some(place) = self.open[index]
            && let Some(entry) = self.get_mut(place)
            && (entry.epoch, entry.since, entry.stage) == (epoch, now, Stage::InLine)
        {
            entry.events += 1;
            entry.bytes += bytes;
            return place;
        }
        let place = self.insert(epoch, bytes, None);
        self.line_up(place, partition, now);
        self.open[index] = Some(place);
        place
    }

    /// An event that is told apart.
    pub fn insert(&mut self, epoch: u64, bytes: u64, future: Option<Arc<Future>>) -> Place {
        let entry = Entry {
            epoch,
            events: 1,
            bytes,
            future,
            partition: 0,
            since: Moment::default(),
            is_reported: false,
            stage: Stage::Apart,
            older: None,
            newer: None,
        };
        match self.free.and_then(|place| Some((place, self.entries.get_mut(place.index())?))) {
            Some((place, slot)) => {
                self.free = slot.newer;
                *slot = entry;
                place
            }
            None => {
                self.entries.push(entry);
                Place::last_of(self.entries.len())
            }
        }
    }

    pub fn get_mut(&mut self, place: Place) -> Option<&mut Entry> {
        self.entries.get_mut(place.index()).filter(|entry| entry.stage != Stage::Free)
    }

    /// librdkafka is about to get the event.
    pub fn line_up(&mut self, place: Place, partition: u32, now: Moment) {
        let newest = self.newest;
        let Some(entry) = self.get_mut(place).filter(|entry| entry.stage == Stage::Apart) else { return };
        entry.partition = partition;
        entry.since = now;
        entry.stage = Stage::InLine;
        entry.older = newest;
        entry.newer = None;
        *self.newer_than(newest) = Some(place);
        self.newest = Some(place);
    }

    pub fn leave_line(&mut self, place: Place) {
        let Some(entry) = self.get_mut(place).filter(|entry| entry.stage == Stage::InLine) else { return };
        entry.stage = Stage::Apart;
        let (older, newer) = (entry.older.take(), entry.newer.take());
        *self.newer_than(older) = newer;
        *self.older_than(newer) = older;
    }

    /// The one that has been in line for the longest.
    pub fn oldest(&mut self) -> Option<(Place, &mut Entry)> {
        let place = self.oldest?;
        Some((place, self.get_mut(place)?))
    }

    /// An event of so many bytes leaves, the last one with its place.
    pub fn remove(&mut self, place: Place, bytes: u64) -> Option<Removed> {
        let entry = self.get_mut(place)?;
        if entry.events > 1 {
            entry.events -= 1;
            entry.bytes = entry.bytes.saturating_sub(bytes);
            return Some(Removed { epoch: entry.epoch, bytes, future: None, is_reported: entry.is_reported });
        }
        self.leave_line(place);
        let next_free = self.free;
        let entry = self.get_mut(place)?;
        let partition = entry.partition as usize;
        entry.stage = Stage::Free;
        entry.newer = next_free;
        let removed = Removed {
            epoch: entry.epoch,
            bytes: entry.bytes,
            future: entry.future.take(),
            is_reported: entry.is_reported,
        };
        self.free = Some(place);
        if let Some(open) = self.open.get_mut(partition).filter(|open| **open == Some(place)) {
            *open = None;
        }
        Some(removed)
    }

    /// The link to what is behind `place`; behind nothing stands the oldest.
    fn newer_than(&mut self, place: Option<Place>) -> &mut Option<Place> {
        match place.and_then(|place| self.entries.get_mut(place.index())) {
            Some(entry) => &mut entry.newer,
            None => &mut self.oldest,
        }
    }

    fn older_than(&mut self, place: Option<Place>) -> &mut Option<Place> {
        match place.and_then(|place| self.entries.get_mut(place.index())) {
            Some(entry) => &mut entry.older,
            None => &mut self.newest,
        }
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_line(ledger: &mut Ledger) -> Place {
        let place = ledger.insert(0, 1, None);
        ledger.line_up(place, 0, Moment::default());
        place
    }

    /// From the oldest to the newest, and the same backwards.
    fn line(ledger: &Ledger) -> Vec<Place> {
        let entry = |place: Place| &ledger.entries[place.index()];
        let walk = |from, next: fn(&Entry) -> Option<Place>| -> Vec<Place> {
            std::iter::successors(from, |place| next(entry(*place))).collect()
        };
        let forwards = walk(ledger.oldest, |entry| entry.newer);
        let mut backwards = walk(ledger.newest, |entry| entry.older);
        backwards.reverse();
        assert_eq!(forwards, backwards);
        forwards
    }

    #[test]
    fn events_leave_the_line_from_wherever_they_are() {
        let mut ledger = Ledger::default();
        let [a, b, c, d] = [(); 4].map(|()| in_line(&mut ledger));
        assert_eq!(line(&ledger), [a, b, c, d]);
        assert!(ledger.remove(b, 1).is_some());
        assert_eq!(line(&ledger), [a, c, d]);
        assert!(ledger.remove(a, 1).is_some() && ledger.remove(d, 1).is_some());
        assert_eq!(line(&ledger), [c]);
        ledger.leave_line(c);
        ledger.leave_line(c);
        assert_eq!(line(&ledger), []);
        assert!(ledger.remove(c, 1).is_some());
        assert!(ledger.remove(c, 1).is_none(), "a report comes once");
    }

    #[test]
    fn events_that_nobody_waits_for_share_an_entry_with_those_of_their_partition_tick_and_epoch() {
        let mut ledger = Ledger::default();
        let (now, later) = (Moment::default(), Moment::of_millis(4));
        let mut join = |epoch, partition, now| ledger.join(epoch, 10, partition, now);
        let first = join(0, 0, now);
        assert_eq!(join(0, 0, now), first);
        let others = [join(0, 1, now), join(1, 0, now), join(1, 0, later)];
        assert_eq!(join(0, 1, now), others[0], "though another partition's came between");
        assert_eq!(line(&ledger), [&[first][..], &others].concat());

        let entry = ledger.get_mut(first).unwrap();
        assert_eq!((entry.events, entry.bytes), (2, 20));
        assert!(ledger.remove(first, 10).is_some() && ledger.get_mut(first).is_some(), "one is left");
        assert!(ledger.remove(first, 10).is_some() && ledger.remove(first, 10).is_none());
        ledger.leave_line(others[2]);
        assert_ne!(ledger.join(1, 10, 0, later), others[2], "what was told is not joined");
        let alone = ledger.insert(1, 10, None);
        ledger.line_up(alone, 0, later);
        assert_eq!(ledger.get_mut(alone).unwrap().events, 1);
    }

    #[test]
    fn places_are_used_again_and_say_the_same_to_librdkafka() {
        let mut ledger = Ledger::default();
        let [a, b] = [(); 2].map(|()| in_line(&mut ledger));
        for place in [a, b] {
            assert_eq!(Place::from_opaque(place.to_opaque()), Some(place));
        }
        assert_eq!(Place::from_opaque(std::ptr::null_mut()), None);
        ledger.remove(a, 1);
        ledger.remove(b, 1);
        let again = [(); 2].map(|()| in_line(&mut ledger));
        assert_eq!((ledger.capacity(), again), (2, [b, a]));
        assert_eq!(line(&ledger), again);
    }

    #[test]
    fn any_order_of_coming_and_going_keeps_the_line_by_age() {
        let mut random = 7u64;
        let (mut ledger, mut known) = (Ledger::default(), Vec::new());
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = (random >> 33) as usize;
            if known.is_empty() || chance % 100 < 50 {
                known.push(in_line(&mut ledger));
            } else {
                ledger.remove(known.remove(chance % known.len()), 1);
            }
            if chance.is_multiple_of(97) {
                assert_eq!(line(&ledger), known);
            }
        }
        assert_eq!(line(&ledger), known);
    }
}
