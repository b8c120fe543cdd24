//! The library within a process: how that ends with everything open, from which threads it is used, what else is loaded.
//! The hosts are programs of their own, whose status says that all they looked at was so.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::hosts::{C, compile, library, run};
use crate::kafka::{Kafka, unique};
use crate::secured::mutual_tls;

/// For a host that ends at once.
const SOON: Duration = Duration::from_secs(60);

/// How the host in leaving.c ends, and with which status.
const WAYS: [(&str, i32); 12] = [
    ("main returns", 3),
    ("exit", 3),
    ("_exit", 3),
    ("quick_exit", 3),
    ("SIGTERM", 128 + libc::SIGTERM),
    ("abort", 128 + libc::SIGABRT),
    ("main's thread ends", 5),
    ("in a completion", 4),
    ("in a processor", 4),
    ("in a task", 4),
    ("in statistics", 4),
    ("in a rebalance", 4),
];
const AT_THE_END: (&str, i32) = ("using all at the end", 6);

fn embedded() -> Value {
    json!({"embedded": {}, "kafka": {"statistics.interval.ms": 100}})
}

fn plaintext() -> Value {
    json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap(), "statistics.interval.ms": 100}})
}

fn tls() -> Value {
    let mut config = json!({"kafka": mutual_tls()});
    config["kafka"]["statistics.interval.ms"] = json!(100);
    config
}

fn leave(ways: &[(&str, i32)], config: &Value) {
    let host = compile(&C, "leaving.c", &unique("leaving"), &["-D_DEFAULT_SOURCE", "-pthread", "-ldl"]);
    for (way, status) in ways {
        ends_with(*status, &host, &[way, &config.to_string(), &unique("leaving")]);
    }
}

/// Runs a host to its end, whose status or signal has to be this one.
fn ends_with(status: i32, host: &Path, arguments: &[&str]) -> String {
    let script = r#"expected=$1; shift; "$@"; status=$?; [ $status = $expected ] || { echo "status $status, not $expected"; exit 1; }"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", &status.to_string()]).arg(host).arg(library()).args(arguments);
    run(SOON, &command)
}

#[test]
fn a_host_can_leave_in_any_way_with_everything_open_and_the_library_closed() {
    leave(&WAYS, &embedded());
    leave(&WAYS, &plaintext());
}

#[test]
fn a_host_can_leave_in_any_way_while_its_clients_speak_tls() {
    leave(&WAYS, &tls());
}

#[test]
fn what_runs_at_a_hosts_end_can_still_push_make_drivers_and_close_everything() {
    for config in [embedded(), plaintext(), tls()] {
        leave(&[AT_THE_END], &config);
    }
}
