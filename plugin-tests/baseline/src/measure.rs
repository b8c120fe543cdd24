//! One measurement, in a separate process.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::{Backend, BenchConsumer, BenchProducer, DeliveryTimes};
use crate::job::{Event, Figures, Job, Pulling, Times, Work};
use crate::usage::{Measurement, settle};

/// The first argument of a process that measures.
pub const ROLE: &str = "measure";

/// Returns the job in the arguments of a process that was started to measure.
pub fn job_in(arguments: &[String]) -> Option<Job> {
    match arguments {
        [role, job] if role == ROLE => Some(serde_json::from_str(job).expect("a job, as the runner writes it")),
        _ => None,
    }
}

/// Writes the figures to the standard output and ends the process without releasing the clients,
/// since their teardown is not part of the measurement.
pub fn print_figures(figures: &Figures) -> ! {
    println!("{}", serde_json::to_string(figures).expect("numbers"));
    std::process::exit(0)
}

/// Does the job. `began` is the start time of the process.
pub fn measure<B: Backend>(job: &Job, began: Instant) -> Figures {
    let producer = || B::producer(&B::open(job), job);
    let consumer = || B::consumer(&B::open(job), job);
    let event = Event::new(job.data);
    match job.work {
        Work::Push { events, threads } => {
            push(&warm_all_partitions(producer(), &event, job.partitions), &event, events, threads)
        }
        Work::PushInWindow { events, window } => push_in_window(&warm(producer(), &event), &event, events, window),
        Work::PushAndWait { times } => push_and_wait(&warm(producer(), &event), &event, times),
        Work::PushAtRate { rate, seconds } => {
            let per_second = rate.per_second(f64::NAN);
            push_at_rate(&warm(producer(), &event), event, per_second, per_second * seconds)
        }
        Work::Pull { events, by } => {
            let opened = B::open(job);
            pull(|| B::consumer(&opened, job), events, by)
        }
        Work::EndToEnd { per_second, seconds } => {
            end_to_end(&producer(), consumer(), event, per_second, per_second * seconds)
        }
        Work::FirstPush => since(began, || {
            let producer = producer();
            producer.wait(producer.push_tracked(0, &event));
        }),
        Work::FirstEvent => since(began, || {
            consumer().pull();
        }),
        Work::Idle { seconds } => {
            let opened = B::open(job);
            let measurement = Measurement::start();
            let _producer = warm(B::producer(&opened, job), &event);
            let _consumer = B::consumer(&opened, job);
            let while_idle = Measurement::start();
            thread::sleep(Duration::from_secs(seconds));
            Figures { threads: measurement.figures(0).threads, ..while_idle.figures(seconds) }
        }
        Work::InFlight { events } => {
            let producer = producer();
            let measurement = Measurement::start();
            (0..events).for_each(|number| producer.push(number, &event));
            measurement.figures(events)
        }
        Work::Unread { seconds } => {
            let measurement = Measurement::start();
            let _consumer = consumer();
            thread::sleep(Duration::from_secs(seconds));
            measurement.figures(0)
        }
        Work::OneHeld { events } => one_held(consumer(), events),
        Work::OpenAndClose { times } => {
            let once = || {
                let opened = B::open(job);
                let producer = warm(B::producer(&opened, job), &event);
                let mut consumer = B::consumer(&opened, job);
                consumer.pull();
                producer.close();
                consumer.close();
            };
            // Warm-up: one-time initialization and the memory that the allocator keeps are not
            // growth.
            (0..times / 10).for_each(|_| once());
            settle();
            let measurement = Measurement::start();
            (0..times).for_each(|_| once());
            settle();
            measurement.figures(times)
        }
        Work::List => panic!("only the plugin lists topics"),
    }
}

/// Delivers one event, so that the producer is connected.
fn warm<P: BenchProducer>(producer: P, event: &Event) -> P {
    warm_all_partitions(producer, event, 1)
}

/// Delivers one event to each partition. The broker creates and synchronizes files for the first
/// event of a partition, which can take seconds for a hundred partitions.
fn warm_all_partitions<P: BenchProducer>(producer: P, event: &Event, partitions: u32) -> P {
    let deliveries: Vec<_> = (0..partitions.into()).map(|number| producer.push_tracked(number, event)).collect();
    deliveries.into_iter().for_each(|delivery| producer.wait(delivery));
    producer
}

fn push(producer: &impl BenchProducer, event: &Event, events: u64, threads: usize) -> Figures {
    let measurement = Measurement::start();
    if threads == 1 {
        (1..=events).for_each(|number| producer.push(number, event));
    } else {
        let share = events / threads as u64;
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (1..=share).for_each(|number| producer.push(number, event)));
            }
        });
    }
    producer.flush();
    measurement.figures(events / threads as u64 * threads as u64)
}

