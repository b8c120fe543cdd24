//! The programs with which tests set up and check topics, records and offsets, and which share no
//! code with Octopus: kcat, and Kafka's own tools.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::{Failure, OrFail as _, Result, check, scratch_folder, target_folder, unique};

pub(crate) const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ci/kafka.sh");
/// The very first start of the script downloads Kafka's jars.
pub(crate) const START_LIMIT: Duration = Duration::from_mins(5);
/// The timeout of one run of a tool.
pub const TOOL_LIMIT: Duration = Duration::from_mins(1);

/// Runs kcat with the [`TOOL_LIMIT`], and returns what it printed.
pub fn kcat(args: &[&str]) -> Result<String> {
    run_tool("kcat", args, b"")
}

/// Runs one of Kafka's own tools with this input and the [`TOOL_LIMIT`], and returns what it
/// printed.
pub fn kafka_tool(class: &str, args: &[&str], input: &[u8]) -> Result<String> {
    let class_path = kafka_class_path()?;
    let java = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &class_path, class];
    run_tool("java", &[&java, args].concat(), input)
}

/// Runs a program with this input and the [`TOOL_LIMIT`], and returns what it printed.
pub fn run_tool(program: &str, args: &[&str], input: &[u8]) -> Result<String> {
    run(TOOL_LIMIT, program, args, input)
}

/// The class path with Kafka's jars. The script downloads them first if `OCTOPUS_TEST_KAFKA` names
/// a Kafka that it did not start.
pub fn kafka_class_path() -> Result<String> {
    static CLASS_PATH: Mutex<Option<String>> = Mutex::new(None);
    let mut known = CLASS_PATH.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(class_path) = &*known {
        return Ok(class_path.clone());
    }
    let folder = run(START_LIMIT, SCRIPT, &["--jars-only"], b"")?;
    Ok(known.insert(format!("{}/*", folder.trim_end())).clone())
}

pub(crate) fn run(limit: Duration, program: &str, args: &[&str], input: &[u8]) -> Result<String> {
    let started = Instant::now();
    let mut child = with_limit(limit, program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .or_fail(format_args!("running timeout for {program}"))?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(input).or_fail(format_args!("writing the input of {program} {args:?}"))?;
    drop(stdin);
    let output = child.wait_with_output().or_fail(format_args!("waiting for {program}"))?;
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let (status, took) = (output.status, started.elapsed());
    check(
        status.success(),
        format_args!(
            "{program} {args:?} ended with {status} after {took:?} (124 means a timeout of {limit:?}):\n{printed}{errors}"
        ),
    )?;
    Ok(printed.into_owned())
}

fn with_limit(limit: Duration, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &limit.as_secs().to_string(), program]);
    set_environment(&mut command);
    command
}

/// The environment of a program that shares no code with Octopus.
pub(crate) fn set_environment(command: &mut Command) {
    // cargo sets it to the folder of the plugin's own librdkafka; kcat has to use the system's.
    command.env_remove("LD_LIBRARY_PATH");
    // Otherwise ci/kafka.sh asks cargo for it, which takes most of a second.
    if let Ok(folder) = target_folder() {
        command.env("CARGO_TARGET_DIR", folder);
    }
}

/// A record that kcat read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key, if there is one.
    pub key: Option<Vec<u8>>,
    /// Also empty if the record has no value.
    pub value: Vec<u8>,
    /// In milliseconds since 1970.
    pub timestamp: i64,
}

/// The records of a topic, in order within each partition. They are read as they are used, since
/// they may take more memory than there is.
pub struct Records {
    kcat: Child,
    printed: BufReader<ChildStdout>,
    has_ended: bool,
}

