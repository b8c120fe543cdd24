//! Octopus, as a host has it: the library opened by `dlopen`, and its tables called through the thin wrapper that the tests use.

use std::time::Duration;

use plugin_tests::{Consumer as Reading, Driver, Event as Pulled, NewEvent, Octopus, Producer as Writing, Push, Topic};
use serde_json::json;

use crate::job::{Event, Job};
use crate::side::{BATCH, Consuming, PATIENCE, Producing, Seen, Told};

/// Bare: for topics that have no info topics.
pub fn driver(bootstrap: &str, is_bare: bool) -> Driver {
    let octopus = Octopus::find().expect("the library is built");
    let (kafka, limit) = (json!({"bootstrap.servers": bootstrap}), PATIENCE.as_millis() as u64);
    octopus.driver(json!({"kafka": kafka, "timeout_ms": limit, "disable_info_topic": is_bare})).expect("a driver")
}

fn topic(job: &Job) -> Topic {
    driver(&job.bootstrap, job.is_bare).open_topic(&job.topic).expect("the topic is there")
}

pub struct Producer(Writing);

impl Producer {
    pub fn new(job: &Job) -> Self {
        let topic = topic(job);
        let builder = topic.producer("bench");
        Producer(
            job.kafka
                .iter()
                .fold(builder, |it, (name, value)| it.kafka(name, value.as_str()))
                .make()
                .expect("a producer"),
        )
    }

    pub fn close(self) {
        self.0.close(PATIENCE).expect("closing the producer");
    }
}

fn new_event(event: &Event) -> NewEvent<'_> {
    NewEvent::metadata_bytes(event.metadata()).data(event.data())
}

impl Producing for Producer {
    type Ticket = Push;

    fn push(&self, _: u64, event: &Event) {
        self.0.push_forget(&new_event(event)).expect("pushing");
    }

    fn push_for_ticket(&self, _: u64, event: &Event) -> Push {
        self.0.push(&new_event(event)).expect("pushing")
    }

    fn wait(&self, ticket: Push) {
        ticket.wait(PATIENCE).expect("a delivery");
    }

    fn push_told(&self, number: u64, event: &Event, told: &'static Told) {
        let push = self.push_for_ticket(number, event);
        push.on_complete(move |push| {
            push.try_wait().expect("a delivery");
            told.note(number);
        })
        .expect("asking to be told");
    }

    fn flush(&self) {
        self.0.flush().expect("a flush").wait(PATIENCE).expect("everything is delivered");
    }
}

pub struct Consumer(Reading);

impl Consumer {
    pub fn new(job: &Job) -> Self {
        let topic = topic(job);
        let all: Vec<u32> = (0..job.partitions).collect();
        let builder = topic.consumer(&job.topic).targets(&all);
        Consumer(
            job.kafka
                .iter()
                .fold(builder, |it, (name, value)| it.kafka(name, value.as_str()))
                .make()
                .expect("a consumer"),
        )
    }

    pub fn close(self) {
        self.0.close(PATIENCE).expect("closing the consumer");
    }
}

impl Seen {
    fn look_at(&mut self, event: &Pulled) {
        self.stamp = Event::stamp_of(event.data());
        self.bytes += (event.serialized_metadata().len() + event.data().len()) as u64;
        self.events += 1;
    }
}

impl Consuming for Consumer {
    type Held = Pulled;

    fn hold(&mut self) -> Pulled {
        self.0.next(PATIENCE).expect("pulling").expect("an event")
    }

    fn pull(&mut self) -> Seen {
        let mut seen = Seen::default();
        seen.look_at(&self.hold());
        seen
    }

    fn pull_many(&mut self) -> Seen {
        let mut seen = Seen::default();
        for event in self.0.pull_many(BATCH, Duration::from_secs(1)).expect("pulling") {
            seen.look_at(&event);
        }
        seen
    }
}
