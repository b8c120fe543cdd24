//! Runs deep recursion independently of the stack size of the host's thread.
//!
//! A thread of a host can have a stack of 64 KiB. Deep recursion runs on a separate stack if that
//! of the thread is too small. No callback of the host is called there, since it may inspect or
//! unwind its stack.

/// The size of the separate stack.
const SEPARATE_STACK_SIZE: usize = 8 * 1024 * 1024;

/// For 128 levels of JSON.
pub const FOR_JSON: usize = 256 * 1024;
/// For the creation of a client: its configuration, librdkafka and OpenSSL.
pub const FOR_CLIENT: usize = 256 * 1024;
/// For nested schemas (`MAX_DEPTH` in components/schema.rs). Less than the 2 MiB of Rust's own
/// threads.
pub const FOR_SCHEMA: usize = 1536 * 1024;

/// Runs `work` with at least `needed` bytes of stack.
pub fn with<T>(needed: usize, work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(needed, SEPARATE_STACK_SIZE, work)
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
