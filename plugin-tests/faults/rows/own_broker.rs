//! One real broker of the row's own, started by ci/kafka.sh, that can be paused. It has no proxy,
//! whose threads and descriptors would be counted as this process'.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::run::{Failure, OrFail, Result, check, eventually};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/kafka.sh");

pub struct OwnBroker {
    script: Child,
    pub bootstrap: String,
}

impl OwnBroker {
    pub fn start() -> Result<Self> {
        /// The first start downloads Kafka's jars.
        const LIMIT: Duration = Duration::from_mins(5);
        let mut script = Command::new(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .or_fail(format_args!("running {SCRIPT}"))?;
        let stdout = script.stdout.take();
        // Constructed before anything can fail, so that its `drop` ends the script.
        let mut broker = OwnBroker { script, bootstrap: String::new() };
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            let line = stdout.and_then(|stdout| BufReader::new(stdout).lines().next()).transpose();
            let _ = ready.send(line.ok().flatten().unwrap_or_default());
        });
        let line = is_ready.recv_timeout(LIMIT).or_fail(format_args!("waiting {LIMIT:?} for {SCRIPT}"))?;
        broker.bootstrap = (line.strip_prefix("READY "))
            .ok_or_else(|| Failure::new(format_args!("{SCRIPT} started no broker, see stderr")))?
            .to_owned();
        Ok(broker)
    }

    /// The broker keeps its connections and sends nothing.
    pub fn pause(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)
    }

    pub fn resume(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    fn signal(&self, signal: i32) -> Result<()> {
        let brokers = self.brokers()?;
        check(!brokers.is_empty(), "the broker is running")?;
        for pid in brokers {
            // SAFETY: `kill` has no memory preconditions; the pid is a running child of the script.
            let failed = unsafe { libc::kill(pid, signal) };
            check(failed == 0, format_args!("signal {signal} is sent to the broker"))?;
        }
        Ok(())
    }

    /// The script's child processes that run Java.
    fn brokers(&self) -> Result<Vec<i32>> {
        let script = self.script.id();
        let children = fs::read_to_string(format!("/proc/{script}/task/{script}/children"))
            .or_fail("looking for the broker's process")?;
        let is_java =
            |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "java");
        Ok(children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_java).collect())
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        let _ = self.resume();
        // The script exits when its stdin is closed, and ends the broker.
        drop(self.script.stdin.take());
        let script = &mut self.script;
        let ended = eventually("the broker ends", Duration::from_secs(20), || Ok(script.try_wait().ok().flatten()));
        if ended.is_err() {
            let _ = self.script.kill();
            let _ = self.script.wait();
        }
    }
}
