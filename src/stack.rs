//! Room for deep recursion, whatever stack the host's thread has.
//!
//! A thread of a host can have a stack of 64 KiB. What needs more than a part of that runs on a stack of its own, where
//! the thread's stack is too small. No callback of the host is called there: it may look at its stack, or unwind it.

/// Of the stack that is used where the thread's is too small.
const LARGE: usize = 8 * 1024 * 1024;

/// For 128 levels of JSON, and for what librdkafka, OpenSSL and the configuration need when a client is created.
pub const FOR_JSON: usize = 256 * 1024;
pub const FOR_CLIENT: usize = 256 * 1024;
/// For schemas within each other (`components/schema.rs`, `DEEPEST`). Less than the 2 MiB of Rust's own threads.
pub const FOR_SCHEMA: usize = 1536 * 1024;

/// Runs `work` with a stack of `needed` bytes at least.
pub fn with<T>(needed: usize, work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(needed, LARGE, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_recursion_fits_on_a_thread_with_a_small_stack() {
        fn descend(depth: u64) -> u64 {
            let frame = std::hint::black_box([depth; 64]);
            if depth == 0 { 0 } else { descend(depth - 1) + u64::from(frame[63] == depth) }
        }
        let thread = std::thread::Builder::new().stack_size(64 * 1024);
        let depth = thread.spawn(|| with(FOR_SCHEMA, || descend(2_000))).unwrap().join().unwrap();
        assert_eq!(depth, 2_000);
    }

    #[test]
    fn panic_on_a_large_stack_reaches_the_caller() {
        let thread = std::thread::Builder::new().stack_size(64 * 1024);
        let caught = thread.spawn(|| std::panic::catch_unwind(|| with(FOR_JSON, || panic!("deep"))).is_err());
        assert!(caught.unwrap().join().unwrap());
    }
}
