//! Work that is done in any order, by any thread, and put out in the order in which it was begun.
//!
//! Nobody waits for a turn: whoever is done leaves the result, and whoever finds the head of the line done puts out
//! all that is ready. One thread at a time does that, without a lock.

use std::collections::VecDeque;

use parking_lot::Mutex;

pub struct Order<T> {
    line: Mutex<Line<T>>,
}

/// A place in line.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn(u64);

struct Line<T> {
    /// The turn that `places[0]` belongs to.
    head: u64,
    /// What is done, by turns; `None` where work is still going on.
    places: VecDeque<Option<T>>,
    /// Some thread is putting results out, and will find what others leave meanwhile.
    is_served: bool,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Order { line: Mutex::new(Line { head: 0, places: VecDeque::new(), is_served: false }) }
    }
}

impl<T> Order<T> {
    /// Takes the next place in line; each must be finished.
    pub fn take_turn(&self) -> Turn {
        let mut line = self.line.lock();
        line.places.push_back(None);
        Turn(line.head + line.places.len() as u64 - 1)
    }

    /// Leaves the result of a turn, and puts out what is ready: results in order, one at a time, on this thread or on
    /// another that is at it. `put_out` may call anything, this order included.
    pub fn finish(&self, turn: Turn, result: T, mut put_out: impl FnMut(T)) {
        let mut line = self.line.lock();
        let index = turn.0.saturating_sub(line.head) as usize;
        if let Some(place) = line.places.get_mut(index) {
            *place = Some(result);
        }
        if line.is_served {
            return;
        }
        line.is_served = true;
        drop(line);
        let served = Served(self);
        while let Some(ready) = self.pop_ready() {
            put_out(ready);
        }
        std::mem::forget(served);
    }

    /// What is at the head of the line, if that is done; else the line is not served any more.
    fn pop_ready(&self) -> Option<T> {
        let mut line = self.line.lock();
        match line.places.front_mut().and_then(Option::take) {
            Some(ready) => {
                line.places.pop_front();
                line.head += 1;
                Some(ready)
            }
            None => {
                line.is_served = false;
                None
            }
        }
    }
}

/// Lets another thread serve the line when putting out a result panicked.
struct Served<'a, T>(&'a Order<T>);

impl<T> Drop for Served<'_, T> {
    fn drop(&mut self) {
        self.0.line.lock().is_served = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use super::*;

    #[test]
    fn results_come_out_in_the_order_of_their_turns() {
        let order = Order::default();
        let mut out = Vec::new();
        let turns: Vec<_> = (0..4).map(|_| order.take_turn()).collect();
        for (turn, number) in turns.into_iter().zip(0..4).rev() {
            assert!(out.is_empty());
            order.finish(turn, number, |number| out.push(number));
        }
        assert_eq!(out, [0, 1, 2, 3]);
    }

    #[test]
    fn putting_out_may_take_and_finish_turns_itself() {
        let order = Order::default();
        let out = StdMutex::new(Vec::new());
        let first = order.take_turn();
        order.finish(first, 0, |number| {
            out.lock().unwrap().push(number);
            if number < 3 {
                let turn = order.take_turn();
                order.finish(turn, number + 1, |_| panic!("it is being served already"));
            }
        });
        assert_eq!(*out.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_panic_while_a_result_is_put_out_stops_nobody_else() {
        let order = Order::default();
        let (first, second) = (order.take_turn(), order.take_turn());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            order.finish(first, 0, |_| panic!("a defect"));
        }));
        assert!(panicked.is_err());
        let mut out = Vec::new();
        order.finish(second, 1, |number| out.push(number));
        assert_eq!(out, [1]);
    }

    #[test]
    fn many_threads_finish_and_the_order_holds() {
        const COUNT: u64 = 20_000;
        let order = Order::default();
        let out = StdMutex::new(Vec::new());
        let turns = StdMutex::new((0..COUNT).map(|number| (order.take_turn(), number)).collect::<Vec<_>>());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let Some((turn, number)) = turns.lock().unwrap().pop() else { break };
                        order.finish(turn, number, |number| out.lock().unwrap().push(number));
                    }
                });
            }
        });
        assert_eq!(*out.lock().unwrap(), (0..COUNT).collect::<Vec<_>>());
    }
}
