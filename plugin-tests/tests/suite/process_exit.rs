//! Programs that push events and exit without waiting for delivery: the plugin delivers the events
//! at process exit.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use serde_json::{Value, json};

use crate::hosts::{C, SANITIZED, compile, compile_linked, library, run, without_leak_check};
use crate::kafka::{Kafka, create_topic, kcat_read, unique};
use crate::secured::{mutual, mutual_tls};
use crate::support::eventually;

const EXIT_TIMEOUT: Duration = Duration::from_secs(120);

/// The outcome of a host process.
struct Outcome {
    /// The number of pushes that the plugin accepted.
    accepted: u64,
    /// The number of records in the topic.
    delivered: u64,
    stderr: String,
    took: Duration,
}

fn plaintext() -> Value {
    json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap()}, "disable_info_topic": true})
}

fn host() -> PathBuf {
    compile(&C, "exiting.c", &unique("exiting"), &["-D_DEFAULT_SOURCE", "-pthread", "-ldl"])
}

/// Runs `exiting.c`, or another host that takes the same arguments; `way` is how it exits.
fn run_host(host: &Command, way: &str, events: u64, config: &Value, producer_options: &Value) -> Outcome {
    let kafka = if config["kafka"]["security.protocol"].is_null() { Kafka::shared() } else { mutual() };
    let topic = unique("exiting");
    create_topic(kafka.internal(), &topic, 1, &[]);
    let counter_file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("counter"));
    let started = Instant::now();
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$@" 2>&1"#, "sh"]).arg(host.get_program()).args(host.get_args());
    command.args([way, &events.to_string(), &config.to_string(), &topic]).arg(&counter_file);
    command.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PRODUCER_OPTIONS", producer_options.to_string());
    let stderr = run(EXIT_TIMEOUT, &command);
    let took = started.elapsed();
    let counter = fs::read(&counter_file).unwrap();
    fs::remove_file(counter_file).unwrap();
    Outcome {
        accepted: u64::from_ne_bytes(counter[..8].try_into().unwrap()),
        delivered: kcat_read(kafka.internal(), &topic).len() as u64,
        stderr,
        took,
    }
}

fn c_host(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(library());
    without_leak_check(&command)
}

fn check_all_delivered(host: &Command, way: &str, events: u64, config: &Value) {
    let outcome = run_host(host, way, events, config, &json!({}));
    assert!(outcome.accepted >= events, "{way}: {} pushes were accepted", outcome.accepted);
    assert_eq!(outcome.delivered, outcome.accepted, "{way}: {}", outcome.stderr);
    assert!(!outcome.stderr.contains("process exit"), "{way}: {}", outcome.stderr);
}

#[test]
fn exit_in_any_way_delivers_all_events() {
    let program = host();
    let host = c_host(&program);
    let mut config = plaintext();
    config["kafka"]["statistics.interval.ms"] = json!(100);
    for way in ["return", "exit", "release", "warm", "atexit", "SIGTERM", "completion", "statistics"] {
        check_all_delivered(&host, way, 1000, &config);
    }
    for events in [1, 20_000] {
        check_all_delivered(&host, "return", events, &config);
    }
}

#[test]
fn exit_over_tls_delivers_all_events() {
    let program = host();
    for way in ["return", "release"] {
        check_all_delivered(&c_host(&program), way, 1000, &json!({"kafka": mutual_tls(), "disable_info_topic": true}));
    }
}

#[test]
fn exit_with_long_linger_delivers_all_events() {
    let program = host();
    let mut config = plaintext();
    config["kafka"]["linger.ms"] = json!(60_000);
    config["kafka"]["statistics.interval.ms"] = json!(100);
    for way in ["return", "statistics"] {
        check_all_delivered(&c_host(&program), way, 1000, &config);
    }
}

#[test]
fn exit_while_threads_push_loses_no_accepted_event() {
    const THREADS: u64 = 4;
    let program = host();
    let outcome = run_host(&c_host(&program), "threads", 1000, &plaintext(), &json!({}));
    // The process may end between a thread's push and its increment of the counter.
    assert!((outcome.accepted..=outcome.accepted + THREADS).contains(&outcome.delivered), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("process exit"), "{}", outcome.stderr);
}

