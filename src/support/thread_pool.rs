//! Thread pools: with threads of the library, with threads of the host, or without threads, where
//! tasks run in the caller.
//!
//! Tasks with higher priorities run first, tasks of equal priority in the order of submission.
//! [`HIGHEST_PRIORITY`] is the default of the Diaspora API.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::support::error::{Error, Kind, Result};
use crate::support::poison::Poison;
use crate::support::resource_limit;

pub const HIGHEST_PRIORITY: u64 = u64::MAX;
/// A larger number is probably a mistake.
const MAX_THREADS: u64 = 4096;

pub type Task = Box<dyn FnOnce() + Send>;

/// A task that a pool did not accept.
pub struct RejectedTask {
    pub error: Error,
    pub task: Task,
}

/// A thread pool of the host.
pub trait HostPool: Send + Sync {
    /// Runs the task once, in the call or later, or returns it.
    fn submit(&self, task: Task, priority: u64) -> std::result::Result<(), RejectedTask>;
    fn pending(&self) -> u64;
    fn thread_count(&self) -> u64;
}

pub struct ThreadPool {
    pub poison: Poison,
    id: PoolId,
    workers: Workers,
}

enum Workers {
    /// Tasks run in `submit`.
    Caller,
    Own(OwnThreads),
    Host(Box<dyn HostPool>),
}

/// Identifies a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolId(u64);

impl PoolId {
    /// The id of no pool.
    pub const NONE: PoolId = PoolId(0);

    fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        PoolId(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Whether this thread runs a task of the pool. A wait for the work of the pool can deadlock
    /// here.
    pub fn is_on_this_thread(self) -> bool {
        self != PoolId::NONE && CURRENT.get() == self
    }

    /// Fails in a task of the pool, where `operation` could deadlock.
    pub fn ensure_not_on_pool_thread(self, operation: &str) -> Result<()> {
        if !self.is_on_this_thread() {
            return Ok(());
        }
        Err(Error::new(
            Kind::WouldDeadlock,
            format!(
                "{operation} in a task of the thread pool that does its work would deadlock; do it on another thread"
            ),
        ))
    }

    fn run_task(self, task: Task) {
        let before = CURRENT.replace(self);
        // Tasks of the library fail their own futures when they panic; tasks of a host are C
        // functions.
        let _ = catch_unwind(AssertUnwindSafe(task));
        CURRENT.set(before);
    }
}

thread_local! {
    /// The pool whose task this thread runs.
    static CURRENT: Cell<PoolId> = const { Cell::new(PoolId::NONE) };
}

impl ThreadPool {
    /// A pool with this number of threads; without threads, tasks run in the caller.
    pub fn new(threads: u64) -> Result<Self> {
        let id = PoolId::new();
        let workers = match threads {
            0 => Workers::Caller,
            1..=MAX_THREADS => Workers::Own(OwnThreads::start(threads, id)?),
            _ => return Err(Error::invalid(format!("threads: {threads} exceeds the maximum of {MAX_THREADS}"))),
        };
        Ok(ThreadPool { poison: Poison::default(), id, workers })
    }

    pub fn of_host(host: Box<dyn HostPool>) -> Self {
        ThreadPool { poison: Poison::default(), id: PoolId::new(), workers: Workers::Host(host) }
    }

    /// Submits a task. A rejected task is returned.
    pub fn submit(&self, task: Task, priority: u64) -> std::result::Result<(), RejectedTask> {
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
                // A host pool without threads runs tasks in the call, where a wait can't deadlock.
                let id = if host.thread_count() == 0 { CURRENT.get() } else { self.id };
                host.submit(Box::new(move || id.run_task(task)), priority)
            }
        }
    }

    /// The number of tasks that wait for a thread.
    pub fn pending(&self) -> u64 {
        match &self.workers {
            Workers::Caller => 0,
            Workers::Own(own) => own.queue.state.lock().tasks.len() as u64,
            Workers::Host(host) => host.pending(),
        }
    }

    /// The number of threads; 0 if tasks run in the caller.
    pub fn thread_count(&self) -> u64 {
        match &self.workers {
            Workers::Caller => 0,
            Workers::Own(own) => own.threads,
            Workers::Host(host) => host.thread_count(),
        }
    }

    /// Whether tasks run on other threads than the caller.
    pub fn has_threads(&self) -> bool {
        self.thread_count() > 0
    }

    pub fn id(&self) -> PoolId {
        self.id
    }
}

struct OwnThreads {
    queue: Arc<TaskQueue>,
    threads: u64,
}

struct TaskQueue {
    state: Mutex<PoolState>,
    changed: Condvar,
}

#[derive(Default)]
struct PoolState {
    tasks: BinaryHeap<QueuedTask>,
    submitted: u64,
    closing: bool,
}

struct QueuedTask {
    /// The priority, then the order of submission.
    rank: (u64, Reverse<u64>),
    task: Task,
}

