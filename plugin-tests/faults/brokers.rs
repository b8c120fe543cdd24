//! Real brokers as child processes that can be killed, paused and resumed, each behind a proxy
//! whose address the broker advertises; and the clients that share no code with the plugin: kcat,
//! and Kafka's own tools.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::oracle::LogRecord;
use crate::proxy::{NetworkFault, Proxy};
use crate::run::{Failure, OrFail as _, Result, check, eventually};
use crate::worker::Content;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/kafka.sh");
const START: Duration = Duration::from_secs(90);
/// The time limit of one call of a tool, in seconds.
const TOOL: &str = "60";

/// A cluster whose nodes are brokers and controllers.
pub struct Brokers {
    folder: PathBuf,
    brokers: Vec<Broker>,
}

struct Broker {
    proxy: Proxy,
    own_address: String,
    process: Option<Child>,
    starts: u32,
    is_paused: bool,
}

impl Brokers {
    pub fn start(folder: &Path, count: usize, seed: u64, settings: &[&str]) -> Result<Self> {
        fs::create_dir_all(folder).or_fail("creating the brokers' folder")?;
        let proxies = (0..count).map(|number| Proxy::start(seed + number as u64)).collect::<Result<Vec<_>>>()?;
        let advertised: Vec<_> = proxies.iter().map(Proxy::address).collect();
        let mut prepare = Command::new(SCRIPT);
        prepare.args(["--prepare", "--brokers", &count.to_string(), "--advertised", &advertised.join(",")]);
        prepare.arg("--dir").arg(folder).args(settings.iter().flat_map(|setting| ["--set", setting]));
        let printed = output(&mut prepare)?;
        let addresses = printed.trim().strip_prefix("READY ").unwrap_or_default().split(',').map(str::to_owned);
        let brokers = proxies.into_iter().zip(addresses).map(|(proxy, own_address)| {
            proxy.set_broker(&own_address);
            Broker { proxy, own_address, process: None, starts: 0, is_paused: false }
        });
        let mut brokers = Brokers { folder: folder.to_owned(), brokers: brokers.collect() };
        check(brokers.count() == count, format_args!("ci/kafka.sh prepared {printed:?}, not {count} brokers"))?;
        (0..count).try_for_each(|number| brokers.spawn(number))?;
        (0..count).try_for_each(|number| brokers.await_up(number))?;
        Ok(brokers)
    }

    pub fn count(&self) -> usize {
        self.brokers.len()
    }

    /// The folder with a broker's data.
    pub fn data_of(&self, number: usize) -> PathBuf {
        self.folder.join(format!("broker-{}", number + 1))
    }

    /// The bootstrap servers: the addresses of the proxies.
    pub fn bootstrap(&self) -> String {
        self.brokers.iter().map(|broker| broker.proxy.address()).collect::<Vec<_>>().join(",")
    }

    /// How many faults the proxies have injected so far.
    pub fn fault_count(&self) -> u64 {
        self.brokers.iter().map(|broker| broker.proxy.fault_count()).sum()
    }

    /// Sets the fault on each proxy.
    pub fn set_network_fault(&self, fault: NetworkFault) {
        self.brokers.iter().for_each(|broker| broker.proxy.set_fault(fault));
    }

