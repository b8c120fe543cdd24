//! Forked children that use the library themselves, whatever their parent is doing.

use std::process::Command;

use serde_json::{Value, json};

use crate::hosts::{C, compile, library, run_without_leak_check};
use crate::kafka::{Kafka, create_topic, kcat_read, unique};
use crate::secured::{mutual, mutual_tls};
use crate::support::SLOWNESS;

fn check_workers(states: &[&str], kafka: &Kafka, properties: &Value) {
    // A dozen processes load a debug build of the library: on a busy machine they need more than
    // ten seconds to connect.
    let config = json!({"kafka": properties, "disable_info_topic": true, "connect_timeout_ms": 60_000});
    let host = compile(&C, "workers.c", &unique("workers"), &["-D_GNU_SOURCE", "-pthread", "-ldl"]);
    for state in states {
        let topic = unique("workers");
        create_topic(kafka.internal(), &topic, 1, &[]);
        let mut command = Command::new(&host);
        command.arg(library()).args([state, config.to_string().as_str(), &topic]);
        let printed = run_without_leak_check(&command);
        let pushed: usize = printed.trim().parse().unwrap_or_else(|_| panic!("{state}: {printed}"));
        assert_eq!(kcat_read(kafka.internal(), &topic).len(), pushed, "{state}");
    }
}

#[test]
fn forked_workers_create_drivers_whatever_the_parent_does() {
    let states = ["registered", "opened", "released", "pushing", "pulling", "creating", "nested", "nested, global"];
    check_workers(&states, Kafka::shared(), &json!({"bootstrap.servers": Kafka::shared().bootstrap()}));
}

#[test]
fn forked_workers_create_drivers_while_the_parent_uses_tls() {
    check_workers(&["pushing", "creating", "nested"], mutual(), &mutual_tls());
}

/// The workflow of a production program: the parent receives all results, the forked server exits
/// with status 0, and the parent exits soon after.
#[test]
fn forked_server_responds_and_parent_exits_within_two_seconds() {
    const TASKS: u32 = 20;
    let host = compile(&C, "workflow.c", &unique("workflow"), &["-D_GNU_SOURCE", "-pthread", "-ldl"]);
    let config = json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap()}});
    let mut command = Command::new(host);
    command.arg(library()).args([config.to_string(), unique("workflow"), TASKS.to_string()]);
    let printed = run_without_leak_check(&command);
    let ended = monotonic_seconds();
    let ended_at =
        printed.trim().strip_prefix(&format!("{TASKS} results, ended at ")).unwrap_or_else(|| panic!("{printed}"));
    let took = ended - ended_at.parse::<f64>().unwrap();
    assert!(took < 2.0 * f64::from(SLOWNESS), "the exit took {took} s");
}

/// The time of the monotonic clock, which the host reads, too.
fn monotonic_seconds() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for `clock_gettime` to write to during the call.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) }, 0);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
