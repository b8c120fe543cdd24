//! The resources that this process uses: CPU time, memory, threads and descriptors.

use std::fs;
use std::mem::MaybeUninit;
use std::thread;
use std::time::{Duration, Instant};

use crate::job::Figures;

/// The resource usage at the start of a measurement.
pub struct Measurement {
    cpu: f64,
    wall: Instant,
    at_start: Snapshot,
}

struct Snapshot {
    memory: i64,
    threads: i64,
    descriptors: i64,
}

impl Measurement {
    pub fn start() -> Self {
        // Resets the peak resident set size: proc_pid_clear_refs(5).
        let _ = fs::write("/proc/self/clear_refs", "5");
        Measurement { at_start: Snapshot::read(), cpu: cpu(), wall: Instant::now() }
    }

    pub fn figures(&self, events: u64) -> Figures {
        let (wall, cpu) = (self.wall.elapsed(), cpu() - self.cpu);
        let now = Snapshot::read();
        Figures {
            events,
            cpu,
            wall: wall.as_nanos() as f64 / 1e3,
            peak: (status("VmHWM:") - self.at_start.memory).max(0) as u64,
            growth: now.memory - self.at_start.memory,
            threads: now.threads - self.at_start.threads,
            descriptors: now.descriptors - self.at_start.descriptors,
            ..Figures::default()
        }
    }
}

impl Snapshot {
    fn read() -> Self {
        let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as i64;
        Snapshot { memory: status("VmRSS:"), threads: status("Threads:"), descriptors }
    }
}

/// Waits until the closed clients are gone, which end in the background: until the number of
/// threads has been constant for a second. Then has the allocator return its free pages, of which
/// it keeps some megabytes, depending on which threads used which arena.
pub fn settle() {
    wait_for_threads_to_go();
    // SAFETY: `malloc_trim` has no preconditions; it releases only free pages.
    unsafe { libc::malloc_trim(0) };
}

fn wait_for_threads_to_go() {
    const SAMPLES: usize = 10;
    let mut last = [0; SAMPLES];
    for sample in 0..10 * SAMPLES {
        last[sample % SAMPLES] = Snapshot::read().threads;
        if sample >= SAMPLES && last.iter().all(|threads| *threads == last[0]) {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the number in a line of /proc/self/status. Sizes are in KiB there.
fn status(line: &str) -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = status.lines().find_map(|it| it.strip_prefix(line)?.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// Returns the user and system time of all threads, in microseconds.
fn cpu() -> f64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is writable and has the size of an `rusage`.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: `usage` is initialized even if the call fails: all zeros are a valid `rusage`.
    let usage = unsafe { usage.assume_init() };
    let micros = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
    micros(usage.ru_utime) + micros(usage.ru_stime)
}
