//! An optional value that is rarely present and often checked.

use crate::support::sync::Mutex;
use crate::support::sync::atomic::{AtomicBool, Ordering};

/// An optional value with a flag, so that a check takes no lock while the value is absent.
pub struct Flagged<T> {
    /// Whether there is a value. Changed only while `value` is locked.
    is_some: AtomicBool,
    value: Mutex<Option<T>>,
}

impl<T> Default for Flagged<T> {
    fn default() -> Self {
        Flagged { is_some: AtomicBool::new(false), value: Mutex::new(None) }
    }
}

impl<T: Clone> Flagged<T> {
    pub fn set(&self, value: T) {
        let mut slot = self.value.lock();
        *slot = Some(value);
        self.is_some.store(true, Ordering::Release);
    }

    /// Removes the value. One relaxed load if there is none, which is the usual case.
    #[inline]
    pub fn clear(&self) {
        if self.is_some.load(Ordering::Relaxed) {
            self.take();
        }
    }

    pub fn take(&self) -> Option<T> {
        if !self.is_some() {
            return None;
        }
        let mut slot = self.value.lock();
        self.is_some.store(false, Ordering::Release);
        slot.take()
    }

    pub fn is_some(&self) -> bool {
        self.is_some.load(Ordering::Acquire)
    }

    pub fn get(&self) -> Option<T> {
        if self.is_some() { self.value.lock().clone() } else { None }
    }
}
