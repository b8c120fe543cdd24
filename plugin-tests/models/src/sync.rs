//! The module `support::sync` of the models: loom's locks, with the interface of parking_lot, and
//! loom's atomics.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub use loom::sync::atomic;

thread_local! {
    /// The number of calls of [`Mutex::lock`]. loom runs all threads of a model on one thread.
    static LOCKS: Cell<usize> = const { Cell::new(0) };
}

/// How often `work` locks a mutex. No other thread of the model may run meanwhile.
pub fn locks_taken_by<T>(work: impl FnOnce() -> T) -> usize {
    let before = LOCKS.get();
    work();
    LOCKS.get() - before
}

#[derive(Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

pub struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        LOCKS.set(LOCKS.get() + 1);
        MutexGuard(Some(self.0.lock().unwrap()))
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap()
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("the guard is absent only during a wait")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("the guard is absent only during a wait")
    }
}

#[derive(Default)]
pub struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub fn new() -> Self {
        Condvar(loom::sync::Condvar::new())
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Ignores the timeout: loom reports a model that depends on timeouts as a deadlock.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) {
        guard.0 = guard.0.take().map(|taken| self.0.wait(taken).unwrap());
    }
}
