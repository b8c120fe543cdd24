//! Threads that work is done on: our own, the host's, or none, and then work is done in the caller.
//!
//! Higher priorities go first. [`HIGHEST_PRIORITY`], the default of the Diaspora API, goes ahead of all others, and among equals
//! the first in is the first out.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Kind, Result};
use crate::poison::Poison;
use crate::resource_limit;

/// The priority that goes ahead of all others.
pub const HIGHEST_PRIORITY: u64 = u64::MAX;
/// More threads than any machine has use for; beyond, the number is rather a mistake.
const MOST_THREADS: u64 = 4096;

pub type Task = Box<dyn FnOnce() + Send>;

/// A task that a pool did not take.
pub struct Refused {
    pub why: Error,
    pub task: Task,
}

/// Threads of the host, reached by its functions.
pub trait HostPool: Send + Sync {
    /// Runs the task at some time, in the call or later, once, or gives it back.
    fn submit(&self, task: Task, priority: u64) -> std::result::Result<(), Refused>;
    fn pending(&self) -> u64;
    fn thread_count(&self) -> u64;
}

pub struct ThreadPool {
    pub poison: Poison,
    mark: Mark,
    workers: Workers,
}

enum Workers {
    /// Whoever submits a task runs it.
    Caller,
    Own(Own),
    Host(Box<dyn HostPool>),
}

/// Tells pools apart, for threads to know whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// Of no pool.
    pub const NONE: Mark = Mark(0);

    fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Mark(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Whether this thread is running a task of that pool: what waits here for the pool's work may wait for itself.
    pub fn is_on_this_thread(self) -> bool {
        self != Mark::NONE && CURRENT.get() == self
    }

    /// Refuses `doing` in a task of that pool.
    pub fn ensure_not_on_pool_thread(self, doing: &str) -> Result<()> {
        if !self.is_on_this_thread() {
            return Ok(());
        }
        Err(Error::new(
            Kind::WouldDeadlock,
            format!("{doing} in a task of the thread pool that does the work would wait for itself; do it elsewhere"),
        ))
    }

    fn while_running(self, task: Task) {
        let before = CURRENT.replace(self);
        // Tasks of the core settle what they are about themselves when they panic; tasks of a host are C.
        let _ = catch_unwind(AssertUnwindSafe(task));
        CURRENT.set(before);
    }
}

thread_local! {
    static CURRENT: Cell<Mark> = const { Cell::new(Mark::NONE) };
}

impl ThreadPool {
    /// A pool of so many threads of our own; with none, work is done in the caller.
    pub fn new(threads: u64) -> Result<Self> {
        let mark = Mark::new();
        let workers = match threads {
            0 => Workers::Caller,
            1..=MOST_THREADS => Workers::Own(Own::start(threads, mark)?),
            _ => return Err(Error::invalid(format!("threads: {threads} are too many, at most {MOST_THREADS}"))),
        };
        Ok(ThreadPool { poison: Poison::default(), mark, workers })
    }

    pub fn of_host(host: Box<dyn HostPool>) -> Self {
        ThreadPool { poison: Poison::default(), mark: Mark::new(), workers: Workers::Host(host) }
    }

    /// Has the task run, or gives it back.
    pub fn submit(&self, task: Task, priority: u64) -> std::result::Result<(), Refused> {
        match &self.workers {
            Workers::Caller => {
                task();
                Ok(())
            }
            Workers::Own(own) => {
                own.submit(task, priority);
                Ok(())
            }
            Workers::Host(host) => {
                // A host without threads runs tasks in the call: nothing there waits for a thread.
                let mark = if host.thread_count() == 0 { CURRENT.get() } else { self.mark };
                host.submit(Box::new(move || mark.while_running(task)), priority)
            }
        }
    }

    /// Tasks that wait for a thread.
    pub fn pending(&self) -> u64 {
        match &self.workers {
            Workers::Caller => 0,
            Workers::Own(own) => own.shared.state.lock().queue.len() as u64,
            Workers::Host(host) => host.pending(),
        }
    }

    /// Threads that run tasks; 0 when they run in the caller.
    pub fn thread_count(&self) -> u64 {
        match &self.workers {
            Workers::Caller => 0,
            Workers::Own(own) => own.threads,
            Workers::Host(host) => host.thread_count(),
        }
    }

    /// Whether tasks run elsewhere than in the caller.
    pub fn has_threads(&self) -> bool {
        self.thread_count() > 0
    }

    pub fn mark(&self) -> Mark {
        self.mark
    }
}

struct Own {
    shared: Arc<Shared>,
    threads: u64,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: BinaryHeap<Queued>,
    submitted: u64,
    closing: bool,
}

