//! One measurement, in a process of its own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::job::{Event, Figures, Job, Pulling, Times, Work};
use crate::side::{Consuming, Measured, Producing, Told};
use crate::usage::{Before, settle};

/// The argument that makes a program measure.
pub const ROLE: &str = "measure";

/// The job that a program was started for, if it was started to measure.
pub fn job_in(arguments: &[String]) -> Option<Job> {
    match arguments {
        [role, job] if role == ROLE => Some(serde_json::from_str(job).expect("a job, as the runner writes it")),
        _ => None,
    }
}

/// Writes what was measured to the standard output, and ends the process: what a side still has to give back is no part of
/// the measurement.
pub fn tell(figures: &Figures) -> ! {
    println!("{}", serde_json::to_string(figures).expect("numbers"));
    std::process::exit(0)
}

/// Does the job. `began` is when the process did.
pub fn measure<S: Measured>(job: &Job, began: Instant) -> Figures {
    let producer = || S::producer(&S::open(job), job);
    let consumer = || S::consumer(&S::open(job), job);
    let event = Event::new(job.data);
    match job.work {
        Work::Push { events, threads } => {
            push(&warm_everywhere(producer(), &event, job.partitions), &event, events, threads)
        }
        Work::PushInWindow { events, window } => push_in_window(&warm(producer(), &event), &event, events, window),
        Work::PushAndWait { times } => push_and_wait(&warm(producer(), &event), &event, times),
        Work::PushAtRate { rate, seconds } => {
            let per_second = rate.per_second(f64::NAN);
            push_at_rate(&warm(producer(), &event), event, per_second, per_second * seconds)
        }
        Work::Pull { events, by } => {
            let opened = S::open(job);
            pull(|| S::consumer(&opened, job), events, by)
        }
        Work::EndToEnd { per_second, seconds } => {
            end_to_end(&producer(), consumer(), event, per_second, per_second * seconds)
        }
        Work::FirstPush => since(began, || {
            let producer = producer();
            producer.wait(producer.push_for_ticket(0, &event));
        }),
        Work::FirstEvent => since(began, || {
            consumer().pull();
        }),
        Work::Idle { seconds } => {
            let opened = S::open(job);
            let before = Before::now();
            let _producer = warm(S::producer(&opened, job), &event);
            let _consumer = S::consumer(&opened, job);
            let while_idle = Before::now();
            thread::sleep(Duration::from_secs(seconds));
            Figures { threads: before.until_now(0).threads, ..while_idle.until_now(seconds) }
        }
        Work::InFlight { events } => {
            let producer = producer();
            let before = Before::now();
            (0..events).for_each(|number| producer.push(number, &event));
            before.until_now(events)
        }
        Work::Unread { seconds } => {
            let before = Before::now();
            let _consumer = consumer();
            thread::sleep(Duration::from_secs(seconds));
            before.until_now(0)
        }
        Work::OneHeld { events } => one_held(consumer(), events),
        Work::OpenAndClose { times } => {
            let once = || {
                let opened = S::open(job);
                let producer = warm(S::producer(&opened, job), &event);
                let mut consumer = S::consumer(&opened, job);
                consumer.pull();
                producer.close();
                consumer.close();
            };
            // What is set up once, and what an allocator keeps, is there by then.
            (0..times / 10).for_each(|_| once());
            settle();
            let before = Before::now();
            (0..times).for_each(|_| once());
            settle();
            before.until_now(times)
        }
        Work::List => panic!("only the plugin lists topics"),
    }
}

/// Connected, and past its first event.
fn warm<P: Producing>(producer: P, event: &Event) -> P {
    warm_everywhere(producer, event, 1)
}

/// Past the first event of each partition, for which a broker writes and synchronizes files: seconds, at times, of a hundred.
fn warm_everywhere<P: Producing>(producer: P, event: &Event, partitions: u32) -> P {
    let tickets: Vec<_> = (0..partitions.into()).map(|number| producer.push_for_ticket(number, event)).collect();
    tickets.into_iter().for_each(|ticket| producer.wait(ticket));
    producer
}

