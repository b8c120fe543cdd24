//! The worker that consumes: pulls, looks into each event, acknowledges some.

use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use octopus_loader::{Error, Event, Status};

use super::clock::Clock;
use super::{Command, Consuming, Content, Post};
use crate::journal::{Entry, now};
use crate::run::{OrFail as _, Result};

const PULL: Duration = Duration::from_millis(200);
const END: Duration = Duration::from_secs(30);
/// Events that are held before one of them is acknowledged.
const HELD: usize = 20;

pub fn work(post: &Post, consuming: &Consuming) -> Result<()> {
    let mut builder = post.topic.consumer(&consuming.group);
    for (property, value) in post.job.kafka.as_object().into_iter().flatten() {
        builder = builder.kafka(property, value.clone());
    }
    let consumer = builder.make().or_fail("making the consumer")?;
    let (clock, mut chance) = (Clock::start(), fastrand::Rng::with_seed(post.job.seed));
    let mut held = Vec::new();
    let limit = loop {
        match post.commands.try_recv() {
            Ok(Command::Stop) | Err(TryRecvError::Disconnected) => break END,
            Ok(Command::Close(limit)) => break limit,
            Ok(Command::Flush(limit)) => {
                let (result, _) = clock.time(&post.journal, "commit", limit, || consumer.commit(limit));
                result.unwrap_or_else(|error| said(post, &error));
            }
            Err(TryRecvError::Empty) => {}
        }
        let (pulled, _) = clock.time(&post.journal, "pull", PULL, || consumer.next(PULL));
        match pulled {
            Ok(Some(event)) => {
                look_into(post, &event);
                if consuming.out_of_order {
                    held.push(event);
                    if held.len() > HELD {
                        acknowledge(post, &held.swap_remove(chance.usize(..held.len())));
                    }
                } else if chance.u32(..1000) < consuming.acknowledged_in_1000 {
                    acknowledge(post, &event);
                }
            }
            Ok(None) => {}
            Err(error) => {
                said(post, &error);
                if error.status == Status::Closed {
                    break END;
                }
            }
        }
    };
    let (closed, took) = clock.time(&post.journal, "close", limit, || consumer.close(limit));
    let said = closed.map_or_else(|error| format!("{:?}: {error}", error.status), |()| "Ok".to_owned());
    let (limit_ms, took_ms) = (limit.as_millis() as u64, took.as_millis() as u64);
    post.journal.write(&Entry::Called { what: "close".to_owned(), limit_ms, took_ms, said, at: now() });
    Ok(())
}

fn look_into(post: &Post, event: &Event) {
    let (partition, id) = (event.partition(), event.id());
    let metadata = event.metadata().unwrap_or_default();
    post.journal.write(&match Content::read(metadata.as_bytes(), event.data()) {
        Ok(Content { producer, number }) => Entry::Got { partition, id, producer, number, at: now() },
        Err(why) => Entry::Spoiled { partition, id, why: why.to_string() },
    });
}

fn acknowledge(post: &Post, event: &Event) {
    let (partition, id) = (event.partition(), event.id());
    post.journal.write(&Entry::Acknowledging { partition, id, at: now() });
    match event.acknowledge() {
        Ok(()) => post.journal.write(&Entry::Acknowledged { partition, id, at: now() }),
        Err(error) if error.status == Status::Stale => post.journal.write(&Entry::Stale { partition, id }),
        Err(error) => said(post, &error),
    }
}

fn said(post: &Post, error: &Error) {
    let (status, kafka, why) = (format!("{:?}", error.status), error.kafka_code, error.message.clone());
    post.journal.write(&Entry::Said { status, kafka, why, at: now() });
}