fn push_in_window(producer: &impl BenchProducer, event: &Event, events: u64, window: usize) -> Figures {
    let mut waiting = VecDeque::with_capacity(window);
    let measurement = Measurement::start();
    for number in 1..=events {
        if waiting.len() == window
            && let Some(oldest) = waiting.pop_front()
        {
            producer.wait(oldest);
        }
        waiting.push_back(producer.push_tracked(number, event));
    }
    waiting.into_iter().for_each(|delivery| producer.wait(delivery));
    measurement.figures(events)
}

fn push_and_wait(producer: &impl BenchProducer, event: &Event, times: u64) -> Figures {
    let mut took = Vec::with_capacity(times as usize);
    let measurement = Measurement::start();
    for number in 1..=times {
        let began = Instant::now();
        producer.wait(producer.push_tracked(number, event));
        took.push(began.elapsed().as_nanos() as f64 / 1e3);
    }
    Figures { times: Times::of(took), ..measurement.figures(times) }
}

/// Begins each push at its scheduled time or as soon as possible after it. The latency of a push
/// counts from its scheduled time, so that a late push does not hide a delay (coordinated
/// omission).
fn push_at_rate(producer: &impl BenchProducer, mut event: Event, per_second: u64, events: u64) -> Figures {
    let delivery_times = DeliveryTimes::for_events(events);
    let should_begin = move |number| Duration::from_secs(1).mul_f64(number as f64 / per_second as f64);
    let mut slip = Vec::with_capacity(events as usize);
    let is_over = AtomicBool::new(false);
    let measurement = Measurement::start();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                producer.serve();
            }
        });
        for number in 0..events {
            let begin = should_begin(number);
            if let Some(early) = begin.checked_sub(delivery_times.began.elapsed())
                && early > Duration::from_micros(50)
            {
                thread::sleep(early);
            }
            slip.push(delivery_times.began.elapsed().saturating_sub(begin).as_nanos() as f64 / 1e3);
            event.stamp(number);
            producer.push_timed(number, &event, delivery_times);
        }
        producer.flush();
        is_over.store(true, Ordering::Release);
    });
    let figures = measurement.figures(events);
    Figures { times: delivery_times.latencies(should_begin), slip: Times::of(slip), ..figures }
}

/// The measurement begins before the consumer is created, so that it includes the consumer's
/// prefetch.
fn pull<C: BenchConsumer>(consumer: impl FnOnce() -> C, events: u64, by: Pulling) -> Figures {
    let measurement = Measurement::start();
    let mut consumer = consumer();
    let (mut pulled, mut bytes) = (0, 0);
    while pulled < events {
        let more = match by {
            Pulling::One => consumer.pull(),
            Pulling::Many => consumer.pull_many(),
            Pulling::Batch => consumer.pull_batch(),
        };
        pulled += more.events;
        bytes += more.bytes;
    }
    let figures = measurement.figures(pulled);
    assert!(bytes > 0);
    figures
}

fn end_to_end<C: BenchConsumer>(
    producer: &impl BenchProducer,
    mut consumer: C,
    mut event: Event,
    per_second: u64,
    events: u64,
) -> Figures {
    event.stamp(0);
    producer.wait(producer.push_tracked(0, &event));
    consumer.pull();
    let (began, measurement) = (Instant::now(), Measurement::start());
    let mut took = Vec::with_capacity(events as usize);
    let now = || began.elapsed().as_nanos() as u64;
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 1..=events {
                let begin = Duration::from_secs(1).mul_f64(number as f64 / per_second as f64);
                thread::sleep(begin.saturating_sub(began.elapsed()));
                event.stamp(began.elapsed().as_nanos() as u64);
                producer.push(number, &event);
            }
            producer.flush();
        });
        for _ in 0..events {
            let pulled = consumer.pull();
            took.push((now() - pulled.stamp) as f64 / 1e3);
        }
    });
    Figures { times: Times::of(took), ..measurement.figures(events) }
}

fn since(began: Instant, action: impl FnOnce()) -> Figures {
    action();
    Figures { events: 1, wall: began.elapsed().as_nanos() as f64 / 1e3, ..Figures::default() }
}

/// Holds one event while all others are pulled and released.
fn one_held<C: BenchConsumer>(mut consumer: C, events: u64) -> Figures {
    let held = consumer.hold();
    let measurement = Measurement::start();
    let mut pulled = 1;
    while pulled < events {
        pulled += consumer.pull_many().events;
    }
    let figures = measurement.figures(pulled);
    drop(held);
    figures
}
