//! Where Rust meets C: the loaded tables, the one way to call a slot of them, and the one way to own a handle.
//! Nothing in here knows what a function does.

use std::ffi::c_char;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{NonNull, null_mut};
use std::time::Duration;

use octopus::abi::*;

use crate::error::{Error, Persisted, Result, SkippedOffsets, Status};
use crate::services::is_overheard;

/// A wait without an end.
pub const FOREVER: Duration = Duration::MAX;

/// The plugin's tables as this host was built to know them: a slot that the plugin's table is too short for is
/// `None`, like one that has nothing built behind it.
pub(crate) struct Tables {
    pub api: octopus_api,
    pub error: octopus_error_api,
    pub string: octopus_string_api,
    pub driver: octopus_driver_api,
    pub topic: octopus_topic_api,
    pub producer: octopus_producer_api,
    pub consumer: octopus_consumer_api,
    pub future: octopus_future_api,
    pub event: octopus_event_api,
    pub thread_pool: octopus_thread_pool_api,
}

impl Tables {
    /// # Safety
    /// `api` is what `octopus_register` of a library that is never unmapped returned, for the major of this host.
    pub unsafe fn copy(api: *const octopus_api) -> Self {
        // SAFETY: the caller's promise; each table begins with its size, and lives until the process ends.
        unsafe {
            let api = copy_table(api);
            Tables {
                error: copy_table(api.error),
                string: copy_table(api.string),
                driver: copy_table(api.driver),
                topic: copy_table(api.topic),
                producer: copy_table(api.producer),
                consumer: copy_table(api.consumer),
                future: copy_table(api.future),
                event: copy_table(api.event),
                thread_pool: copy_table(api.thread_pool),
                api,
            }
        }
    }

    /// What a slot came to, with the error object that it may have written.
    ///
    /// # Safety
    /// `error` is NULL, or an error of this library that nobody else releases.
    pub unsafe fn outcome(&self, slot: &str, status: octopus_status, error: *mut octopus_error) -> Result<()> {
        if status == OCTOPUS_OK {
            return Ok(());
        }
        let mut failure = Error::bare(slot, Status::from_code(status));
        if !error.is_null() {
            // SAFETY: the caller's promise; the message is copied before the error is released.
            unsafe {
                failure.kafka_code = self.error.kafka_code.map(|get| get(error)).filter(|&code| code != 0);
                failure.retriable = self.error.retriable.is_some_and(|get| get(error) != 0);
                if self.error.persisted.is_some_and(|get| get(error) == OCTOPUS_PERSISTED_POSSIBLY) {
                    failure.persisted = Persisted::Possibly;
                }
                if let Some(get) = self.error.skipped {
                    let mut offsets = SkippedOffsets { partition: 0, first: 0, last: 0 };
                    let is_known = get(error, &mut offsets.partition, &mut offsets.first, &mut offsets.last) != 0;
                    failure.skipped = is_known.then_some(offsets);
                }
                if let Some(get) = self.error.message {
                    failure.message = read_text(get(error)).into_owned();
                    is_overheard(&failure.message);
                }
                if let Some(release) = self.error.release {
                    release(error);
                }
            }
        }
        Err(failure)
    }
}

/// A table, whole slots of it, up to the smaller of both sizes; zeros behind.
///
/// # Safety
/// `table` is NULL, or begins with a `u64` that says how many bytes can be read; `T` may be all zeros.
unsafe fn copy_table<T>(table: *const T) -> T {
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: so many bytes are readable there and writable here, and zeros are valid for what is left.
    unsafe {
        if !table.is_null() {
            let size = usize::try_from(table.cast::<u64>().read()).unwrap_or(usize::MAX).min(size_of::<T>());
            let whole_slots = size - size % size_of::<usize>();
            table.cast::<u8>().copy_to_nonoverlapping(copy.as_mut_ptr().cast(), whole_slots);
        }
        copy.assume_init()
    }
}

/// Calls a slot that takes an `octopus_error **` at its end, and gives its outcome as a `Result<()>`: with a handle,
/// `call!(handle, topic.name(&mut name))`, which is the first argument, or with the tables alone,
/// `call!(in tables, driver.create(config, services, &mut driver))`. The arguments are evaluated only if there is
/// such a slot. To be written inside `unsafe`: pointers must be what include/octopus.h asks for.
macro_rules! call {
    (in $tables:expr, $table:ident.$slot:ident($($argument:expr),* $(,)?)) => {{
        const NAME: &str = concat!(stringify!($table), ".", stringify!($slot));
        let tables: &'static $crate::raw::Tables = $tables;
        match tables.$table.$slot {
            None => Err($crate::error::Error::not_built(NAME)),
            Some(slot) => {
                let mut error = ::std::ptr::null_mut();
                let status = slot($($argument,)* &mut error);
                tables.outcome(NAME, status, error)
            }
        }
    }};
    ($handle:expr, $table:ident.$slot:ident($($argument:expr),* $(,)?)) => {
        $crate::raw::call!(in $handle.tables(), $table.$slot($handle.as_ptr(), $($argument),*))
    };
}
pub(crate) use call;

