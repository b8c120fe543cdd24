//! Real brokers as child processes that can be killed, paused and resumed one by one, each behind a
//! proxy whose address the broker advertises.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::proxy::{NetworkFault, Proxy};
use crate::tools::{SCRIPT, START_LIMIT, kafka_tool, kcat, run, set_environment};
use crate::{Failure, OrFail as _, Result, check, eventually};

/// How long a prepared broker may take to start, and a topic's replicas to be in sync.
const UP_LIMIT: Duration = Duration::from_secs(90);

/// A cluster whose nodes are brokers and controllers, numbered from 0.
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
    /// Starts this many brokers with these properties (`key=value`). The seed is for the random
    /// choices of their proxies.
    pub fn start(folder: &Path, count: usize, seed: u64, settings: &[&str]) -> Result<Self> {
        fs::create_dir_all(folder).or_fail("creating the brokers' folder")?;
        let proxies = (0..count).map(|number| Proxy::start(seed + number as u64)).collect::<Result<Vec<_>>>()?;
        let advertised: Vec<_> = proxies.iter().map(Proxy::address).collect();
        let (count_text, advertised, dir) = (count.to_string(), advertised.join(","), folder.display().to_string());
        let mut prepare = vec!["--prepare", "--brokers", &count_text, "--advertised", &advertised, "--dir", &dir];
        prepare.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let printed = run(START_LIMIT, SCRIPT, &prepare, b"")?;
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

    /// The number of brokers, whether or not they run.
    pub fn count(&self) -> usize {
        self.brokers.len()
    }

    /// The folder with a broker's data.
    pub fn data_of(&self, number: usize) -> PathBuf {
        self.folder.join(format!("broker-{}", number + 1))
    }

    /// The bootstrap servers: the addresses of the proxies.
    pub fn bootstrap(&self) -> String {
        self.proxies().map(Proxy::address).collect::<Vec<_>>().join(",")
    }

    /// How many faults the proxies have injected so far.
    pub fn fault_count(&self) -> u64 {
        self.proxies().map(Proxy::fault_count).sum()
    }

    /// Sets the fault on each proxy.
    pub fn set_network_fault(&self, fault: NetworkFault) {
        self.proxies().for_each(|proxy| proxy.set_fault(fault));
    }

    /// The proxies in front of the brokers.
    pub fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.brokers.iter().map(|broker| &broker.proxy)
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

    /// Starts a broker that was killed.
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
        set_environment(&mut become_broker);
        become_broker.args(["--run", &(number + 1).to_string(), "--dir"]).arg(&self.folder).stdin(Stdio::null());
        become_broker.stdout(log.try_clone().or_fail("sharing the log")?).stderr(log);
        broker.process = Some(become_broker.spawn().or_fail(format_args!("starting broker {number}"))?);
        Ok(())
    }

    fn await_up(&mut self, number: usize) -> Result<()> {
        let log = self.log_of(number, self.brokers[number].starts);
        let broker = &mut self.brokers[number];
        eventually(format_args!("broker {number} is up, see {}", log.display()), UP_LIMIT, || {
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

    /// Continues a paused broker.
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
        eventually(format_args!("all replicas of {topic} are in sync"), UP_LIMIT, || {
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
        let status = kafka_tool("org.apache.kafka.tools.MetadataQuorumCommand", &args, b"")?;
        let leader = status.lines().find_map(|line| line.strip_prefix("LeaderId:")?.trim().parse::<usize>().ok());
        leader.map(|node| node - 1).ok_or_else(|| Failure(format!("found no controller in {status:?}")))
    }

    fn partitions(&self, topic: &str) -> Result<Vec<Partition>> {
        let printed = kcat(&["-L", "-b", &self.bootstrap(), "-t", topic, "-m", "10"])?;
        Ok(printed.lines().filter_map(|line| Partition::read(line.trim())).collect())
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
