//! Row 14: administrative changes to a topic that is in use. The host is informed of each, by an
//! error or as documented; no records are lost silently.

use std::thread::sleep;
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, Driver, Error, NewEvent, Producer, Status};
use octopus_testkit::tools::{delete_records, kafka_tool};
use serde_json::json;

use crate::brokers::Brokers;
use crate::numbered::{number_of, push};
use crate::run::{Failure, OrFail as _, Result, Run, Tally, check};
use crate::scenario::{MAX_WAIT, create_topic};

const PULL: Duration = Duration::from_millis(500);
/// How long a client may take to notice a change of the topic.
const MAX_NOTICE_TIME: Duration = Duration::from_secs(60);

pub fn run(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let environment = Environment::open(run, brokers)?;
    let mut events = environment.expired()?;
    events += environment.partitions_added()?;
    events += environment.deleted()?;
    events += environment.recreated(false)?;
    events += environment.recreated(true)?;
    Ok(Tally { events, notes: Vec::new() })
}

struct Environment<'a> {
    run: &'a Run,
    brokers: &'a Brokers,
    driver: Driver,
}

impl<'a> Environment<'a> {
    fn open(run: &'a Run, brokers: &'a Brokers) -> Result<Self> {
        let octopus = plugin_tests::open_library().or_fail("loading the library")?;
        let config = json!({"kafka": {"bootstrap.servers": brokers.bootstrap()}, "timeout_ms": 30_000});
        let log = run.folder.join("plugin.log");
        let log = std::sync::Mutex::new(std::fs::File::create(log).or_fail("creating a log")?);
        let builder = octopus.driver_builder(config).log(move |level, source, message| {
            use std::io::Write as _;
            if let Ok(mut log) = log.lock() {
                let _ = writeln!(log, "{} {level:?} {source}: {message}", crate::journal::now());
            }
        });
        Ok(Environment { run, brokers, driver: builder.create().or_fail("creating a driver")? })
    }

    fn topic(&self, name: &str, partitions: u32) -> Result<String> {
        let topic = format!("row-14-{:x}-{name}", self.run.seed);
        create_topic(&self.brokers.bootstrap(), &topic, partitions, 1)?;
        Ok(topic)
    }

    fn producer(&self, topic: &str) -> Result<Producer> {
        let topic = self.driver.open_topic(topic).or_fail(format_args!("opening {topic}"))?;
        topic.producer("p").kafka("delivery.timeout.ms", 90_000).make().or_fail("creating a producer")
    }

    fn consumer(&self, topic: &str) -> Result<Consumer> {
        self.consumer_with_backoff(topic, 500)
    }

    /// `backoff_ms`: the pause between a fetch that failed and the next one.
    fn consumer_with_backoff(&self, topic: &str, backoff_ms: u32) -> Result<Consumer> {
        let opened = self.driver.open_topic(topic).or_fail(format_args!("opening {topic}"))?;
        let consumer =
            opened.consumer(topic).kafka("queued.min.messages", 1).kafka("fetch.error.backoff.ms", backoff_ms);
        consumer.make().or_fail("creating a consumer")
    }

    fn topic_tool(&self, args: &[&str]) -> Result<()> {
        let bootstrap = self.brokers.bootstrap();
        let args = [&["--bootstrap-server", &bootstrap], args].concat();
        kafka_tool("org.apache.kafka.tools.TopicCommand", &args, b"").map(drop)
    }

    /// Records that were deleted before they were read are named by one error, and the next pull
    /// continues after them.
    fn expired(&self) -> Result<u64> {
        let (topic, mut rng) = (self.topic("expired", 1)?, self.run.rng());
        let (read, kept, all) = (rng.u64(1..20), rng.u64(40..80), 100);
        push(&self.producer(&topic)?, 0..all)?;
        let first = self.consumer(&topic)?;
        for number in 0..read {
            expect_event(&first, number)?.acknowledge().or_fail("acknowledging")?;
        }
        first.close(MAX_WAIT).or_fail("closing the consumer")?;
        delete_records(&self.brokers.bootstrap(), &topic, 0, kept)?;

        let second = self.consumer(&topic)?;
        let error = expect_error(&second, "records are gone", |error| error.status == Status::RecordsLost)?;
        let named = format!("offsets {read} to {} of partition 0", kept - 1);
        check(error.message.contains(&named), format_args!("the error contains {named:?}: {error}"))?;
        (kept..all).try_for_each(|number| expect_event(&second, number).map(drop))?;
        self.run.report(format_args!("expired: {error}"));
        Ok(all)
    }