    /// Kills a broker with SIGKILL, as a crash would.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        let broker = &mut self.brokers[number];
        if let Some(mut process) = broker.process.take() {
            broker.is_paused = false;
            process.kill().or_fail(format_args!("killing broker {number}"))?;
            process.wait().or_fail(format_args!("waiting for broker {number} to end"))?;
        }
        Ok(())
    }

    pub fn restart(&mut self, number: usize) -> Result<()> {
        self.spawn(number)?;
        self.await_up(number)
    }

    fn spawn(&mut self, number: usize) -> Result<()> {
        let log = self.log_of(number, self.brokers[number].starts + 1);
        let broker = &mut self.brokers[number];
        broker.starts += 1;
        let log = File::create(&log).or_fail(format_args!("creating {}", log.display()))?;
        let mut become_broker = Command::new(SCRIPT);
        become_broker.args(["--run", &(number + 1).to_string(), "--dir"]).arg(&self.folder).stdin(Stdio::null());
        become_broker.stdout(log.try_clone().or_fail("sharing the log")?).stderr(log);
        broker.process = Some(become_broker.spawn().or_fail(format_args!("starting broker {number}"))?);
        Ok(())
    }

    fn await_up(&mut self, number: usize) -> Result<()> {
        let log = self.log_of(number, self.brokers[number].starts);
        let broker = &mut self.brokers[number];
        eventually(format_args!("broker {number} is up, see {}", log.display()), START, || {
            if let Some(Some(status)) = broker.process.as_mut().map(|process| process.try_wait().unwrap_or_default()) {
                return Err(Failure(format!("broker {number} ended with {status}, see {}", log.display())));
            }
            let has_started = fs::read_to_string(&log).is_ok_and(|text| text.contains("Kafka Server started"));
            Ok((has_started && TcpStream::connect(&broker.own_address).is_ok()).then_some(()))
        })
    }

    fn log_of(&self, number: usize, start: u32) -> PathBuf {
        self.folder.join(format!("broker-{}.{start}.log", number + 1))
    }

    /// Stops a broker's process with SIGSTOP; its connections stay open.
    pub fn pause(&mut self, number: usize) {
        self.signal(number, libc::SIGSTOP);
        self.brokers[number].is_paused = true;
    }

    pub fn resume(&mut self, number: usize) {
        self.signal(number, libc::SIGCONT);
        self.brokers[number].is_paused = false;
    }

    fn signal(&self, number: usize, signal: i32) {
        if let Some(process) = &self.brokers[number].process {
            // SAFETY: `kill` has no memory preconditions. The child has not been waited for, so the
            // pid is still its own.
            unsafe { libc::kill(process.id() as i32, signal) };
        }
    }

    /// Ends all faults, and waits until each partition of the topic has all its replicas in sync.
    pub fn restore(&mut self, topic: &str) -> Result<()> {
        self.set_network_fault(NetworkFault::None);
        for number in 0..self.count() {
            if self.brokers[number].is_paused {
                self.resume(number);
            }
            if self.brokers[number].process.is_none() {
                self.spawn(number)?;
            }
        }
        (0..self.count()).try_for_each(|number| self.await_up(number))?;
        let wanted = self.count();
        eventually(format_args!("all replicas of {topic} are in sync"), START, || {
            let partitions = self.partitions(topic).unwrap_or_default();
            let in_sync = |partition: &Partition| partition.leader.is_some() && partition.in_sync == wanted;
            Ok((!partitions.is_empty() && partitions.iter().all(in_sync)).then_some(()))
        })
    }

    /// The index of the broker that leads a partition.
    pub fn leader(&self, topic: &str, partition: usize) -> Result<usize> {
        let partitions = self.partitions(topic)?;
        let leader = partitions.get(partition).and_then(|partition| partition.leader);
        leader.ok_or_else(|| Failure(format!("partition {partition} of {topic} has no leader")))
    }

    /// The index of the active controller.
    pub fn controller(&self) -> Result<usize> {
        let bootstrap = self.bootstrap();
        let args = ["--bootstrap-server", &bootstrap, "describe", "--status"];
        let status = kafka_tool("org.apache.kafka.tools.MetadataQuorumCommand", &args)?;
        let leader = status.lines().find_map(|line| line.strip_prefix("LeaderId:")?.trim().parse::<usize>().ok());
        leader.map(|node| node - 1).ok_or_else(|| Failure(format!("found no controller in {status:?}")))
    }

    /// The committed offset of a group in each partition of a topic that has one, read by Kafka's
    /// own tool.
    pub fn committed(&self, group: &str, topic: &str) -> Result<BTreeMap<u32, u64>> {
        let bootstrap = self.bootstrap();
        let args = ["--bootstrap-server", &bootstrap, "--describe", "--offsets", "--group", group];
        let table = kafka_tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &args)?;
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let Some(headings) = rows.find(|row| row.contains(&"CURRENT-OFFSET")) else { return Ok(BTreeMap::new()) };
        let column = |heading| headings.iter().position(|each| *each == heading);
        let columns = (column("TOPIC"), column("PARTITION"), column("CURRENT-OFFSET"));
        let (Some(topics), Some(partitions), Some(offsets)) = columns else {
            return Err(Failure(format!("the offsets of group {group} can't be read from {table:?}")));
        };
        let of_topic = rows.filter(|row| row.get(topics) == Some(&topic));
        Ok(of_topic
            .filter_map(|row| Some((row.get(partitions)?.parse().ok()?, row.get(offsets)?.parse().ok()?)))
            .collect())
    }

    fn partitions(&self, topic: &str) -> Result<Vec<Partition>> {
        let printed = kcat(&["-L", "-b", &self.bootstrap(), "-t", topic, "-m", "10"])?;
        Ok(printed.lines().filter_map(|line| Partition::read(line.trim())).collect())
    }

    /// Reads all records of the topic with kcat.
    pub fn read(&self, topic: &str) -> Result<Vec<LogRecord>> {
        let format = "%p %o %S\n%s";
        let bootstrap = self.bootstrap();
        let args =
            ["-C", "-b", &bootstrap, "-t", topic, "-o", "beginning", "-e", "-q", "-f", format, "-X", "check.crcs=true"];
        let mut reader = Command::new("kcat").args(args).stdout(Stdio::piped()).spawn().or_fail("running kcat")?;
        let mut printed = BufReader::with_capacity(1 << 20, reader.stdout.take().expect("stdout is piped"));
        let mut log = Vec::new();
        while let Some(record) = read_record(&mut printed)? {
            log.push(record);
        }
        let status = reader.wait().or_fail("waiting for kcat")?;
        check(status.success(), format_args!("kcat ended with {status} reading {topic}"))?;
        log.sort_by_key(|record| (record.partition, record.offset));
        Ok(log)
    }
}

