//! What this process uses: time of processors, memory, threads, descriptors.

use std::fs;
use std::mem::MaybeUninit;
use std::thread;
use std::time::{Duration, Instant};

use crate::job::Figures;

/// What there was before something that is measured.
pub struct Before {
    cpu: f64,
    wall: Instant,
    now: Now,
}

struct Now {
    memory: i64,
    threads: i64,
    descriptors: i64,
}

impl Before {
    pub fn now() -> Self {
        // Later peaks count from here.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Before { now: Now::look(), cpu: cpu(), wall: Instant::now() }
    }

    pub fn until_now(&self, events: u64) -> Figures {
        let (wall, cpu) = (self.wall.elapsed(), cpu() - self.cpu);
        let now = Now::look();
        Figures {
            events,
            cpu,
            wall: wall.as_nanos() as f64 / 1e3,
            peak: (status("VmHWM:") - self.now.memory).max(0) as u64,
            growth: now.memory - self.now.memory,
            threads: now.threads - self.now.threads,
            descriptors: now.descriptors - self.now.descriptors,
            ..Figures::default()
        }
    }
}

impl Now {
    fn look() -> Self {
        let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as i64;
        Now { memory: status("VmRSS:"), threads: status("Threads:"), descriptors }
    }
}

/// Once nothing goes on behind the scenes, where clients that are closed go, and nothing is kept that nobody uses: as many threads have been
/// there for a second, and the allocator has given its free pages back, of which it keeps megabytes more or less, by which threads met in it.
pub fn settle() {
    wait_for_threads_to_go();
    // SAFETY: may be called at any time; what is in use stays.
    unsafe { libc::malloc_trim(0) };
}

fn wait_for_threads_to_go() {
    const QUIET: usize = 10;
    let mut last = [0; QUIET];
    for look in 0..10 * QUIET {
        last[look % QUIET] = Now::look().threads;
        if look >= QUIET && last.iter().all(|threads| *threads == last[0]) {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// A line of /proc/self/status, whose numbers of bytes are KiB.
fn status(line: &str) -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = status.lines().find_map(|it| it.strip_prefix(line)?.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// User and system time of all threads, in microseconds.
fn cpu() -> f64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: room for the struct, of which zeros are valid values.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let micros = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
    micros(usage.ru_utime) + micros(usage.ru_stime)
}
