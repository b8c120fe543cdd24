//! The entries of the events in flight. A permit is the number of an entry. librdkafka carries it
//! as the opaque pointer of the record and returns it in the delivery report, so that an event
//! needs no allocation and its report no search.
//!
//! Events without a future, for one partition and of one tick of the clock share an entry, since
//! nothing has to distinguish them. 100,000 entries of their own don't fit in a processor's cache,
//! and each event would miss it twice: at the push and at the report.
//!
//! The age list is a doubly linked list of the entries that librdkafka has, oldest first. Entries
//! leave it from any position, so that a partition that is held up holds up no others.

use std::ffi::c_void;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::delivery::future::Future;
use crate::support::deadline::Moment;

/// The right of an event to be in flight: the number of its entry, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit(NonZeroU32);

impl Permit {
    /// The highest number of events in flight.
    pub(super) const MAX_COUNT: u64 = u32::MAX as u64 - 1;

    /// The permit in the lower 32 bits of an opaque pointer. The upper ones are the member's.
    #[inline]
    pub fn to_opaque(self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.0.get() as usize)
    }

    #[inline]
    pub fn from_opaque(opaque: *mut c_void) -> Option<Self> {
        NonZeroU32::new(opaque.addr() as u32).map(Permit)
    }

    /// The permit of the last of `count` entries.
    fn of_last_entry(count: usize) -> Self {
        Permit(u32::try_from(count).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// One event, or several that need no distinction.
pub struct Entry {
    pub epoch: u64,
    /// Events without a delivery report yet.
    pub events: u64,
    /// The bytes of these events together.
    pub bytes: u64,
    /// The future that reports the event's result, if the host wants one.
    pub future: Option<Arc<Future>>,
    pub partition: u32,
    /// When it was added to the age list.
    pub since: Moment,
    /// Whether the result was reported before the delivery report. The entry then only holds its
    /// permit.
    pub is_reported: bool,
    stage: Stage,
    older: Option<Permit>,
    /// The next newer entry of the age list; of a free entry, the next free one.
    newer: Option<Permit>,
}

/// What is left of an event whose permit is released.
pub struct Removed {
    pub epoch: u64,
    pub bytes: u64,
    pub future: Option<Arc<Future>>,
    /// When librdkafka got it.
    pub since: Moment,
    pub is_reported: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Free,
    /// In use, but not in the age list: before the event is sent, or after it was overdue.
    Unlisted,
    /// In the age list.
    Listed,
}

#[derive(Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    free: Option<Permit>,
    oldest: Option<Permit>,
    newest: Option<Permit>,
    /// By partition, the entry that the next event may share.
    open: Vec<Option<Permit>>,
}

impl Ledger {
    /// Adds an event without a future, whose record the caller sends next.
    pub fn join(&mut self, epoch: u64, bytes: u64, partition: u32, now: Moment) -> Permit {
        let index = partition as usize;
        if self.open.len() <= index {
            self.open.resize(index + 1, None);
        }
        if let Some(permit) = self.open[index]
            && let Some(entry) = self.get_mut(permit)
            && (entry.epoch, entry.since, entry.stage) == (epoch, now, Stage::Listed)
        {
            entry.events += 1;
            entry.bytes += bytes;
            return permit;
        }
        let permit = self.insert(epoch, bytes, None);
        self.list_by_age(permit, partition, now);
        self.open[index] = Some(permit);
        permit
    }

    /// Adds an event with an entry to itself.
    pub fn insert(&mut self, epoch: u64, bytes: u64, future: Option<Arc<Future>>) -> Permit {
        let entry = Entry {
            epoch,
            events: 1,
            bytes,
            future,
            partition: 0,
            since: Moment::default(),
            is_reported: false,
            stage: Stage::Unlisted,
            older: None,
            newer: None,
        };
        match self.free.and_then(|permit| Some((permit, self.entries.get_mut(permit.index())?))) {
            Some((permit, slot)) => {
                self.free = slot.newer;
                *slot = entry;
                permit
            }
            None => {
                self.entries.push(entry);
                Permit::of_last_entry(self.entries.len())
            }
        }
    }

    pub fn get_mut(&mut self, permit: Permit) -> Option<&mut Entry> {
        self.entries.get_mut(permit.index()).filter(|entry| entry.stage != Stage::Free)
    }

    /// Adds an entry to the age list as the newest. The caller sends the event's record next.
    pub fn list_by_age(&mut self, permit: Permit, partition: u32, now: Moment) {
        let newest = self.newest;
        let Some(entry) = self.get_mut(permit).filter(|entry| entry.stage == Stage::Unlisted) else { return };
        entry.partition = partition;
        entry.since = now;
        entry.stage = Stage::Listed;
        entry.older = newest;
        entry.newer = None;
        *self.newer_link_of(newest) = Some(permit);
        self.newest = Some(permit);
    }

    /// Removes an entry from the age list. It keeps its permit.
    pub fn unlist(&mut self, permit: Permit) {
        let Some(entry) = self.get_mut(permit).filter(|entry| entry.stage == Stage::Listed) else { return };
        entry.stage = Stage::Unlisted;
        let (older, newer) = (entry.older.take(), entry.newer.take());
        *self.newer_link_of(older) = newer;
        *self.older_link_of(newer) = older;
    }

    /// The oldest entry of the age list.
    pub fn oldest(&mut self) -> Option<(Permit, &mut Entry)> {
        let permit = self.oldest?;
        Some((permit, self.get_mut(permit)?))
    }

    /// Removes one event of `bytes` bytes from its entry. The last event frees the entry.
    pub fn remove(&mut self, permit: Permit, bytes: u64) -> Option<Removed> {
        let entry = self.get_mut(permit)?;
        if entry.events > 1 {
            entry.events -= 1;
            debug_assert!(entry.bytes >= bytes, "a shared entry has the bytes of each of its events");
            entry.bytes = entry.bytes.saturating_sub(bytes);
            let Entry { epoch, since, is_reported, .. } = *entry;
            return Some(Removed { epoch, bytes, future: None, since, is_reported });
        }
        self.unlist(permit);
        let next_free = self.free;
        let entry = self.get_mut(permit)?;
        let partition = entry.partition as usize;
        entry.stage = Stage::Free;
        entry.newer = next_free;
        let removed = Removed {
            epoch: entry.epoch,
            bytes: entry.bytes,
            future: entry.future.take(),
            since: entry.since,
            is_reported: entry.is_reported,
        };
        self.free = Some(permit);
        if let Some(open) = self.open.get_mut(partition).filter(|open| **open == Some(permit)) {
            *open = None;
        }
        Some(removed)
    }

    /// The link to the entry after this one in the age list; without one, the link to the oldest.
    fn newer_link_of(&mut self, permit: Option<Permit>) -> &mut Option<Permit> {
        match permit.and_then(|permit| self.entries.get_mut(permit.index())) {
            Some(entry) => &mut entry.newer,
            None => &mut self.oldest,
        }
    }

    /// The link to the entry before this one in the age list; without one, the link to the newest.
    fn older_link_of(&mut self, permit: Option<Permit>) -> &mut Option<Permit> {
        match permit.and_then(|permit| self.entries.get_mut(permit.index())) {
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

    fn insert_listed(ledger: &mut Ledger) -> Permit {
        let permit = ledger.insert(0, 1, None);
        ledger.list_by_age(permit, 0, Moment::default());
        permit
    }

    /// The age list from the oldest to the newest. Checks that both directions agree.
    fn age_list(ledger: &Ledger) -> Vec<Permit> {
        let entry = |permit: Permit| &ledger.entries[permit.index()];
        let walk = |from, next: fn(&Entry) -> Option<Permit>| -> Vec<Permit> {
            std::iter::successors(from, |permit| next(entry(*permit))).collect()
        };
        let forwards = walk(ledger.oldest, |entry| entry.newer);
        let mut backwards = walk(ledger.newest, |entry| entry.older);
        backwards.reverse();
        assert_eq!(forwards, backwards);
        forwards
    }

    #[test]
    fn entries_leave_the_age_list_from_any_position() {
        let mut ledger = Ledger::default();
        let [a, b, c, d] = [(); 4].map(|()| insert_listed(&mut ledger));
        assert_eq!(age_list(&ledger), [a, b, c, d]);
        assert!(ledger.remove(b, 1).is_some());
        assert_eq!(age_list(&ledger), [a, c, d]);
        assert!(ledger.remove(a, 1).is_some() && ledger.remove(d, 1).is_some());
        assert_eq!(age_list(&ledger), [c]);
        ledger.unlist(c);
        ledger.unlist(c);
        assert_eq!(age_list(&ledger), []);
        assert!(ledger.remove(c, 1).is_some());
        assert!(ledger.remove(c, 1).is_none(), "the permit is released once");
    }

    /// They share it with events of the same partition, clock tick and epoch only.
    #[test]
    fn events_without_future_share_an_entry() {
        let mut ledger = Ledger::default();
        let (now, later) = (Moment::default(), Moment::of_millis(4));
        let mut join = |epoch, partition, now| ledger.join(epoch, 10, partition, now);
        let first = join(0, 0, now);
        assert_eq!(join(0, 0, now), first);
        let others = [join(0, 1, now), join(1, 0, now), join(1, 0, later)];
        assert_eq!(join(0, 1, now), others[0], "despite an event of another partition in between");
        assert_eq!(age_list(&ledger), [&[first][..], &others].concat());

        let entry = ledger.get_mut(first).unwrap();
        assert_eq!((entry.events, entry.bytes), (2, 20));
        assert!(ledger.remove(first, 10).is_some() && ledger.get_mut(first).is_some(), "one event remains");
        assert!(ledger.remove(first, 10).is_some() && ledger.remove(first, 10).is_none());
        ledger.unlist(others[2]);
        assert_ne!(ledger.join(1, 10, 0, later), others[2], "an overdue entry is not shared");
        let alone = ledger.insert(1, 10, None);
        ledger.list_by_age(alone, 0, later);
        assert_eq!(ledger.get_mut(alone).unwrap().events, 1);
    }

    #[test]
    fn permits_are_reused_and_survive_the_opaque_pointer() {
        let mut ledger = Ledger::default();
        let [a, b] = [(); 2].map(|()| insert_listed(&mut ledger));
        for permit in [a, b] {
            assert_eq!(Permit::from_opaque(permit.to_opaque()), Some(permit));
        }
        assert_eq!(Permit::from_opaque(std::ptr::null_mut()), None);
        ledger.remove(a, 1);
        ledger.remove(b, 1);
        let again = [(); 2].map(|()| insert_listed(&mut ledger));
        assert_eq!((ledger.capacity(), again), (2, [b, a]));
        assert_eq!(age_list(&ledger), again);
    }

    #[test]
    fn random_inserts_and_removals_keep_the_age_order() {
        let mut random = 7u64;
        let (mut ledger, mut known) = (Ledger::default(), Vec::new());
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = (random >> 33) as usize;
            if known.is_empty() || chance % 100 < 50 {
                known.push(insert_listed(&mut ledger));
            } else {
                ledger.remove(known.remove(chance % known.len()), 1);
            }
            if chance.is_multiple_of(97) {
                assert_eq!(age_list(&ledger), known);
            }
        }
        assert_eq!(age_list(&ledger), known);
    }
}
