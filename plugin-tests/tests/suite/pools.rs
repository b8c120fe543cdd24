//! Thread pools, and producers that prepare events on them.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use octopus_loader::abi::*;
use octopus_loader::{HIGHEST_PRIORITY, HostPool, NewEvent, Status, Task, ThreadPool};
use serde_json::json;

use crate::kafka::unique;
use crate::support::{TIMEOUT, driver, octopus, read, topic};

/// Keeps the only thread of a pool busy until the returned sender is dropped.
fn occupy(pool: &ThreadPool) -> mpsc::Sender<()> {
    let (release, until) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    pool.submit(HIGHEST_PRIORITY, move || {
        started.send(()).unwrap();
        let _ = until.recv();
    })
    .unwrap();
    has_started.recv_timeout(TIMEOUT).unwrap();
    release
}

/// `HIGHEST_PRIORITY`, the default, goes before all other priorities.
#[test]
fn tasks_run_by_priority_then_in_submission_order() {
    let pool = octopus().thread_pool(1).unwrap();
    let release = occupy(&pool);
    let (sender, done) = mpsc::channel();
    for (name, priority) in
        [("low", 0), ("high", 7), ("first", HIGHEST_PRIORITY), ("high too", 7), ("second", HIGHEST_PRIORITY)]
    {
        let sender = sender.clone();
        pool.submit(priority, move || sender.send(name).unwrap()).unwrap();
    }
    assert_eq!(pool.pending().unwrap(), 5);
    drop((release, sender));
    assert_eq!(done.iter().collect::<Vec<_>>(), ["first", "second", "high", "high too", "low"]);
}

#[test]
fn pool_runs_tasks_on_all_its_threads_concurrently() {
    let pool = octopus().thread_pool(4).unwrap();
    assert_eq!(pool.thread_count().unwrap(), 4);
    let all_running = Arc::new(std::sync::Barrier::new(5));
    for _ in 0..4 {
        let barrier = all_running.clone();
        pool.submit(0, move || _ = barrier.wait()).unwrap();
    }
    all_running.wait();
    let error = octopus().thread_pool(1_000_000).unwrap_err();
    assert!(error.status == Status::InvalidArgument && error.message.contains("4096"), "{error}");
}

#[test]
fn default_pool_has_no_threads_and_runs_tasks_in_the_caller() {
    let pool = driver().default_thread_pool().unwrap();
    assert_eq!((pool.thread_count().unwrap(), pool.pending().unwrap()), (0, 0));
    let (sender, done) = mpsc::channel();
    pool.submit(0, move || sender.send(thread::current().id()).unwrap()).unwrap();
    assert_eq!(done.try_recv().unwrap(), thread::current().id());
}

/// Releasing the pool does not cancel the tasks that are submitted already.
#[test]
fn concurrently_submitted_tasks_run_once_even_after_release() {
    let pool = octopus().thread_pool(3).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for priority in 0..500 {
                    let count = count.clone();
                    pool.submit(priority, move || _ = count.fetch_add(1, Ordering::Relaxed)).unwrap();
                }
            });
        }
    });
    drop(pool);
    crate::support::eventually("all tasks have run", || count.load(Ordering::Relaxed) == 2_000);
}

/// Pushes numbered events from several threads, each to one partition, and flushes.
fn push_from_threads(producer: &octopus_loader::Producer, threads: u64, count: u64) {
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for number in 0..count {
                    // Large and small events take different times to prepare.
                    let data = vec![0; if number % 10 == 0 { 5_000 } else { 5 }];
                    let event = NewEvent::json(&json!([thread, number])).data(&data).partition(thread);
                    producer.push_forget(&event).unwrap();
                }
            });
        }
    });
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
}

