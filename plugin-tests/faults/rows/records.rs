//! Row 15: records of another program, with arbitrary content.

use std::fs;
use std::time::Duration;

use octopus_loader::Status;
use octopus_testkit::tools::kcat;
use serde_json::json;

use crate::brokers::Brokers;
use crate::run::{Failure, OrFail as _, Result, Run, Tally, check};
use crate::scenario::{MAX_WAIT, create_topic};
use crate::worker::Content;

const IN_ONE_CALL: usize = 500;

/// Writes records with changed, removed and added bytes with kcat and reads them with the plugin:
/// each is an event or one error, and none is skipped.
pub fn malformed(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let (topic, count) = (format!("row-15-{:x}", run.seed), run.pick(2_000, 50_000));
    create_topic(&brokers.bootstrap(), &topic, 1, brokers.count() as u32)?;
    let mut rng = run.rng();
    let payloads: Vec<Vec<u8>> = (0..count).map(|number| payload(number as u64, &mut rng)).collect();
    payloads.chunks(IN_ONE_CALL).try_for_each(|some| write(run, brokers, &topic, some))?;
    run.report(format_args!("{count} records written"));

    let octopus = plugin_tests::open_library().or_fail("loading the library")?;
    let driver =
        octopus.driver(json!({"kafka": {"bootstrap.servers": brokers.bootstrap()}})).or_fail("creating a driver")?;
    let opened = driver.open_topic(&topic).or_fail("opening the topic")?;
    let consumer = opened.consumer(&topic).make().or_fail("creating a consumer")?;
    let (mut read, mut malformed) = (0, 0);
    for (offset, payload) in payloads.iter().enumerate() {
        let is_event = is_well_formed(payload);
        match consumer.next(MAX_WAIT) {
            Ok(Some(event)) if event.is_end_of_topic() => {
                check(payload[..16] == [0xff; 16], format_args!("record {offset} ends the topic: {payload:02x?}"))?;
            }
            Ok(Some(event)) => {
                check(
                    is_event,
                    format_args!("record {offset} is malformed, and was delivered as an event: {payload:02x?}"),
                )?;
                let (at, data) = (event.id(), event.data());
                check(
                    at == offset as u64 && payload.ends_with(data),
                    format_args!("event {at} is record {offset}, complete"),
                )?;
                read += 1;
            }
            Err(error) if error.status == Status::MalformedRecord => {
                check(
                    !is_event,
                    format_args!("record {offset} is well-formed, and failed with {error}: {payload:02x?}"),
                )?;
                let names_it = error.message.contains(&offset.to_string());
                check(names_it, format_args!("the error of record {offset} names its offset: {error}"))?;
                malformed += 1;
            }
            Ok(None) => return Err(Failure(format!("record {offset} never arrived"))),
            Err(error) => return Err(Failure(format!("record {offset}: {error}"))),
        }
    }
    let more = consumer.next(Duration::from_millis(300)).or_fail("pulling after the last record")?;
    check(more.is_none(), "nothing arrives after the last record")?;
    check(
        read > 0 && malformed > 0,
        format_args!("both kinds of records arrive, not {read} events and {malformed} errors"),
    )?;
    consumer.close(MAX_WAIT).or_fail("closing the consumer")?;
    Ok(Tally { events: read + malformed, notes: vec![format!("{malformed} of {count} malformed")] })
}

fn write(run: &Run, brokers: &Brokers, topic: &str, payloads: &[Vec<u8>]) -> Result<()> {
    let bootstrap = brokers.bootstrap();
    let mut args = vec!["-P", "-b", &bootstrap, "-t", topic, "-p", "0"];
    let files: Vec<String> =
        (0..payloads.len()).map(|number| run.folder.join(format!("payload-{number}")).display().to_string()).collect();
    for (file, payload) in files.iter().zip(payloads) {
        fs::write(file, payload).or_fail(format_args!("writing {file}"))?;
    }
    args.extend(files.iter().map(String::as_str));
    kcat(&args).map(drop)
}

/// A record of an event, mostly malformed. Never empty, since kcat skips empty input.
fn payload(number: u64, rng: &mut fastrand::Rng) -> Vec<u8> {
    let content = Content { producer: 0, number };
    let (json, data) = (content.metadata(), content.data(rng.usize(..50)));
    let mut bytes = Vec::new();
    bytes.extend((8 + json.len() as u64).to_le_bytes());
    bytes.extend((data.len() as u64).to_le_bytes());
    bytes.extend((json.len() as u64).to_le_bytes());
    bytes.extend(json.as_bytes());
    bytes.extend(data);
    match rng.u32(..8) {
        0 => {}
        1 => bytes.truncate(rng.usize(1..bytes.len())),
        2 => bytes.extend((0..rng.usize(1..20)).map(|_| rng.u8(..)).collect::<Vec<_>>()),
        3 => bytes[..8].copy_from_slice(&[0, u64::MAX, 1 << 63, 7][rng.usize(..4)].to_le_bytes()),
        4 => bytes[8..16].copy_from_slice(&[0, u64::MAX, u64::MAX - 15, 1 << 32][rng.usize(..4)].to_le_bytes()),
        5 => bytes[16..24].copy_from_slice(&[0, u64::MAX, 1 << 40, 3][rng.usize(..4)].to_le_bytes()),
        6 => bytes[..16].fill(0xff),
        _ => {
            for _ in 0..rng.usize(1..4) {
                let place = rng.usize(..bytes.len());
                bytes[place] ^= 1 << rng.u32(..8);
            }
        }
    }
    bytes
}

/// Whether the record has a valid layout and JSON metadata. Implemented independently of the
/// plugin, from docs/architecture.md and the JSON specification.
fn is_well_formed(payload: &[u8]) -> bool {
    let number = |at: usize| Some(u128::from(u64::from_le_bytes(payload.get(at..at + 8)?.try_into().ok()?)));
    let Some((metadata, data, json)) = number(0).zip(number(8)).and_then(|(m, d)| Some((m, d, number(16)?))) else {
        return false;
    };
    let fits = 16 + metadata + data == payload.len() as u128 && metadata == 8 + json;
    fits && serde_json::from_slice::<serde_json::Value>(&payload[24..24 + json as usize]).is_ok()
}
