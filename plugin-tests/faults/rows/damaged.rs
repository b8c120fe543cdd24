//! Row 26: record batches that can't be decoded, for each codec and each kind of damage, in transit
//! and on the broker's disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, Driver, NewEvent, Status};
use octopus_testkit::log_segment::Batch;
use octopus_testkit::proxy::ApiKey;
use serde_json::json;

use crate::brokers::Brokers;
use crate::damage::{Kind, Pattern};
use crate::run::{OrFail as _, Result, Run, Tally, check};
use crate::scenario::create_topic;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PARTITIONS: u32 = 3;
const RECORDS_PER_BATCH: u64 = 3;
/// How long a consumer may go without an event or an error.
const MAX_SILENCE: Duration = Duration::from_secs(20);
/// The same for damage in transit, on a machine that runs nothing else. Damage on disk may hide the
/// records after it from the broker, which takes the consumer several steps to get past.
const MAX_SILENCE_IN_TRANSIT: Duration = Duration::from_secs(5);
const PULL: Duration = Duration::from_millis(200);

/// Row 26.
pub fn run(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut tally = Tally::default();
    let codecs = if run.full { CODECS.to_vec() } else { vec![CODECS[run.seed as usize % CODECS.len()]] };
    for codec in codecs {
        for (place, seeds) in [(Location::InTransit, run.pick(10, 1_000)), (Location::OnDisk, run.pick(0, 20))] {
            // In the short form, damage on disk is left to the suite (`damaged_data::`).
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
enum Location {
    #[default]
    InTransit,
    OnDisk,
}

fn read_damaged(run: &Run, brokers: &mut Brokers, codec: &str, place: Location, seeds: u64) -> Result<Account> {
    let topic = format!("row-26-{:x}-{codec}-{place:?}", run.seed).to_lowercase();
    create_topic(&brokers.bootstrap(), &topic, PARTITIONS, 1)?;
    let log_lines = Arc::new(AtomicU64::new(0));
    let driver = driver(brokers, &log_lines)?;
    // Every second batch is damaged.
    let batches = 2 * Kind::ALL.len() as u64 * seeds.div_ceil(u64::from(PARTITIONS)) + 1;
    write(&driver, &topic, codec, batches)?;

    let pattern = Pattern { records_per_batch: RECORDS_PER_BATCH, seed: run.seed };
    let mut corruptions = Vec::new();
    match place {
        Location::InTransit => corruptions.extend(brokers.proxies().map(|proxy| {
            proxy.corrupt_responses("", ApiKey::Fetch, move |response| {
                pattern.apply(response);
                // The following responses are to be damaged too.
                false
            })
        })),
        Location::OnDisk => {
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
    // Small fetches, since each damaged batch is fetched again together with what follows it.
    let consumer = opened.consumer(&topic).kafka("max.partition.fetch.bytes", 8_000).make();
    let consumer = consumer.or_fail("creating a consumer")?;
    let began = Instant::now();
    let account = Account::of(&consumer, pattern, place, batches * RECORDS_PER_BATCH);
    corruptions.iter().for_each(|corruption| corruption.end());
    let account = account?;
    consumer.close(MAX_SILENCE).or_fail("closing the consumer")?;
    let lines = log_lines.load(Ordering::Relaxed);
    run.report(format_args!(
        "{topic}: {} delivered, {account}, in {:.1} s, {lines} log lines",
        account.delivered,
        began.elapsed().as_secs_f64()
    ));
    check(
        !run.full || place == Location::OnDisk || account.silence < MAX_SILENCE_IN_TRANSIT,
        format_args!("each batch is delivered or reported in {MAX_SILENCE_IN_TRANSIT:?}, not {:?}", account.silence),
    )?;
    check(lines < 100, format_args!("the log has one line per kind of damage, not {lines}"))?;
    Ok(account)
}

fn driver(brokers: &Brokers, lines: &Arc<AtomicU64>) -> Result<Driver> {
    let octopus = plugin_tests::open_library().or_fail("loading the library")?;
    let config = json!({"kafka": {"bootstrap.servers": brokers.bootstrap()}, "disable_info_topic": true});
    let lines = lines.clone();
    let builder = octopus.driver_builder(config).log(move |_, _, _| {
        lines.fetch_add(1, Ordering::Relaxed);
    });
    builder.create().or_fail("creating a driver")
}

/// Writes the same number of batches, of numbered events, to each partition.
fn write(driver: &Driver, topic: &str, codec: &str, batches: u64) -> Result<()> {
    let opened = driver.open_topic(topic).or_fail("opening the topic")?;
    let producer = opened.producer("p").kafka("linger.ms", 60_000).kafka("compression.type", codec);
    let producer = producer.make().or_fail("creating a producer")?;
    for batch in 0..batches {
        for record in 0..RECORDS_PER_BATCH {
            let offset = batch * RECORDS_PER_BATCH + record;
            let text = text_of(offset);
            let data = [record as u8; 100];
            for partition in 0..PARTITIONS {
                let event = NewEvent::text(&text).data(&data).partition(u64::from(partition));
                producer.push_forget(&event).or_fail("pushing")?;
            }
        }
        producer.flush().or_fail("flushing")?.wait(MAX_SILENCE).or_fail("waiting for a flush")?;
    }
    Ok(())
}

/// The metadata of an event: a JSON string that compresses well.
fn text_of(offset: u64) -> String {
    format!("\"event {offset}, as compressible as text is, as text is\"")
}

/// What happened to each offset.
#[derive(Debug, Default)]
struct Account {
    place: Location,
    delivered: u64,
    reported: u64,
    malformed: u64,
    /// The longest time without an event or an error.
    silence: Duration,
    /// Offsets that were neither delivered nor part of a reported batch.
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
    fn of(consumer: &Consumer, pattern: Pattern, place: Location, end: u64) -> Result<Self> {
        let mut account = Account { place, ..Account::default() };
        let mut next: BTreeMap<u32, u64> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
        let mut last_result = Instant::now();
        while next.values().any(|next| *next < end) {
            check(
                last_result.elapsed() < MAX_SILENCE,
                format_args!("an event or an error arrives, at {next:?} of {end}: {account:?}"),
            )?;
            match consumer.next(PULL) {
                Ok(None) => continue,
                Ok(Some(event)) => {
                    let (partition, id) = (event.partition(), event.id());
                    account.advance(&mut next, partition, id, id + 1, pattern)?;
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
                        (skipped.first..=skipped.last).all(is_exact) || (place == Location::OnDisk && hides_more),
                        format_args!("only damaged offsets are skipped: {error}"),
                    )?;
                    account.advance(&mut next, skipped.partition, skipped.first, skipped.last + 1, pattern)?;
                    account.reported += 1;
                }
                Err(error) if error.status == Status::TooLarge => {
                    // The checksum is right, and the codec's header claims a size above the limit:
                    // it is the host that skips such a batch.
                    for (&partition, place) in &mut next {
                        if pattern.kind_of(*place).is_some() {
                            *place = (*place / RECORDS_PER_BATCH + 1) * RECORDS_PER_BATCH;
                            consumer.seek(partition, *place).or_fail("seeking past a batch that is too large")?;
                        }
                    }
                    account.reported += 1;
                }
                Err(error) => return Err(crate::run::Failure::new(format_args!("pulling: unexpected error: {error}"))),
            }
            account.silence = account.silence.max(last_result.elapsed());
            last_result = Instant::now();
        }
        check(account.reported > 0, "damage is reported")?;
        check(
            account.missing.len() as u64 == account.malformed,
            format_args!("each record that is not delivered is reported: {account:?}"),
        )?;
        Ok(account)
    }

    /// Advances the position of a partition past `from..to`. Offsets between the position and
    /// `from` must be in damaged batches: they were malformed.
    fn advance(
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
            format_args!("offset {place} of partition {partition} is next, not {from}: {self:?}"),
        )?;
        // A broker skips a batch on its disk whose base offset is too low, as it skips offsets that
        // compaction has removed.
        let is_hidden = |offset: &u64| {
            self.place == Location::OnDisk && matches!(pattern.kind_of(*offset), Some(Kind::Bit | Kind::BaseOffset))
        };
        let missing = (*place..from).filter(|offset| !is_hidden(offset));
        self.missing.extend(missing.filter_map(|offset| Some((offset, pattern.kind_of(offset)?))));
        *place = to;
        Ok(())
    }
}
