//! Real brokers that `ci/kafka.sh` starts, and that end with the process that started them, also
//! when it crashes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;
use std::{env, fs, thread};

use crate::tools::{SCRIPT, START_LIMIT, set_environment};
use crate::{Failure, OrFail as _, Result, check, poll};

/// Longer than the script waits for the brokers to exit before it kills them.
const END_LIMIT: Duration = Duration::from_secs(20);

static SHARED: LazyLock<Kafka> = LazyLock::new(|| match env::var("OCTOPUS_TEST_KAFKA") {
    Ok(bootstrap) => Kafka { internal: bootstrap.clone(), bootstrap, script: Mutex::new(None) },
    Err(_) => Kafka::start_until_exit(&[]),
});
static CLUSTER_OF_THREE: LazyLock<Kafka> = LazyLock::new(|| Kafka::start_until_exit(&["--brokers", "3"]));

/// Running brokers, which are started and ended together. [`Brokers`](crate::Brokers) can be killed
/// one by one.
pub struct Kafka {
    bootstrap: String,
    internal: String,
    /// The script that runs the brokers until its stdin is closed. None if this process did not
    /// start them.
    script: Mutex<Option<Child>>,
}

impl Kafka {
    /// The single shared broker of this process: the one that `OCTOPUS_TEST_KAFKA=host:port` names,
    /// or one that is started by the first call and ends with the process.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    pub fn shared() -> &'static Kafka {
        &SHARED
    }

    /// The shared cluster of three brokers of this process. The first call starts it.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    pub fn cluster_of_three() -> &'static Kafka {
        &CLUSTER_OF_THREE
    }

    /// Starts separate brokers through `ci/kafka.sh` with these arguments. Dropping the value ends
    /// them.
    pub fn start(args: &[&str]) -> Result<Kafka> {
        let mut script = Command::new(SCRIPT);
        set_environment(&mut script);
        script.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = script.spawn().or_fail(format_args!("running {SCRIPT}"))?;
        let stdout = script.stdout.take().expect("stdout is piped");
        // Constructed before anything can fail, so that its `drop` ends the script.
        let mut kafka = Kafka { bootstrap: String::new(), internal: String::new(), script: Mutex::new(Some(script)) };
        let ready = await_ready(stdout, args)?;
        let (bootstrap, internal) = ready.split_once(' ').unwrap_or((&ready, &ready));
        (kafka.bootstrap, kafka.internal) = (bootstrap.to_owned(), internal.to_owned());
        Ok(kafka)
    }

    /// The addresses for clients: `host:port`, separated by commas.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The address where tools connect without security, whatever security clients need.
    pub fn internal(&self) -> &str {
        &self.internal
    }

    /// Stops the brokers' processes with SIGSTOP: they keep their connections and send nothing.
    pub fn pause(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)
    }

    /// Continues paused brokers.
    pub fn resume(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    fn signal(&self, signal: i32) -> Result<()> {
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let brokers = script.as_ref().map_or(Ok(Vec::new()), |script| java_children(script.id()))?;
        check(!brokers.is_empty(), "a broker of this process is running")?;
        for pid in brokers {
            // SAFETY: `kill` has no memory preconditions; the pid is a running child of the script.
            let failed = unsafe { libc::kill(pid, signal) };
            check(failed == 0, format_args!("signal {signal} is sent to the broker"))?;
        }
        Ok(())
    }

    fn start_until_exit(args: &[&str]) -> Kafka {
        at_exit(end_shared);
        Kafka::start(args).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Requests the script to end, and returns it for the caller to wait for it.
    fn request_end(&self) -> Option<Child> {
        // A paused broker would not end. A failure means that no broker is running.
        let _ = self.resume();
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

fn await_ready(stdout: ChildStdout, args: &[&str]) -> Result<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        // A failed read leaves the line empty, which the receiver reports. A failed send means that
        // the receiver has timed out.
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    let line = receiver.recv_timeout(START_LIMIT);
    let line = line.or_fail(format_args!("waiting {START_LIMIT:?} for the brokers of {SCRIPT} {args:?}"))?;
    let ready = line.trim_end().strip_prefix("READY ");
    ready.map(str::to_owned).ok_or_else(|| Failure(format!("{SCRIPT} {args:?} started no Kafka; see its stderr")))
}

/// The child processes of a process that run Java.
fn java_children(parent: u32) -> Result<Vec<i32>> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(&path).or_fail("looking for the brokers' processes")?;
    let is_java =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "java");
    Ok(children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_java).collect())
}

fn await_end(mut script: Child) {
    // An error of `try_wait` means that the script can't be waited for.
    let has_ended = poll(END_LIMIT, || script.try_wait().transpose()).is_some();
    if !has_ended {
        // Killing the script ends its brokers. An error means that it has just exited.
        let _ = script.kill();
        let _ = script.wait();
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