/// What C knows by a pointer only, and how the plugin takes it back.
pub(crate) trait Opaque: Sized {
    const NAME: &'static str;
    fn release(tables: &Tables) -> Option<unsafe extern "C" fn(*mut Self)>;
}

/// An opaque type of which several handles can be had.
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
    octopus_string: string;
    octopus_driver: driver;
    octopus_topic: topic;
    octopus_producer: producer;
    octopus_consumer: consumer;
    octopus_future: future, retain;
    octopus_event: event, retain;
    octopus_thread_pool: thread_pool;
}

/// A handle of the plugin's that is ours, and is given back when it is dropped.
pub(crate) struct Handle<T: Opaque> {
    pointer: NonNull<T>,
    tables: &'static Tables,
}

// SAFETY: include/octopus.h says of every table that its functions may be called from any thread, also at the same
// time, and of every release that it may, too.
unsafe impl<T: Opaque> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T: Opaque> Sync for Handle<T> {}

impl<T: Opaque> Handle<T> {
    /// Owns what `call` writes.
    ///
    /// # Safety
    /// If `call` succeeds, it has written a handle that came from these tables and that nobody else releases.
    pub unsafe fn made(tables: &'static Tables, call: impl FnOnce(&mut *mut T) -> Result<()>) -> Result<Self> {
        let mut pointer = null_mut();
        call(&mut pointer)?;
        // SAFETY: the caller's promise.
        unsafe { Handle::owned(tables, pointer) }
    }

    /// Owns each of these; an error if one is NULL.
    ///
    /// # Safety
    /// Each is NULL, or a handle that came from these tables and that nobody else releases.
    pub unsafe fn all_owned(tables: &'static Tables, pointers: Vec<*mut T>) -> Result<Vec<Self>> {
        // SAFETY: the caller's promise. All are owned before the first is looked at, so that none is lost for another.
        let owned: Vec<_> = pointers.into_iter().map(|pointer| unsafe { Handle::owned(tables, pointer) }).collect();
        owned.into_iter().collect()
    }

    /// # Safety
    /// As for [`all_owned`](Self::all_owned).
    unsafe fn owned(tables: &'static Tables, pointer: *mut T) -> Result<Self> {
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Handle { pointer, tables }),
            None => Err(Error::bad_library(format!("the library made a {} and gave NULL for it", T::NAME))),
        }
    }

    /// Shares what the plugin lends for the length of a callback.
    ///
    /// # Safety
    /// `lent` is a live handle of these tables during this call.
    pub unsafe fn shared(tables: &'static Tables, lent: NonNull<T>) -> Self
    where
        T: Counted,
    {
        let retain = T::retain(tables).expect("whoever lends such handles can retain them");
        // SAFETY: the caller's promise; what is made here does the one release more.
        unsafe { retain(lent.as_ptr()) };
        Handle { pointer: lent, tables }
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
        let retain = T::retain(self.tables).expect("whoever makes such handles can retain them");
        // SAFETY: a live handle; the clone does the one release more.
        unsafe { retain(self.as_ptr()) };
        Handle { pointer: self.pointer, tables: self.tables }
    }
}

impl<T: Opaque> Drop for Handle<T> {
    fn drop(&mut self) {
        if let Some(release) = T::release(self.tables) {
            // SAFETY: a live handle, given back once.
            unsafe { release(self.pointer.as_ptr()) };
        }
    }
}

impl<T: Opaque> fmt::Debug for Handle<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {:p}", T::NAME, self.pointer)
    }
}

/// A view for C that is valid as long as `text` is.
pub(crate) fn text(text: &str) -> octopus_text {
    octopus_text { data: text.as_ptr().cast::<c_char>(), size: text.len() as u64 }
}

/// As [`text`]; `(NULL, 0)` for `None`.
pub(crate) fn optional_text(optional: Option<&str>) -> octopus_text {
    optional.map_or(octopus_text { data: std::ptr::null(), size: 0 }, text)
}

/// A view for C that is valid as long as `bytes` are.
pub(crate) fn bytes(bytes: &[u8]) -> octopus_bytes {
    octopus_bytes { data: bytes.as_ptr(), size: bytes.len() as u64 }
}

/// # Safety
/// `data` is NULL or readable for `size` bytes for as long as the result is used.
pub(crate) unsafe fn read_bytes<'a>(data: *const u8, size: u64) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise; what can be read has a size that fits.
    unsafe { std::slice::from_raw_parts(data, size as usize) }
}

/// A text of the plugin's, which is UTF-8 by the ABI; were it not, the wrong bytes show as replacement characters.
///
/// # Safety
/// As for [`read_bytes`].
pub(crate) unsafe fn read_text<'a>(text: octopus_text) -> std::borrow::Cow<'a, str> {
    // SAFETY: the caller's promise.
    String::from_utf8_lossy(unsafe { read_bytes(text.data.cast(), text.size) })
}

/// The ABI's time limits: a time too short to say still waits a little, one too long to say waits for ever.
pub(crate) fn millis(time: Duration) -> i64 {
    const ALMOST_A_MILLISECOND: Duration = Duration::from_nanos(999_999);
    i64::try_from(time.saturating_add(ALMOST_A_MILLISECOND).as_millis()).unwrap_or(-1)
}
