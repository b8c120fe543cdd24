//! Detection of forked children.
//!
//! A child has the memory of its parent but none of its threads, and a lock that was held during
//! the fork is never released. So in a child the library only closes the sockets that it inherited.
//! The child uses a copy of the library with new state (`abi/forked_child.rs`).

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::protection::Protection;

/// In the process that registered, and in a child that adopted the unused library.
const OWNER: u8 = 1;
/// In a child of `fork`: libc has run its fork handlers, so its locks are usable.
const FORKED: u8 = 2;
// In a child of `_Fork` or of a system call the marker is 0: the kernel has wiped its page, and no
// fork handler has run.

static INITIAL_MARKER: AtomicU8 = AtomicU8::new(OWNER);
static MARKER: AtomicPtr<AtomicU8> = AtomicPtr::new((&raw const INITIAL_MARKER).cast_mut());

/// Whether this process has created objects, or is creating one.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// Whether this process was forked from one that had registered and has adopted the unused library.
static IS_ADOPTED: AtomicBool = AtomicBool::new(false);

/// 1 in the library that the program loaded, and one more in each nested copy for a forked child.
static GENERATION: AtomicU32 = AtomicU32::new(1);

#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Whether this process was forked from one that had registered. Such children often end by
/// `_exit`, which skips the flush at exit.
pub fn is_in_child() -> bool {
    generation() > 1 || IS_ADOPTED.load(Ordering::Relaxed)
}

/// The generation of this copy, which the library that loads the copy sets.
pub fn generation_cell() -> &'static AtomicU32 {
    &GENERATION
}

fn marker() -> &'static AtomicU8 {
    // SAFETY: `MARKER` points to a static, or to a page that is never unmapped
    // (`memory_wiped_in_children`); every byte is a valid `AtomicU8`.
    unsafe { &*MARKER.load(Ordering::Acquire) }
}

#[inline]
pub fn is_forked_child() -> bool {
    marker().load(Ordering::Relaxed) != OWNER
}

/// In a child: whether libc has run its fork handlers, so that more than its async-signal-safe
/// functions can be called.
pub fn has_fork_handler_run() -> bool {
    marker().load(Ordering::Relaxed) == FORKED
}

/// Call this before an object is created, and before a lock is taken for that.
pub fn mark_used() {
    IS_USED.store(true, Ordering::SeqCst);
}

