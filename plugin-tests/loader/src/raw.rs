//! Copies of the loaded tables, the macro that calls a slot of them, and conversions of texts,
//! bytes and timeouts.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::ptr::{NonNull, null, null_mut};
use std::slice;
use std::time::Duration;

use crate::abi::*;
use crate::error::{Error, Persisted, Result, SkippedOffsets, Status};
use crate::handle::Handle;
use crate::services::observe_text;

/// A timeout that never ends.
pub const FOREVER: Duration = Duration::MAX;

/// The library's tables with the length that this crate is built for. A slot beyond the end of the
/// library's own table is `None`, as is one that the library doesn't implement.
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

// SAFETY: a table never changes. Its texts and functions live until the process ends, and
// include/octopus.h allows each function from any thread.
unsafe impl Send for Tables {}
// SAFETY: as for `Send`.
unsafe impl Sync for Tables {}

impl Tables {
    /// Copies every table of the library.
    ///
    /// # Safety
    /// `api` is what `octopus_register` returned for this crate's major version, not NULL, and the
    /// library is mapped during this call.
    pub unsafe fn copy(api: *const octopus_api) -> Self {
        // SAFETY: include/octopus.h guarantees that what `octopus_register` returns (fn contract)
        // begins with its size. All zeros are a valid `octopus_api`: its fields are integers,
        // pointers and optional functions.
        let api = unsafe { copy_table(api) };
        macro_rules! copy_of {
            ($table:ident) => {
                // SAFETY: include/octopus.h guarantees that each table is NULL or begins with its
                // size. All zeros are a valid table: its fields are an integer and optional
                // functions.
                unsafe { copy_table(api.$table) }
            };
        }
        Tables {
            error: copy_of!(error),
            string: copy_of!(string),
            driver: copy_of!(driver),
            topic: copy_of!(topic),
            producer: copy_of!(producer),
            consumer: copy_of!(consumer),
            future: copy_of!(future),
            event: copy_of!(event),
            thread_pool: copy_of!(thread_pool),
            api,
        }
    }
}

/// The last argument of one call of a slot: where the library writes its error object.
///
/// Invariant: `pointer` is NULL, or a live error of the library of `tables` that nothing else
/// releases.
pub(crate) struct ErrorOutput {
    tables: &'static Tables,
    pointer: *mut octopus_error,
}

impl ErrorOutput {
    #[inline]
    pub fn new(tables: &'static Tables) -> Self {
        ErrorOutput { tables, pointer: null_mut() }
    }

    /// The argument of the slot. Only unsafe code can write through it, and has to preserve the
    /// type's invariant; a slot of the library of `tables` does (include/octopus.h).
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut *mut octopus_error {
        &mut self.pointer
    }

    /// Converts the status of the slot, and the error object if there is one, which is released.
    pub fn into_result(self, slot: &str, status: octopus_status) -> Result<()> {
        if status == OCTOPUS_OK {
            return Ok(());
        }
        let mut failure = Error::from_status(slot, Status::from_code(status));
        let Some(pointer) = NonNull::new(self.pointer) else { return Err(failure) };
        // SAFETY: the error is live, and nothing else releases it (type invariant).
        let owned = unsafe { Handle::new(self.tables, pointer) };
        let (slots, error) = (&self.tables.error, owned.as_ptr());
        // SAFETY: `error` is live, since `owned` is released at the end of this function.
        failure.kafka_code = slots.kafka_code.map(|get| unsafe { get(error) }).filter(|&code| code != 0);
        // SAFETY: as for `kafka_code`.
        failure.retriable = slots.retriable.is_some_and(|get| unsafe { get(error) } != 0);
        // SAFETY: as for `kafka_code`.
        if slots.persisted.is_some_and(|get| unsafe { get(error) } == OCTOPUS_PERSISTED_POSSIBLY) {
            failure.persisted = Persisted::Possibly;
        }
        if let Some(get) = slots.skipped {
            let mut offsets = SkippedOffsets { partition: 0, first: 0, last: 0 };
            // SAFETY: as for `kafka_code`; the outputs are local variables.
            let is_known = unsafe { get(error, &mut offsets.partition, &mut offsets.first, &mut offsets.last) } != 0;
            failure.skipped = is_known.then_some(offsets);
        }
        if let Some(get) = slots.message {
            // SAFETY: as for `kafka_code`.
            let message = unsafe { get(error) };
            // SAFETY: the text is valid until the error is released (include/octopus.h), and is
            // copied before that.
            failure.message = unsafe { read_text(message) }.into_owned();
            observe_text(&failure.message);
        }
        Err(failure)
    }
}

/// Copies the whole slots that both sizes cover. The rest of the copy is zero.
///
/// # Safety
/// `table` is NULL, or begins with a `u64` that is the number of its readable bytes. All zeros are
/// a valid `T`.
unsafe fn copy_table<T>(table: *const T) -> T {
    let mut copy = MaybeUninit::<T>::zeroed();
    if !table.is_null() {
        // SAFETY: a table that is not NULL begins with a readable `u64` (fn contract).
        let size = unsafe { table.cast::<u64>().read() };
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(size_of::<T>());
        let whole_slots = size - size % size_of::<usize>();
        // SAFETY: the table has at least `whole_slots` readable bytes (fn contract), `copy` has
        // `size_of::<T>()` writable ones, and neither overlaps.
        unsafe { table.cast::<u8>().copy_to_nonoverlapping(copy.as_mut_ptr().cast(), whole_slots) };
    }
    // SAFETY: `copy` is initialized: zeros are a valid `T` (fn contract), and so are whole slots of
    // the same layout.
    unsafe { copy.assume_init() }
}

