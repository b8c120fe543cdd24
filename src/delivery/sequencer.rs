//! Dispatches results in the order in which their work began, whatever thread finishes first.
//!
//! No thread waits for its slot: a thread that finishes stores its result, and the thread that
//! fills the first open slot dispatches every result that is ready. One thread at a time
//! dispatches, without holding the lock.

use std::collections::VecDeque;

use crate::support::sync::Mutex;

/// `S` is the state that dispatching needs exclusively; the dispatching thread owns it.
pub struct Sequencer<T, S> {
    slots: Mutex<Slots<T, S>>,
}

/// A position in the order of results.
#[derive(Debug, PartialEq, Eq)]
pub struct SequenceSlot(u64);

struct Slots<T, S> {
    /// The number of the first slot in `results`.
    head: u64,
    /// The results that are not dispatched yet, by slot; `None` while the work goes on.
    results: VecDeque<Option<T>>,
    /// `None` while a thread dispatches; that thread also dispatches what others store meanwhile.
    state: Option<S>,
}

impl<T, S> Sequencer<T, S> {
    pub fn new(state: S) -> Self {
        Sequencer { slots: Mutex::new(Slots { head: 0, results: VecDeque::new(), state: Some(state) }) }
    }

    /// Reserves the next slot. The caller must complete each reserved slot.
    pub fn reserve(&self) -> SequenceSlot {
        let mut slots = self.slots.lock();
        slots.results.push_back(None);
        SequenceSlot(slots.head + slots.results.len() as u64 - 1)
    }

    /// Stores the result of a slot, then dispatches the results that are ready: in order, one at a
    /// time, on this thread or on the one that dispatches already. `dispatch` may use this
    /// sequencer.
    pub fn complete(&self, slot: SequenceSlot, result: T, mut dispatch: impl FnMut(&mut S, T)) {
        let mut slots = self.slots.lock();
        debug_assert!(slot.0 >= slots.head, "a slot is completed once");
        let index = slot.0.saturating_sub(slots.head) as usize;
        if let Some(open) = slots.results.get_mut(index) {
            *open = Some(result);
        }
        let Some(state) = slots.state.take() else { return };
        drop(slots);
        let mut dispatching = Dispatching { sequencer: self, state: Some(state) };
        while let Some((ready, state)) = dispatching.next() {
            dispatch(state, ready);
        }
    }
}

/// The right to dispatch. Dropping it, also during a panic, lets another thread dispatch.
struct Dispatching<'a, T, S> {
    sequencer: &'a Sequencer<T, S>,
    state: Option<S>,
}

impl<T, S> Dispatching<'_, T, S> {
    /// Takes the result of the first slot. `None` if its work goes on; another thread dispatches
    /// then.
    fn next(&mut self) -> Option<(T, &mut S)> {
        let mut slots = self.sequencer.slots.lock();
        match slots.results.front_mut().and_then(Option::take) {
            Some(ready) => {
                slots.results.pop_front();
                slots.head += 1;
                self.state.as_mut().map(|state| (ready, state))
            }
            None => {
                slots.state = self.state.take();
                None
            }
        }
    }
}

impl<T, S> Drop for Dispatching<'_, T, S> {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.sequencer.slots.lock().state = Some(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use super::*;

    #[test]
    fn results_are_dispatched_in_slot_order() {
        let sequencer = Sequencer::new(());
        let mut out = Vec::new();
        let slots: Vec<_> = (0..4).map(|_| sequencer.reserve()).collect();
        for (slot, number) in slots.into_iter().zip(0..4).rev() {
            assert!(out.is_empty());
            sequencer.complete(slot, number, |(), number| out.push(number));
        }
        assert_eq!(out, [0, 1, 2, 3]);
    }

    #[test]
    fn dispatch_may_reserve_and_complete_slots() {
        let sequencer = Sequencer::new(());
        let out = StdMutex::new(Vec::new());
        let first = sequencer.reserve();
        sequencer.complete(first, 0, |(), number| {
            out.lock().unwrap().push(number);
            if number < 3 {
                let slot = sequencer.reserve();
                sequencer.complete(slot, number + 1, |(), _| panic!("the outer call dispatches"));
            }
        });
        assert_eq!(*out.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn panic_in_dispatch_stops_no_other_thread() {
        let sequencer = Sequencer::new(());
        let (first, second) = (sequencer.reserve(), sequencer.reserve());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            sequencer.complete(first, 0, |(), _| panic!("a defect"));
        }));
        assert!(panicked.is_err());
        let mut out = Vec::new();
        sequencer.complete(second, 1, |(), number| out.push(number));
        assert_eq!(out, [1]);
    }

    #[test]
    fn many_threads_complete_slots_in_order() {
        const COUNT: u64 = 20_000;
        let sequencer = Sequencer::new(());
        let out = StdMutex::new(Vec::new());
        let slots = StdMutex::new((0..COUNT).map(|number| (sequencer.reserve(), number)).collect::<Vec<_>>());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let Some((slot, number)) = slots.lock().unwrap().pop() else { break };
                        sequencer.complete(slot, number, |(), number| out.lock().unwrap().push(number));
                    }
                });
            }
        });
        assert_eq!(*out.lock().unwrap(), (0..COUNT).collect::<Vec<_>>());
    }
}
