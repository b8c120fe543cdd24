//! librdkafka's pipes, which wake its threads, as close-on-exec descriptors: child processes of the
//! host must not inherit them. librdkafka creates them with `pipe`; the linker redirects these
//! calls to this file (build.rs).

use std::ffi::c_int;

/// `pipe` with close-on-exec.
///
/// # Safety
/// `ends` is writable for two descriptors, as for `pipe`.
unsafe extern "C" fn pipe_closed_by_exec(ends: *mut c_int) -> c_int {
    // SAFETY: `ends` is writable for two descriptors (contract of this function).
    unsafe { libc::pipe2(ends, libc::O_CLOEXEC) }
}

// Defines the symbol that the linker redirects to. `no_mangle` would export it from the library.
std::arch::global_asm!(
    ".pushsection .text.octopus_pipe, \"ax\", %progbits",
    ".globl __wrap_pipe",
    ".hidden __wrap_pipe",
    ".type __wrap_pipe, %function",
    "__wrap_pipe:",
    #[cfg(target_arch = "x86_64")]
    "jmp {to}",
    #[cfg(target_arch = "aarch64")]
    "b {to}",
    ".popsection",
    to = sym pipe_closed_by_exec,
);
