//! Row 26: batches that can't be decoded, in each codec, damaged in each way, on the way from the broker and on its disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, Driver, NewEvent, Status};
use serde_json::json;

use crate::brokers::Brokers;
use crate::damage::{Kind, Pattern};
use crate::damaged_log::Batch;
use crate::proxy::NetworkFault;
use crate::run::{OrFail as _, Result, Run, Tally, check};
use crate::scene::make_topic;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PARTITIONS: u32 = 3;
const RECORDS_OF_A_BATCH: u64 = 3;
/// How long nothing may come while there is something to tell.
const SILENCE: Duration = Duration::from_secs(20);
/// The same of what is damaged on the way, on a machine that does nothing else. What is damaged on disk can hide what follows from the
/// broker, which is looked for in several steps.
const SHORT_SILENCE: Duration = Duration::from_secs(5);
const PULL: Duration = Duration::from_millis(200);

/// Row 26.
pub fn run(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut tally = Tally::default();
    let codecs = if run.full { CODECS.to_vec() } else { vec![CODECS[run.seed as usize % CODECS.len()]] };
    for codec in codecs {
        for (place, seeds) in [(Place::OnTheWay, run.pick(10, 1_000)), (Place::OnDisk, run.pick(0, 20))] {
            // In short, what is on disk is left to the suite, `damaged_data::`.
            if seeds == 0 {
                continue;
            }
            let damaged = read_damaged(run, brokers, codec, place, seeds)?;
            tally.events += damaged.delivered;
            tally.notes.push(format!("{codec}, {place:?}: {damaged}"));
        }
    }
    Ok(tally)
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Place {
    #[default]
    OnTheWay,
    OnDisk,
}

fn read_damaged(run: &Run, brokers: &mut Brokers, codec: &str, place: Place, seeds: u64) -> Result<Account> {
    let topic = format!("row-26-{:x}-{codec}-{place:?}", run.seed).to_lowercase();
    make_topic(&brokers.bootstrap(), &topic, PARTITIONS, 1)?;
    let log_lines = Arc::new(AtomicU64::new(0));
    let driver = driver(brokers, &log_lines)?;
    // Each second one of them is damaged.
    let batches = 2 * Kind::ALL.len() as u64 * seeds.div_ceil(u64::from(PARTITIONS)) + 1;
    write(&driver, &topic, codec, batches)?;

    let pattern = Pattern { records_of_a_batch: RECORDS_OF_A_BATCH, seed: run.seed };
    match place {
        Place::OnTheWay => brokers.set(NetworkFault::Damage(pattern)),
        Place::OnDisk => {
            for partition in 0..PARTITIONS {
                for mut batch in Batch::all(&brokers.data_of(0), &topic, partition) {
                    if pattern.apply_to_batch(&mut batch.bytes) {
                        batch.write();
                    }
                }
            }
        }
    }
    let opened = driver.open_topic(&topic).or_fail("opening the topic")?;
    // Each damaged batch is fetched again, with what follows.
    let consumer = opened.consumer(&topic).kafka("max.partition.fetch.bytes", 8_000).make();
    let consumer = consumer.or_fail("making a consumer")?;
    let began = Instant::now();
    let account = Account::of(&consumer, pattern, place, batches * RECORDS_OF_A_BATCH);
    brokers.set(NetworkFault::None);
    let account = account?;
    consumer.close(SILENCE).or_fail("closing the consumer")?;
    let lines = log_lines.load(Ordering::Relaxed);
    run.say(format_args!(
        "{topic}: {} delivered, {account}, in {:.1} s, {lines} log lines",
        account.delivered,
        began.elapsed().as_secs_f64()
    ));
    check(
        !run.full || place == Place::OnDisk || account.silence < SHORT_SILENCE,
        format_args!("each batch is delivered or reported in {SHORT_SILENCE:?}, not {:?}", account.silence),
    )?;
    check(lines < 100, format_args!("the log has a line for each kind of trouble, not {lines}"))?;
    Ok(account)
}

fn driver(brokers: &Brokers, lines: &Arc<AtomicU64>) -> Result<Driver> {
    let octopus = plugin_tests::open_library().or_fail("loading the library")?;
    let config = json!({"kafka": {"bootstrap.servers": brokers.bootstrap()}, "disable_info_topic": true});
    let lines = lines.clone();
    let builder = octopus.driver_builder(config).log(move |_, _, _| {
        lines.fetch_add(1, Ordering::Relaxed);
    });
    builder.create().or_fail("making a driver")
}

/// The same number of batches to each partition, of numbered events.
fn write(driver: &Driver, topic: &str, codec: &str, batches: u64) -> Result<()> {
    let opened = driver.open_topic(topic).or_fail("opening the topic")?;
    let producer = opened.producer("p").kafka("linger.ms", 60_000).kafka("compression.type", codec);
    let producer = producer.make().or_fail("making a producer")?;
    for batch in 0..batches {
        for record in 0..RECORDS_OF_A_BATCH {
            let offset = batch * RECORDS_OF_A_BATCH + record;
            let text = text_of(offset);
            let data = [record as u8; 100];
            for partition in 0..PARTITIONS {
                let event = NewEvent::text(&text).data(&data).partition(u64::from(partition));
                producer.push_forget(&event).or_fail("pushing")?;
            }
        }
        producer.flush().or_fail("flushing")?.wait(SILENCE).or_fail("waiting for a flush")?;
    }
    Ok(())
}

/// JSON.
fn text_of(offset: u64) -> String {
    format!("\"event {offset}, as compressible as text is, as text is\"")
}

/// What became of each offset.
#[derive(Debug, Default)]
struct Account {
    place: Place,
    delivered: u64,
    reported: u64,
    malformed: u64,
    /// The longest time in which nothing came.
    silence: Duration,
    /// Neither delivered nor in a damaged batch that was reported.
    missing: Vec<(u64, Kind)>,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} reported, {} malformed, {:.1} s silent at most",
            self.reported,
            self.malformed,
            self.silence.as_secs_f64()
        )
    }
}

