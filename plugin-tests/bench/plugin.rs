//! Octopus as a host uses it: the library is loaded by `dlopen`, and its function tables are called
//! through the thin wrapper of the tests.

use std::time::Duration;

use octopus_loader::{
    Consumer as PluginConsumer, Driver, Event as PluginEvent, NewEvent, Producer as PluginProducer, Push, Topic,
};
use serde_json::json;

use baseline::Measurement;
use baseline::backend::{Backend, BenchConsumer, BenchProducer, DeliveryTimes, MAX_BATCH, PulledEvents, TIMEOUT};
use baseline::job::{Event, Figures, Job};

/// With `is_bare`, the driver uses topics without info topics.
pub fn driver(bootstrap: &str, is_bare: bool) -> Driver {
    let octopus = plugin_tests::open_library().expect("the library is built");
    let (kafka, limit) = (json!({"bootstrap.servers": bootstrap}), TIMEOUT.as_millis() as u64);
    octopus.driver(json!({"kafka": kafka, "timeout_ms": limit, "disable_info_topic": is_bare})).expect("a driver")
}

pub struct Plugin;

impl Backend for Plugin {
    type Opened = Topic;
    type Producer = Producer;
    type Consumer = Consumer;

    fn open(job: &Job) -> Topic {
        driver(&job.bootstrap, job.is_bare).open_topic(&job.topic).expect("the topic is there")
    }

    fn producer(topic: &Topic, job: &Job) -> Producer {
        let builder = topic.producer("bench");
        let builder = job.kafka.iter().fold(builder, |it, (name, value)| it.kafka(name, value.as_str()));
        let metadata = Event::new(job.data).metadata().to_vec();
        // What the serializer of the plugin would write.
        let serialized = job.is_serialized.then(|| [&(metadata.len() as u64).to_le_bytes()[..], &metadata].concat());
        Producer { producer: builder.make().expect("a producer"), serialized }
    }

    fn consumer(topic: &Topic, job: &Job) -> Consumer {
        let all: Vec<u32> = (0..job.partitions).collect();
        let builder = topic.consumer(&job.topic).targets(&all);
        let builder = job.kafka.iter().fold(builder, |it, (name, value)| it.kafka(name, value.as_str()));
        Consumer(builder.make().expect("a consumer"))
    }
}

/// Lists all topics. librdkafka has no equivalent to compare with.
pub fn list(job: &Job) -> Figures {
    let driver = driver(&job.bootstrap, job.is_bare);
    let measurement = Measurement::start();
    let topics = driver.list_topics().expect("a list");
    measurement.figures(topics.as_object().map_or(0, |topics| topics.len() as u64))
}

pub struct Producer {
    producer: PluginProducer,
    /// The metadata of each event, if the host serializes it.
    serialized: Option<Vec<u8>>,
}

impl Producer {
    fn new_event<'a>(&'a self, event: &'a Event) -> NewEvent<'a> {
        let new = match &self.serialized {
            Some(bytes) => NewEvent::serialized(bytes),
            None => NewEvent::metadata_bytes(event.metadata()),
        };
        new.data(event.data())
    }
}

impl BenchProducer for Producer {
    type Delivery = Push;

    fn push(&self, _: u64, event: &Event) {
        self.producer.push_forget(&self.new_event(event)).expect("pushing");
    }

    fn push_tracked(&self, _: u64, event: &Event) -> Push {
        self.producer.push(&self.new_event(event)).expect("pushing")
    }

    fn wait(&self, delivery: Push) {
        delivery.wait(TIMEOUT).expect("a delivery");
    }

    fn push_timed(&self, number: u64, event: &Event, times: &'static DeliveryTimes) {
        let push = self.push_tracked(number, event);
        push.on_complete(move |push| {
            push.try_wait().expect("a delivery");
            times.record(number);
        })
        .expect("registering a completion");
    }

    fn flush(&self) {
        self.producer.flush().expect("a flush").wait(TIMEOUT).expect("everything is delivered");
    }

    fn close(self) {
        self.producer.close(TIMEOUT).expect("closing the producer");
    }
}

pub struct Consumer(PluginConsumer);

fn add(event: &PluginEvent, pulled: &mut PulledEvents) {
    pulled.stamp = Event::stamp_of(event.data());
    pulled.bytes += (event.serialized_metadata().len() + event.data().len()) as u64;
    pulled.events += 1;
}

impl BenchConsumer for Consumer {
    type Held = PluginEvent;

    fn hold(&mut self) -> PluginEvent {
        self.0.next(TIMEOUT).expect("pulling").expect("an event")
    }

    fn pull(&mut self) -> PulledEvents {
        let mut pulled = PulledEvents::default();
        add(&self.hold(), &mut pulled);
        pulled
    }

    fn pull_many(&mut self) -> PulledEvents {
        let mut pulled = PulledEvents::default();
        for event in self.0.pull_many(MAX_BATCH, Duration::from_secs(1)).expect("pulling") {
            add(&event, &mut pulled);
        }
        pulled
    }

    fn close(self) {
        self.0.close(TIMEOUT).expect("closing the consumer");
    }
}
