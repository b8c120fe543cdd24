//! The one way into the core: every slot runs in here, so that nothing unwinds into C, a handle that a panic
//! spoiled is not used again, and an error reaches the host in the one shape it has.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::args::check_wanted;
use super::error::octopus_error;
use super::handle::{COf, Object, Reference, borrow};
use super::status::{OCTOPUS_FORKED, OCTOPUS_OK, octopus_status, status_of};
use crate::error::{Error, Kind, Result};
use crate::fork::is_forked_child;

/// What a slot's body gives: nothing but success, or a status of its own.
pub trait Outcome {
    fn status(self) -> octopus_status;
}

impl Outcome for () {
    fn status(self) -> octopus_status {
        OCTOPUS_OK
    }
}

impl Outcome for octopus_status {
    fn status(self) -> octopus_status {
        self
    }
}

/// Runs the body of a slot that has no handle yet.
///
/// # Safety
/// `error` is NULL or writable.
pub unsafe fn guard<O: Outcome>(error: *mut *mut octopus_error, body: impl FnOnce() -> Result<O>) -> octopus_status {
    let result = check_wanted(error, "error").and_then(|()| {
        catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            super::tests::panic_if_asked_to();
            body()
        }))
        .unwrap_or_else(|panic| Err(panicked(&*panic)))
    });
    // SAFETY: the caller's promise.
    unsafe { report(result, error) }
}

/// Runs the body of a slot on its handle. A panic spoils that one object.
///
/// # Safety
/// `handle` is NULL or a live handle of its type; `error` is NULL or writable.
pub unsafe fn call<R: Reference, O: Outcome>(
    handle: *const COf<R>,
    error: *mut *mut octopus_error,
    body: impl FnOnce(&R) -> Result<O>,
) -> octopus_status {
    let attempt = || {
        check_wanted(error, "error")?;
        // SAFETY: the caller's promise; NULL is refused.
        let object = unsafe { borrow::<R>(handle) }?;
        catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            super::tests::panic_if_asked_to();
            body(&object)
        }))
        .unwrap_or_else(|panic| {
            object.poison().poison();
            Err(panicked(&*panic))
        })
    };
    // SAFETY: the caller's promise.
    unsafe { report(attempt(), error) }
}

/// Runs what can't fail but could panic, such as a release; in a forked child it is left undone on purpose.
pub fn quietly(body: impl FnOnce()) {
    if !is_forked_child() {
        let _ = catch_unwind(AssertUnwindSafe(body));
    }
}

/// Gives the host an error that was found before a slot's body.
///
/// # Safety
/// `error` is NULL or writable.
pub unsafe fn fail(error: *mut *mut octopus_error, why: Error) -> octopus_status {
    // SAFETY: the caller's promise.
    unsafe { report::<()>(Err(why), error) }
}

/// # Safety
/// `error` is NULL or writable.
unsafe fn report<O: Outcome>(result: Result<O>, error: *mut *mut octopus_error) -> octopus_status {
    let wants_error = !error.is_null() && error.is_aligned();
    let (status, object) = match result {
        Ok(outcome) => (outcome.status(), std::ptr::null_mut()),
        Err(failure) => {
            let status = status_of(failure.kind());
            // Outcomes that a host asked for need no object, and would be paid for by each wait in a loop.
            let object =
                if status < 0 && wants_error { octopus_error::from_error(failure) } else { std::ptr::null_mut() };
            (status, object)
        }
    };
    if wants_error {
        // SAFETY: the caller's promise.
        unsafe { error.write(object) };
    }
    status
}

/// The status of a slot in a forked child that has no copy of the library (`forked_child.rs`).
///
/// Without a place for the error it takes no memory: the lock of that may be held by a thread that the child doesn't have.
///
/// # Safety
/// `error` is NULL or writable.
#[cold]
pub unsafe fn refuse(error: *mut *mut octopus_error) -> octopus_status {
    if error.is_null() {
        return OCTOPUS_FORKED;
    }
    let told = Error::new(
        Kind::Forked,
        "this object belongs to the process that this one was forked from, whose threads are not here; create a \
         driver in this process",
    );
    // SAFETY: the caller's promise.
    unsafe { report::<()>(Err(told), error) }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let why = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Error::new(Kind::Panicked, format!("a defect inside Octopus, please report it: {why}"))
}