struct Queued {
    /// Priority, then the order of arrival.
    rank: (u64, Reverse<u64>),
    task: Task,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl Own {
    fn start(threads: u64, mark: Mark) -> Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        // Dropped when a thread can't be had, which ends those that were started before.
        let own = Own { shared, threads };
        for _ in 0..threads {
            let shared = own.shared.clone();
            std::thread::Builder::new()
                .name("octopus-pool".to_owned())
                .spawn(move || shared.work(mark))
                .map_err(|cause| resource_limit::error(format_args!("creating a pool of {threads} threads"), &cause))?;
        }
        Ok(own)
    }

    fn submit(&self, task: Task, priority: u64) {
        let mut state = self.shared.state.lock();
        let rank = (priority, Reverse(state.submitted));
        state.submitted += 1;
        state.queue.push(Queued { rank, task });
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Drop for Own {
    /// What was submitted still runs; then the threads end.
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn work(&self, mark: Mark) {
        while let Some(task) = self.next() {
            mark.while_running(task);
        }
    }

    fn next(&self) -> Option<Task> {
        const SLICE: Duration = Duration::from_secs(60);
        let mut state = self.state.lock();
        loop {
            if let Some(queued) = state.queue.pop() {
                return Some(queued.task);
            }
            if state.closing {
                return None;
            }
            self.changed.wait_for(&mut state, SLICE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// A pool of one thread that is busy until the returned sender is dropped.
    fn busy_pool() -> (ThreadPool, mpsc::Sender<()>) {
        let pool = ThreadPool::new(1).unwrap();
        let (release, until) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        let task = move || {
            started.send(()).unwrap();
            let _ = until.recv();
        };
        pool.submit(Box::new(task), HIGHEST_PRIORITY).map_err(|refused| refused.why).unwrap();
        has_started.recv_timeout(SOON).unwrap();
        (pool, release)
    }

    #[test]
    fn higher_priorities_go_first_and_equals_in_the_order_they_came() {
        let (pool, release) = busy_pool();
        let (sender, done) = mpsc::channel();
        for (name, priority) in
            [("low", 1), ("high", 9), ("first", HIGHEST_PRIORITY), ("second", HIGHEST_PRIORITY), ("low too", 1)]
        {
            let sender = sender.clone();
            pool.submit(Box::new(move || sender.send(name).unwrap()), priority).map_err(|refused| refused.why).unwrap();
        }
        assert_eq!(pool.pending(), 5);
        drop(release);
        let order: Vec<_> = (0..5).map(|_| done.recv_timeout(SOON).unwrap()).collect();
        assert_eq!(order, ["first", "second", "high", "low", "low too"]);
    }

    #[test]
    fn a_pool_that_is_dropped_still_runs_what_it_was_given() {
        let (pool, release) = busy_pool();
        let (sender, done) = mpsc::channel();
        pool.submit(Box::new(move || sender.send(()).unwrap()), 0).map_err(|refused| refused.why).unwrap();
        drop((pool, release));
        done.recv_timeout(SOON).unwrap();
    }

    #[test]
    fn without_threads_tasks_run_in_the_caller() {
        let pool = ThreadPool::new(0).unwrap();
        let (sender, done) = mpsc::channel();
        let caller = std::thread::current().id();
        pool.submit(Box::new(move || sender.send(std::thread::current().id()).unwrap()), 0)
            .map_err(|refused| refused.why)
            .unwrap();
        assert_eq!(done.try_recv(), Ok(caller));
        assert!(!pool.has_threads());
    }

    #[test]
    fn a_task_that_panics_does_not_end_its_thread() {
        let pool = ThreadPool::new(1).unwrap();
        let (sender, done) = mpsc::channel();
        pool.submit(Box::new(|| panic!("a defect")), 0).map_err(|refused| refused.why).unwrap();
        pool.submit(Box::new(move || sender.send(()).unwrap()), 0).map_err(|refused| refused.why).unwrap();
        done.recv_timeout(SOON).unwrap();
    }

    #[test]
    fn a_thread_knows_whose_task_it_runs() {
        let (pool, other) = (ThreadPool::new(1).unwrap(), ThreadPool::new(1).unwrap());
        let (mark, others) = (pool.mark(), other.mark());
        let (sender, done) = mpsc::channel();
        let task = move || sender.send((mark.is_on_this_thread(), others.is_on_this_thread())).unwrap();
        pool.submit(Box::new(task), 0).map_err(|refused| refused.why).unwrap();
        assert_eq!(done.recv_timeout(SOON), Ok((true, false)));
        assert!(!mark.is_on_this_thread());
        assert!(ThreadPool::new(MOST_THREADS + 1).is_err());
    }
}
