//! Row 14: what administrators do to a topic that is in use. Each time the host hears of it, by an error or by what is documented;
//! it never gets less than is there without a word.

use std::thread::sleep;
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, Driver, Error, NewEvent, Producer, Status};
use serde_json::json;

use crate::brokers::{Brokers, kafka_tool};
use crate::numbered::{number_of, push};
use crate::run::{Failure, OrFail as _, Result, Run, Tally, check};
use crate::scene::{PATIENCE, make_topic};

const PULL: Duration = Duration::from_millis(500);
/// How long a client may take to notice what has become of a topic.
const NOTICE: Duration = Duration::from_secs(60);

pub fn run(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let stage = Stage::open(run, brokers)?;
    let mut events = stage.expired()?;
    events += stage.grown()?;
    events += stage.deleted()?;
    events += stage.made_again(false)?;
    events += stage.made_again(true)?;
    Ok(Tally { events, notes: Vec::new() })
}

struct Stage<'a> {
    run: &'a Run,
    brokers: &'a Brokers,
    driver: Driver,
}

impl<'a> Stage<'a> {
    fn open(run: &'a Run, brokers: &'a Brokers) -> Result<Self> {
        let octopus = plugin_tests::open_library().or_fail("loading the library")?;
        let config = json!({"kafka": {"bootstrap.servers": brokers.bootstrap()}, "timeout_ms": 30_000});
        let log = run.folder.join("plugin.log");
        let log = std::sync::Mutex::new(std::fs::File::create(log).or_fail("making a log")?);
        let builder = octopus.driver_builder(config).log(move |level, source, message| {
            use std::io::Write as _;
            if let Ok(mut log) = log.lock() {
                let _ = writeln!(log, "{} {level:?} {source}: {message}", crate::journal::now());
            }
        });
        Ok(Stage { run, brokers, driver: builder.create().or_fail("making a driver")? })
    }

    fn topic(&self, name: &str, partitions: u32) -> Result<String> {
        let topic = format!("row-14-{:x}-{name}", self.run.seed);
        make_topic(&self.brokers.bootstrap(), &topic, partitions, 1)?;
        Ok(topic)
    }

    fn producer(&self, topic: &str) -> Result<Producer> {
        let topic = self.driver.open_topic(topic).or_fail(format_args!("opening {topic}"))?;
        topic.producer("p").kafka("delivery.timeout.ms", 90_000).make().or_fail("making a producer")
    }

    fn consumer(&self, topic: &str) -> Result<Consumer> {
        self.patient_consumer(topic, 500)
    }

    /// `patience`: how many milliseconds pass between two fetches when one went wrong.
    fn patient_consumer(&self, topic: &str, patience: u32) -> Result<Consumer> {
        let opened = self.driver.open_topic(topic).or_fail(format_args!("opening {topic}"))?;
        let consumer = opened.consumer(topic).kafka("queued.min.messages", 1).kafka("fetch.error.backoff.ms", patience);
        consumer.make().or_fail("making a consumer")
    }

    fn topic_tool(&self, args: &[&str]) -> Result<()> {
        let bootstrap = self.brokers.bootstrap();
        let args = [&["--bootstrap-server", &bootstrap], args].concat();
        kafka_tool("org.apache.kafka.tools.TopicCommand", &args).map(drop)
    }

