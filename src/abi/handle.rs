//! Handles: pointers to reference-counted objects of the core. A child keeps its parent alive, so they can be
//! released in any order.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::guard::quietly;
use crate::error::{Error, Result};
use crate::health::{Health, is_forked_child};

/// An object of the core that hosts hold by a handle.
pub trait Object {
    /// The opaque type that C sees.
    type C;
    const NAME: &'static str;
    fn health(&self) -> &Health;
}

/// Declares an opaque C type, and which object of the core a pointer to it stands for.
macro_rules! handle {
    ($object:ty, $c:ident, $name:literal) => {
        impl $crate::abi::handle::Object for $object {
            type C = $c;
            const NAME: &'static str = $name;
            fn health(&self) -> &$crate::health::Health {
                &self.health
            }
        }
    };
}
pub(super) use handle;

/// The object behind a handle, for the length of a call; its count is left alone.
///
/// # Safety
/// `handle` is NULL or came from [`give`] with this type and was not released as often as it was given and retained.
pub unsafe fn borrow<T: Object>(handle: *const T::C) -> Result<ManuallyDrop<Arc<T>>> {
    if handle.is_null() {
        return Err(Error::invalid(format!("{}: NULL where a handle is needed", T::NAME)));
    }
    // SAFETY: the caller's promise: the count is at least one, and it is not dropped here.
    Ok(ManuallyDrop::new(unsafe { Arc::from_raw(handle.cast::<T>()) }))
}

/// Hands an object to the host, which releases it.
///
/// # Safety
/// `place` is writable.
pub unsafe fn give<T: Object>(object: Arc<T>, place: *mut *mut T::C) {
    // SAFETY: the caller's promise.
    unsafe { place.write(Arc::into_raw(object).cast_mut().cast()) };
}

/// # Safety
/// As for [`borrow`].
pub unsafe fn retain<T: Object>(handle: *const T::C) {
    if !handle.is_null() && !is_forked_child() {
        // SAFETY: the caller's promise.
        unsafe { Arc::increment_strong_count(handle.cast::<T>()) };
    }
}

/// # Safety
/// As for [`borrow`]; the handle's place is the caller's no more.
pub unsafe fn release<T: Object>(handle: *mut T::C) {
    if !handle.is_null() {
        // SAFETY: the caller's promise.
        quietly(|| drop(unsafe { Arc::from_raw(handle.cast::<T>().cast_const()) }));
    }
}
