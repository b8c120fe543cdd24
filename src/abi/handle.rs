//! Handles: pointers to reference-counted objects of the core. A child keeps its parent alive, so they can be
//! released in any order.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::{Event, SharedEvent};
use crate::poison::Poison;

/// An object of the core that hosts hold by a handle.
pub trait Object: Sized {
    /// The opaque type that C sees.
    type C;
    const NAME: &'static str;
    fn poison(&self) -> &Poison;
}

/// A counted reference to an object, which a handle stands for.
pub trait Reference: Deref<Target: Object + Sized> + Clone {
    fn into_raw(self) -> *const Self::Target;

    /// # Safety
    /// `object` came from [`into_raw`](Self::into_raw), and that reference is nobody else's.
    unsafe fn from_raw(object: *const Self::Target) -> Self;
}

/// What C sees of what `R` refers to.
pub type COf<R> = <<R as Deref>::Target as Object>::C;

impl<T: Object> Reference for Arc<T> {
    fn into_raw(self) -> *const T {
        Arc::into_raw(self)
    }

    unsafe fn from_raw(object: *const T) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Arc::from_raw(object) }
    }
}

impl Reference for SharedEvent {
    fn into_raw(self) -> *const Event {
        SharedEvent::into_raw(self)
    }

    unsafe fn from_raw(object: *const Event) -> Self {
        // SAFETY: the caller's promise.
        unsafe { SharedEvent::from_raw(object) }
    }
}

/// Declares an opaque C type, and which object of the core a pointer to it stands for.
macro_rules! handle {
    ($object:ty, $c:ident, $name:literal) => {
        impl $crate::abi::handle::Object for $object {
            type C = $c;
            const NAME: &'static str = $name;
            fn poison(&self) -> &$crate::poison::Poison {
                &self.poison
            }
        }
    };
}
pub(super) use handle;

/// The object behind a handle, for the length of a call; its count is left alone.
///
/// # Safety
/// `handle` is NULL or came from [`give`] with this type and was not released as often as it was given and retained.
// Each call begins with it. As a function of its own it would take a dozen instructions to hand over its result.
#[inline(always)]
pub unsafe fn borrow<R: Reference>(handle: *const COf<R>) -> Result<ManuallyDrop<R>> {
    if handle.is_null() {
        return Err(null_handle(R::Target::NAME));
    }
    // SAFETY: the caller's promise: the count is at least one, and it is not dropped here.
    let object = ManuallyDrop::new(unsafe { R::from_raw(handle.cast::<R::Target>()) });
    object.poison().check(R::Target::NAME)?;
    Ok(object)
}

#[cold]
fn null_handle(name: &str) -> Error {
    Error::invalid(format!("{name}: NULL where a handle is needed"))
}

/// Hands an object to the host, which releases it.
///
/// # Safety
/// `place` is writable.
pub unsafe fn give<R: Reference>(object: R, place: *mut *mut COf<R>) {
    // SAFETY: the caller's promise.
    unsafe { place.write(object.into_raw().cast_mut().cast()) };
}

/// # Safety
/// As for [`borrow`].
pub unsafe fn retain<R: Reference>(handle: *const COf<R>) {
    if !handle.is_null() {
        // SAFETY: the caller's promise; the count is left alone, and what is counted besides is the host's.
        let object = ManuallyDrop::new(unsafe { R::from_raw(handle.cast::<R::Target>()) });
        if object.poison().is_of_this_process() {
            std::mem::forget(R::clone(&object));
        }
    }
}

/// # Safety
/// As for [`borrow`]; the handle's place is the caller's no more.
pub unsafe fn release<R: Reference>(handle: *mut COf<R>) {
    if !handle.is_null() {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the caller's promise.
            let object = ManuallyDrop::new(unsafe { R::from_raw(handle.cast_const().cast::<R::Target>()) });
            // What the parent of a forked child has is neither counted nor freed in the child.
            if object.poison().is_of_this_process() {
                drop(ManuallyDrop::into_inner(object));
            }
        }));
    }
}
