//! Detection of forked children.
//!
//! A child has the memory of its parent and none of its threads; locks are as they were at the moment
//! of the fork. So the library does nothing in a child but to close the sockets that it inherited.
//! What the child needs is done by a copy of the library (`abi/forked_child.rs`), whose state is new.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::protection::Protection;

/// In the process that registered, and in a child that could take over since nothing had been used.
const OWNER: u8 = 1;
/// In a child made by `fork`: libc has run its handlers, so its own locks can be taken.
const FORKED: u8 = 2;
// In a child made by `_Fork` or by a system call, the mark is 0: the memory was wiped, and no handler has run.

static UNWATCHED: AtomicU8 = AtomicU8::new(OWNER);
static MARK: AtomicPtr<AtomicU8> = AtomicPtr::new((&raw const UNWATCHED).cast_mut());

/// Whether objects were ever made here, or are being made.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// Whether this process was forked from one that had registered, and uses this library all the same.
static IS_ADOPTED: AtomicBool = AtomicBool::new(false);

/// How many forks lie between this copy of the library and the one that the program loaded, plus one.
static GENERATION: AtomicU32 = AtomicU32::new(1);

#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Whether this process was forked from one that had registered: such children often end by `_exit`.
pub fn is_in_child() -> bool {
    generation() > 1 || IS_ADOPTED.load(Ordering::Relaxed)
}

/// For the library that loads a copy of itself: where the copy has its generation.
pub fn generation_cell() -> &'static AtomicU32 {
    &GENERATION
}

fn mark() -> &'static AtomicU8 {
    // SAFETY: points to a static, or to memory that is never unmapped and all of whose values are valid.
    unsafe { &*MARK.load(Ordering::Acquire) }
}

#[inline]
pub fn is_forked_child() -> bool {
    mark().load(Ordering::Relaxed) != OWNER
}

/// Whether libc can be used for more than its async-signal-safe functions.
pub fn was_announced() -> bool {
    mark().load(Ordering::Relaxed) == FORKED
}

/// To be called before anything is made, or locked in order to make it.
pub fn note_use() {
    IS_USED.store(true, Ordering::SeqCst);
}

