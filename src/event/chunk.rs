//! Where events are kept: what one reading takes from Kafka is one piece of memory, a chunk, with its events and behind them the
//! bytes of their records. Giving an event back counts down for its chunk, which goes with the last of them.
//!
//! So a host that keeps one event keeps its chunk, which is small. What is large has a chunk to itself. Records that stay in the
//! answer that they came in share one with others of that answer, which is kept for each of them anyway.

use std::alloc::{self, Layout};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::{Event, Parts};
use crate::components::{Provided, Serializer};
use crate::error::Result;
use crate::kafka::{Payload, Pin, RawRecord};
use crate::poison::Poison;
use crate::positions::Positions;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// What a chunk has at most, unless its only event has more.
const MOST_EVENTS: usize = 64;
const MOST_BYTES: usize = 16 * 1024;
/// Of those that stay where they are: librdkafka takes memory for as many of its messages at once.
const MOST_PINNED: usize = 16;

/// An event that somebody has; clones are the same event.
pub struct SharedEvent(NonNull<Event>);

// SAFETY: events are only read, or changed by atomics, and their references are counted by one.
unsafe impl Send for SharedEvent {}
// SAFETY: as above.
unsafe impl Sync for SharedEvent {}

impl SharedEvent {
    /// The reference as a pointer, to be made one again by [`from_raw`](Self::from_raw).
    pub fn into_raw(self) -> *const Event {
        ManuallyDrop::new(self).as_ptr()
    }

    pub fn as_ptr(&self) -> *const Event {
        self.0.as_ptr()
    }

    /// # Safety
    /// `event` came from [`into_raw`](Self::into_raw), and that reference is nobody else's.
    pub unsafe fn from_raw(event: *const Event) -> Self {
        // SAFETY: the caller's promise; references are not null.
        SharedEvent(unsafe { NonNull::new_unchecked(event.cast_mut()) })
    }
}

impl Deref for SharedEvent {
    type Target = Event;

    fn deref(&self) -> &Event {
        #[cfg(feature = "loom")]
        // SAFETY: as below.
        unsafe { self.0.as_ref().chunk.as_ref() }.used.with(|_| ());
        // SAFETY: its chunk lives as long as there is a reference.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for SharedEvent {
    fn clone(&self) -> Self {
        // As `Arc` does: so many can only have been forgotten.
        if self.chunk().references.fetch_add(1, Ordering::Relaxed) > isize::MAX as usize {
            std::process::abort();
        }
        SharedEvent(self.0)
    }
}

impl Drop for SharedEvent {
    fn drop(&mut self) {
        // SAFETY: this reference was counted.
        unsafe { Chunk::release(self.chunk, 1) };
    }
}

/// The head of a piece of memory.
pub(super) struct Chunk {
    /// To its events, and to those that it has room for still.
    references: AtomicUsize,
    /// Those that are there. Only who fills the chunk changes that.
    events: AtomicUsize,
    layout: Layout,
    /// The answer that its events' bytes are in, if they aren't in the chunk.
    pin: Option<Pin>,
    pub(super) positions: Arc<Positions>,
    /// Shows models that each use of an event is before its chunk is freed.
    #[cfg(feature = "loom")]
    used: loom::cell::UnsafeCell<()>,
}

/// Where its first event is.
const FIRST_EVENT: usize = size_of::<Chunk>().next_multiple_of(align_of::<Event>());

impl Chunk {
    fn layout(events: usize, bytes: usize) -> Option<Layout> {
        let size = events.checked_mul(size_of::<Event>())?.checked_add(bytes)?.checked_add(FIRST_EVENT)?;
        Layout::from_size_align(size, align_of::<Chunk>().max(align_of::<Event>())).ok()
    }