impl Account {
    /// Reads until each offset below `end` was delivered or reported, in order.
    fn of(consumer: &Consumer, pattern: Pattern, place: Place, end: u64) -> Result<Self> {
        let mut account = Account { place, ..Account::default() };
        let mut next: BTreeMap<u32, u64> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
        let mut heard = Instant::now();
        while next.values().any(|next| *next < end) {
            check(heard.elapsed() < SILENCE, format_args!("something is told, after {next:?} of {end}: {account:?}"))?;
            match consumer.next(PULL) {
                Ok(None) => continue,
                Ok(Some(event)) => {
                    let (partition, id) = (event.partition(), event.id());
                    account.pass(&mut next, partition, id, id + 1, pattern)?;
                    account.delivered += 1;
                    let is_intact = pattern.kind_of(id).is_none();
                    let text = event.metadata().unwrap_or_default();
                    check(
                        !is_intact || text == text_of(id),
                        format_args!("event {id} of partition {partition} is intact, not {text:?}"),
                    )?;
                    event.acknowledge().or_fail("acknowledging")?;
                }
                Err(error) if error.status == Status::MalformedRecord => account.malformed += 1,
                Err(error) if error.status == Status::DamagedData => {
                    let Some(skipped) = error.skipped else { continue };
                    let is_exact = |offset: u64| pattern.kind_of(offset).is_some();
                    let hides_more = (skipped.first..=skipped.last)
                        .filter_map(|offset| pattern.kind_of(offset))
                        .any(Kind::hides_the_end);
                    check(
                        (skipped.first..=skipped.last).all(is_exact) || (place == Place::OnDisk && hides_more),
                        format_args!("only damaged offsets are passed over: {error}"),
                    )?;
                    account.pass(&mut next, skipped.partition, skipped.first, skipped.last + 1, pattern)?;
                    account.reported += 1;
                }
                Err(error) if error.status == Status::TooLarge => {
                    // By its checksum it is intact, and by its codec's header larger than the limit: the host passes over it.
                    for (&partition, place) in &mut next {
                        if pattern.kind_of(*place).is_some() {
                            *place = (*place / RECORDS_OF_A_BATCH + 1) * RECORDS_OF_A_BATCH;
                            consumer
                                .seek(partition, *place)
                                .or_fail("seeking what is behind a batch that is too large")?;
                        }
                    }
                    account.reported += 1;
                }
                Err(error) => return Err(crate::run::Failure::new(format_args!("no other error comes than {error}"))),
            }
            account.silence = account.silence.max(heard.elapsed());
            heard = Instant::now();
        }
        check(account.reported > 0, "damage is reported")?;
        check(
            account.missing.len() as u64 == account.malformed,
            format_args!("each record that does not come is reported: {account:?}"),
        )?;
        Ok(account)
    }

    /// From where it was to `to`, by way of `from`: what is in between was malformed, and is in a damaged batch.
    fn pass(
        &mut self,
        next: &mut BTreeMap<u32, u64>,
        partition: u32,
        from: u64,
        to: u64,
        pattern: Pattern,
    ) -> Result<()> {
        let place = next.entry(partition).or_default();
        let is_next = from == *place;
        let is_malformed = from > *place && (*place..from).all(|offset| pattern.kind_of(offset).is_some());
        check(
            is_next || is_malformed,
            format_args!("offset {place} of partition {partition} comes next, not {from}: {self:?}"),
        )?;
        // A broker passes over a batch on its disk whose base offset is too low, as over what compaction has removed.
        let is_hidden = |offset: &u64| {
            self.place == Place::OnDisk && matches!(pattern.kind_of(*offset), Some(Kind::Bit | Kind::BaseOffset))
        };
        let missing = (*place..from).filter(|offset| !is_hidden(offset));
        self.missing.extend(missing.filter_map(|offset| Some((offset, pattern.kind_of(offset)?))));
        *place = to;
        Ok(())
    }
}
