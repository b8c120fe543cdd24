//! Locks and atomics of the code that is modelled: parking_lot's and the standard library's, or those of loom, which runs
//! a model in each order that its threads can take (`ci/test.sh`, "models"; the models are named `models`).

#[cfg(not(feature = "loom"))]
pub use parking_lot::{Condvar, Mutex};
#[cfg(not(feature = "loom"))]
pub use std::sync::atomic;

#[cfg(feature = "loom")]
pub use loom::sync::atomic;
#[cfg(feature = "loom")]
pub use modelled::{Condvar, Mutex};

/// loom's locks, with parking_lot's functions.
#[cfg(feature = "loom")]
mod modelled {
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    #[derive(Default)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    pub struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().unwrap()))
        }

        pub fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap()
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect("it is taken only during a wait")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("it is taken only during a wait")
        }
    }

    pub struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub fn new() -> Self {
            Condvar(loom::sync::Condvar::new())
        }

        pub fn notify_all(&self) {
            self.0.notify_all();
        }

        /// Without an end: a model whose waits end only by their time is found to hang.
        pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) {
            guard.0 = guard.0.take().map(|taken| self.0.wait(taken).unwrap());
        }
    }
}