/// Makes this child the owner of the library's state if its parent has not used the library.
/// Returns whether this process owns the state.
pub fn adopt_if_unused() -> bool {
    if !IS_USED.load(Ordering::SeqCst)
        && marker().compare_exchange(FORKED, OWNER, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    {
        IS_ADOPTED.store(true, Ordering::Relaxed);
    }
    // Another thread of the child may have adopted it first.
    !is_forked_child()
}

/// Starts the detection of forked children. Reading a marker in each call is cheap; `getpid` is a
/// system call.
///
/// It takes no lock, since another thread could hold that during a fork: one caller does the work,
/// and the others do not wait for it.
pub fn watch() {
    /// The process that sets up the detection, or `DONE`. A child that was forked during the setup
    /// repeats it.
    static SETUP_BY: AtomicI32 = AtomicI32::new(0);
    const DONE: i32 = -1;
    // SAFETY: `getpid` has no preconditions.
    let this_process = unsafe { libc::getpid() };
    let before = SETUP_BY.load(Ordering::Acquire);
    let is_mine = before != DONE
        && before != this_process
        && SETUP_BY.compare_exchange(before, this_process, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if !is_mine {
        return;
    }
    // The handlers come first, so that no child has a wiped marker and no handler.
    // SAFETY: the handlers are functions of a library that is never unmapped (linked with
    // `nodelete`); `in_child` calls async-signal-safe functions only.
    unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
    if let Some(wiped) = memory_wiped_in_children() {
        wiped.store(OWNER, Ordering::Relaxed);
        MARKER.store(std::ptr::from_ref(wiped).cast_mut(), Ordering::Release);
    }
    SETUP_BY.store(DONE, Ordering::Release);
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
    marker().store(FORKED, Ordering::Relaxed);
    SOCKETS.descriptors.close_all();
    SOCKETS.resolving.store(0, Ordering::Release);
    SOCKETS.gate.open();
}

/// Memory that the kernel fills with zeros in every child, also in one of `_Fork` or of another C
/// library in the process, for which the handlers of `pthread_atfork` do not run.
fn memory_wiped_in_children() -> Option<&'static AtomicU8> {
    const ANY: *mut libc::c_void = std::ptr::null_mut();
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: an anonymous mapping at an address that the kernel chooses; the length is rounded up
    // to a page.
    let page = unsafe { libc::mmap(ANY, 1, access, kind, -1, 0) };
    // SAFETY: `page` is the mapping from above (checked first), which nothing else uses.
    if page == libc::MAP_FAILED || unsafe { libc::madvise(page, 1, libc::MADV_WIPEONFORK) } != 0 {
        return None;
    }
    // SAFETY: `page` is mapped and never unmapped, and zeros are a valid `AtomicU8`.
    Some(unsafe { &*page.cast::<AtomicU8>() })
}

/// The open connections to brokers. A forked child closes them, or brokers would see them open
/// until the child ends. The set has no locks, since any thread can fork at any time.
pub static SOCKETS: Sockets =
    Sockets { descriptors: DescriptorSet::new(), gate: ForkGate(AtomicBool::new(false)), resolving: AtomicU32::new(0) };

pub struct Sockets {
    descriptors: DescriptorSet,
    gate: ForkGate,
    /// The number of threads that resolve a name. libc holds a lock during that, which would never
    /// be released in a child.
    resolving: AtomicU32,
}

impl Sockets {
    /// Opens a socket and records it before the process can fork.
    pub fn open(&self, open: impl FnOnce() -> i32) -> i32 {
        self.gate.close();
        let descriptor = open();
        if Protection::InheritedSockets.is_on() {
            self.descriptors.insert(descriptor);
        }
        self.gate.open();
        descriptor
    }

    /// Resolves a name. A fork waits until it is resolved, for at most a second.
    pub fn resolve(&self, resolve: impl FnOnce() -> i32) -> i32 {
        self.gate.close();
        self.resolving.fetch_add(1, Ordering::AcqRel);
        self.gate.open();
        let result = resolve();
        self.resolving.fetch_sub(1, Ordering::AcqRel);
        result
    }

    /// Closes a socket and removes it from the record before the process can fork.
    pub fn close(&self, descriptor: i32, close: impl FnOnce() -> i32) -> i32 {
        self.gate.close();
        self.descriptors.remove(descriptor);
        let result = close();
        self.gate.open();
        result
    }
}

/// Delays a fork while a thread is between two system calls that belong together. A thread closes
/// the gate only for the duration of these calls. If it stays closed for a second, the fork
/// proceeds, and the child may keep one inherited socket.
struct ForkGate(AtomicBool);

impl ForkGate {
    fn close(&self) {
        /// After that, the thread that closed the gate is probably not scheduled.
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
    /// Larger descriptors are rare. Children do not close them.
    const LIMIT: usize = 65_536;
    const WORDS: usize = Self::LIMIT / u64::BITS as usize;

    const fn new() -> Self {
        DescriptorSet([const { AtomicU64::new(0) }; Self::WORDS])
    }

    /// Call this after the descriptor is opened.
    fn insert(&self, descriptor: i32) {
        if let Some((word, bit)) = self.place(descriptor) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Call this before the descriptor is closed: afterwards its number can belong to another file,
    /// which a child must not close.
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

    /// Closes the descriptors. Nothing is sent to the brokers. Async-signal-safe.
    fn close_all(&self) {
        for (index, word) in self.0.iter().enumerate() {
            let mut bits = word.swap(0, Ordering::Relaxed);
            while bits != 0 {
                let descriptor = index * u64::BITS as usize + bits.trailing_zeros() as usize;
                // SAFETY: the descriptor is open and belongs to this library: `remove` is called
                // before it is closed.
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
            // SAFETY: `pair` has space for two descriptors.
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
        // SAFETY: `F_GETFD` only reads flags, and accepts any number.
        let is_open = |descriptor| unsafe { libc::fcntl(descriptor, libc::F_GETFD) } >= 0;
        assert!(!is_open(closed) && !is_open(also_closed));
        assert!(is_open(kept) && is_open(also_kept));
        set.close_all();
        assert!(is_open(kept));
        for descriptor in [kept, also_kept] {
            // SAFETY: the test has opened the descriptor and closes it once.
            unsafe { libc::close(descriptor) };
        }
    }
}