    /// A consumer reads added partitions from their beginning; a producer of a newly opened topic
    /// writes to them.
    fn partitions_added(&self) -> Result<u64> {
        let topic = self.topic("grown", 1)?;
        let (old, consumer) = (self.producer(&topic)?, self.consumer(&topic)?);
        push(&old, 0..10)?;
        (0..10).try_for_each(|number| expect_event(&consumer, number).map(drop))?;
        self.topic_tool(&["--alter", "--topic", &topic, "--partitions", "3"])?;
        let new = crate::run::eventually("all three partitions are seen", MAX_NOTICE_TIME, || {
            let opened = self.driver.open_topic(&topic).or_fail("opening the topic again")?;
            match opened.partition_count() {
                3 => opened.producer("new").make().or_fail("creating a producer").map(Some),
                _ => Ok(None),
            }
        })?;
        push(&new, 10..40)?;
        push(&old, 40..50)?;
        let mut missing: std::collections::BTreeSet<u64> = (10..50).collect();
        let started = Instant::now();
        while !missing.is_empty() {
            check(
                started.elapsed() < MAX_NOTICE_TIME,
                format_args!("all events arrive after partitions were added, {missing:?} are missing"),
            )?;
            if let Some(event) = consumer.next(PULL).or_fail("pulling")? {
                let number = number_of(&event)?;
                check(missing.remove(&number), format_args!("event {number} arrives once"))?;
            }
        }
        self.run.report(format_args!(
            "partitions added: all are read {:.1} s after the push",
            started.elapsed().as_secs_f64()
        ));
        Ok(50)
    }

    /// After the topic was deleted, each push and each pull reports it.
    fn deleted(&self) -> Result<u64> {
        let topic = self.topic("deleted", 1)?;
        let (producer, consumer) = (self.producer(&topic)?, self.consumer(&topic)?);
        push(&producer, 0..10)?;
        (0..10).try_for_each(|number| expect_event(&consumer, number).map(drop))?;
        self.topic_tool(&["--delete", "--topic", &topic])?;
        for _ in 0..self.run.pick(1, 3) {
            let pushed = producer.push(&NewEvent::text("10")).map_err(Ok::<Error, Failure>);
            let failed = match pushed {
                Ok(push) => push.wait(MAX_NOTICE_TIME),
                Err(refused) => Err(refused?),
            };
            match failed {
                Err(error) if error.status == Status::UnknownTopic => self.run.log(format_args!("push: {error}")),
                other => {
                    return Err(Failure(format!("a push to a deleted topic fails with UnknownTopic, not {other:?}")));
                }
            }
            expect_error(&consumer, "the topic is gone", |error| error.status == Status::UnknownTopic)?;
        }
        self.run.report("deleted: reported by pushes and pulls");
        Ok(10)
    }

    /// A topic that was recreated under the same name is read from its beginning, also by consumers
    /// of the old one.
    fn recreated(&self, with_more: bool) -> Result<u64> {
        let topic = self.topic(if with_more { "again-more" } else { "again-less" }, 1)?;
        // With the long backoff, the new topic has more records than were read of the old one
        // before the consumer fetches again: offsets don't reveal the change.
        let consumer = self.consumer_with_backoff(&topic, if with_more { 8_000 } else { 500 })?;
        push(&self.producer(&topic)?, 0..50)?;
        for number in 0..50 {
            expect_event(&consumer, number)?.acknowledge().or_fail("acknowledging")?;
        }
        consumer.commit(MAX_WAIT).or_fail("committing")?;
        if with_more {
            // Without a pause, so that clients don't notice the deletion.
            self.driver.delete_topic(&topic).or_fail("deleting the topic")?;
            create_topic(&self.brokers.bootstrap(), &topic, 1, 1)?;
        } else {
            self.topic_tool(&["--delete", "--topic", &topic])?;
            sleep(Duration::from_millis(self.run.rng().u64(0..3_000)));
            self.topic_tool(&["--create", "--topic", &topic, "--partitions", "1"])?;
        }
        let count = if with_more { 120 } else { 20 };
        let wanted = 1_000..1_000 + count;
        // A producer of the old topic could still report it as deleted.
        push(&self.producer(&topic)?, wanted.clone())?;
        let mut missing: std::collections::BTreeSet<u64> = wanted.collect();
        let (started, mut errors) = (Instant::now(), Vec::new());
        while !missing.is_empty() && started.elapsed() < MAX_NOTICE_TIME {
            match consumer.next(PULL) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    missing.remove(&number_of(&event)?);
                }
                Err(error) => errors.push(error.to_string()),
            }
        }
        errors.dedup();
        self.run.report(format_args!(
            "recreated with {count} events: {} arrived, errors {errors:?}",
            count as usize - missing.len()
        ));
        check(
            missing.is_empty(),
            format_args!(
                "all events of a recreated topic arrive, not {} of {count}; errors: {errors:?}",
                count as usize - missing.len()
            ),
        )?;
        Ok(50 + count)
    }
}

fn expect_event(consumer: &Consumer, number: u64) -> Result<octopus_loader::Event> {
    let event = consumer.next(MAX_WAIT).or_fail(format_args!("pulling event {number}"))?;
    let event = event.ok_or_else(|| Failure(format!("event {number} never arrived")))?;
    let got = number_of(&event)?;
    check(got == number, format_args!("event {number} is next, not {got}"))?;
    Ok(event)
}

fn expect_error(consumer: &Consumer, what: &str, wanted: impl Fn(&Error) -> bool) -> Result<Error> {
    let started = Instant::now();
    loop {
        match consumer.next(PULL) {
            Err(error) if wanted(&error) => return Ok(error),
            Ok(None) if started.elapsed() < MAX_NOTICE_TIME => {}
            other => return Err(Failure(format!("a pull reports that {what}, not {other:?}"))),
        }
    }
}
