//! Runs a typical program that uses Octopus (src/bin/job.rs) as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::{env, fs};

use serde_json::Value;

use crate::support::{octopus, save_output};

/// The command that runs the job with this configuration. Its environment has only `variables`, the
/// options of the sanitizer that it may have been built with, and the protection of the library
/// that is switched off (`ci/faults.sh --protections`).
pub fn job(config: &Value, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_job"));
    command.arg(config.to_string()).args(arguments).env_clear().env("OCTOPUS_LIBRARY", octopus().path());
    command.env("HOME", folder("empty-home")).envs(variables.iter().copied());
    command.envs(env::vars().filter(|(name, _)| name.ends_with("SAN_OPTIONS") || name == "OCTOPUS_TEST_WITHOUT"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs the whole job and returns its log.
pub fn run_job(config: &Value, variables: &[(&str, &str)]) -> String {
    let mut running = Running::start(job(config, &["work", "1"], variables));
    running.expect("WORKED");
    running.close_input();
    running.expect("DONE");
    running.end()
}

/// Runs the job's `look` command, a single request to the brokers. Returns its output and its log.
pub fn run_look_command(config: &Value, variables: &[(&str, &str)]) -> (String, String) {
    wait_for_output(job(config, &["look"], variables).spawn().unwrap())
}

/// Waits for a program to exit. Returns its output and its log.
pub fn wait_for_output(child: Child) -> (String, String) {
    let output = child.wait_with_output().unwrap();
    let (printed, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    printed.lines().chain(log.lines()).for_each(save_output);
    (printed, log)
}

/// A job that is running. When its work is done, it waits for the end of its input with all handles
/// open.
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
        let (mut from, saved) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        std::thread::spawn(move || {
            let mut line = String::new();
            while from.read_line(&mut line).is_ok_and(|read| read > 0) {
                save_output(line.trim_end());
                saved.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Running { input: child.stdin.take(), output: BufReader::new(child.stdout.take().unwrap()), child, log }
    }

    pub fn expect(&mut self, expected: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        save_output(line.trim_end());
        assert_eq!(line.trim_end(), expected, "{}", self.log());
    }

    pub fn close_input(&mut self) {
        self.input = None;
    }

    pub fn end(mut self) -> String {
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
        self.log()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn count(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }
}

/// A failing test ends its job.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