    /// Records that go before they were read are named by one error, and the next pull reads on.
    fn expired(&self) -> Result<u64> {
        let (topic, mut chance) = (self.topic("expired", 1)?, self.run.chance());
        let (read, kept, all) = (chance.u64(1..20), chance.u64(40..80), 100);
        push(&self.producer(&topic)?, 0..all)?;
        let first = self.consumer(&topic)?;
        for number in 0..read {
            expect_event(&first, number)?.acknowledge().or_fail("acknowledging")?;
        }
        first.close(PATIENCE).or_fail("closing the consumer")?;
        let offsets =
            format!(r#"{{"version": 1, "partitions": [{{"topic": "{topic}", "partition": 0, "offset": {kept}}}]}}"#);
        let file = self.run.folder.join("offsets.json");
        std::fs::write(&file, offsets).or_fail("writing which records are to go")?;
        let (bootstrap, file) = (self.brokers.bootstrap(), file.display().to_string());
        let args = ["--bootstrap-server", &bootstrap, "--offset-json-file", &file];
        kafka_tool("org.apache.kafka.tools.DeleteRecordsCommand", &args)?;

        let second = self.consumer(&topic)?;
        let error = expect_error(&second, "what is gone", |error| error.status == Status::RecordsLost)?;
        let named = format!("offsets {read} to {} of partition 0", kept - 1);
        check(error.message.contains(&named), format_args!("the error says {named:?}: {error}"))?;
        (kept..all).try_for_each(|number| expect_event(&second, number).map(drop))?;
        self.run.say(format_args!("expired: {error}"));
        Ok(all)
    }

    /// A consumer reads partitions that came later from their beginning; who opens the topic anew writes to them.
    fn grown(&self) -> Result<u64> {
        let topic = self.topic("grown", 1)?;
        let (old, consumer) = (self.producer(&topic)?, self.consumer(&topic)?);
        push(&old, 0..10)?;
        (0..10).try_for_each(|number| expect_event(&consumer, number).map(drop))?;
        self.topic_tool(&["--alter", "--topic", &topic, "--partitions", "3"])?;
        let new = crate::run::eventually("all three partitions are seen", NOTICE, || {
            let opened = self.driver.open_topic(&topic).or_fail("opening the topic anew")?;
            match opened.partition_count() {
                3 => opened.producer("new").make().or_fail("making a producer").map(Some),
                _ => Ok(None),
            }
        })?;
        push(&new, 10..40)?;
        push(&old, 40..50)?;
        let mut missing: std::collections::BTreeSet<u64> = (10..50).collect();
        let started = Instant::now();
        while !missing.is_empty() {
            check(
                started.elapsed() < NOTICE,
                format_args!("all events of a topic that grew come, not all but {missing:?}"),
            )?;
            if let Some(event) = consumer.next(PULL).or_fail("pulling")? {
                let number = number_of(&event)?;
                check(missing.remove(&number), format_args!("event {number} comes once"))?;
            }
        }
        self.run
            .say(format_args!("grown: all partitions read {:.1} s after the push", started.elapsed().as_secs_f64()));
        Ok(50)
    }

    /// Once the topic is gone, pushes fail and pulls say so, again and again.
    fn deleted(&self) -> Result<u64> {
        let topic = self.topic("deleted", 1)?;
        let (producer, consumer) = (self.producer(&topic)?, self.consumer(&topic)?);
        push(&producer, 0..10)?;
        (0..10).try_for_each(|number| expect_event(&consumer, number).map(drop))?;
        self.topic_tool(&["--delete", "--topic", &topic])?;
        for _ in 0..self.run.pick(1, 3) {
            let pushed = producer.push(&NewEvent::text("10")).map_err(Ok::<Error, Failure>);
            let failed = match pushed {
                Ok(push) => push.wait(NOTICE),
                Err(refused) => Err(refused?),
            };
            match failed {
                Err(error) if error.status == Status::UnknownTopic => self.run.keep(format_args!("push: {error}")),
                other => return Err(Failure(format!("a push to a topic that is gone says so, not {other:?}"))),
            }
            expect_error(&consumer, "the topic is gone", |error| error.status == Status::UnknownTopic)?;
        }
        self.run.say("deleted: said by pushes and pulls");
        Ok(10)
    }

    /// A topic of the same name is another history: what is in it is read from its beginning, by who was there before, too.
    fn made_again(&self, with_more: bool) -> Result<u64> {
        let topic = self.topic(if with_more { "again-more" } else { "again-less" }, 1)?;
        // Until a patient one fetches again, there is more in the new topic than it read of the old one: it can't tell by offsets.
        let consumer = self.patient_consumer(&topic, if with_more { 8_000 } else { 500 })?;
        push(&self.producer(&topic)?, 0..50)?;
        for number in 0..50 {
            expect_event(&consumer, number)?.acknowledge().or_fail("acknowledging")?;
        }
        consumer.commit(PATIENCE).or_fail("committing")?;
        if with_more {
            // At once, so that clients don't see that it was gone.
            self.driver.delete_topic(&topic).or_fail("deleting the topic")?;
            make_topic(&self.brokers.bootstrap(), &topic, 1, 1)?;
        } else {
            self.topic_tool(&["--delete", "--topic", &topic])?;
            sleep(Duration::from_millis(self.run.chance().u64(0..3_000)));
            self.topic_tool(&["--create", "--topic", &topic, "--partitions", "1"])?;
        }
        let count = if with_more { 120 } else { 20 };
        let wanted = 1_000..1_000 + count;
        // The old producer may still think that the topic is gone, and may say so.
        push(&self.producer(&topic)?, wanted.clone())?;
        let mut missing: std::collections::BTreeSet<u64> = wanted.collect();
        let (started, mut told) = (Instant::now(), Vec::new());
        while !missing.is_empty() && started.elapsed() < NOTICE {
            match consumer.next(PULL) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    missing.remove(&number_of(&event)?);
                }
                Err(error) => told.push(error.to_string()),
            }
        }
        told.dedup();
        self.run.say(format_args!("made again with {count}: {} came, told {told:?}", count as usize - missing.len()));
        check(
            missing.is_empty(),
            format_args!(
                "all events of a topic made again come, not {} of {count}; told: {told:?}",
                count as usize - missing.len()
            ),
        )?;
        Ok(50 + count)
    }
}

fn expect_event(consumer: &Consumer, number: u64) -> Result<octopus_loader::Event> {
    let event = consumer.next(PATIENCE).or_fail(format_args!("pulling event {number}"))?;
    let event = event.ok_or_else(|| Failure(format!("event {number} never came")))?;
    let got = number_of(&event)?;
    check(got == number, format_args!("event {number} comes next, not {got}"))?;
    Ok(event)
}

fn expect_error(consumer: &Consumer, what: &str, wanted: impl Fn(&Error) -> bool) -> Result<Error> {
    let started = Instant::now();
    loop {
        match consumer.next(PULL) {
            Err(error) if wanted(&error) => return Ok(error),
            Ok(None) if started.elapsed() < NOTICE => {}
            other => return Err(Failure(format!("a pull says that {what}, not {other:?}"))),
        }
    }
}
