//! The memory of consumed events. Events that are read together share one allocation, a chunk: its
//! header, its events, and then the bytes of their records. The chunk counts the references to its
//! events; releasing the last one frees it.
//!
//! A host that keeps one event keeps its chunk. So chunks are small, and a large event has a chunk
//! to itself. Records that stay in their fetch response share a chunk only with others of that
//! response, which each of them keeps anyway.

use std::alloc::{self, Layout};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::{Event, RecordParts, RecordReading};
use crate::kafka::librdkafka::pinned_responses::Pin;
use crate::kafka::librdkafka::record::{Payload, RawRecord};
use crate::positions::Positions;
use crate::support::error::Result;
use crate::support::poison::Poison;
use crate::support::sync::atomic::{AtomicUsize, Ordering};

/// The limits of a chunk; a single event may have more bytes.
const MAX_EVENTS: usize = 64;
const MAX_BYTES: usize = 16 * 1024;
/// The limit of events that stay in their fetch response: librdkafka allocates its messages in
/// slabs of this size.
const MAX_PINNED: usize = 16;

/// A counted reference to an event. Clones refer to the same event.
pub struct SharedEvent(NonNull<Event>);

// SAFETY: `Event` is `Send` and `Sync`, and an atomic counts its references.
unsafe impl Send for SharedEvent {}
// SAFETY: as for `Send`.
unsafe impl Sync for SharedEvent {}

impl SharedEvent {
    /// Converts the reference to a pointer, for [`from_raw`](Self::from_raw).
    pub fn into_raw(self) -> *const Event {
        ManuallyDrop::new(self).as_ptr()
    }

    pub fn as_ptr(&self) -> *const Event {
        self.0.as_ptr()
    }

    /// # Safety
    /// `event` came from [`into_raw`](Self::into_raw), and is converted back once.
    pub unsafe fn from_raw(event: *const Event) -> Self {
        // SAFETY: `event` came from `into_raw` (contract of this function), so it is not NULL.
        SharedEvent(unsafe { NonNull::new_unchecked(event.cast_mut()) })
    }
}

impl Deref for SharedEvent {
    type Target = Event;

    fn deref(&self) -> &Event {
        // SAFETY: the event lies in its chunk, which this reference keeps alive.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for SharedEvent {
    fn clone(&self) -> Self {
        // Aborts as `Arc` does: this many references exist only if they are leaked in a loop, and
        // the count must not overflow.
        if self.chunk().references.fetch_add(1, Ordering::Relaxed) > isize::MAX as usize {
            std::process::abort();
        }
        SharedEvent(self.0)
    }
}

impl Drop for SharedEvent {
    fn drop(&mut self) {
        // SAFETY: the chunk counts this reference, which ends here.
        unsafe { Chunk::release(self.chunk, 1) };
    }
}

/// The header of a chunk.
pub(super) struct Chunk {
    /// References to the chunk's events, and one for each event that may still be added.
    references: AtomicUsize,
    /// The number of events in the chunk. Only its builder changes it.
    events: AtomicUsize,
    layout: Layout,
    /// Keeps the fetch response with the bytes of the events, if these are not in the chunk.
    pin: Option<Pin>,
    pub(super) positions: Arc<Positions>,
}

/// The offset of the first event in a chunk.
const FIRST_EVENT: usize = size_of::<Chunk>().next_multiple_of(align_of::<Event>());

impl Chunk {
    fn layout(events: usize, bytes: usize) -> Option<Layout> {
        let size = events.checked_mul(size_of::<Event>())?.checked_add(bytes)?.checked_add(FIRST_EVENT)?;
        Layout::from_size_align(size, align_of::<Chunk>().max(align_of::<Event>())).ok()
    }

