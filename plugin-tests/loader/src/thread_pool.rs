//! Thread pools: the library's own, and pools of this program for the library to use.

use std::ffi::c_void;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi::*;
use crate::callback::{at_most_once, catch_panic, closure, closure_mut, into_context};
use crate::error::Result;
#[cfg(doc)]
use crate::error::Status;
use crate::handle::Handle;
use crate::raw::{Tables, call};

/// The priority ahead of all others, and the default of the Diaspora API. Tasks of this priority
/// run in the order of their submission.
pub const HIGHEST_PRIORITY: u64 = OCTOPUS_PRIORITY_HIGHEST;

/// Threads that run tasks. After it is dropped, submitted tasks still run, and producers that use
/// the pool keep it.
///
/// ```no_run
/// use octopus_loader::{HIGHEST_PRIORITY, Library};
///
/// # fn main() -> octopus_loader::Result<()> {
/// let pool = Library::find()?.thread_pool(4)?;
/// pool.submit(HIGHEST_PRIORITY, || println!("on a thread of the pool"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ThreadPool {
    pub(crate) handle: Handle<octopus_thread_pool>,
}

impl ThreadPool {
    pub(crate) fn new(handle: Handle<octopus_thread_pool>) -> Self {
        ThreadPool { handle }
    }

    pub(crate) fn make(tables: &'static Tables, threads: u64) -> Result<Self> {
        // SAFETY: `pool` is writable. On success the library writes a new handle to it, which is
        // ours.
        let make = |pool| unsafe { call!(in tables, thread_pool.create(threads, pool)) };
        Handle::from_call(tables, make).map(ThreadPool::new)
    }

    pub(crate) fn from_host(tables: &'static Tables, host: impl HostPool) -> Result<Self> {
        // SAFETY: the struct outlives the call, which takes ownership of the context. On success
        // the library writes a new handle to `pool`, which is ours.
        let make = |pool| unsafe { call!(in tables, thread_pool.from_host(&pool_functions(Box::new(host)), pool)) };
        Handle::from_call(tables, make).map(ThreadPool::new)
    }

    /// Runs `work` on a thread of the pool or, in a pool of 0 threads, in this call. Higher
    /// priorities run first. A panic of `work` is printed and otherwise ignored.
    ///
    /// [`Status::CallbackFailed`] if a pool of this program refuses the task; `work` is dropped
    /// then.
    pub fn submit(&self, priority: u64, work: impl FnOnce() + Send + 'static) -> Result<()> {
        // SAFETY: the handle is live (owned). The struct outlives the call, which takes ownership
        // of the context.
        unsafe { call!(self.handle, thread_pool.submit(&task_of(work), priority)) }
    }

    /// The number of tasks that wait for a thread.
    pub fn pending(&self) -> Result<u64> {
        let mut tasks = 0;
        // SAFETY: the handle is live (owned), and the output is a local variable.
        unsafe { call!(self.handle, thread_pool.pending(&mut tasks)) }?;
        Ok(tasks)
    }

    /// The number of threads; 0 if tasks run in the caller of [`submit`](Self::submit).
    pub fn thread_count(&self) -> Result<u64> {
        let mut threads = 0;
        // SAFETY: the handle is live (owned), and the output is a local variable.
        unsafe { call!(self.handle, thread_pool.thread_count(&mut threads)) }?;
        Ok(threads)
    }
}

/// The result must be given to `thread_pool.submit`, which destroys the closure.
fn task_of(work: impl FnOnce() + Send + 'static) -> octopus_task {
    let (context, destroy) = into_context::<Work>(at_most_once(|()| work()));
    octopus_task { function: Some(run_work), context, destroy }
}

type Work = dyn FnMut(()) + Send;

/// # Safety
/// The library calls it as include/octopus.h specifies: `context` is that of [`task_of`] and not
/// yet destroyed, and the function of a task is called at most once.
unsafe extern "C" fn run_work(context: *mut c_void) {
    // SAFETY: `context` came from `into_context::<Work>` and is not yet destroyed; nothing else
    // uses it, since this is the only call (fn contract).
    let work = unsafe { closure_mut::<Work>(context) };
    catch_panic(|| work(()));
}

