//! Work that is done in any order, by any thread, and put out in the order in which it was begun.
//!
//! Nobody waits for a turn: whoever is done leaves the result, and whoever finds the head of the line done puts out
//! all that is ready. One thread at a time does that, without a lock.

use std::collections::VecDeque;

use crate::sync::Mutex;

/// `S` is what putting out needs for itself alone; whoever serves the line has it.
pub struct Order<T, S> {
    line: Mutex<Line<T, S>>,
}

/// A place in line.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn(u64);

struct Line<T, S> {
    /// The turn that `places[0]` belongs to.
    head: u64,
    /// What is done, by turns; `None` where work is still going on.
    places: VecDeque<Option<T>>,
    /// Taken by the thread that is putting results out, and that will find what others leave meanwhile.
    tools: Option<S>,
}

impl<T, S> Order<T, S> {
    pub fn new(tools: S) -> Self {
        Order { line: Mutex::new(Line { head: 0, places: VecDeque::new(), tools: Some(tools) }) }
    }

    /// Takes the next place in line; each must be finished.
    pub fn take_turn(&self) -> Turn {
        let mut line = self.line.lock();
        line.places.push_back(None);
        Turn(line.head + line.places.len() as u64 - 1)
    }

    /// Leaves the result of a turn, and puts out what is ready: results in order, one at a time, on this thread or on
    /// another that is at it. `dispatch` may call anything, this order included.
    pub fn finish(&self, turn: Turn, result: T, mut dispatch: impl FnMut(&mut S, T)) {
        let mut line = self.line.lock();
        let index = turn.0.saturating_sub(line.head) as usize;
        if let Some(place) = line.places.get_mut(index) {
            *place = Some(result);
        }
        let Some(tools) = line.tools.take() else { return };
        drop(line);
        let mut served = Served { order: self, tools: Some(tools) };
        while let Some((ready, tools)) = served.next() {
            dispatch(tools, ready);
        }
    }
}

/// A line that this thread serves; another can when it is done, also by a panic.
struct Served<'a, T, S> {
    order: &'a Order<T, S>,
    tools: Option<S>,
}

impl<T, S> Served<'_, T, S> {
    /// What is at the head of the line, if that is done; else the line is not served any more.
    fn next(&mut self) -> Option<(T, &mut S)> {
        let mut line = self.order.line.lock();
        match line.places.front_mut().and_then(Option::take) {
            Some(ready) => {
                line.places.pop_front();
                line.head += 1;
                self.tools.as_mut().map(|tools| (ready, tools))
            }
            None => {
                line.tools = self.tools.take();
                None
            }
        }
    }
}

impl<T, S> Drop for Served<'_, T, S> {
    fn drop(&mut self) {
        if let Some(tools) = self.tools.take() {
            self.order.line.lock().tools = Some(tools);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use super::*;

    #[test]
    fn results_come_out_in_the_order_of_their_turns() {
        let order = Order::new(());
        let mut out = Vec::new();
        let turns: Vec<_> = (0..4).map(|_| order.take_turn()).collect();
        for (turn, number) in turns.into_iter().zip(0..4).rev() {
            assert!(out.is_empty());
            order.finish(turn, number, |(), number| out.push(number));
        }
        assert_eq!(out, [0, 1, 2, 3]);
    }

    #[test]
    fn putting_out_may_take_and_finish_turns_itself() {
        let order = Order::new(());
        let out = StdMutex::new(Vec::new());
        let first = order.take_turn();
        order.finish(first, 0, |(), number| {
            out.lock().unwrap().push(number);
            if number < 3 {
                let turn = order.take_turn();
                order.finish(turn, number + 1, |(), _| panic!("it is being served already"));
            }
        });
        assert_eq!(*out.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_panic_while_a_result_is_put_out_stops_nobody_else() {
        let order = Order::new(());
        let (first, second) = (order.take_turn(), order.take_turn());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            order.finish(first, 0, |(), _| panic!("a defect"));
        }));
        assert!(panicked.is_err());
        let mut out = Vec::new();
        order.finish(second, 1, |(), number| out.push(number));
        assert_eq!(out, [1]);
    }

    #[test]
    fn many_threads_finish_and_the_order_holds() {
        const COUNT: u64 = 20_000;
        let order = Order::new(());
        let out = StdMutex::new(Vec::new());
        let turns = StdMutex::new((0..COUNT).map(|number| (order.take_turn(), number)).collect::<Vec<_>>());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let Some((turn, number)) = turns.lock().unwrap().pop() else { break };
                        order.finish(turn, number, |(), number| out.lock().unwrap().push(number));
                    }
                });
            }
        });
        assert_eq!(*out.lock().unwrap(), (0..COUNT).collect::<Vec<_>>());
    }
}

#[cfg(all(test, feature = "loom"))]
mod models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// Whoever finishes when: everything is put out, in order, and nothing is left in line.
    #[test]
    fn everything_is_put_out_in_order() {
        loom::model(|| {
            let order = Arc::new(Order::new(Vec::new()));
            let turns = [order.take_turn(), order.take_turn(), order.take_turn()];
            let finish = |order: &Order<u32, Vec<u32>>, turn: Turn, number| {
                order.finish(turn, number, |out: &mut Vec<u32>, number| out.push(number));
            };
            let [first, second, third] = turns;
            let (of_second, of_third) = (order.clone(), order.clone());
            let finishing = [
                thread::spawn(move || finish(&of_second, second, 1)),
                thread::spawn(move || finish(&of_third, third, 2)),
            ];
            finish(&order, first, 0);
            finishing.into_iter().for_each(|thread| thread.join().unwrap());
            let line = order.line.lock();
            assert!(line.places.is_empty());
            assert_eq!(line.tools.as_deref(), Some(&[0, 1, 2][..]));
        });
    }
}
