//! Thread pools, and producers that prepare their events on them.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use octopus_loader::abi::*;
use octopus_loader::{HIGHEST_PRIORITY, HostPool, NewEvent, Status, Task, ThreadPool};
use serde_json::json;

use crate::kafka::unique;
use crate::support::{PATIENCE, driver, octopus, read, topic};

/// Keeps the only thread of a pool busy until what it returns is dropped.
fn occupy(pool: &ThreadPool) -> mpsc::Sender<()> {
    let (release, until) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    pool.submit(HIGHEST_PRIORITY, move || {
        started.send(()).unwrap();
        let _ = until.recv();
    })
    .unwrap();
    has_started.recv_timeout(PATIENCE).unwrap();
    release
}

#[test]
fn higher_priorities_go_first_the_default_ahead_of_all_and_equals_in_the_order_they_came() {
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
fn a_pool_has_its_number_of_threads_and_uses_them_at_the_same_time() {
    let pool = octopus().thread_pool(4).unwrap();
    assert_eq!(pool.thread_count().unwrap(), 4);
    let all_there = Arc::new(std::sync::Barrier::new(5));
    for _ in 0..4 {
        let barrier = all_there.clone();
        pool.submit(0, move || {
            barrier.wait();
        })
        .unwrap();
    }
    all_there.wait();
    let error = octopus().thread_pool(1_000_000).unwrap_err();
    assert!(error.status == Status::InvalidArgument && error.message.contains("4096"), "{error}");
}

#[test]
fn the_default_pool_is_one_without_threads_and_runs_work_in_the_caller() {
    let pool = driver().default_thread_pool().unwrap();
    assert_eq!((pool.thread_count().unwrap(), pool.pending().unwrap()), (0, 0));
    let (sender, done) = mpsc::channel();
    pool.submit(0, move || sender.send(thread::current().id()).unwrap()).unwrap();
    assert_eq!(done.try_recv().unwrap(), thread::current().id());
}

#[test]
fn threads_that_submit_at_the_same_time_have_all_their_tasks_run_once_also_after_the_release() {
    let pool = octopus().thread_pool(3).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for priority in 0..500 {
                    let count = count.clone();
                    pool.submit(priority, move || {
                        count.fetch_add(1, Ordering::Relaxed);
                    })
                    .unwrap();
                }
            });
        }
    });
    drop(pool);
    crate::support::eventually("all have run", || count.load(Ordering::Relaxed) == 2_000);
}

/// Numbered events from several threads: each thread's numbers must come in order in each partition.
fn push_from_threads(producer: &octopus_loader::Producer, threads: u64, count: u64) {
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for number in 0..count {
                    // Larger and smaller ones, which take longer and shorter to prepare.
                    let data = vec![0; if number % 10 == 0 { 5_000 } else { 5 }];
                    producer
                        .push_forget(&NewEvent::json(&json!([thread, number])).data(&data).partition(thread))
                        .unwrap();
                }
            });
        }
    });
    producer.flush().unwrap().wait(PATIENCE).unwrap();
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
fn in_loose_order_everything_arrives_once() {
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
fn a_burst_beyond_the_room_waits_for_it_also_on_a_pool() {
    let topic = topic("pool-room", 1);
    let pool = octopus().thread_pool(2).unwrap();
    let producer = topic.producer("burst").pool(&pool).kafka("queue.buffering.max.messages", 100).make().unwrap();
    push_from_threads(&producer, 3, 1_000);
    assert_eq!(read(&topic.consumer(&unique("group")).make().unwrap(), 3_000).len(), 3_000);
}

#[test]
fn in_a_pools_task_its_own_producers_push_and_what_would_wait_for_the_pool_says_so() {
    let (one, other) = (topic("pool-task", 1), topic("pool-task-other", 1));
    let pool = octopus().thread_pool(1).unwrap();
    let producer = Arc::new(one.producer("inside").pool(&pool).make().unwrap());
    let elsewhere = other.producer("elsewhere").make().unwrap();
    let (sender, told) = mpsc::channel();
    let inside = producer.clone();
    pool.submit(0, move || {
        let push = inside.push(&NewEvent::default()).unwrap();
        let refused = [push.wait(PATIENCE).map(drop), inside.flush().unwrap().wait(PATIENCE), inside.close(PATIENCE)];
        let waited = elsewhere.push(&NewEvent::default()).unwrap().wait(PATIENCE);
        sender.send((refused, waited)).unwrap();
    })
    .unwrap();
    let (refused, waited) = told.recv_timeout(PATIENCE).unwrap();
    assert!(refused.into_iter().all(|result| result.unwrap_err().status == Status::WouldDeadlock));
    waited.expect("another producer can be waited for");
    producer.close(PATIENCE).unwrap();
}

#[test]
fn in_a_pools_task_a_push_without_room_does_not_wait_for_it() {
    let topic = topic("pool-no-room", 1);
    let pool = octopus().thread_pool(1).unwrap();
    let producer = Arc::new(
        topic
            .producer("inside")
            .pool(&pool)
            .kafka("queue.buffering.max.messages", 2)
            .kafka("linger.ms", 10_000)
            .make()
            .unwrap(),
    );
    let (sender, told) = mpsc::channel();
    let inside = producer.clone();
    pool.submit(0, move || {
        let statuses: Vec<_> =
            (0..3).map(|_| inside.push(&NewEvent::default()).map(drop).map_err(|e| e.status)).collect();
        sender.send(statuses).unwrap();
    })
    .unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), [Ok(()), Ok(()), Err(Status::WouldBlock)]);
    producer.close(PATIENCE).unwrap();
}

