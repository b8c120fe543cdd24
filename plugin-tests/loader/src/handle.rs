//! Ownership of the library's handles: released once when dropped, retained when cloned.

use std::fmt;
use std::ptr::{NonNull, null_mut};

use crate::abi::*;
use crate::error::{Error, Result};
use crate::raw::Tables;

/// A type that C knows only by pointer.
pub(crate) trait Opaque: Sized {
    const NAME: &'static str;
    fn release(tables: &Tables) -> Option<unsafe extern "C" fn(*mut Self)>;
}

/// An opaque type whose handles are reference-counted.
pub(crate) trait Counted: Opaque {
    fn retain(tables: &Tables) -> Option<unsafe extern "C" fn(*const Self)>;
}

macro_rules! opaque {
    ($($type:ident: $table:ident $(, $retain:ident)?;)*) => {$(
        impl Opaque for $type {
            const NAME: &'static str = stringify!($table);
            fn release(tables: &Tables) -> Option<unsafe extern "C" fn(*mut Self)> {
                tables.$table.release
            }
        }
        $(impl Counted for $type {
            fn retain(tables: &Tables) -> Option<unsafe extern "C" fn(*const Self)> {
                tables.$table.$retain
            }
        })?
    )*};
}

opaque! {
    octopus_error: error;
    octopus_string: string;
    octopus_driver: driver;
    octopus_topic: topic;
    octopus_producer: producer;
    octopus_consumer: consumer;
    octopus_future: future, retain;
    octopus_event: event, retain;
    octopus_thread_pool: thread_pool;
}

/// A handle that this program owns.
///
/// Invariant: `pointer` is live and came from the library of `tables`, and dropping this value does
/// the one `release` that it is owed.
pub(crate) struct Handle<T: Opaque> {
    pointer: NonNull<T>,
    tables: &'static Tables,
}

// SAFETY: include/octopus.h allows each function of every table, `release` included, from any
// thread and from several at the same time.
unsafe impl<T: Opaque> Send for Handle<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Opaque> Sync for Handle<T> {}

impl<T: Opaque> Handle<T> {
    /// Owns the handle that `call` writes through its argument.
    ///
    /// Only unsafe code can write through the argument, which points to NULL. Such code has to
    /// guarantee that, if `call` succeeds, it has written NULL or a live handle of the library of
    /// `tables` that nothing else releases.
    pub fn from_call(tables: &'static Tables, call: impl FnOnce(*mut *mut T) -> Result<()>) -> Result<Self> {
        let mut pointer = null_mut();
        call(&mut pointer)?;
        // SAFETY: `call` has succeeded, so `pointer` is NULL or a live handle that nothing else
        // releases (guaranteed by the code in `call` that writes it).
        unsafe { Handle::from_raw(tables, pointer) }
    }

    /// Owns each of these handles. NULL is an error; the others are released then.
    ///
    /// # Safety
    /// Each is NULL, or a live handle of the library of `tables` that nothing else releases.
    pub unsafe fn all_from_raw(tables: &'static Tables, pointers: Vec<*mut T>) -> Result<Vec<Self>> {
        // All are owned before the first error is returned, so that none leaks.
        // SAFETY: each pointer is NULL or a live handle that nothing else releases (fn contract),
        // and is used once.
        let owned: Vec<_> = pointers.into_iter().map(|pointer| unsafe { Handle::from_raw(tables, pointer) }).collect();
        owned.into_iter().collect()
    }

    /// Owns a handle.
    ///
    /// # Safety
    /// `pointer` is a live handle of the library of `tables` that nothing else releases.
    pub unsafe fn new(tables: &'static Tables, pointer: NonNull<T>) -> Self {
        Handle { pointer, tables }
    }

    /// Owns a handle. NULL is an error.
    ///
    /// # Safety
    /// `pointer` is NULL, or a live handle of the library of `tables` that nothing else releases.
    unsafe fn from_raw(tables: &'static Tables, pointer: *mut T) -> Result<Self> {
        match NonNull::new(pointer) {
            // SAFETY: `pointer` is live, and nothing else releases it (fn contract).
            Some(pointer) => Ok(unsafe { Handle::new(tables, pointer) }),
            None => Err(Error::bad_library(format!("the library created a {} and wrote NULL for it", T::NAME))),
        }
    }

    /// Retains a handle that the library lends for the duration of a callback.
    ///
    /// # Safety
    /// `lent` is a live handle of the library of `tables` during this call.
    pub unsafe fn retain(tables: &'static Tables, lent: NonNull<T>) -> Self
    where
        T: Counted,
    {
        let retain = T::retain(tables).expect("a library that lends such handles can retain them");
        // SAFETY: `lent` is live (fn contract).
        unsafe { retain(lent.as_ptr()) };
        // SAFETY: the additional reference keeps `lent` live, and dropping the result releases it.
        unsafe { Handle::new(tables, lent) }
    }

    pub fn as_ptr(&self) -> *const T {
        self.pointer.as_ptr()
    }

    pub fn tables(&self) -> &'static Tables {
        self.tables
    }
}

impl<T: Counted> Clone for Handle<T> {
    fn clone(&self) -> Self {
        // SAFETY: `self` owns its handle, so it is live and of the library of `self.tables`.
        unsafe { Handle::retain(self.tables, self.pointer) }
    }
}

impl<T: Opaque> Drop for Handle<T> {
    fn drop(&mut self) {
        if let Some(release) = T::release(self.tables) {
            // SAFETY: `self` owns its handle (type invariant) and is not used after this.
            unsafe { release(self.pointer.as_ptr()) };
        }
    }
}

impl<T: Opaque> fmt::Debug for Handle<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {:p}", T::NAME, self.pointer)
    }
}
