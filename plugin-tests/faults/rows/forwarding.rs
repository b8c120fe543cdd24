//! A process that forwards events in transactions, and is killed at each of their points: each
//! input is in the output exactly once, in order.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::Duration;

use octopus_loader::{NewEvent, Topic};
use octopus_testkit::tools::{committed_offsets, read_records};
use serde_json::json;

use super::host::octopus;
use crate::brokers::Brokers;
use crate::run::{Failure, OrFail as _, Result, Run, Tally, check};
use crate::scenario::{MAX_WAIT, Worker, create_topic};
use crate::worker::{Death, ForwarderJob, Job, Point, Role};

const PARTITIONS: u32 = 3;
/// Inputs for each life of the process: more than one that is killed can forward.
const INPUTS_PER_LIFE: u64 = 110;
const MAX_TRANSACTIONS_BEFORE: u32 = 3;
/// Longer than the calls that are interrupted usually take.
const MAX_DELAY: Duration = Duration::from_millis(12);
const READ_LIMIT: Duration = Duration::from_secs(300);

pub fn run(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let kills = run.pick(20, 1_000);
    let (bootstrap, mut rng) = (brokers.bootstrap(), run.rng());
    let [input, output] = ["input", "output"].map(|what| format!("row-{}-{:x}-{what}", run.row, run.seed));
    create_topic(&bootstrap, &input, PARTITIONS, 1)?;
    create_topic(&bootstrap, &output, PARTITIONS, 1)?;
    let inputs = u64::from(kills) * INPUTS_PER_LIFE;
    push_inputs(&bootstrap, &input, inputs)?;

    let mut points = BTreeMap::<String, u32>::new();
    for life in 0..=kills {
        let death = (life < kills).then(|| Death {
            point: Point::ALL[life as usize % Point::ALL.len()],
            after: rng.u32(..=MAX_TRANSACTIONS_BEFORE),
            delay_us: rng.u64(..MAX_DELAY.as_micros() as u64),
        });
        live(run, &bootstrap, &input, &output, life, death)?;
        if let Some(death) = death {
            *points.entry(format!("{:?}", death.point)).or_default() += 1;
        }
        if life % 100 == 99 {
            run.report(format_args!("{} kills", life + 1));
        }
    }

    check_output(&bootstrap, &output, inputs)?;
    let committed: u64 = committed_offsets(&bootstrap, &input, &input)?.values().sum();
    check(committed == inputs, format_args!("{committed} of {inputs} inputs are committed"))?;
    let points: Vec<_> = points.iter().map(|(point, times)| format!("{point} {times}")).collect();
    run.report(format_args!("killed at {}", points.join(", ")));
    Ok(Tally { events: inputs, notes: vec![format!("{kills} kills")] })
}

/// Runs the process until it dies or, without a death, until it has forwarded everything.
fn live(run: &Run, bootstrap: &str, input: &str, output: &str, life: u32, death: Option<Death>) -> Result<()> {
    let job = Job {
        bootstrap: bootstrap.to_owned(),
        topic: input.to_owned(),
        journal: PathBuf::new(),
        seed: run.seed,
        // The next process of this name gets the partitions at once.
        kafka: json!({"group.instance.id": "forwarder"}),
        timeout_ms: 60_000,
        role: Role::Forward(ForwarderJob {
            output: output.to_owned(),
            group: input.to_owned(),
            transactional_id: output.to_owned(),
            death,
        }),
    };
    let status = Worker::start(run, &format!("forwarder-{life}"), job)?.await_exit(MAX_WAIT)?;
    let is_expected = if death.is_some() { status.signal() == Some(libc::SIGKILL) } else { status.success() };
    check(is_expected, format_args!("forwarder {life} ({death:?}) ended with {status}, see its log"))
}

fn push_inputs(bootstrap: &str, input: &str, count: u64) -> Result<()> {
    let driver = octopus()?.driver(json!({"kafka": {"bootstrap.servers": bootstrap}})).or_fail("creating a driver")?;
    let topic: Topic = driver.open_topic(input).or_fail("opening the input")?;
    let producer = topic.producer("inputs").make().or_fail("creating a producer")?;
    for number in 0..count {
        let event = NewEvent::json(&number).partition(number % u64::from(PARTITIONS));
        producer.push_forget(&event).or_fail("pushing an input")?;
    }
    producer.close(MAX_WAIT).or_fail("closing the producer of the inputs")
}

/// Reads the output with kcat, which reads committed records only.
fn check_output(bootstrap: &str, output: &str, inputs: u64) -> Result<()> {
    let mut expected: Vec<u64> = (0..u64::from(PARTITIONS)).collect();
    for record in read_records(bootstrap, output, READ_LIMIT)? {
        let record = record?;
        let (partition, number) = (record.partition as usize, number_of(&record.value)?);
        let next = expected.get_mut(partition).ok_or_else(|| Failure(format!("there is a partition {partition}")))?;
        let what = if number < *next { "twice" } else { "too early" };
        check(number == *next, format_args!("partition {partition} has {number} {what}: {next} was to be next"))?;
        *next += u64::from(PARTITIONS);
    }
    let is_complete = expected.iter().all(|next| *next >= inputs);
    check(is_complete, format_args!("the output ends before {expected:?} of {inputs} inputs"))
}

/// The number in a record: two sizes, the size of the text, the text.
fn number_of(value: &[u8]) -> Result<u64> {
    const TEXT: usize = 3 * size_of::<u64>();
    let text = value.get(TEXT..).and_then(|text| str::from_utf8(text).ok());
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| Failure(format!("the output has a record without a number: {value:?}")))
}