/// A thread of the host's, and what it was told to do with tasks.
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
fn a_pool_of_the_hosts_prepares_events_and_processes_them() {
    let host = Arc::new(OwnThread::default());
    let pool = octopus().host_pool(Hosted(host)).unwrap();
    assert_eq!((pool.thread_count().unwrap(), pool.pending().unwrap()), (1, 42));
    let topic = topic("host-pool", 1);
    let producer = topic.producer("hosted").pool(&pool).make().unwrap();
    push_from_threads(&producer, 2, 500);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let (count, here) = (AtomicUsize::new(0), thread::current().id());
    let bounds = octopus_loader::Bounds { timeout: PATIENCE, max_events: 1_000 };
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
    done.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_hosts_pool_that_refuses_fails_that_push_and_that_process_and_nothing_else() {
    let host = Arc::new(OwnThread::default());
    let pool = octopus().host_pool(Hosted(host.clone())).unwrap();
    let topic = topic("refusing-pool", 1);
    let producer = topic.producer("hosted").pool(&pool).make().unwrap();
    producer.push(&NewEvent::json(&0)).unwrap().wait(PATIENCE).unwrap();
    host.refuses.store(true, Ordering::SeqCst);
    let error = producer.push(&NewEvent::json(&1)).unwrap_err();
    assert!(error.status == Status::CallbackFailed && error.message.contains("refuses"), "{error}");
    producer.flush().unwrap().wait(PATIENCE).expect("what was refused in the call is not told again");
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let bounds = octopus_loader::Bounds { timeout: PATIENCE, max_events: 1 };
    let error = consumer.process(bounds, Some(&pool), |_| Ok(octopus_loader::Flow::Continue)).unwrap_err();
    assert_eq!(error.status, Status::CallbackFailed, "{error}");
    host.refuses.store(false, Ordering::SeqCst);
    producer.push(&NewEvent::json(&2)).unwrap().wait(PATIENCE).unwrap();
    let numbers: Vec<_> = read(&consumer, 2).iter().map(|event| event.json().unwrap()).collect();
    assert_eq!(numbers, [0, 2], "what was not processed was not lost either");
}

#[test]
fn a_task_that_a_hosts_pool_drops_fails_its_push_and_keeps_no_other_waiting() {
    let host = Arc::new(OwnThread::default());
    let pool = octopus().host_pool(Hosted(host.clone())).unwrap();
    let topic = topic("dropping-pool", 1);
    let producer = topic.producer("hosted").pool(&pool).make().unwrap();
    host.drops.store(true, Ordering::SeqCst);
    let dropped = producer.push(&NewEvent::json(&1)).unwrap();
    host.drops.store(false, Ordering::SeqCst);
    producer.push(&NewEvent::json(&2)).unwrap().wait(PATIENCE).unwrap();
    let error = dropped.wait(PATIENCE).unwrap_err();
    assert!(error.status == Status::CallbackFailed && error.message.contains("dropped"), "{error}");
    assert!(producer.flush().unwrap().wait(PATIENCE).unwrap_err().message.contains("1 of the events"));
    producer.close(PATIENCE).unwrap();
}

#[test]
fn a_producer_that_is_released_still_delivers_what_its_pool_has_to_prepare() {
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
fn a_producer_of_batches_of_one_does_not_crawl() {
    let topic = topic("batch-of-one", 1);
    let producer = topic.producer("small").batch_size(1).max_batches(2).make().unwrap();
    let started = std::time::Instant::now();
    for number in 0..50_000 {
        producer.push_forget(&NewEvent::json(&number)).unwrap();
    }
    producer.flush().unwrap().wait(PATIENCE).unwrap();
    // One record a request would take the better part of a minute.
    assert!(started.elapsed() < PATIENCE / 3, "{:?}", started.elapsed());
    let consumer = topic.consumer(&unique("group")).batch_size(1).max_batches(2).make().unwrap();
    assert_eq!(read(&consumer, 50_000).len(), 50_000);
}

#[test]
fn a_task_may_submit_to_its_pool_and_release_it() {
    let pool = Arc::new(octopus().thread_pool(1).unwrap());
    let (sender, ran) = mpsc::channel();
    let its_own = pool.clone();
    pool.submit(HIGHEST_PRIORITY, move || {
        its_own.submit(HIGHEST_PRIORITY, move || sender.send(()).unwrap()).unwrap();
        drop(its_own);
    })
    .unwrap();
    drop(pool);
    ran.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn the_bytes_of_an_event_are_copied_before_push_returns_whenever_the_pool_gets_to_it() {
    let topic = topic("copied", 1);
    let pool = octopus().thread_pool(1).unwrap();
    let let_go = occupy(&pool);
    let producer = topic.producer("p").pool(&pool).make().unwrap();
    let mut data = vec![1; 1_000];
    let push = producer.push(&NewEvent::text("{}").data(&data)).unwrap();
    data.fill(2);
    assert!(!push.is_done().unwrap());
    drop(let_go);
    push.wait(PATIENCE).unwrap();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    assert_eq!(read(&consumer, 1)[0].data(), [1; 1_000]);
}

unsafe extern "C" fn count(context: *mut c_void) {
    // SAFETY: every context in these tests is a counter that outlives what it is given to.
    unsafe { &*context.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn what_is_refused_for_its_arguments_was_taken_over_and_is_destroyed_once() {
    // SAFETY: the tables live until the process ends.
    let table = unsafe { &*octopus().api().thread_pool };
    let (create, submit, from_host, release) =
        (table.create.unwrap(), table.submit.unwrap(), table.from_host.unwrap(), table.release.unwrap());
    let destroyed = AtomicUsize::new(0);
    let context = (&raw const destroyed).cast_mut().cast();
    let (mut pool, mut error) = (null_mut(), null_mut());
    let nothing_to_run = octopus_task { function: None, context, destroy: Some(count) };
    let nothing_to_submit_to = octopus_pool_functions {
        size: size_of::<octopus_pool_functions>() as u64,
        context,
        destroy: Some(count),
        submit: None,
        pending: None,
        thread_count: None,
    };
    // SAFETY: pointers are NULL or valid during the calls, and the handle is released once.
    unsafe {
        assert_eq!(create(1, null_mut(), null_mut()), OCTOPUS_INVALID_ARGUMENT, "nowhere to write the pool");
        assert_eq!(create(1, &mut pool, &mut error), OCTOPUS_OK);
        assert_eq!(submit(pool, null(), HIGHEST_PRIORITY, null_mut()), OCTOPUS_INVALID_ARGUMENT);
        assert_eq!(submit(null(), &nothing_to_run, HIGHEST_PRIORITY, null_mut()), OCTOPUS_INVALID_ARGUMENT);
        assert_eq!(submit(pool, &nothing_to_run, HIGHEST_PRIORITY, null_mut()), OCTOPUS_INVALID_ARGUMENT);
        assert_eq!(destroyed.load(Ordering::Relaxed), 2);
        release(pool);
        assert_eq!(from_host(null(), &mut pool, null_mut()), OCTOPUS_INVALID_ARGUMENT);
        assert_eq!(from_host(&nothing_to_submit_to, &mut pool, null_mut()), OCTOPUS_INVALID_ARGUMENT);
    }
    assert_eq!(destroyed.into_inner(), 3);
}

/// A pool of the host's that runs everything in the call, but panics when it is told to.
#[derive(Default)]
struct AtOnce {
    panics: Arc<AtomicBool>,
    priorities: Arc<Mutex<Vec<u64>>>,
}

impl HostPool for AtOnce {
    fn submit(&self, task: Task, priority: u64) -> Result<(), Task> {
        assert!(!self.panics.load(Ordering::SeqCst), "as this test wants");
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
fn on_a_hosts_pool_without_threads_pushes_and_waits_are_as_on_none() {
    let topic = topic("at-once", 1);
    let host = AtOnce::default();
    let priorities = host.priorities.clone();
    let pool = octopus().host_pool(host).unwrap();
    let producer = topic.producer("p").pool(&pool).make().unwrap();
    let (sender, told) = mpsc::channel();
    pool.submit(7, move || {
        let push = producer.push(&NewEvent::text("{}")).unwrap();
        sender.send(push.wait(PATIENCE).unwrap().id).unwrap();
    })
    .unwrap();
    assert_eq!(told.try_recv(), Ok(Some(0)), "it has run when submit returns");
    assert_eq!(priorities.lock().unwrap().first(), Some(&7), "what it means is the host's business");
}

#[test]
fn a_task_that_a_hosts_pool_panics_over_is_destroyed_once_and_so_is_the_pool() {
    let host = AtOnce::default();
    let (panics, alive) = (host.panics.clone(), Arc::downgrade(&host.priorities));
    let pool = octopus().host_pool(host).unwrap();
    let (sender, ran) = mpsc::channel();
    panics.store(true, Ordering::SeqCst);
    let lost = sender.clone();
    pool.submit(HIGHEST_PRIORITY, move || lost.send("lost").unwrap()).expect("it was taken over, for better or worse");
    panics.store(false, Ordering::SeqCst);
    pool.submit(HIGHEST_PRIORITY, move || sender.send("run").unwrap()).unwrap();
    assert_eq!(ran.iter().collect::<Vec<_>>(), ["run"], "and nobody keeps the task that was lost");
    drop(pool);
    assert!(alive.upgrade().is_none());
}
