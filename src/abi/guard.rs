//! The entry into the core. Every slot runs its body here, so that no panic unwinds into C, a
//! handle that a panic poisoned is rejected, and every error is reported in the same way.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::args::check_optional_output;
use super::error_handle::octopus_error;
use super::handle::{COf, Object, Reference, borrow};
use super::status::{OCTOPUS_FORKED, OCTOPUS_OK, octopus_status, status_of};
use crate::support::error::{Error, Kind, Result};
use crate::support::fork::is_forked_child;

/// The result of a slot's body: success, or a status of its own.
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
    let result = check_optional_output(error, "error").and_then(|()| {
        catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            super::tests::panic_if_asked_to();
            body()
        }))
        .unwrap_or_else(|panic| Err(panicked(&*panic)))
    });
    // SAFETY: `error` is NULL or writable (fn contract).
    unsafe { report(result, error) }
}

/// Runs the body of a slot on its object. A panic poisons that object.
///
/// # Safety
/// `handle` is NULL or a live handle of its type; `error` is NULL or writable.
pub unsafe fn call<R: Reference, O: Outcome>(
    handle: *const COf<R>,
    error: *mut *mut octopus_error,
    body: impl FnOnce(&R) -> Result<O>,
) -> octopus_status {
    let attempt = || {
        check_optional_output(error, "error")?;
        // SAFETY: `handle` is NULL or live (fn contract); `borrow` rejects NULL.
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
    // SAFETY: `error` is NULL or writable (fn contract).
    unsafe { report(attempt(), error) }
}

/// Runs a body that can't fail but may panic, such as a release. A forked child does not run it,
/// since the object belongs to its parent.
pub fn quietly(body: impl FnOnce()) {
    if !is_forked_child() {
        let _ = catch_unwind(AssertUnwindSafe(body));
    }
}

/// Reports an error that occurred before a slot's body.
///
/// # Safety
/// `error` is NULL or writable.
pub unsafe fn fail(error: *mut *mut octopus_error, failure: Error) -> octopus_status {
    // SAFETY: `error` is NULL or writable (fn contract).
    unsafe { report::<()>(Err(failure), error) }
}

/// Converts a result to a status, and writes the error object if there is one.
///
/// # Safety
/// `error` is NULL or writable.
unsafe fn report<O: Outcome>(result: Result<O>, error: *mut *mut octopus_error) -> octopus_status {
    let wants_error = !error.is_null() && error.is_aligned();
    let (status, object) = match result {
        Ok(outcome) => (outcome.status(), std::ptr::null_mut()),
        Err(failure) => {
            let status = status_of(failure.kind());
            // A positive status is no error: an object would only cost each wait of a polling loop
            // an allocation.
            let object =
                if status < 0 && wants_error { octopus_error::from_error(failure) } else { std::ptr::null_mut() };
            (status, object)
        }
    };
    if wants_error {
        // SAFETY: `error` is writable (fn contract), not NULL, and aligned.
        unsafe { error.write(object) };
    }
    status
}

/// The status of a slot in a forked child that has no copy of the library (`forked_child.rs`).
///
/// With NULL for `error` it allocates nothing: a thread of the parent may hold the allocator's
/// lock, and that thread does not exist in the child.
///
/// # Safety
/// `error` is NULL or writable.
#[cold]
pub unsafe fn refuse(error: *mut *mut octopus_error) -> octopus_status {
    if error.is_null() {
        return OCTOPUS_FORKED;
    }
    let failure = Error::new(
        Kind::Forked,
        "this object belongs to the process that this one was forked from, whose threads do not exist here; \
         create a driver in this process",
    );
    // SAFETY: `error` is NULL or writable (fn contract).
    unsafe { report::<()>(Err(failure), error) }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Error::new(Kind::Panicked, format!("Octopus panicked; please report this bug: {message}"))
}
