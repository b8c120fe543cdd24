//! The worker that consumes: it pulls events, checks their content, and acknowledges some of them.

use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use octopus_loader::{Error, Event, Status};

use super::clock::Clock;
use super::{Command, ConsumerJob, Content, WorkerContext};
use crate::journal::{Entry, now};
use crate::run::{OrFail as _, Result};

const PULL: Duration = Duration::from_millis(200);
const END: Duration = Duration::from_secs(30);
/// How many events a worker that acknowledges out of order holds.
const MAX_HELD: usize = 20;

pub fn run(context: &WorkerContext, job: &ConsumerJob) -> Result<()> {
    let mut builder = context.topic.consumer(&job.group);
    for (property, value) in context.job.kafka.as_object().into_iter().flatten() {
        builder = builder.kafka(property, value.clone());
    }
    let consumer = builder.make().or_fail("creating the consumer")?;
    let (clock, mut rng) = (Clock::start(), fastrand::Rng::with_seed(context.job.seed));
    let mut held = Vec::new();
    let limit = loop {
        match context.commands.try_recv() {
            Ok(Command::Stop) | Err(TryRecvError::Disconnected) => break END,
            Ok(Command::Close(limit)) => break limit,
            Ok(Command::Flush(limit)) => {
                let (result, _) = clock.time(&context.journal, "commit", limit, || consumer.commit(limit));
                result.unwrap_or_else(|error| write_error(context, &error));
            }
            Err(TryRecvError::Empty) => {}
        }
        let (pulled, _) = clock.time(&context.journal, "pull", PULL, || consumer.next(PULL));
        match pulled {
            Ok(Some(event)) => {
                check_event(context, &event);
                if job.out_of_order {
                    held.push(event);
                    if held.len() > MAX_HELD {
                        acknowledge(context, &held.swap_remove(rng.usize(..held.len())));
                    }
                } else if rng.u32(..1000) < job.acknowledged_in_1000 {
                    acknowledge(context, &event);
                }
            }
            Ok(None) => {}
            Err(error) => {
                write_error(context, &error);
                if error.status == Status::Closed {
                    break END;
                }
            }
        }
    };
    let (closed, took) = clock.time(&context.journal, "close", limit, || consumer.close(limit));
    let outcome = closed.map_or_else(|error| format!("{:?}: {error}", error.status), |()| "Ok".to_owned());
    let (limit_ms, took_ms) = (limit.as_millis() as u64, took.as_millis() as u64);
    context.journal.write(&Entry::Called { what: "close".to_owned(), limit_ms, took_ms, outcome, at: now() });
    Ok(())
}

fn check_event(context: &WorkerContext, event: &Event) {
    let (partition, id) = (event.partition(), event.id());
    let metadata = event.metadata().unwrap_or_default();
    context.journal.write(&match Content::read(metadata.as_bytes(), event.data()) {
        Ok(Content { producer, number }) => Entry::Received { partition, id, producer, number, at: now() },
        Err(why) => Entry::Corrupted { partition, id, why: why.to_string() },
    });
}

fn acknowledge(context: &WorkerContext, event: &Event) {
    let (partition, id) = (event.partition(), event.id());
    context.journal.write(&Entry::Acknowledging { partition, id, at: now() });
    match event.acknowledge() {
        Ok(()) => context.journal.write(&Entry::Acknowledged { partition, id, at: now() }),
        Err(error) if error.status == Status::Stale => context.journal.write(&Entry::Stale { partition, id }),
        Err(error) => write_error(context, &error),
    }
}

fn write_error(context: &WorkerContext, error: &Error) {
    let (status, kafka, why) = (format!("{:?}", error.status), error.kafka_code, error.message.clone());
    context.journal.write(&Entry::Error { status, kafka, why, at: now() });
}