/// Kills the brokers that still run.
impl Drop for Brokers {
    fn drop(&mut self) {
        for number in 0..self.count() {
            let _ = self.kill(number);
        }
    }
}

struct Partition {
    leader: Option<usize>,
    in_sync: usize,
}

impl Partition {
    /// `partition 0, leader 2, replicas: 2,3,1, isrs: 2,3,1`
    fn read(line: &str) -> Option<Self> {
        let (_, rest) = line.strip_prefix("partition ")?.split_once("leader ")?;
        let (leader, rest) = rest.split_once(',')?;
        let (_, in_sync) = rest.split_once("isrs: ")?;
        let leader = leader.parse::<i32>().ok()?;
        let in_sync = in_sync.split(", ").next().unwrap_or_default();
        Some(Partition { leader: usize::try_from(leader - 1).ok(), in_sync: in_sync.split(',').count() })
    }
}

fn read_record(printed: &mut impl BufRead) -> Result<Option<LogRecord>> {
    let doing = "reading what kcat printed";
    let mut line = String::new();
    if printed.read_line(&mut line).or_fail(doing)? == 0 {
        return Ok(None);
    }
    let numbers: Vec<u64> = line.trim_end().split(' ').map_while(|number| number.parse().ok()).collect();
    let [partition, offset, size] = numbers[..] else { return Err(Failure(format!("kcat printed {line:?}"))) };
    let mut payload = vec![0; size as usize];
    printed.read_exact(&mut payload).or_fail(doing)?;
    Ok(Some(LogRecord { partition: partition as u32, offset, content: content_of(&payload) }))
}

/// Parses a record: two lengths, the metadata with a length of its own, and the data.
fn content_of(payload: &[u8]) -> Option<Content> {
    let (metadata_size, rest) = payload.split_first_chunk::<8>()?;
    let (data_size, rest) = rest.split_first_chunk::<8>()?;
    let (metadata, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*metadata_size)).ok()?)?;
    let (json_size, json) = metadata.split_first_chunk::<8>()?;
    let is_whole =
        data.len() as u64 == u64::from_le_bytes(*data_size) && json.len() as u64 == u64::from_le_bytes(*json_size);
    if is_whole { Content::read(json, data).ok() } else { None }
}

/// Runs kcat and returns what it printed.
pub fn kcat(args: &[&str]) -> Result<String> {
    output(Command::new("timeout").args(["--kill-after=5", TOOL, "kcat"]).args(args))
}

/// Runs one of Kafka's own tools and returns what it printed.
pub fn kafka_tool(class: &str, args: &[&str]) -> Result<String> {
    let folder = output(Command::new(SCRIPT).arg("--jars-only"))?;
    let class_path = format!("{}/*", folder.trim_end());
    let java =
        ["--kill-after=5", TOOL, "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &class_path, class];
    output(Command::new("timeout").args(java).args(args))
}

fn output(command: &mut Command) -> Result<String> {
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().or_fail(format_args!("running {command:?}"))?;
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let (status, took) = (output.status, started.elapsed());
    check(status.success(), format_args!("{command:?} ended with {status} after {took:?}: {printed}{errors}"))?;
    Ok(printed.into_owned())
}