fn push(producer: &impl Producing, event: &Event, events: u64, threads: usize) -> Figures {
    let before = Before::now();
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
    before.until_now(events / threads as u64 * threads as u64)
}

fn push_in_window(producer: &impl Producing, event: &Event, events: u64, window: usize) -> Figures {
    let mut waiting = VecDeque::with_capacity(window);
    let before = Before::now();
    for number in 1..=events {
        if waiting.len() == window
            && let Some(oldest) = waiting.pop_front()
        {
            producer.wait(oldest);
        }
        waiting.push_back(producer.push_for_ticket(number, event));
    }
    waiting.into_iter().for_each(|ticket| producer.wait(ticket));
    before.until_now(events)
}

fn push_and_wait(producer: &impl Producing, event: &Event, times: u64) -> Figures {
    let mut took = Vec::with_capacity(times as usize);
    let before = Before::now();
    for number in 1..=times {
        let began = Instant::now();
        producer.wait(producer.push_for_ticket(number, event));
        took.push(began.elapsed().as_nanos() as f64 / 1e3);
    }
    Figures { times: Times::of(took), ..before.until_now(times) }
}

/// Each push has its time, and is begun at it or as soon after as can be; its own time is counted from there.
fn push_at_rate(producer: &impl Producing, mut event: Event, per_second: u64, events: u64) -> Figures {
    let told = Told::of(events);
    let should_begin = move |number| Duration::from_secs(1).mul_f64(number as f64 / per_second as f64);
    let mut slip = Vec::with_capacity(events as usize);
    let served = AtomicBool::new(false);
    let before = Before::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !served.load(Ordering::Acquire) {
                producer.serve();
            }
        });
        for number in 0..events {
            let begin = should_begin(number);
            if let Some(early) = begin.checked_sub(told.began.elapsed())
                && early > Duration::from_micros(50)
            {
                thread::sleep(early);
            }
            slip.push(told.began.elapsed().saturating_sub(begin).as_nanos() as f64 / 1e3);
            event.stamp(number);
            producer.push_told(number, &event, told);
        }
        producer.flush();
        served.store(true, Ordering::Release);
    });
    let figures = before.until_now(events);
    Figures { times: told.times(should_begin), slip: Times::of(slip), ..figures }
}

/// From the consumer on: what it fetches ahead while it is made is part of the work.
fn pull<C: Consuming>(consumer: impl FnOnce() -> C, events: u64, by: Pulling) -> Figures {
    let before = Before::now();
    let mut consumer = consumer();
    let (mut seen, mut bytes) = (0, 0);
    while seen < events {
        let more = match by {
            Pulling::One => consumer.pull(),
            Pulling::Many => consumer.pull_many(),
            Pulling::Batch => consumer.pull_batch(),
        };
        seen += more.events;
        bytes += more.bytes;
    }
    let figures = before.until_now(seen);
    assert!(bytes > 0);
    figures
}

fn end_to_end<C: Consuming>(
    producer: &impl Producing,
    mut consumer: C,
    mut event: Event,
    per_second: u64,
    events: u64,
) -> Figures {
    event.stamp(0);
    producer.wait(producer.push_for_ticket(0, &event));
    consumer.pull();
    let (began, before) = (Instant::now(), Before::now());
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
            let seen = consumer.pull();
            took.push((now() - seen.stamp) as f64 / 1e3);
        }
    });
    Figures { times: Times::of(took), ..before.until_now(events) }
}

fn since(began: Instant, act: impl FnOnce()) -> Figures {
    act();
    Figures { events: 1, wall: began.elapsed().as_nanos() as f64 / 1e3, ..Figures::default() }
}

/// One event is held while all others come and go.
fn one_held<C: Consuming>(mut consumer: C, events: u64) -> Figures {
    let held = consumer.hold();
    let before = Before::now();
    let mut seen = 1;
    while seen < events {
        seen += consumer.pull_many().events;
    }
    let figures = before.until_now(seen);
    drop(held);
    figures
}
