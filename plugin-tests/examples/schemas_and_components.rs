//! Topics that check their events: by a JSON Schema, by a validator of this program that compares
//! the data with the metadata, with a partition selector and a serializer of this program.
//! docs/guide/schemas-and-components.md explains it.
//!
//! Usage: schemas_and_components host:port

use std::error::Error;
use std::process::{ExitCode, id};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use octopus_loader::{Driver, Library, NewEvent, Selector, Serializer, Status, Topic, TopicOptions, Validator};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(30);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let Some(bootstrap) = std::env::args().nth(1) else {
        eprintln!("usage: schemas_and_components host:port");
        return ExitCode::FAILURE;
    };
    match run(&bootstrap) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("schemas_and_components: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(bootstrap: &str) -> Result<()> {
    let octopus = plugin_tests::open_library()?;
    let config = json!({"kafka": {"bootstrap.servers": bootstrap}});
    let driver = octopus.driver(&config)?;
    validate_by_schema(&octopus, &driver)?;
    let frames = use_own_components(&driver)?;
    use_own_serializer(&driver)?;
    open_without_components(&octopus.driver(&config)?, &frames)
}

fn validate_by_schema(octopus: &Library, driver: &Driver) -> Result<()> {
    let schema = json!({
        "type": "object",
        "required": ["sample", "energy"],
        "properties": {
            "sample": {"type": "string", "pattern": "^[A-Z]+-[0-9]+$"},
            "energy": {"type": "number", "exclusiveMinimum": 0},
        },
    });
    let options =
        TopicOptions::default().partitions(3).replication(1).validator(json!({"type": "schema", "schema": schema}));
    let scans = create_and_open(driver, "scans", options)?;

    let producer = scans.producer("beamline").make()?;
    producer.push(&NewEvent::json(&json!({"sample": "FE-17", "energy": 7.1})))?.wait(TIMEOUT)?;
    let invalid = NewEvent::json(&json!({"sample": "iron", "energy": -1}));
    let rejected = producer.push(&invalid).err().ok_or("the schema allowed an invalid event")?;
    println!("push: {:?}\n  {}", rejected.status, rejected.message);

    let pool = octopus.thread_pool(2)?;
    let producer = scans.producer("beamline").pool(&pool).make()?;
    let push = producer.push(&invalid)?;
    let rejected = push.wait(TIMEOUT).err().ok_or("the schema allowed an invalid event")?;
    println!("wait: {:?}", rejected.status);
    let rejected = producer.flush()?.wait(TIMEOUT).err().ok_or("the flush reported no failure")?;
    println!("flush: {:?}\n  {}", rejected.status, rejected.message);
    Ok(())
}

/// Requires as many bytes of data as the metadata says: `rows` times `columns` pixels.
struct FrameSize {
    bytes_per_pixel: u64,
}

impl FrameSize {
    /// Reads the component's JSON: `{"type": "frame-size", "bytes_per_pixel": 2}`.
    fn from_json(json: &str) -> std::result::Result<Self, String> {
        let component: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let bytes_per_pixel = component["bytes_per_pixel"].as_u64().ok_or("expected a number \"bytes_per_pixel\"")?;
        Ok(FrameSize { bytes_per_pixel })
    }
}

impl Validator for FrameSize {
    fn validate(&self, metadata: &str, data: &[&[u8]]) -> std::result::Result<(), String> {
        let frame: Value = serde_json::from_str(metadata).map_err(|error| error.to_string())?;
        let (Some(rows), Some(columns)) = (frame["rows"].as_u64(), frame["columns"].as_u64()) else {
            return Err("expected the numbers \"rows\" and \"columns\"".to_owned());
        };
        let expected = rows.saturating_mul(columns).saturating_mul(self.bytes_per_pixel);
        let given: u64 = data.iter().map(|segment| segment.len() as u64).sum();
        if given == expected { Ok(()) } else { Err(format!("{given} bytes of data, expected {expected}")) }
    }
}

/// Sends all frames of a detector to the same partition, so that they are read in order.
struct ByDetector;

impl Selector for ByDetector {
    fn select(&mut self, metadata: &str, _: Option<u64>, partitions: u32) -> std::result::Result<u32, String> {
        let frame: Value = serde_json::from_str(metadata).map_err(|error| error.to_string())?;
        let detector = frame["detector"].as_str().ok_or("expected a text \"detector\"")?;
        // Not Rust's own hash, which another version may compute differently.
        let hash = detector.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        Ok(hash % partitions)
    }
}