    /// Releases references; the last one frees the chunk.
    ///
    /// # Safety
    /// The caller owns `references` of the chunk's references, at least one, and does not use them
    /// afterwards.
    unsafe fn release(chunk: NonNull<Chunk>, references: usize) {
        // SAFETY: the references that the caller owns keep the chunk alive (contract of this
        // function).
        if unsafe { chunk.as_ref() }.references.fetch_sub(references, Ordering::Release) > references {
            return;
        }
        // Synchronizes with each release, so that all uses of the events happen before they are
        // freed. A load, since ThreadSanitizer doesn't support the fence that would do, too.
        // SAFETY: only the releaser of the last reference, this thread, frees the chunk.
        unsafe { chunk.as_ref() }.references.load(Ordering::Acquire);
        // SAFETY: this thread released the last reference.
        unsafe { Chunk::free(chunk) };
    }

    /// # Safety
    /// No reference to the chunk or its events is left, and this is called once.
    #[inline]
    unsafe fn free(mut chunk: NonNull<Chunk>) {
        // SAFETY: the chunk is initialized, and nothing else refers to it (contract of this
        // function).
        let header = unsafe { chunk.as_mut() };
        let (layout, count) = (header.layout, header.events.load(Ordering::Relaxed));
        // The messages of the events refer to the pinned response, so it is released after them.
        let _pin = header.pin.take();
        // SAFETY: the layout has at least `FIRST_EVENT` bytes.
        let first_event = unsafe { chunk.cast::<u8>().add(FIRST_EVENT) }.cast::<Event>();
        for index in 0..count {
            // SAFETY: the builder initialized `count` events there.
            let event = unsafe { first_event.add(index) };
            // SAFETY: as above. Most events own nothing, which is cheaper to see than to drop.
            if unsafe { event.as_ref() }.owns_memory() {
                // SAFETY: as above; each is dropped once, here.
                unsafe { event.drop_in_place() };
            }
        }
        // SAFETY: the header is initialized and dropped once, here.
        unsafe { chunk.drop_in_place() };
        // SAFETY: `try_new` allocated the chunk with this layout, and nothing refers to it any
        // more.
        unsafe { alloc::dealloc(chunk.as_ptr().cast(), layout) };
    }
}

/// Fills a new chunk with events. It owns the references of the events that are not added yet.
pub struct ChunkBuilder {
    chunk: NonNull<Chunk>,
    /// Where the next event goes.
    next_event: NonNull<Event>,
    /// How many more events the chunk takes.
    events_left: usize,
    /// Where the bytes of the next copied record go.
    next_byte: NonNull<u8>,
    bytes_left: usize,
}

impl ChunkBuilder {
    /// Allocates a chunk for the first of these records: for as many as fit into one chunk. `None`
    /// if there are no records.
    pub fn for_leading(records: &[RawRecord], positions: &Arc<Positions>) -> Option<Self> {
        let (first, others) = records.split_first()?;
        let (first, others) = (&first.payload, others.iter().map(|record| &record.payload));
        if let Some(response) = first.response()
            && let Some(pin) = first.pin(response)
        {
            let beside = others.take(MAX_PINNED - 1).take_while(|payload| payload.response() == Some(response));
            return Some(ChunkBuilder::new(1 + beside.count(), 0, Some(pin), positions));
        }
        let (mut events, mut bytes) = (1, first.bytes().len());
        let copied = others.take(MAX_EVENTS - 1).take_while(|payload| payload.response().is_none());
        for size in copied.map(|payload| payload.bytes().len()) {
            let more = bytes.saturating_add(size);
            if more > MAX_BYTES {
                break;
            }
            (events, bytes) = (events + 1, more);
        }
        let builder = ChunkBuilder::try_new(events, bytes, None, positions);
        // If there is no memory for a large copy, the chunk pins the response even beyond the
        // limit.
        Some(builder.unwrap_or_else(|| ChunkBuilder::new(1, 0, first.pin_beyond_limit(), positions)))
    }

    fn new(events: usize, bytes: usize, pin: Option<Pin>, positions: &Arc<Positions>) -> Self {
        let builder = ChunkBuilder::try_new(events, bytes, pin, positions);
        builder.unwrap_or_else(|| alloc::handle_alloc_error(Layout::new::<Chunk>()))
    }