#[test]
fn exit_without_a_reachable_broker_reports_the_count_in_one_line() {
    let program = host();
    let mut config = plaintext();
    config["exit_flush_ms"] = json!(1500);
    let unreachable = json!({"kafka": {"bootstrap.servers": "127.0.0.1:1"}});
    let outcome = run_host(&c_host(&program), "return", 1000, &config, &unreachable);
    let reports: Vec<_> = outcome.stderr.lines().filter(|line| line.contains("process exit")).collect();
    let [report] = reports[..] else { panic!("expected one line about the process exit in:\n{}", outcome.stderr) };
    assert!(report.starts_with("[octopus:error] process exit: 1000 events were not delivered: producer"), "{report}");
    assert!(report.contains("within exit_flush_ms (1500): ") && report.contains("127.0.0.1:1"), "{report}");
    assert!((Duration::from_millis(1500)..Duration::from_secs(10)).contains(&outcome.took), "{:?}", outcome.took);
}

#[test]
fn signal_during_the_exit_ends_it_with_a_report() {
    let program = host();
    let mut python = Command::new("python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/exiting.py")).arg(library());
    let mut config = plaintext();
    config["exit_flush_ms"] = json!(120_000);
    let topic = unique("signal");
    create_topic(Kafka::shared().bootstrap(), &topic, 1, &[]);
    for (host, number, name) in [
        (c_host(&program), libc::SIGINT, "SIGINT"),
        (c_host(&program), libc::SIGTERM, "SIGTERM"),
        (python, libc::SIGINT, "SIGINT"),
    ] {
        let counter_file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("counter"));
        // The runner of the tests may ignore some of them.
        let mut command = Command::new("env");
        command.arg("--default-signal").arg(host.get_program());
        command.args(host.get_args()).args(["return", "1000", &config.to_string(), &topic]).arg(&counter_file);
        command.env("PRODUCER_OPTIONS", json!({"kafka": {"bootstrap.servers": "127.0.0.1:1"}}).to_string());
        let child = command.env_remove("LD_LIBRARY_PATH").stderr(Stdio::piped()).spawn().unwrap();
        let id = child.id().to_string();
        // The exit waits for the library's events, not for Python's.
        eventually("the exit watches for signals", || is_caught_by_the_library(&id, number));

        run(EXIT_TIMEOUT, Command::new("kill").args([&format!("-{number}"), &id]));

        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(number), "{host:?}: {stderr}");
        let line = stderr.lines().find(|line| line.contains("process exit")).unwrap_or_default();
        let start = "[octopus:error] process exit: 1000 events were not delivered: producer";
        assert!(
            line.starts_with(start) && line.contains(&format!("when {name} ended the exit: ")),
            "{host:?}: {stderr}"
        );
        fs::remove_file(counter_file).unwrap();
    }
}

/// Whether the process has handlers for SIGINT, SIGTERM and SIGHUP; the programs have none for
/// SIGHUP.
fn is_caught_by_the_library(id: &str, number: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
    [number, libc::SIGHUP].iter().all(|number| caught & (1 << (number - 1)) != 0)
}

#[test]
fn exit_flush_of_zero_neither_waits_nor_reports() {
    let program = host();
    let mut config = plaintext();
    config["exit_flush_ms"] = json!(0);
    let unreachable = json!({"kafka": {"bootstrap.servers": "127.0.0.1:1", "linger.ms": 60_000}});
    let outcome = run_host(&c_host(&program), "return", 1000, &config, &unreachable);
    assert!(!outcome.stderr.contains("process exit"), "{}", outcome.stderr);
    assert_eq!(outcome.delivered, 0);
}

#[test]
fn exit_of_a_cpp_host_delivers_all_events() {
    let program = compile_linked("exiting.cpp", &unique("exiting-cpp"), &[]);
    for way in ["return", "static"] {
        check_all_delivered(&without_leak_check(&Command::new(&program)), way, 1000, &plaintext());
    }
}

#[test]
fn exit_of_a_sanitized_host_delivers_all_events() {
    let flags = [&SANITIZED[..], &["-D_DEFAULT_SOURCE", "-pthread", "-ldl"]].concat();
    let program = compile(&C, "exiting.c", &unique("exiting-sanitized"), &flags);
    let mut host = c_host(&program);
    // The host exits with open handles on purpose.
    host.env("ASAN_OPTIONS", "detect_leaks=0");
    for way in ["return", "release", "statistics"] {
        let mut config = plaintext();
        config["kafka"]["statistics.interval.ms"] = json!(100);
        check_all_delivered(&host, way, 1000, &config);
    }
}

#[test]
fn exit_of_a_python_host_delivers_all_events() {
    let mut python = Command::new("python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/exiting.py")).arg(library());
    for way in ["return", "sys.exit", "release"] {
        check_all_delivered(&python, way, 1000, &plaintext());
    }
}