#[test]
fn strict_order_holds_on_a_pool_of_several_threads() {
    for threads in [1, 4] {
        let driver = driver();
        let name = unique("strict");
        let validator = json!({"type": "schema", "schema": {"type": "array", "items": {"type": "integer"}}});
        driver.create_topic(&name, &crate::support::one_replica().partitions(2).validator(validator)).unwrap();
        let topic = driver.open_topic(&name).unwrap();
        let pool = octopus().thread_pool(4).unwrap();
        let producer = topic.producer("strict").pool(&pool).make().unwrap();
        push_from_threads(&producer, threads, 5_000);
        let mut next = vec![0; threads as usize];
        for event in read(&topic.consumer(&unique("group")).make().unwrap(), 5_000 * threads as usize) {
            let numbers = event.json().unwrap();
            let next = &mut next[numbers[0].as_u64().unwrap() as usize];
            assert_eq!(numbers[1], *next, "{threads} threads");
            *next += 1;
        }
    }
}

#[test]
fn loose_order_delivers_each_event_once() {
    let topic = topic("loose", 1);
    let pool = octopus().thread_pool(4).unwrap();
    let producer = topic.producer("loose").loose().pool(&pool).make().unwrap();
    push_from_threads(&producer, 2, 2_000);
    let mut seen: Vec<_> = read(&topic.consumer(&unique("group")).make().unwrap(), 4_000)
        .iter()
        .map(|event| event.json().unwrap().to_string())
        .collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 4_000);
}

#[test]
fn burst_beyond_the_in_flight_limit_waits_on_a_pool() {
    let topic = topic("pool-in-flight-limit", 1);
    let pool = octopus().thread_pool(2).unwrap();
    let producer = topic.producer("burst").pool(&pool).kafka("queue.buffering.max.messages", 100).make().unwrap();
    push_from_threads(&producer, 3, 1_000);
    assert_eq!(read(&topic.consumer(&unique("group")).make().unwrap(), 3_000).len(), 3_000);
}

/// A task that waited for an event or a flush of its own pool would deadlock, so these calls fail.
/// Waiting for another producer works.
#[test]
fn pool_task_can_push_but_not_wait_for_its_own_pool() {
    let (one, other) = (topic("pool-task", 1), topic("pool-task-other", 1));
    let pool = octopus().thread_pool(1).unwrap();
    let producer = Arc::new(one.producer("inside").pool(&pool).make().unwrap());
    let elsewhere = other.producer("elsewhere").make().unwrap();
    let (sender, results) = mpsc::channel();
    let inside = producer.clone();
    pool.submit(0, move || {
        let push = inside.push(&NewEvent::default()).unwrap();
        let refused = [push.wait(TIMEOUT).map(drop), inside.flush().unwrap().wait(TIMEOUT), inside.close(TIMEOUT)];
        let waited = elsewhere.push(&NewEvent::default()).unwrap().wait(TIMEOUT);
        sender.send((refused, waited)).unwrap();
    })
    .unwrap();
    let (refused, waited) = results.recv_timeout(TIMEOUT).unwrap();
    assert!(refused.into_iter().all(|result| result.unwrap_err().status == Status::WouldDeadlock));
    waited.expect("another producer can be waited for");
    producer.close(TIMEOUT).unwrap();
}

#[test]
fn push_at_the_in_flight_limit_in_a_pool_task_does_not_wait() {
    let topic = topic("pool-at-limit", 1);
    let pool = octopus().thread_pool(1).unwrap();
    let producer = topic.producer("inside").pool(&pool).kafka("queue.buffering.max.messages", 2);
    let producer = Arc::new(producer.kafka("linger.ms", 10_000).make().unwrap());
    let (sender, results) = mpsc::channel();
    let inside = producer.clone();
    pool.submit(0, move || {
        let statuses: Vec<_> =
            (0..3).map(|_| inside.push(&NewEvent::default()).map(drop).map_err(|e| e.status)).collect();
        sender.send(statuses).unwrap();
    })
    .unwrap();
    assert_eq!(results.recv_timeout(TIMEOUT).unwrap(), [Ok(()), Ok(()), Err(Status::WouldBlock)]);
    producer.close(TIMEOUT).unwrap();
}