    /// # Safety
    /// So many of its references, one at least, are given up.
    unsafe fn release(chunk: NonNull<Chunk>, references: usize) {
        // SAFETY: alive by the references that are given up.
        if unsafe { chunk.as_ref() }.references.fetch_sub(references, Ordering::Release) > references {
            return;
        }
        // Whatever others did with its events was before this. A fence would say so, too, but ThreadSanitizer sees none.
        // SAFETY: as above, and by the last of them.
        unsafe { chunk.as_ref() }.references.load(Ordering::Acquire);
        // SAFETY: nobody has a reference any more; the events are there, and dropped once, as is their memory.
        unsafe {
            let mut chunk = chunk;
            #[cfg(feature = "loom")]
            chunk.as_ref().used.with_mut(|_| ());
            let (layout, events) = (chunk.as_ref().layout, chunk.as_ref().events.load(Ordering::Relaxed));
            // It goes after the events' messages.
            let _pin = chunk.as_mut().pin.take();
            let first_event = chunk.cast::<u8>().add(FIRST_EVENT).cast::<Event>();
            ptr::drop_in_place(ptr::slice_from_raw_parts_mut(first_event.as_ptr(), events));
            chunk.drop_in_place();
            alloc::dealloc(chunk.as_ptr().cast(), layout);
        }
    }
}

/// A chunk that is being filled. It is there until its last event was given away.
pub struct Filling {
    chunk: NonNull<Chunk>,
    /// Where the next event goes, and how many more have room.
    next_event: NonNull<Event>,
    events_left: usize,
    next_byte: NonNull<u8>,
    bytes_left: usize,
}

impl Filling {
    /// For the first of these records, as many as one chunk takes; `None` if there are none.
    pub fn for_first_of(records: &[RawRecord], positions: &Arc<Positions>) -> Option<Self> {
        let (first, others) = records.split_first()?;
        let (first, others) = (&first.payload, others.iter().map(|record| &record.payload));
        if let Some(answer) = first.answer()
            && let Some(pin) = first.pin(answer)
        {
            let beside = others.take(MOST_PINNED - 1).take_while(|payload| payload.answer() == Some(answer));
            return Some(Filling::new(1 + beside.count(), 0, Some(pin), positions));
        }
        let (mut events, mut bytes) = (1, first.bytes().len());
        let to_be_copied = others.take(MOST_EVENTS - 1).take_while(|payload| payload.answer().is_none());
        for size in to_be_copied.map(|payload| payload.bytes().len()) {
            let more = bytes.saturating_add(size);
            if more > MOST_BYTES {
                break;
            }
            (events, bytes) = (events + 1, more);
        }
        let copied = Filling::try_new(events, bytes, None, positions);
        // Where there is no memory for a large copy, the response that holds the record is kept in any case.
        Some(copied.unwrap_or_else(|| Filling::new(1, 0, first.pin_in_any_case(), positions)))
    }

    fn new(events: usize, bytes: usize, pin: Option<Pin>, positions: &Arc<Positions>) -> Self {
        let filling = Filling::try_new(events, bytes, pin, positions);
        filling.unwrap_or_else(|| alloc::handle_alloc_error(Layout::new::<Chunk>()))
    }

    /// `None` if there is no memory.
    fn try_new(events: usize, bytes: usize, pin: Option<Pin>, positions: &Arc<Positions>) -> Option<Self> {
        let layout = Chunk::layout(events, bytes)?;
        // SAFETY: the layout has a size, that of a chunk's head at least.
        let memory = NonNull::new(unsafe { alloc::alloc(layout) })?;
        let chunk = memory.cast::<Chunk>();
        // SAFETY: the parts lie within the layout, the events aligned.
        unsafe {
            chunk.write(Chunk {
                references: AtomicUsize::new(events),
                events: AtomicUsize::new(0),
                layout,
                pin,
                positions: positions.clone(),
                #[cfg(feature = "loom")]
                used: loom::cell::UnsafeCell::new(()),
            });
            let next_event = memory.add(FIRST_EVENT).cast::<Event>();
            let next_byte = next_event.add(events).cast();
            Some(Filling { chunk, next_event, events_left: events, next_byte, bytes_left: bytes })
        }
    }

    /// How many more records it takes.
    pub fn room(&self) -> usize {
        self.events_left
    }

    /// Reads a record; the next of those that it was made for.
    pub fn read(&mut self, record: RawRecord, serializer: &Provided<dyn Serializer>) -> Result<SharedEvent> {
        let parts = Parts::read(record.payload.bytes(), record.offset, serializer)?;
        assert!(self.events_left > 0, "a chunk is filled with the records that it was made for");
        // SAFETY: alive by the reference of the event that there is room for.
        let chunk = unsafe { self.chunk.as_ref() };
        let (bytes, message) = match (record.payload, &chunk.pin) {
            (Payload::Fetched(fetched), Some(pin)) => {
                // SAFETY: the chunk, made for this record, drops its events before it lets the client go.
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
            offset: record.offset,
            partition: record.partition,
            timestamp_ms: record.timestamp_ms,
            assignment: record.assignment,
        }))
    }

    fn copy(&mut self, bytes: &[u8]) -> NonNull<[u8]> {
        assert!(bytes.len() <= self.bytes_left, "a chunk is filled with the records that it was made for");
        let copied = self.next_byte;
        // SAFETY: so much room is left behind it, which nobody has a reference to.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), copied.as_ptr(), bytes.len());
            self.next_byte = copied.add(bytes.len());
        }
        self.bytes_left -= bytes.len();
        NonNull::slice_from_raw_parts(copied, bytes.len())
    }

    /// Gives it the reference that was counted for it.
    fn add(&mut self, event: Event) -> SharedEvent {
        // Nobody else changes it.
        let there = &event.chunk().events;
        there.store(there.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let place = self.next_event;
        // SAFETY: so much room is left there.
        unsafe {
            place.write(event);
            self.next_event = place.add(1);
        }
        self.events_left -= 1;
        SharedEvent(place)
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if self.events_left > 0 {
            // SAFETY: the references of events that there are none of.
            unsafe { Chunk::release(self.chunk, self.events_left) };
        }
    }
}
