//! A real Kafka for the tests. The first test that needs it starts it through `ci/kafka.sh`; it
//! ends with the test process, also when that crashes. The tests set up and check topics, records
//! and offsets with Kafka's own tools and `kcat`, which share no code with Octopus.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/kafka.sh");

/// The very first start downloads Kafka's jars.
const START_LIMIT: Duration = Duration::from_mins(5);
/// Longer than the script waits for the brokers to exit before it kills them.
const END_LIMIT: Duration = Duration::from_secs(15);
/// The timeout of one run of `kcat` or of one of Kafka's tools.
const TOOL_LIMIT: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

static SHARED: LazyLock<Kafka> = LazyLock::new(|| match env::var("OCTOPUS_TEST_KAFKA") {
    Ok(bootstrap) => Kafka { internal: bootstrap.clone(), bootstrap, script: Mutex::new(None) },
    Err(_) => Kafka::start_until_exit(&[]),
});
static CLUSTER_OF_THREE: LazyLock<Kafka> = LazyLock::new(|| Kafka::start_until_exit(&["--brokers", "3"]));

/// Running brokers.
pub struct Kafka {
    bootstrap: String,
    /// The address where tools connect without security.
    internal: String,
    /// The script that runs the brokers until its stdin is closed. None if the tests did not start
    /// them.
    script: Mutex<Option<Child>>,
}

impl Kafka {
    /// The single shared broker of this test run: the one that `OCTOPUS_TEST_KAFKA=host:port`
    /// names, or one that the tests start.
    pub fn shared() -> &'static Kafka {
        &SHARED
    }

    /// The shared cluster of three brokers of this test run.
    pub fn cluster_of_three() -> &'static Kafka {
        &CLUSTER_OF_THREE
    }

    /// Starts separate brokers through `ci/kafka.sh` with these arguments. Dropping the value ends
    /// them.
    pub fn start(args: &[&str]) -> Kafka {
        let mut script = Command::new(SCRIPT)
            .args(args)
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("could not run {SCRIPT}: {error}"));
        let stdout = script.stdout.take().expect("stdout was asked for");
        // Constructed before anything can fail, so that a panic drops it and ends the script.
        let mut kafka = Kafka { bootstrap: String::new(), internal: String::new(), script: Mutex::new(Some(script)) };
        let ready = await_ready(stdout, args);
        let (bootstrap, internal) = ready.split_once(' ').unwrap_or((&ready, &ready));
        (kafka.bootstrap, kafka.internal) = (bootstrap.to_owned(), internal.to_owned());
        kafka
    }

    /// The addresses for clients: `host:port`, separated by commas.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The address where tools connect without security, whatever security clients need.
    pub fn internal(&self) -> &str {
        &self.internal
    }

    fn start_until_exit(args: &[&str]) -> Kafka {
        at_exit(end_shared);
        Kafka::start(args)
    }

    /// Requests the script to end, and returns it for the caller to wait for it.
    fn request_end(&self) -> Option<Child> {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        drop(script.stdin.take());
        Some(script)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(script) = self.request_end() {
            await_end(script);
        }
    }
}

fn await_ready(stdout: ChildStdout, args: &[&str]) -> String {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        // A failed read leaves the line empty, which the receiver reports. A failed send means that
        // the receiver has timed out.
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    let line = receiver
        .recv_timeout(START_LIMIT)
        .unwrap_or_else(|_| panic!("{SCRIPT} {args:?} reported no running Kafka within {START_LIMIT:?}"));
    match line.trim_end().strip_prefix("READY ") {
        Some(bootstrap) => bootstrap.to_owned(),
        None => panic!("{SCRIPT} {args:?} started no Kafka; see its stderr"),
    }
}