/// A thread of the host, and how the pool treats tasks: it runs, refuses or drops them.
#[derive(Default)]
struct OwnThread {
    refuses: AtomicBool,
    drops: AtomicBool,
    tasks: Mutex<Option<mpsc::Sender<Task>>>,
}

struct Hosted(Arc<OwnThread>);

impl HostPool for Hosted {
    fn submit(&self, task: Task, _: u64) -> Result<(), Task> {
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(task);
        }
        if self.0.drops.load(Ordering::SeqCst) {
            return Ok(());
        }
        let sender = self.0.tasks.lock().unwrap().get_or_insert_with(run_tasks).clone();
        sender.send(task).unwrap();
        Ok(())
    }

    fn pending(&self) -> u64 {
        42
    }

    fn thread_count(&self) -> u64 {
        1
    }
}

fn run_tasks() -> mpsc::Sender<Task> {
    let (sender, tasks) = mpsc::channel::<Task>();
    thread::spawn(move || tasks.iter().for_each(Task::run));
    sender
}

#[test]
fn host_pool_prepares_and_processes_events() {
    let host = Arc::new(OwnThread::default());
    let pool = octopus().host_pool(Hosted(host)).unwrap();
    assert_eq!((pool.thread_count().unwrap(), pool.pending().unwrap()), (1, 42));
    let topic = topic("host-pool", 1);
    let producer = topic.producer("hosted").pool(&pool).make().unwrap();
    push_from_threads(&producer, 2, 500);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let (count, here) = (AtomicUsize::new(0), thread::current().id());
    let bounds = octopus_loader::Bounds { timeout: TIMEOUT, max_events: 1_000 };
    consumer
        .process(bounds, Some(&pool), |event| {
            assert!(event.is_some() && thread::current().id() != here);
            count.fetch_add(1, Ordering::Relaxed);
            Ok(octopus_loader::Flow::Continue)
        })
        .unwrap();
    assert_eq!(count.into_inner(), 1_000);
    let (sender, done) = mpsc::channel();
    pool.submit(0, move || sender.send(()).unwrap()).unwrap();
    done.recv_timeout(TIMEOUT).unwrap();
}

#[test]
fn task_refused_by_host_pool_fails_only_its_call() {
    let host = Arc::new(OwnThread::default());
    let pool = octopus().host_pool(Hosted(host.clone())).unwrap();
    let topic = topic("refusing-pool", 1);
    let producer = topic.producer("hosted").pool(&pool).make().unwrap();
    producer.push(&NewEvent::json(&0)).unwrap().wait(TIMEOUT).unwrap();
    host.refuses.store(true, Ordering::SeqCst);
    let error = producer.push(&NewEvent::json(&1)).unwrap_err();
    assert!(error.status == Status::CallbackFailed && error.message.contains("rejected a task"), "{error}");
    producer.flush().unwrap().wait(TIMEOUT).expect("a flush does not report an error that push returned");
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let bounds = octopus_loader::Bounds { timeout: TIMEOUT, max_events: 1 };
    let error = consumer.process(bounds, Some(&pool), |_| Ok(octopus_loader::Flow::Continue)).unwrap_err();
    assert_eq!(error.status, Status::CallbackFailed, "{error}");
    host.refuses.store(false, Ordering::SeqCst);
    producer.push(&NewEvent::json(&2)).unwrap().wait(TIMEOUT).unwrap();
    let numbers: Vec<_> = read(&consumer, 2).iter().map(|event| event.json().unwrap()).collect();
    assert_eq!(numbers, [0, 2], "the refused processing lost no event");
}

