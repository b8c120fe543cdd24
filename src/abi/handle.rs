//! Handles: pointers to reference-counted objects of the core. An object keeps the object that it
//! was made from alive, so a host can release handles in any order.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::event::{Event, SharedEvent};
use crate::support::error::{Error, Result};
use crate::support::poison::Poison;

/// An object of the core that a host refers to by a handle.
pub trait Object: Sized {
    /// The opaque type that C sees.
    type C;
    const NAME: &'static str;
    fn poison(&self) -> &Poison;
}

/// A counted reference to an object. A handle is such a reference in raw form.
pub trait Reference: Deref<Target: Object + Sized> + Clone {
    fn into_raw(self) -> *const Self::Target;

    /// # Safety
    /// `object` came from [`into_raw`](Self::into_raw), and the caller owns that reference.
    unsafe fn from_raw(object: *const Self::Target) -> Self;
}

/// The C type of the object that `R` refers to.
pub type COf<R> = <<R as Deref>::Target as Object>::C;

impl<T: Object> Reference for Arc<T> {
    fn into_raw(self) -> *const T {
        Arc::into_raw(self)
    }

    unsafe fn from_raw(object: *const T) -> Self {
        // SAFETY: `object` came from `Arc::into_raw`, and the caller owns the reference (fn
        // contract).
        unsafe { Arc::from_raw(object) }
    }
}

impl Reference for SharedEvent {
    fn into_raw(self) -> *const Event {
        SharedEvent::into_raw(self)
    }

    unsafe fn from_raw(object: *const Event) -> Self {
        // SAFETY: `object` came from `SharedEvent::into_raw`, and the caller owns the reference (fn
        // contract).
        unsafe { SharedEvent::from_raw(object) }
    }
}

/// Maps an opaque C type to the object of the core that its handles refer to.
macro_rules! handle {
    ($object:ty, $c:ident, $name:literal) => {
        impl $crate::abi::handle::Object for $object {
            type C = $c;
            const NAME: &'static str = $name;
            fn poison(&self) -> &$crate::support::poison::Poison {
                &self.poison
            }
        }
    };
}
pub(super) use handle;

/// The object of a handle, for the duration of a call. The reference count is unchanged.
///
/// # Safety
/// `handle` is NULL, or live: it came from [`write`] with this type, and was released fewer
/// times than it was written and retained.
// Every call does this first; inlining saves about a dozen instructions for passing the result.
#[inline(always)]
pub unsafe fn borrow<R: Reference>(handle: *const COf<R>) -> Result<ManuallyDrop<R>> {
    if handle.is_null() {
        return Err(null_handle(R::Target::NAME));
    }
    // SAFETY: the handle is live (fn contract), so the count is at least one; `ManuallyDrop` leaves
    // it unchanged.
    let object = ManuallyDrop::new(unsafe { R::from_raw(handle.cast::<R::Target>()) });
    object.poison().check(R::Target::NAME)?;
    Ok(object)
}

#[cold]
fn null_handle(name: &str) -> Error {
    Error::invalid(format!("{name}: NULL where a handle is needed"))
}

/// Writes a handle of the object to `place`; the host releases it.
///
/// # Safety
/// `place` is writable.
pub unsafe fn write<R: Reference>(object: R, place: *mut *mut COf<R>) {
    // SAFETY: `place` is writable (fn contract).
    unsafe { place.write(object.into_raw().cast_mut().cast()) };
}

/// Adds a reference, which the host releases.
///
/// # Safety
/// As for [`borrow`].
pub unsafe fn retain<R: Reference>(handle: *const COf<R>) {
    if !handle.is_null() {
        // SAFETY: the handle is live (fn contract); `ManuallyDrop` leaves its reference to the
        // host.
        let object = ManuallyDrop::new(unsafe { R::from_raw(handle.cast::<R::Target>()) });
        if object.poison().is_of_this_process() {
            std::mem::forget(R::clone(&object));
        }
    }
}

/// Drops a reference of the host.
///
/// # Safety
/// As for [`borrow`]; the host does not use this reference afterwards.
pub unsafe fn release<R: Reference>(handle: *mut COf<R>) {
    if !handle.is_null() {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the handle is live (fn contract).
            let object = ManuallyDrop::new(unsafe { R::from_raw(handle.cast_const().cast::<R::Target>()) });
            // A forked child neither counts nor frees the objects of its parent.
            if object.poison().is_of_this_process() {
                drop(ManuallyDrop::into_inner(object));
            }
        }));
    }
}
