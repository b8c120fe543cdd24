//! Deliberate faults, each of which a sanitizer must report, and correct code, which it must not
//! report.

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

/// Runs the fault of this name.
///
/// # Safety `fault` is a C string that is live during the call. Every fault except "nothing" is
/// unsound on purpose.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn commit(fault: *const c_char) {
    // SAFETY: `fault` is a live C string (fn contract).
    let fault = unsafe { CStr::from_ptr(fault) }.to_str().expect("a name is ASCII");
    match fault {
        "rust_use_after_free" => use_after_free(),
        // SAFETY: unsound on purpose; this is the fault.
        "c_heap_overflow" => unsafe { c_heap_overflow() },
        // SAFETY: unsound on purpose; this is the fault.
        "c_signed_overflow" => unsafe { c_signed_overflow() },
        "rust_leak" => leak(),
        "rust_race" => race(),
        // SAFETY: unsound on purpose; this is the fault.
        "c_race" => run_on_two_threads(|| unsafe { c_race() }),
        "nothing" => nothing(),
        _ => panic!("unknown fault {fault}"),
    }
}

fn use_after_free() {
    let number = Box::into_raw(Box::new(1_u32));
    // SAFETY: `number` comes from `Box::into_raw` above and is freed once.
    drop(unsafe { Box::from_raw(number) });
    // SAFETY: unsound on purpose; `number` is freed.
    black_box(unsafe { number.read_volatile() });
}

fn leak() {
    // On another thread, so that no pointer to it remains on this stack or in a register.
    thread::spawn(|| _ = black_box(Box::into_raw(Box::new([1_u8; 4321])))).join().expect("no panic");
}

struct Unguarded(UnsafeCell<u64>);
// SAFETY: unsound on purpose; the cell has no lock.
unsafe impl Sync for Unguarded {}

static COUNTER: Unguarded = Unguarded(UnsafeCell::new(0));

fn race() {
    // SAFETY: unsound on purpose; the threads write without a lock.
    run_on_two_threads(|| (0..1000).for_each(|_| unsafe { *black_box(COUNTER.0.get()) += 1 }));
}

/// Runs `fault` on two threads at the same time.
fn run_on_two_threads(fault: fn()) {
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

/// Correct code with contended locks, a condition variable, a channel, a `OnceLock` and an `Arc`. A
/// sanitizer that doesn't see the atomics of std reports races in it.
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
            sender.send(ONCE.get_or_init(|| vec![42; 1000]).clone()).expect("the receiver is alive");
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