#[test]
fn task_dropped_by_host_pool_fails_only_its_push() {
    let host = Arc::new(OwnThread::default());
    let pool = octopus().host_pool(Hosted(host.clone())).unwrap();
    let topic = topic("dropping-pool", 1);
    let producer = topic.producer("hosted").pool(&pool).make().unwrap();
    host.drops.store(true, Ordering::SeqCst);
    let dropped = producer.push(&NewEvent::json(&1)).unwrap();
    host.drops.store(false, Ordering::SeqCst);
    producer.push(&NewEvent::json(&2)).unwrap().wait(TIMEOUT).unwrap();
    let error = dropped.wait(TIMEOUT).unwrap_err();
    assert!(error.status == Status::CallbackFailed && error.message.contains("dropped"), "{error}");
    assert!(producer.flush().unwrap().wait(TIMEOUT).unwrap_err().message.contains("1 of the events"));
    producer.close(TIMEOUT).unwrap();
}

#[test]
fn released_producer_delivers_events_pending_on_its_pool() {
    let topic = topic("pool-release", 1);
    let pool = octopus().thread_pool(1).unwrap();
    let release = occupy(&pool);
    let producer = topic.producer("released").pool(&pool).make().unwrap();
    for number in 0..100 {
        producer.push_forget(&NewEvent::json(&number)).unwrap();
    }
    drop((producer, pool));
    drop(release);
    assert_eq!(read(&topic.consumer(&unique("group")).make().unwrap(), 100).len(), 100);
}

#[test]
fn producer_with_batches_of_one_is_not_slow() {
    let topic = topic("batch-of-one", 1);
    let producer = topic.producer("small").batch_size(1).max_batches(2).make().unwrap();
    let started = std::time::Instant::now();
    for number in 0..50_000 {
        producer.push_forget(&NewEvent::json(&number)).unwrap();
    }
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
    // With one record per request it would take most of a minute.
    assert!(started.elapsed() < TIMEOUT / 3, "{:?}", started.elapsed());
    let consumer = topic.consumer(&unique("group")).batch_size(1).max_batches(2).make().unwrap();
    assert_eq!(read(&consumer, 50_000).len(), 50_000);
}

#[test]
fn task_can_submit_to_its_pool_and_release_it() {
    let pool = Arc::new(octopus().thread_pool(1).unwrap());
    let (sender, ran) = mpsc::channel();
    let inner = pool.clone();
    pool.submit(HIGHEST_PRIORITY, move || {
        inner.submit(HIGHEST_PRIORITY, move || sender.send(()).unwrap()).unwrap();
        drop(inner);
    })
    .unwrap();
    drop(pool);
    ran.recv_timeout(TIMEOUT).unwrap();
}