/// Reads all records of a topic with kcat, which must end within `limit`.
pub fn read_records(bootstrap: &str, topic: &str, limit: Duration) -> Result<Records> {
    let format = r"%p %o %T %K %S\n%k%s";
    let args = ["-C", "-b", bootstrap, "-t", topic, "-o", "beginning", "-e", "-q", "-f", format];
    let mut kcat = with_limit(limit, "kcat")
        .args(args)
        .args(["-X", "check.crcs=true"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .or_fail("running timeout for kcat")?;
    let printed = BufReader::with_capacity(1 << 20, kcat.stdout.take().expect("stdout is piped"));
    Ok(Records { kcat, printed, has_ended: false })
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        if self.has_ended {
            return None;
        }
        let record = self.read().transpose();
        self.has_ended = !matches!(record, Some(Ok(_)));
        record
    }
}

impl Records {
    /// Reads a line of numbers, and the key and the value after it. The last two numbers are their
    /// lengths, or -1 if there is none.
    fn read(&mut self) -> Result<Option<Record>> {
        let mut line = String::new();
        if self.printed.read_line(&mut line).or_fail("reading what kcat printed")? == 0 {
            let status = self.kcat.wait().or_fail("waiting for kcat")?;
            check(status.success(), format_args!("kcat ended with {status} reading a topic, see its stderr"))?;
            return Ok(None);
        }
        let numbers: Vec<i64> = line.trim_end().split(' ').map_while(|number| number.parse().ok()).collect();
        let [partition, offset, timestamp, key, value] = numbers[..] else {
            return Err(Failure(format!("kcat printed {line:?} in place of five numbers for a record")));
        };
        Ok(Some(Record {
            partition: partition.try_into().or_fail("reading the partition of a record")?,
            offset,
            key: usize::try_from(key).ok().map(|length| self.take(length)).transpose()?,
            value: self.take(value.try_into().unwrap_or(0))?,
            timestamp,
        }))
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.printed.read_exact(&mut bytes).or_fail("reading a record that kcat printed")?;
        Ok(bytes)
    }
}

/// Ends kcat if not all records were read.
impl Drop for Records {
    fn drop(&mut self) {
        let _ = self.kcat.kill();
        let _ = self.kcat.wait();
    }
}

/// Returns the committed offset of a group in each partition of a topic that has one.
pub fn committed_offsets(bootstrap: &str, group: &str, topic: &str) -> Result<BTreeMap<u32, u64>> {
    let command = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let args = ["--bootstrap-server", bootstrap, "--describe", "--offsets", "--group", group];
    let table = kafka_tool(command, &args, b"")?;
    // This command reports failures in its output only and exits with status 0.
    if table.contains("Error:") {
        // Kafka before 4.0 has a sentence for it.
        let is_unknown = table.contains("GroupIdNotFoundException")
            || table.contains(&format!("Consumer group '{group}' does not exist"));
        return check(is_unknown, format_args!("describing the group {group}:\n{table}")).map(|()| BTreeMap::new());
    }
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let Some(headings) = rows.find(|row| row.contains(&"CURRENT-OFFSET")) else { return Ok(BTreeMap::new()) };
    let column = |heading| headings.iter().position(|each| *each == heading);
    let columns = (column("TOPIC"), column("PARTITION"), column("CURRENT-OFFSET"));
    let (Some(topics), Some(partitions), Some(offsets)) = columns else {
        return Err(Failure(format!("reading the offsets of group {group}: a column is missing in:\n{table}")));
    };
    let of_topic = rows.filter(|row| row.get(topics) == Some(&topic));
    Ok(of_topic
        // The tool prints "-" for an assigned partition without a committed offset.
        .filter_map(|row| Some((row.get(partitions)?.parse().ok()?, row.get(offsets)?.parse().ok()?)))
        .collect())
}

/// Deletes a partition's records below this offset, as retention would.
pub fn delete_records(bootstrap: &str, topic: &str, partition: u32, before: u64) -> Result<()> {
    let file = scratch_folder("offsets")?.join(unique(topic));
    let offsets = json!({"version": 1, "partitions": [{"topic": topic, "partition": partition, "offset": before}]});
    fs::write(&file, offsets.to_string()).or_fail(format_args!("writing {}", file.display()))?;
    let args = ["--bootstrap-server", bootstrap, "--offset-json-file", &file.display().to_string()];
    let printed = kafka_tool("org.apache.kafka.tools.DeleteRecordsCommand", &args, b"")?;
    let is_deleted = printed.contains(&format!("low_watermark: {before}"));
    check(is_deleted, format_args!("deleting records of {topic}:\n{printed}"))?;
    fs::remove_file(&file).or_fail(format_args!("removing {}", file.display()))
}