fn await_end(mut script: Child) {
    let deadline = Instant::now() + END_LIMIT;
    while let Ok(None) = script.try_wait() {
        if Instant::now() >= deadline {
            // Killing the script ends its brokers. An error means that it has just exited.
            let _ = script.kill();
            let _ = script.wait();
            return;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Registers `handler` for the exit of the process. Rust does not drop statics then, and the test
/// harness exits without dropping other values.
fn at_exit(handler: extern "C" fn()) {
    // SAFETY: `atexit` needs a function that stays valid until the process exits; `handler` is a
    // function item.
    let status = unsafe { libc::atexit(handler) };
    assert_eq!(status, 0, "could not register the exit handler that ends Kafka");
}

extern "C" fn end_shared() {
    let started = [LazyLock::get(&SHARED), LazyLock::get(&CLUSTER_OF_THREE)];
    // All get the request before the first wait, so that they end concurrently.
    let ending: Vec<Child> = started.into_iter().flatten().filter_map(Kafka::request_end).collect();
    ending.into_iter().for_each(await_end);
}

/// Returns a unique name for a topic or a group, also among other test runs on the same broker.
pub fn unique(name: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    format!("{name}-{}-{}-{count}", now.as_millis(), std::process::id())
}

/// A record that `kcat` read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KcatRecord {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    /// Also empty if the record has no value.
    pub value: Vec<u8>,
    /// In milliseconds since 1970.
    pub timestamp: i64,
}

/// Reads all records of a topic, in order within each partition.
pub fn kcat_read(bootstrap: &str, topic: &str) -> Vec<KcatRecord> {
    let format = r"%p %o %T %K %S\n%k%s";
    let printed = kcat(&["-C", "-b", bootstrap, "-t", topic, "-o", "beginning", "-e", "-q", "-f", format]);
    let mut rest = printed.as_slice();
    let mut records = Vec::new();
    while !rest.is_empty() {
        records.push(take_record(&mut rest));
    }
    records
}

/// Parses a line of numbers, and the key and value after it. The last two numbers are their
/// lengths, or -1 if there is none.
fn take_record(rest: &mut &[u8]) -> KcatRecord {
    let line = rest.iter().position(|&byte| byte == b'\n').expect("kcat ends each record's numbers with a newline");
    let numbers: Vec<i64> = str::from_utf8(take(rest, line))
        .expect("kcat prints numbers")
        .split(' ')
        .map(|number| number.parse().expect("kcat prints numbers"))
        .collect();
    take(rest, 1);
    let [partition, offset, timestamp, key, value] = numbers[..] else {
        panic!("kcat printed {numbers:?} in place of five numbers for a record");
    };
    KcatRecord {
        partition: partition.try_into().expect("a partition is a small number"),
        offset,
        key: usize::try_from(key).ok().map(|length| take(rest, length).to_vec()),
        value: take(rest, value.try_into().unwrap_or(0)).to_vec(),
        timestamp,
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    rest.split_off(..length).expect("kcat prints records in full")
}

/// Writes one record with exactly these bytes and no key. An empty record needs a topic with a
/// single partition: `kcat` skips it, and Kafka's console producer has no option for the partition.
pub fn kcat_write(bootstrap: &str, topic: &str, partition: i32, payload: &[u8]) {
    if payload.is_empty() {
        assert_eq!(partition, 0, "an empty record can only be written to a topic with a single partition");
        let producer = "org.apache.kafka.tools.ConsoleProducer";
        kafka_tool_with_input(producer, &["--bootstrap-server", bootstrap, "--topic", topic], b"\n");
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
pub fn committed_offset(bootstrap: &str, group: &str, topic: &str, partition: i32) -> Option<i64> {
    let command = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let args = ["--bootstrap-server", bootstrap, "--describe", "--offsets", "--group", group];
    let table = kafka_tool(command, &args);
    // This command reports failures in its output only and exits with status 0.
    if table.contains("Error:") {
        assert!(table.contains("GroupIdNotFoundException"), "could not describe the group {group}:\n{table}");
        return None;
    }
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let headings = rows.find(|row| row.contains(&"CURRENT-OFFSET"))?;
    let column = |heading| {
        let found = headings.iter().position(|&each| each == heading);
        found.unwrap_or_else(|| panic!("no column {heading} for the group {group} in:\n{table}"))
    };
    let (topics, partitions, offsets) = (column("TOPIC"), column("PARTITION"), column("CURRENT-OFFSET"));
    let partition = partition.to_string();
    rows.find(|row| row.get(topics) == Some(&topic) && row.get(partitions) == Some(&partition.as_str()))
        // The tool prints "-" for an assigned partition without a committed offset.
        .and_then(|row| row[offsets].parse().ok())
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
pub fn delete_records(bootstrap: &str, topic: &str, partition: i32, before: i64) {
    let file = format!("{}/{}", env!("CARGO_TARGET_TMPDIR"), unique("offsets"));
    let offsets = format!(
        r#"{{"version": 1, "partitions": [{{"topic": "{topic}", "partition": {partition}, "offset": {before}}}]}}"#
    );
    fs::write(&file, offsets).unwrap_or_else(|error| panic!("could not write {file}: {error}"));
    let command = "org.apache.kafka.tools.DeleteRecordsCommand";
    let output = kafka_tool(command, &["--bootstrap-server", bootstrap, "--offset-json-file", &file]);
    assert!(output.contains(&format!("low_watermark: {before}")), "could not delete records of {topic}:\n{output}");
    fs::remove_file(&file).unwrap_or_else(|error| panic!("could not remove {file}: {error}"));
}

fn topic_command(bootstrap: &str, args: &[&str]) -> String {
    kafka_tool("org.apache.kafka.tools.TopicCommand", &[&["--bootstrap-server", bootstrap], args].concat())
}

/// Waits until `condition` holds for each broker's list of topics. It lists all topics, as a
/// request for a single one could create it.
fn await_topics(bootstrap: &str, what: &str, condition: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + TOOL_LIMIT;
    for broker in bootstrap.split(',') {
        loop {
            let topics = text(kcat(&["-L", "-b", broker]));
            if condition(&topics) {
                break;
            }
            assert!(Instant::now() < deadline, "waited {TOOL_LIMIT:?} at {broker} for {what}:\n{topics}");
            thread::sleep(POLL_INTERVAL);
        }
    }
}

fn kcat(args: &[&str]) -> Vec<u8> {
    run(TOOL_LIMIT, "kcat", args, b"")
}

/// Compiles a file of plugin-tests/java, and returns the folder with the classes, for the brokers'
/// class path.
pub fn class_folder(source: &str) -> String {
    static COMPILING: Mutex<()> = Mutex::new(());
    let _guard = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = format!("{}/classes", env!("CARGO_TARGET_TMPDIR"));
    let source = format!("{}/java/{source}", env!("CARGO_MANIFEST_DIR"));
    run(TOOL_LIMIT, "javac", &["-d", &folder, "-cp", class_path(), &source], b"");
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

/// Runs one of the programs in plugin-tests/java.
pub fn java_program(name: &str, args: &[&str]) {
    let class_path = format!("{}:{}", class_folder(&format!("{name}.java")), class_path());
    run(TOOL_LIMIT, "java", &[&["-Xmx256m", "-XX:+UseSerialGC", "-cp", &class_path, name], args].concat(), b"");
}

fn kafka_tool(class: &str, args: &[&str]) -> String {
    kafka_tool_with_input(class, args, b"")
}

fn kafka_tool_with_input(class: &str, args: &[&str], input: &[u8]) -> String {
    let java = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", class_path(), class];
    text(run(TOOL_LIMIT, "java", &[&java, args].concat(), input))
}

/// Kafka's jars.
fn class_path() -> &'static str {
    // The script downloads them first if `OCTOPUS_TEST_KAFKA` names a Kafka that it did not start.
    static CLASS_PATH: LazyLock<String> = LazyLock::new(|| {
        let folder = text(run(START_LIMIT, SCRIPT, &["--jars-only"], b""));
        format!("{}/*", folder.trim_end())
    });
    &CLASS_PATH
}

/// Runs a program, and returns its stdout.
fn run(limit: Duration, program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("timeout")
        .args(["--kill-after=5", &limit.as_secs().to_string(), program])
        .args(args)
        // cargo sets it to the folder of the plugin's own librdkafka; kcat has to use the system's.
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("could not run timeout for {program}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin was asked for");
    stdin.write_all(input).unwrap_or_else(|error| panic!("writing the input of {program} {args:?} failed: {error}"));
    drop(stdin);
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("could not wait for {program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {args:?} failed with {} (124 means a timeout of {limit:?}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output.stdout
}

fn text(printed: Vec<u8>) -> String {
    String::from_utf8(printed).expect("the output is UTF-8")
}