#[test]
fn event_bytes_are_copied_before_push_returns() {
    let topic = topic("copied", 1);
    let pool = octopus().thread_pool(1).unwrap();
    let release = occupy(&pool);
    let producer = topic.producer("p").pool(&pool).make().unwrap();
    let mut data = vec![1; 1_000];
    let push = producer.push(&NewEvent::text("{}").data(&data)).unwrap();
    data.fill(2);
    assert!(!push.is_done().unwrap());
    drop(release);
    push.wait(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    assert_eq!(read(&consumer, 1)[0].data(), [1; 1_000]);
}

/// # Safety
/// `context` points to an `AtomicUsize` that is live during this call.
unsafe extern "C" fn count(context: *mut c_void) {
    // SAFETY: the `AtomicUsize` is live (fn contract).
    unsafe { &*context.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
}

/// Calls take ownership of a task or a host pool, also if they reject their arguments.
#[test]
fn task_with_invalid_arguments_is_destroyed_once() {
    // SAFETY: `octopus_api` guarantees that the tables live until the process ends.
    let table = unsafe { &*octopus().api().thread_pool };
    // SAFETY: `pool` is NULL or points to a local of this test.
    let create = |pool| unsafe { table.create.unwrap()(1, pool, null_mut()) };
    // SAFETY: `pool` is NULL or live; `task` is NULL or points to a local of this test, whose
    // context outlives the call.
    let submit = |pool, task| unsafe { table.submit.unwrap()(pool, task, HIGHEST_PRIORITY, null_mut()) };
    // SAFETY: `functions` is NULL or points to a local of this test, whose context outlives the
    // call; `pool` points to a local of this test.
    let from_host = |functions, pool| unsafe { table.from_host.unwrap()(functions, pool, null_mut()) };
    let destroyed = AtomicUsize::new(0);
    let context = (&raw const destroyed).cast_mut().cast();
    let mut pool = null_mut();
    let empty_task = octopus_task { function: None, context, destroy: Some(count) };
    let empty_pool = octopus_pool_functions {
        size: size_of::<octopus_pool_functions>() as u64,
        context,
        destroy: Some(count),
        submit: None,
        pending: None,
        thread_count: None,
    };
    assert_eq!(create(null_mut()), OCTOPUS_INVALID_ARGUMENT, "the pool's output pointer is NULL");
    assert_eq!(create(&mut pool), OCTOPUS_OK);
    assert_eq!(submit(pool, null()), OCTOPUS_INVALID_ARGUMENT);
    assert_eq!(submit(null(), &empty_task), OCTOPUS_INVALID_ARGUMENT);
    assert_eq!(submit(pool, &empty_task), OCTOPUS_INVALID_ARGUMENT);
    assert_eq!(destroyed.load(Ordering::Relaxed), 2);
    // SAFETY: `pool` is live, and not used after this.
    unsafe { table.release.unwrap()(pool) };
    assert_eq!(from_host(null(), &mut pool), OCTOPUS_INVALID_ARGUMENT);
    assert_eq!(from_host(&empty_pool, &mut pool), OCTOPUS_INVALID_ARGUMENT);
    assert_eq!(destroyed.into_inner(), 3);
}

/// A pool of the host that runs tasks inside `submit`, or panics if `panics` is set.
#[derive(Default)]
struct InlinePool {
    panics: Arc<AtomicBool>,
    priorities: Arc<Mutex<Vec<u64>>>,
}

impl HostPool for InlinePool {
    fn submit(&self, task: Task, priority: u64) -> Result<(), Task> {
        assert!(!self.panics.load(Ordering::SeqCst), "the test requested a panic");
        self.priorities.lock().unwrap().push(priority);
        task.run();
        Ok(())
    }

    fn pending(&self) -> u64 {
        0
    }

    fn thread_count(&self) -> u64 {
        0
    }
}

#[test]
fn host_pool_without_threads_behaves_like_no_pool() {
    let topic = topic("inline-pool", 1);
    let host = InlinePool::default();
    let priorities = host.priorities.clone();
    let pool = octopus().host_pool(host).unwrap();
    let producer = topic.producer("p").pool(&pool).make().unwrap();
    let (sender, results) = mpsc::channel();
    pool.submit(7, move || {
        let push = producer.push(&NewEvent::text("{}")).unwrap();
        sender.send(push.wait(TIMEOUT).unwrap().id).unwrap();
    })
    .unwrap();
    assert_eq!(results.try_recv(), Ok(Some(0)), "the task has run when submit returns");
    assert_eq!(priorities.lock().unwrap().first(), Some(&7), "the host pool gets the priority as submitted");
}

#[test]
fn panic_in_host_pool_destroys_task_and_pool_once() {
    let host = InlinePool::default();
    let (panics, alive) = (host.panics.clone(), Arc::downgrade(&host.priorities));
    let pool = octopus().host_pool(host).unwrap();
    let (sender, ran) = mpsc::channel();
    panics.store(true, Ordering::SeqCst);
    let lost = sender.clone();
    pool.submit(HIGHEST_PRIORITY, move || lost.send("lost").unwrap()).expect("the call took ownership of the task");
    panics.store(false, Ordering::SeqCst);
    pool.submit(HIGHEST_PRIORITY, move || sender.send("run").unwrap()).unwrap();
    assert_eq!(ran.iter().collect::<Vec<_>>(), ["run"], "the lost task is destroyed");
    drop(pool);
    assert!(alive.upgrade().is_none());
}
