//! Octopus, as a host has it: the library opened by `dlopen`, and its tables called through the thin wrapper that the tests use.

use std::time::Duration;

use octopus_loader::{Consumer as Reading, Driver, Event as Pulled, NewEvent, Producer as Writing, Push, Topic};
use serde_json::json;

use baseline::Before;
use baseline::job::{Event, Figures, Job};
use baseline::side::{BATCH, Consuming, Measured, PATIENCE, Producing, Seen, Told};

/// Bare: for topics that have no info topics.
pub fn driver(bootstrap: &str, is_bare: bool) -> Driver {
    let octopus = plugin_tests::open_library().expect("the library is built");
    let (kafka, limit) = (json!({"bootstrap.servers": bootstrap}), PATIENCE.as_millis() as u64);
    octopus.driver(json!({"kafka": kafka, "timeout_ms": limit, "disable_info_topic": is_bare})).expect("a driver")
}

pub struct Plugin;

impl Measured for Plugin {
    type Opened = Topic;
    type Producer = Producer;
    type Consumer = Consumer;

    fn open(job: &Job) -> Topic {
        driver(&job.bootstrap, job.is_bare).open_topic(&job.topic).expect("the topic is there")
    }

    fn producer(topic: &Topic, job: &Job) -> Producer {
        let builder = topic.producer("bench");
        let builder = job.kafka.iter().fold(builder, |it, (name, value)| it.kafka(name, value.as_str()));
        Producer(builder.make().expect("a producer"))
    }

    fn consumer(topic: &Topic, job: &Job) -> Consumer {
        let all: Vec<u32> = (0..job.partitions).collect();
        let builder = topic.consumer(&job.topic).targets(&all);
        let builder = job.kafka.iter().fold(builder, |it, (name, value)| it.kafka(name, value.as_str()));
        Consumer(builder.make().expect("a consumer"))
    }
}

/// Lists all topics; there is nothing of librdkafka's to compare that with.
pub fn list(job: &Job) -> Figures {
    let driver = driver(&job.bootstrap, job.is_bare);
    let before = Before::now();
    let topics = driver.list_topics().expect("a list");
    before.until_now(topics.as_object().map_or(0, |topics| topics.len() as u64))
}

pub struct Producer(Writing);

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

    fn close(self) {
        self.0.close(PATIENCE).expect("closing the producer");
    }
}

pub struct Consumer(Reading);

fn look_at(event: &Pulled, seen: &mut Seen) {
    seen.stamp = Event::stamp_of(event.data());
    seen.bytes += (event.serialized_metadata().len() + event.data().len()) as u64;
    seen.events += 1;
}

impl Consuming for Consumer {
    type Held = Pulled;

    fn hold(&mut self) -> Pulled {
        self.0.next(PATIENCE).expect("pulling").expect("an event")
    }

    fn pull(&mut self) -> Seen {
        let mut seen = Seen::default();
        look_at(&self.hold(), &mut seen);
        seen
    }

    fn pull_many(&mut self) -> Seen {
        let mut seen = Seen::default();
        for event in self.0.pull_many(BATCH, Duration::from_secs(1)).expect("pulling") {
            look_at(&event, &mut seen);
        }
        seen
    }

    fn close(self) {
        self.0.close(PATIENCE).expect("closing the consumer");
    }
}
