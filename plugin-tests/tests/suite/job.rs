//! The main job of a program that uses Octopus (examples/job.rs), run as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::{env, fs};

use serde_json::Value;

use crate::support::{keep, octopus};

/// A program that does the job with this configuration, and has only these variables in its environment; besides, those of
/// the sanitizer that it may have been built with.
pub fn job(config: &Value, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(job_program());
    command.arg(config.to_string()).args(arguments).env_clear().env("OCTOPUS_LIBRARY", octopus().path());
    command.env("HOME", folder("nobodys-home")).envs(variables.iter().copied());
    command.envs(env::vars().filter(|(name, _)| name.ends_with("SAN_OPTIONS")));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn job_program() -> PathBuf {
    let mut program = env::current_exe().unwrap();
    program.pop();
    program.pop();
    program.join("examples/job")
}

pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The whole job; its log.
pub fn run_job(config: &Value, variables: &[(&str, &str)]) -> String {
    let mut running = Running::start(job(config, &["work", "1"], variables));
    running.expect("WORKED");
    running.go_on();
    running.expect("DONE");
    running.end()
}

/// One question to the brokers: what the program printed, and its log.
pub fn look(config: &Value, variables: &[(&str, &str)]) -> (String, String) {
    ended(job(config, &["look"], variables).spawn().unwrap())
}

/// What a program printed, and its log.
pub fn ended(child: Child) -> (String, String) {
    let output = child.wait_with_output().unwrap();
    let (printed, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    printed.lines().chain(log.lines()).for_each(keep);
    (printed, log)
}

/// A job that works, or waits for its input to end with everything open.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    log: Arc<Mutex<String>>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log: Arc<Mutex<String>> = Arc::default();
        let (mut from, kept) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        std::thread::spawn(move || {
            let mut line = String::new();
            while from.read_line(&mut line).is_ok_and(|read| read > 0) {
                keep(line.trim_end());
                kept.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Running { input: child.stdin.take(), output: BufReader::new(child.stdout.take().unwrap()), child, log }
    }

    pub fn expect(&mut self, wanted: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        keep(line.trim_end());
        assert_eq!(line.trim_end(), wanted, "{}", self.log());
    }

    pub fn go_on(&mut self) {
        self.input = None;
    }

    pub fn end(mut self) -> String {
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
        self.log()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn count(&self, wanted: &str) -> usize {
        self.log().lines().filter(|line| line.contains(wanted)).count()
    }
}

/// A test that fails leaves no job behind.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
