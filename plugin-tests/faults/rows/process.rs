//! Resources of this process: memory, threads, descriptors.

use std::fs;
use std::time::Duration;

use crate::run::{Failure, OrFail, Result};

/// The resident memory in bytes.
pub fn resident() -> Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm").or_fail("reading /proc/self/statm")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| Failure::new(format_args!("/proc/self/statm has a number of pages: {statm:?}")))?;
    // SAFETY: `sysconf` has no preconditions; it returns a constant of the system.
    Ok(pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64)
}

/// The bytes that the allocator has handed out.
pub fn allocated() -> u64 {
    // SAFETY: `mallinfo2` has no preconditions and is thread-safe in glibc.
    let heap = unsafe { libc::mallinfo2() };
    (heap.uordblks + heap.hblkhd) as u64
}

/// The CPU time (user and system) that the process has used.
pub fn processor_time() -> Duration {
    // SAFETY: `timespec` is a C struct of numbers, for which zeros are valid.
    let mut used: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `used` is writable; the clock exists in each process.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut used) };
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

pub fn threads() -> Result<usize> {
    count("/proc/self/task")
}

/// Includes the descriptor that the counting itself uses.
pub fn descriptors() -> Result<usize> {
    count("/proc/self/fd")
}

fn count(folder: &str) -> Result<usize> {
    Ok(fs::read_dir(folder).or_fail(format_args!("listing {folder}"))?.count())
}

/// The names of the threads, which show who created them.
pub fn thread_names() -> String {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut names: Vec<String> = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect();
    names.sort();
    names.iter().map(|name| name.trim_end()).collect::<Vec<_>>().join(", ")
}