fn use_own_components(driver: &Driver) -> Result<Topic> {
    driver.register_validator("frame-size", FrameSize::from_json)?;
    driver.register_selector("by-detector", |_| Ok(ByDetector))?;
    let options = TopicOptions::default()
        .partitions(3)
        .replication(1)
        .validator(json!({"type": "frame-size", "bytes_per_pixel": 2}))
        .selector(json!({"type": "by-detector"}));
    let frames = create_and_open(driver, "frames", options)?;

    let producer = frames.producer("detectors").make()?;
    let pixels = [0; 2 * 3 * 2];
    let mut partitions = Vec::new();
    for detector in ["pilatus", "eiger", "pilatus", "eiger"] {
        let frame = json!({"detector": detector, "rows": 2, "columns": 3});
        partitions.push(producer.push(&NewEvent::json(&frame).data(&pixels))?.wait(TIMEOUT)?.partition);
    }
    ensure(partitions[..2] == partitions[2..], "a detector's frames are in several partitions")?;
    println!("partitions of pilatus, eiger: {:?}", &partitions[..2]);

    let short = NewEvent::json(&json!({"detector": "eiger", "rows": 2, "columns": 3})).data(&pixels[1..]);
    let rejected = producer.push(&short).err().ok_or("the validator allowed a short frame")?;
    println!("push: {:?}\n  {}", rejected.status, rejected.message);
    Ok(frames)
}

/// Stores `{"x": …, "y": …}` as two numbers of 8 bytes.
struct Position;

impl Serializer for Position {
    fn serialize(&self, metadata: &str) -> std::result::Result<Vec<u8>, String> {
        let position: Value = serde_json::from_str(metadata).map_err(|error| error.to_string())?;
        let (Some(x), Some(y)) = (position["x"].as_f64(), position["y"].as_f64()) else {
            return Err("expected the numbers \"x\" and \"y\"".to_owned());
        };
        Ok([x.to_le_bytes(), y.to_le_bytes()].concat())
    }

    fn deserialize(&self, bytes: &[u8]) -> std::result::Result<String, String> {
        let both: [u8; 16] = bytes.try_into().map_err(|_| format!("{} bytes instead of 16", bytes.len()))?;
        let number = |at: usize| f64::from_le_bytes(std::array::from_fn(|index| both[at + index]));
        Ok(json!({"x": number(0), "y": number(8)}).to_string())
    }
}

fn use_own_serializer(driver: &Driver) -> Result<()> {
    driver.register_serializer("position", |_| Ok(Position))?;
    let options = TopicOptions::default().replication(1).serializer(json!({"type": "position"}));
    let positions = create_and_open(driver, "positions", options)?;
    let position = json!({"x": 1.5, "y": -0.25});
    positions.producer("stage").make()?.push(&NewEvent::json(&position))?.wait(TIMEOUT)?;
    let event = positions.consumer("positions").make()?.next(TIMEOUT)?.ok_or("no event arrived")?;
    ensure(event.json()? == position, "the serializer changed the metadata")?;
    println!("metadata of {} bytes: {}", event.serialized_metadata().len(), event.json()?);
    Ok(())
}

/// A program that has not registered the components can read the topic, and not push JSON to it.
fn open_without_components(driver: &Driver, frames: &Topic) -> Result<()> {
    let frames = driver.open_topic(frames.name())?;
    let frame = NewEvent::json(&json!({"detector": "eiger", "rows": 0, "columns": 0}));
    let rejected = frames.producer("visitor").make()?.push(&frame).err().ok_or("no component was needed")?;
    ensure(rejected.status == Status::Component, &rejected.message)?;
    println!("push: {:?}\n  {}", rejected.status, rejected.message);
    // The partition of one detector: which of several is read first depends on their brokers.
    let event = frames.consumer("visitor").targets(&[2]).make()?.next(TIMEOUT)?.ok_or("no event arrived")?;
    println!("read: {}", event.json()?);
    Ok(())
}

fn create_and_open(driver: &Driver, name: &str, options: TopicOptions) -> Result<Topic> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let name = format!("{name}-{}-{}", id(), now.as_millis());
    driver.create_topic(&name, &options)?;
    Ok(driver.open_topic(&name)?)
}

fn ensure(holds: bool, message: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(message.into()) }
}
