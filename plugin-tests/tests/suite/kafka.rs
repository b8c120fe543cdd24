//! What the tests do with topics, records, groups and users of a real Kafka. They set up and check
//! them with Kafka's own tools and kcat, which share no code with Octopus, and panic if that fails.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use octopus_testkit::tools::{self, Record, TOOL_LIMIT, kafka_class_path, run_tool};
pub use octopus_testkit::{Kafka, unique};
use octopus_testkit::{Result, poll};

/// Reads all records of a topic, in order within each partition.
pub fn kcat_read(bootstrap: &str, topic: &str) -> Vec<Record> {
    let records = tools::read_records(bootstrap, topic, TOOL_LIMIT).unwrap();
    records.collect::<Result<_>>().unwrap()
}

/// Writes one record with exactly these bytes and no key. An empty record needs a topic with a
/// single partition: `kcat` skips it, and Kafka's console producer has no option for the partition.
pub fn kcat_write(bootstrap: &str, topic: &str, partition: i32, payload: &[u8]) {
    if payload.is_empty() {
        assert_eq!(partition, 0, "an empty record can only be written to a topic with a single partition");
        let producer = "org.apache.kafka.tools.ConsoleProducer";
        tools::kafka_tool(producer, &["--bootstrap-server", bootstrap, "--topic", topic], b"\n").unwrap();
        return;
    }
    // kcat would split a payload from stdin into lines.
    let file = format!("{}/{}", env!("CARGO_TARGET_TMPDIR"), unique("payload"));
    fs::write(&file, payload).unwrap_or_else(|error| panic!("could not write {file}: {error}"));
    // Only the broker rejects large records.
    let no_limit = "message.max.bytes=100000000";
    kcat(&["-P", "-b", bootstrap, "-t", topic, "-p", &partition.to_string(), "-X", no_limit, &file]);
    fs::remove_file(&file).unwrap_or_else(|error| panic!("could not remove {file}: {error}"));
}

/// Writes records "0", "1", … with a timestamp of this age. `age` must be below the topic's
/// retention time, as brokers delete older records every few minutes.
pub fn write_aged(bootstrap: &str, topic: &str, count: usize, age: Duration) {
    let written = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970") - age;
    let (count, timestamp) = (count.to_string(), written.as_millis().to_string());
    let args = ["--bootstrap-server", bootstrap, "--topic", topic, "--max-messages", &count];
    let dated = ["--message-create-time", &timestamp];
    kafka_tool("org.apache.kafka.tools.VerifiableProducer", &[&args[..], &dated].concat());
}

/// Returns the committed offset of a group in a partition, if there is one.
pub fn committed_offset(bootstrap: &str, group: &str, topic: &str, partition: u32) -> Option<u64> {
    tools::committed_offsets(bootstrap, group, topic).unwrap().get(&partition).copied()
}

/// Creates a topic, and returns when all brokers know it and the leaders of its partitions.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: u32, config: &[(&str, &str)]) {
    let count = partitions.to_string();
    let settings: Vec<String> = config.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut args = vec!["--create", "--topic", topic, "--partitions", &count];
    args.extend(settings.iter().flat_map(|setting| ["--config", setting]));
    topic_command(bootstrap, &args);
    let heading = format!("topic \"{topic}\" with {partitions} partitions:\n");
    await_topics(bootstrap, &format!("topic {topic} to appear"), |topics| {
        let partitions = topics.split_once(&heading).map(|(_, rest)| rest.split("topic \"").next().unwrap_or(rest));
        partitions.is_some_and(|partitions| !partitions.contains("leader -1"))
    });
}

/// Deletes a topic, and returns when no broker knows it.
pub fn delete_topic(bootstrap: &str, topic: &str) {
    topic_command(bootstrap, &["--delete", "--topic", topic]);
    let name = format!("topic \"{topic}\"");
    await_topics(bootstrap, &format!("topic {topic} to disappear"), |topics| !topics.contains(&name));
}

/// Describes a topic: tab-separated `PartitionCount: 1`, `ReplicationFactor: 1`, `Configs:
/// key=value,...` (those that differ from Kafka's defaults), then a line for each partition.
pub fn topic_config(bootstrap: &str, topic: &str) -> String {
    topic_command(bootstrap, &["--describe", "--topic", topic])
}

/// Deletes a partition's records below this offset, as retention would.
pub fn delete_records(bootstrap: &str, topic: &str, partition: u32, before: u64) {
    tools::delete_records(bootstrap, topic, partition, before).unwrap();
}

fn topic_command(bootstrap: &str, args: &[&str]) -> String {
    kafka_tool("org.apache.kafka.tools.TopicCommand", &[&["--bootstrap-server", bootstrap], args].concat())
}

/// Waits until `condition` holds for each broker's list of topics. It lists all topics, as a
/// request for a single one could create it.
fn await_topics(bootstrap: &str, what: &str, condition: impl Fn(&str) -> bool) {
    for broker in bootstrap.split(',') {
        let mut topics = String::new();
        let holds = poll(TOOL_LIMIT, || {
            topics = kcat(&["-L", "-b", broker]);
            condition(&topics).then_some(())
        });
        assert!(holds.is_some(), "waited {TOOL_LIMIT:?} at {broker} for {what}:\n{topics}");
    }
}

/// Compiles a file of plugin-tests/java, and returns the folder with the classes, for the brokers'
/// class path.
pub fn class_folder(source: &str) -> String {
    static COMPILING: Mutex<()> = Mutex::new(());
    let _guard = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = format!("{}/classes", env!("CARGO_TARGET_TMPDIR"));
    let source = format!("{}/java/{source}", env!("CARGO_MANIFEST_DIR"));
    run_tool("javac", &["-d", &folder, "-cp", &kafka_class_path().unwrap(), &source], b"").unwrap();
    folder
}

/// Changes ACLs, and returns when the brokers know the change.
pub fn acls(bootstrap: &str, args: &[&str]) {
    let args: Vec<&str> = ["--bootstrap-server", bootstrap, "--force"].iter().chain(args).copied().collect();
    kafka_tool("org.apache.kafka.tools.AclCommand", &args);
}

/// Creates a user's SCRAM-SHA-512 credentials with this password.
pub fn set_user(bootstrap: &str, user: &str, password: &str) {
    alter_user(bootstrap, user, &["--add-config", &format!("SCRAM-SHA-512=[password={password}]")]);
}

pub fn remove_user(bootstrap: &str, user: &str) {
    alter_user(bootstrap, user, &["--delete-config", "SCRAM-SHA-512"]);
}

fn alter_user(bootstrap: &str, user: &str, change: &[&str]) {
    let of_user = ["--bootstrap-server", bootstrap, "--alter", "--entity-type", "users", "--entity-name", user];
    kafka_tool("kafka.admin.ConfigCommand", &[&of_user, change].concat());
}

/// Runs one of the programs in plugin-tests/java with this input, and returns what it printed.
pub fn java_program(name: &str, args: &[&str], input: &[u8]) -> String {
    let class_path = format!("{}:{}", class_folder(&format!("{name}.java")), kafka_class_path().unwrap());
    run_tool("java", &[&["-Xmx256m", "-XX:+UseSerialGC", "-cp", &class_path, name], args].concat(), input).unwrap()
}

fn kcat(args: &[&str]) -> String {
    tools::kcat(args).unwrap()
}

fn kafka_tool(class: &str, args: &[&str]) -> String {
    tools::kafka_tool(class, args, b"").unwrap()
}