/// Makes this child the owner of the library's state, if its parent has never used any. Returns whether it is.
pub fn adopt_unused() -> bool {
    if !IS_USED.load(Ordering::SeqCst)
        && mark().compare_exchange(FORKED, OWNER, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    {
        IS_ADOPTED.store(true, Ordering::Relaxed);
    }
    // Another thread of the child may have come first, and use it already.
    !is_forked_child()
}

/// Notices children from now on. A mark read per call is cheap; asking for the process id each time is not.
///
/// It takes no lock, which another thread could hold when the process forks: one caller does the work, and the others
/// don't wait for it.
pub fn watch() {
    /// The process that sets this up, or `DONE`. A child that was forked meanwhile starts anew.
    static WATCHED_BY: AtomicI32 = AtomicI32::new(0);
    const DONE: i32 = -1;
    // SAFETY: has no preconditions.
    let this_process = unsafe { libc::getpid() };
    let before = WATCHED_BY.load(Ordering::Acquire);
    let is_mine = before != DONE
        && before != this_process
        && WATCHED_BY.compare_exchange(before, this_process, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if !is_mine {
        return;
    }
    // First, so that no child with a wiped mark goes without its handler.
    // SAFETY: the handlers are plain functions in a library that is never unmapped; that of the child is
    // async-signal-safe.
    unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
    if let Some(wiped) = memory_wiped_in_children() {
        wiped.store(OWNER, Ordering::Relaxed);
        MARK.store(std::ptr::from_ref(wiped).cast_mut(), Ordering::Release);
    }
    WATCHED_BY.store(DONE, Ordering::Release);
}

extern "C" fn before_fork() {
    const TRIES: usize = 10_000;
    const PAUSE: Duration = Duration::from_micros(100);
    SOCKETS.gate.close();
    for _ in 0..TRIES {
        if SOCKETS.resolving.load(Ordering::Acquire) == 0 {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

extern "C" fn in_parent() {
    SOCKETS.gate.open();
}

extern "C" fn in_child() {
    mark().store(FORKED, Ordering::Relaxed);
    SOCKETS.descriptors.close_all();
    SOCKETS.resolving.store(0, Ordering::Release);
    SOCKETS.gate.open();
}

/// Memory that the system fills with zeros in every child, also in one made by `_Fork` or by another C library in the
/// process, of which `pthread_atfork` hears nothing.
fn memory_wiped_in_children() -> Option<&'static AtomicU8> {
    const ANY: *mut libc::c_void = std::ptr::null_mut();
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory, anywhere; the system makes whole pages of it.
    let page = unsafe { libc::mmap(ANY, 1, access, kind, -1, 0) };
    // SAFETY: that memory is ours.
    if page == libc::MAP_FAILED || unsafe { libc::madvise(page, 1, libc::MADV_WIPEONFORK) } != 0 {
        return None;
    }
    // SAFETY: mapped, never unmapped, and zeros are a valid value.
    Some(unsafe { &*page.cast::<AtomicU8>() })
}

/// The connections to brokers that are open, for children to close: a broker would see them open for as long as a child
/// lives. A set without locks, since any thread can fork at any time.
pub static SOCKETS: Sockets =
    Sockets { descriptors: DescriptorSet::new(), gate: Gate(AtomicBool::new(false)), resolving: AtomicU32::new(0) };

pub struct Sockets {
    descriptors: DescriptorSet,
    gate: Gate,
    /// Threads that resolve a name. Libc has a lock then, which a child would wait for in vain.
    resolving: AtomicU32,
}

impl Sockets {
    /// Opens a socket, and records it before the process can fork.
    pub fn open(&self, open: impl FnOnce() -> i32) -> i32 {
        self.gate.close();
        let descriptor = open();
        if Protection::InheritedSockets.is_on() {
            self.descriptors.insert(descriptor);
        }
        self.gate.open();
        descriptor
    }

    /// Resolves a name; a fork waits until it is resolved, for a second at most.
    pub fn resolve(&self, resolve: impl FnOnce() -> i32) -> i32 {
        self.gate.close();
        self.resolving.fetch_add(1, Ordering::AcqRel);
        self.gate.open();
        let result = resolve();
        self.resolving.fetch_sub(1, Ordering::AcqRel);
        result
    }

    /// Closes a socket, and forgets it before the process can fork.
    pub fn close(&self, descriptor: i32, close: impl FnOnce() -> i32) -> i32 {
        self.gate.close();
        self.descriptors.remove(descriptor);
        let result = close();
        self.gate.open();
        result
    }
}

/// Keeps a fork from coming between two system calls. Whoever closes it opens it again after these, so that the wait is
/// short; should it be not, for whatever reason, the fork goes ahead, and its child has one socket too many.
struct Gate(AtomicBool);

impl Gate {
    fn close(&self) {
        /// Then whoever closed it is probably waiting for a processor.
        const YIELDS: usize = 100;
        const TRIES: usize = 10_000;
        const PAUSE: Duration = Duration::from_micros(100);
        for attempt in 0..TRIES {
            if !self.0.swap(true, Ordering::Acquire) {
                return;
            }
            if attempt < YIELDS { std::thread::yield_now() } else { std::thread::sleep(PAUSE) }
        }
    }

    fn open(&self) {
        self.0.store(false, Ordering::Release);
    }
}

struct DescriptorSet([AtomicU64; DescriptorSet::WORDS]);

impl DescriptorSet {
    /// Larger descriptors are rare, and stay open in children.
    const LIMIT: usize = 65_536;
    const WORDS: usize = Self::LIMIT / u64::BITS as usize;

    const fn new() -> Self {
        DescriptorSet([const { AtomicU64::new(0) }; Self::WORDS])
    }

    /// To be called after the descriptor was opened.
    fn insert(&self, descriptor: i32) {
        if let Some((word, bit)) = self.place(descriptor) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// To be called before the descriptor is closed: what a child closes must not be another file by then.
    fn remove(&self, descriptor: i32) {
        if let Some((word, bit)) = self.place(descriptor) {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    fn place(&self, descriptor: i32) -> Option<(&AtomicU64, u64)> {
        let index = usize::try_from(descriptor).ok()?;
        let word = self.0.get(index / u64::BITS as usize)?;
        Some((word, 1 << (index % u64::BITS as usize)))
    }

    /// Closes the descriptors, without a word to the other side. Async-signal-safe.
    fn close_all(&self) {
        for (index, word) in self.0.iter().enumerate() {
            let mut bits = word.swap(0, Ordering::Relaxed);
            while bits != 0 {
                let descriptor = index * u64::BITS as usize + bits.trailing_zeros() as usize;
                // SAFETY: open, and opened for this library (see `remove`).
                unsafe { libc::close(descriptor as i32) };
                bits &= bits - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_set_closes_what_was_inserted_and_not_removed() {
        let set = Box::new(DescriptorSet::new());
        let mut ends = [[0; 2]; 2];
        for pair in &mut ends {
            // SAFETY: room for two descriptors.
            assert_eq!(unsafe { libc::pipe(pair.as_mut_ptr()) }, 0);
        }
        for descriptor in ends.as_flattened() {
            set.insert(*descriptor);
        }
        let [[closed, also_closed], [kept, also_kept]] = ends;
        set.remove(kept);
        set.remove(also_kept);
        set.insert(-1);
        set.insert(i32::MAX);
        set.close_all();
        // SAFETY: asks for flags only.
        let is_open = |descriptor| unsafe { libc::fcntl(descriptor, libc::F_GETFD) } >= 0;
        assert!(!is_open(closed) && !is_open(also_closed));
        assert!(is_open(kept) && is_open(also_kept));
        set.close_all();
        assert!(is_open(kept));
        // SAFETY: ours.
        unsafe { (libc::close(kept), libc::close(also_kept)) };
    }
}