    /// `None` if memory is exhausted.
    fn try_new(events: usize, bytes: usize, pin: Option<Pin>, positions: &Arc<Positions>) -> Option<Self> {
        let layout = Chunk::layout(events, bytes)?;
        // SAFETY: the layout's size is not 0, since it includes the header.
        let memory = NonNull::new(unsafe { alloc::alloc(layout) })?;
        let chunk = memory.cast::<Chunk>();
        let header = Chunk {
            references: AtomicUsize::new(events),
            events: AtomicUsize::new(0),
            layout,
            pin,
            positions: positions.clone(),
        };
        // SAFETY: the layout begins with a header and is aligned for it.
        unsafe { chunk.write(header) };
        // SAFETY: in the layout, `events` events follow at `FIRST_EVENT`, aligned.
        let next_event = unsafe { memory.add(FIRST_EVENT) }.cast::<Event>();
        // SAFETY: in the layout, `bytes` bytes follow the events.
        let next_byte = unsafe { next_event.add(events) }.cast();
        Some(ChunkBuilder { chunk, next_event, events_left: events, next_byte, bytes_left: bytes })
    }

    /// How many more records the chunk takes.
    pub fn remaining(&self) -> usize {
        self.events_left
    }

    /// Decodes a record and adds its event. The caller passes the records of
    /// [`for_leading`](Self::for_leading), in order. A malformed record adds nothing.
    pub fn read(&mut self, mut record: RawRecord, reading: &RecordReading) -> Result<SharedEvent> {
        let parts = RecordParts::read(&record.payload, reading)?;
        let attributes = record.payload.attributes()?;
        let (timestamp_ms, timestamp_type) = record.payload.timestamp();
        assert!(self.events_left > 0, "the chunk has no capacity for this record");
        // SAFETY: this builder owns the reference of the next event, which keeps the chunk alive.
        let chunk = unsafe { self.chunk.as_ref() };
        let (bytes, message) = match (record.payload, &chunk.pin) {
            (Payload::Fetched(fetched), Some(pin)) => {
                // SAFETY: `Chunk::free` drops the events, with their messages, before the pin.
                let message = unsafe { fetched.keep(pin) };
                (NonNull::from(message.payload()), Some(message))
            }
            (payload, _) => (self.copy(payload.bytes()), None),
        };
        Ok(self.add(Event {
            poison: Poison::default(),
            chunk: self.chunk,
            bytes,
            _message: message,
            parts,
            attributes,
            offset: record.offset,
            partition: record.partition,
            timestamp_type,
            timestamp_ms,
            assignment: record.assignment,
        }))
    }

    fn copy(&mut self, bytes: &[u8]) -> NonNull<[u8]> {
        assert!(bytes.len() <= self.bytes_left, "the chunk has no capacity for this record");
        let copied = self.next_byte;
        // SAFETY: `bytes_left` bytes, checked above, are free there, and no reference to them
        // exists.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), copied.as_ptr(), bytes.len()) };
        // SAFETY: the new position is at most at the end of the allocation, as checked above.
        self.next_byte = unsafe { copied.add(bytes.len()) };
        self.bytes_left -= bytes.len();
        NonNull::slice_from_raw_parts(copied, bytes.len())
    }

    /// Adds an event and returns the reference that was counted for it. The caller has checked that
    /// `events_left` is not 0.
    fn add(&mut self, event: Event) -> SharedEvent {
        let count = &event.chunk().events;
        // Not a `fetch_add`, which costs more: only this builder changes the number.
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let added = self.next_event;
        // SAFETY: the layout has space for `events_left` more events there, at least one (see
        // above).
        unsafe { added.write(event) };
        // SAFETY: the new position is at most after the last event of the layout.
        self.next_event = unsafe { added.add(1) };
        self.events_left -= 1;
        SharedEvent(added)
    }
}

impl Drop for ChunkBuilder {
    fn drop(&mut self) {
        if self.events_left > 0 {
            // SAFETY: this builder owns the references of the events that were not added.
            unsafe { Chunk::release(self.chunk, self.events_left) };
        }
    }
}
