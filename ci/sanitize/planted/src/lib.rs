//! Faults on purpose, each of which a sanitizer must report, and what it must not report.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char};
use std::hint::black_box;
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock, mpsc};
use std::thread;

unsafe extern "C" {
    fn c_heap_overflow();
    fn c_signed_overflow();
    fn c_race();
}

/// Commits the fault of this name.
///
/// # Safety
/// `fault` is a C string. What it names is unsound, which is the point of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn commit(fault: *const c_char) {
    // SAFETY: as the caller promises.
    let fault = unsafe { CStr::from_ptr(fault) }.to_str().expect("a name is ASCII");
    match fault {
        "rust_use_after_free" => use_after_free(),
        // SAFETY: none; it is a fault. So are the next two.
        "c_heap_overflow" => unsafe { c_heap_overflow() },
        // SAFETY: as above.
        "c_signed_overflow" => unsafe { c_signed_overflow() },
        "rust_leak" => leak(),
        "rust_race" => race(),
        // SAFETY: as above.
        "c_race" => together(|| unsafe { c_race() }),
        "nothing" => nothing(),
        _ => panic!("there is no fault {fault}"),
    }
}

fn use_after_free() {
    let number = Box::into_raw(Box::new(1_u32));
    // SAFETY: made from a box just now.
    drop(unsafe { Box::from_raw(number) });
    // SAFETY: none; it is gone.
    black_box(unsafe { number.read_volatile() });
}

fn leak() {
    // Elsewhere, so that no pointer to it is left on a stack or in a register.
    thread::spawn(|| _ = black_box(Box::into_raw(Box::new([1_u8; 4321])))).join().expect("no panic");
}

struct Unguarded(UnsafeCell<u64>);
// SAFETY: none; that is the fault.
unsafe impl Sync for Unguarded {}

static COUNTER: Unguarded = Unguarded(UnsafeCell::new(0));

fn race() {
    // SAFETY: none; nobody guards it.
    together(|| (0..1000).for_each(|_| unsafe { *black_box(COUNTER.0.get()) += 1 }));
}

/// On two threads at the same time.
fn together(fault: fn()) {
    let start = Arc::new(Barrier::new(2));
    let threads = [(); 2].map(|()| {
        let start = start.clone();
        thread::spawn(move || {
            start.wait();
            fault();
        })
    });
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// Locks of std that threads contend for, a condition, a channel, a value made once, the last of several references:
/// sound, and racy only to who doesn't see std's atomics.
fn nothing() {
    static ONCE: OnceLock<Vec<u32>> = OnceLock::new();
    let shared = Arc::new((Mutex::new(vec![0_u32]), Condvar::new()));
    let (sender, receiver) = mpsc::channel();
    for _ in 0..8 {
        let (shared, sender) = (shared.clone(), sender.clone());
        thread::spawn(move || {
            for _ in 0..10_000 {
                shared.0.lock().expect("no panic")[0] += 1;
            }
            shared.1.notify_all();
            sender.send(ONCE.get_or_init(|| vec![42; 1000]).clone()).expect("somebody listens");
        });
    }
    let mut counted = shared.0.lock().expect("no panic");
    while counted[0] < 80_000 {
        counted = shared.1.wait(counted).expect("no panic");
    }
    drop(counted);
    drop((shared, sender));
    assert_eq!(receiver.iter().flatten().sum::<u32>(), 8 * 1000 * 42);
}
