//! What this process has: memory, threads, descriptors.

use std::fs;

use crate::run::{Failure, OrFail, Result};

/// Bytes of memory that are really there.
pub fn resident() -> Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm").or_fail("reading how much memory there is")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| Failure::new(format_args!("a number of pages in {statm:?}")))?;
    // SAFETY: asks for a constant.
    Ok(pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64)
}

/// Bytes that the allocator has handed out, whatever it keeps besides.
pub fn allocated() -> u64 {
    // SAFETY: callable at any time.
    let heap = unsafe { libc::mallinfo2() };
    (heap.uordblks + heap.hblkhd) as u64
}

pub fn threads() -> Result<usize> {
    count("/proc/self/task")
}

/// The one that the counting takes included.
pub fn descriptors() -> Result<usize> {
    count("/proc/self/fd")
}

fn count(folder: &str) -> Result<usize> {
    Ok(fs::read_dir(folder).or_fail(format_args!("looking into {folder}"))?.count())
}

/// What the threads are called, to tell whose they are.
pub fn thread_names() -> String {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut names: Vec<String> = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect();
    names.sort();
    names.iter().map(|name| name.trim_end()).collect::<Vec<_>>().join(", ")
}