/// A pool of this program's threads. Its functions are called from any thread, several at a time.
/// It lives as long as the [`ThreadPool`] that is made from it and everything that uses that.
///
/// ```no_run
/// use std::thread;
///
/// use octopus_loader::{HostPool, Task};
///
/// /// Starts a thread per task.
/// struct ThreadPerTask;
///
/// impl HostPool for ThreadPerTask {
///     fn submit(&self, task: Task, _priority: u64) -> Result<(), Task> {
///         thread::spawn(move || task.run());
///         Ok(())
///     }
///     fn pending(&self) -> u64 {
///         0
///     }
///     fn thread_count(&self) -> u64 {
///         1
///     }
/// }
/// # fn main() -> octopus_loader::Result<()> {
/// let pool = octopus_loader::Library::find()?.host_pool(ThreadPerTask)?;
/// # Ok(())
/// # }
/// ```
pub trait HostPool: Send + Sync + 'static {
    /// Accepts the task, to run it once, in this call or later, or refuses it by returning it. The
    /// library's tasks never wait for each other. A task that is dropped, or lost to a panic here,
    /// fails the operation that it belongs to.
    fn submit(&self, task: Task, priority: u64) -> std::result::Result<(), Task>;

    /// The number of tasks that wait for a thread. A panic counts as 0.
    fn pending(&self) -> u64;

    /// The number of threads; 0 if [`submit`](Self::submit) runs tasks itself. A panic counts as 0.
    fn thread_count(&self) -> u64;
}

/// A task of the library for a [`HostPool`], to be run once, or dropped, on any thread.
#[must_use = "dropping a task fails the operation that it belongs to"]
pub struct Task {
    task: octopus_task,
    /// Distinguishes it from other tasks, since a pool may return another one than it was given.
    number: u64,
}

// SAFETY: include/octopus.h allows a pool to run and destroy a task on any of its threads.
unsafe impl Send for Task {}

impl Task {
    /// Owns a task.
    ///
    /// # Safety
    /// `task` is owned by the caller and neither run nor destroyed elsewhere.
    unsafe fn new(task: octopus_task) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Task { task, number: LAST.fetch_add(1, Ordering::Relaxed) }
    }

    /// Does the work.
    pub fn run(self) {
        if let Some(function) = self.task.function {
            // SAFETY: `self` owns the task, so its context is not destroyed before `self` is
            // dropped; `run` consumes `self`, so this is the only call.
            unsafe { function(self.task.context) };
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(destroy) = self.task.destroy {
            // SAFETY: `self` owns the task, and nothing uses its context after this.
            unsafe { destroy(self.task.context) };
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "task {}", self.number)
    }
}

/// The result must be given to `thread_pool.from_host`, which destroys the pool.
fn pool_functions(host: Box<dyn HostPool>) -> octopus_pool_functions {
    let (context, destroy) = into_context(host);
    octopus_pool_functions {
        size: size_of::<octopus_pool_functions>() as u64,
        context,
        destroy,
        submit: Some(submit),
        pending: Some(pending),
        thread_count: Some(thread_count),
    }
}

/// # Safety
/// The library calls it as include/octopus.h specifies: `context` is that of [`pool_functions`] and
/// not yet destroyed, and `task` is readable, and owned by this function unless it refuses the
/// task.
unsafe extern "C" fn submit(context: *mut c_void, task: *const octopus_task, priority: u64) -> octopus_status {
    // SAFETY: `context` came from a `Box<dyn HostPool>` and is not yet destroyed (fn contract).
    let pool = unsafe { closure::<dyn HostPool>(context) };
    // SAFETY: `task` is readable during this call (fn contract).
    let task = unsafe { *task };
    // SAFETY: this function owns the task (fn contract); a refused one is forgotten below.
    let task = unsafe { Task::new(task) };
    let number = task.number;
    match catch_panic(|| pool.submit(task, priority)) {
        Some(Err(refused)) if refused.number == number => {
            // A refused task stays the library's, which destroys it.
            mem::forget(refused);
            OCTOPUS_CALLBACK_FAILED
        }
        Some(Err(another)) => {
            catch_panic(|| drop(another));
            OCTOPUS_OK
        }
        // After a panic, too, the pool has kept the task or dropped it: it is not the library's.
        Some(Ok(())) | None => OCTOPUS_OK,
    }
}

/// # Safety
/// As for [`submit`].
unsafe extern "C" fn pending(context: *mut c_void) -> u64 {
    // SAFETY: `context` came from a `Box<dyn HostPool>` and is not yet destroyed (fn contract).
    let pool = unsafe { closure::<dyn HostPool>(context) };
    catch_panic(|| pool.pending()).unwrap_or(0)
}

/// # Safety
/// As for [`submit`].
unsafe extern "C" fn thread_count(context: *mut c_void) -> u64 {
    // SAFETY: `context` came from a `Box<dyn HostPool>` and is not yet destroyed (fn contract).
    let pool = unsafe { closure::<dyn HostPool>(context) };
    catch_panic(|| pool.thread_count()).unwrap_or(0)
}