/// Calls a slot whose last parameter is an `octopus_error **` and converts the outcome to a
/// `Result<()>`. With a handle, which becomes the first argument: `call!(handle, topic.name(&mut
/// name))`. With the tables alone: `call!(in tables, driver.create(config, services, &mut
/// driver))`. Arguments are evaluated only if the library has the slot.
///
/// Used within `unsafe`, of which it is one operation: the arguments must be what include/octopus.h
/// requires.
macro_rules! call {
    (in $tables:expr, $table:ident.$slot:ident($($argument:expr),* $(,)?)) => {{
        const NAME: &str = concat!(stringify!($table), ".", stringify!($slot));
        let tables: &'static $crate::raw::Tables = $tables;
        match tables.$table.$slot {
            None => Err($crate::error::Error::missing_slot(NAME)),
            Some(slot) => {
                let mut error = $crate::raw::ErrorOutput::new(tables);
                let status = slot($($argument,)* error.as_mut_ptr());
                error.into_result(NAME, status)
            }
        }
    }};
    ($handle:expr, $table:ident.$slot:ident($($argument:expr),* $(,)?)) => {
        $crate::raw::call!(in $handle.tables(), $table.$slot($handle.as_ptr(), $($argument),*))
    };
}
pub(crate) use call;

pub(crate) const EMPTY_TEXT: octopus_text = octopus_text { data: null(), size: 0 };
pub(crate) const EMPTY_BYTES: octopus_bytes = octopus_bytes { data: null(), size: 0 };

/// Borrows a text for C.
pub(crate) fn text(text: &str) -> octopus_text {
    octopus_text { data: text.as_ptr().cast(), size: text.len() as u64 }
}

/// Borrows a text for C; `None` is `(NULL, 0)`.
pub(crate) fn optional_text(optional: Option<&str>) -> octopus_text {
    optional.map_or(EMPTY_TEXT, text)
}

/// Borrows bytes for C.
pub(crate) fn bytes(bytes: &[u8]) -> octopus_bytes {
    octopus_bytes { data: bytes.as_ptr(), size: bytes.len() as u64 }
}

/// Bytes that C lends; none for NULL.
///
/// # Safety
/// `data` is NULL, or readable for `size` bytes and unchanged during `'a`.
pub(crate) unsafe fn read_bytes<'a>(data: *const u8, size: u64) -> &'a [u8] {
    // SAFETY: see `read_array`, which has the same contract.
    unsafe { read_array(data, size) }
}

/// An array that C lends; an empty one for NULL.
///
/// # Safety
/// `data` is NULL, or points to `count` elements that are readable and unchanged during `'a`.
pub(crate) unsafe fn read_array<'a, T>(data: *const T, count: u64) -> &'a [T] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: `data` is not NULL and has `count` readable elements during `'a` (fn contract). What
    // is readable lies in the address space, so `count` fits into `usize`.
    unsafe { slice::from_raw_parts(data, count as usize) }
}

/// A text of the library. The ABI says that it is UTF-8; bytes that are not become replacement
/// characters.
///
/// # Safety
/// `text.data` is NULL, or readable for `text.size` bytes and unchanged during `'a`.
pub(crate) unsafe fn read_text<'a>(text: octopus_text) -> Cow<'a, str> {
    // SAFETY: `text` is readable during `'a` (fn contract).
    String::from_utf8_lossy(unsafe { read_bytes(text.data.cast(), text.size) })
}

/// Milliseconds for the ABI, rounded up, so that a short timeout still waits. One that does not fit
/// never ends.
pub(crate) fn millis(time: Duration) -> i64 {
    const ALMOST_A_MILLISECOND: Duration = Duration::from_nanos(999_999);
    i64::try_from(time.saturating_add(ALMOST_A_MILLISECOND).as_millis()).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_rounded_up() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_millis(7)), 7);
        assert_eq!(millis(FOREVER), -1);
    }

    extern "C" fn code(_: *const octopus_error) -> octopus_status {
        OCTOPUS_OK
    }

    /// A library with an older minor version has shorter tables.
    #[test]
    fn slots_beyond_a_short_table_are_none() {
        // SAFETY: zeros are a valid table without functions.
        let mut table: octopus_error_api = unsafe { MaybeUninit::zeroed().assume_init() };
        table.code = Some(code);
        table.skipped = Some(skipped);
        // One byte of the last slot is missing.
        table.size = size_of::<octopus_error_api>() as u64 - 1;
        // SAFETY: more bytes than `size` are readable, and zeros are a valid table.
        let copy = unsafe { copy_table(&table) };
        assert!(copy.code.is_some() && copy.skipped.is_none());
    }

    extern "C" fn skipped(_: *const octopus_error, _: *mut u32, _: *mut u64, _: *mut u64) -> i32 {
        0
    }

    #[test]
    fn missing_table_has_no_slots() {
        // SAFETY: NULL is allowed, and zeros are a valid table.
        let copy = unsafe { copy_table::<octopus_string_api>(null()) };
        assert!(copy.size == 0 && copy.view.is_none() && copy.release.is_none());
    }
}
