//! The locks and atomics of code that loom checks. The package of the models
//! (plugin-tests/models) compiles that code with loom's instead.

pub use parking_lot::{Condvar, Mutex};
pub use std::sync::atomic;