impl PartialEq for QueuedTask {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for QueuedTask {}

impl PartialOrd for QueuedTask {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QueuedTask {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl OwnThreads {
    fn start(threads: u64, id: PoolId) -> Result<Self> {
        let queue = Arc::new(TaskQueue { state: Mutex::default(), changed: Condvar::new() });
        // If a thread can't be created, dropping `own` ends those that were started before.
        let own = OwnThreads { queue, threads };
        for _ in 0..threads {
            let queue = own.queue.clone();
            std::thread::Builder::new()
                .name("octopus-pool".to_owned())
                .spawn(move || queue.run(id))
                .map_err(|cause| resource_limit::error(format_args!("creating a pool of {threads} threads"), &cause))?;
        }
        Ok(own)
    }

    fn submit(&self, task: Task, priority: u64) {
        let mut state = self.queue.state.lock();
        let rank = (priority, Reverse(state.submitted));
        state.submitted += 1;
        state.tasks.push(QueuedTask { rank, task });
        drop(state);
        self.queue.changed.notify_one();
    }
}

impl Drop for OwnThreads {
    /// The threads run the submitted tasks and end.
    fn drop(&mut self) {
        self.queue.state.lock().closing = true;
        self.queue.changed.notify_all();
    }
}

impl TaskQueue {
    fn run(&self, id: PoolId) {
        while let Some(task) = self.next() {
            id.run_task(task);
        }
    }

    fn next(&self) -> Option<Task> {
        const SLICE: Duration = Duration::from_secs(60);
        let mut state = self.state.lock();
        loop {
            if let Some(queued) = state.tasks.pop() {
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

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// A pool of one thread that is busy until the returned sender is dropped.
    fn busy_pool() -> (ThreadPool, mpsc::Sender<()>) {
        let pool = ThreadPool::new(1).unwrap();
        let (release, until) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        let task = move || {
            started.send(()).unwrap();
            let _ = until.recv();
        };
        pool.submit(Box::new(task), HIGHEST_PRIORITY).map_err(|rejected| rejected.error).unwrap();
        has_started.recv_timeout(TIMEOUT).unwrap();
        (pool, release)
    }

    #[test]
    fn tasks_run_by_priority_then_in_submission_order() {
        let (pool, release) = busy_pool();
        let (sender, done) = mpsc::channel();
        for (name, priority) in
            [("low", 1), ("high", 9), ("first", HIGHEST_PRIORITY), ("second", HIGHEST_PRIORITY), ("low too", 1)]
        {
            let sender = sender.clone();
            pool.submit(Box::new(move || sender.send(name).unwrap()), priority)
                .map_err(|rejected| rejected.error)
                .unwrap();
        }
        assert_eq!(pool.pending(), 5);
        drop(release);
        let order: Vec<_> = (0..5).map(|_| done.recv_timeout(TIMEOUT).unwrap()).collect();
        assert_eq!(order, ["first", "second", "high", "low", "low too"]);
    }

    #[test]
    fn dropped_pool_runs_its_pending_tasks() {
        let (pool, release) = busy_pool();
        let (sender, done) = mpsc::channel();
        pool.submit(Box::new(move || sender.send(()).unwrap()), 0).map_err(|rejected| rejected.error).unwrap();
        drop((pool, release));
        done.recv_timeout(TIMEOUT).unwrap();
    }

    #[test]
    fn pool_without_threads_runs_tasks_in_the_caller() {
        let pool = ThreadPool::new(0).unwrap();
        let (sender, done) = mpsc::channel();
        let caller = std::thread::current().id();
        pool.submit(Box::new(move || sender.send(std::thread::current().id()).unwrap()), 0)
            .map_err(|rejected| rejected.error)
            .unwrap();
        assert_eq!(done.try_recv(), Ok(caller));
        assert!(!pool.has_threads());
    }

    #[test]
    fn panic_in_a_task_does_not_end_its_thread() {
        let pool = ThreadPool::new(1).unwrap();
        let (sender, done) = mpsc::channel();
        pool.submit(Box::new(|| panic!("a defect")), 0).map_err(|rejected| rejected.error).unwrap();
        pool.submit(Box::new(move || sender.send(()).unwrap()), 0).map_err(|rejected| rejected.error).unwrap();
        done.recv_timeout(TIMEOUT).unwrap();
    }

    #[test]
    fn thread_knows_the_pool_whose_task_it_runs() {
        let (pool, other) = (ThreadPool::new(1).unwrap(), ThreadPool::new(1).unwrap());
        let (id, other_id) = (pool.id(), other.id());
        let (sender, done) = mpsc::channel();
        let task = move || sender.send((id.is_on_this_thread(), other_id.is_on_this_thread())).unwrap();
        pool.submit(Box::new(task), 0).map_err(|rejected| rejected.error).unwrap();
        assert_eq!(done.recv_timeout(TIMEOUT), Ok((true, false)));
        assert!(!id.is_on_this_thread());
        assert!(ThreadPool::new(MAX_THREADS + 1).is_err());
    }
}
