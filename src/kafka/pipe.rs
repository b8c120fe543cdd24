//! librdkafka's pipes, by which its threads are woken: as its sockets, they are no business of programs that the host
//! starts. It makes them by `pipe`, and the linker leads these calls here (build.rs).

use std::ffi::c_int;

/// # Safety
/// As of `pipe`: room for two descriptors.
unsafe extern "C" fn pipe_closed_by_exec(ends: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { libc::pipe2(ends, libc::O_CLOEXEC) }
}

// The name that the linker looks for, which `no_mangle` would export.
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
