//! Threads, descriptors and memory that the system refuses: each failure is an error that names the
//! limit, and afterwards everything works.

use std::process::Command;

use serde_json::{Value, json};

use crate::hosts::{C, compile, library, run_without_leak_check};
use crate::kafka::{Kafka, create_topic, unique};

/// Runs `limits.c` with the limit of `kind` at `first`, at `first + step` and so on, each in a
/// process of its own, until no limit is reached. Returns the number of processes that reached it.
pub fn check_limits(kind: &str, first: u32, step: u32, config: &Value) -> u32 {
    let host = compile(&C, "limits.c", &unique("limits"), &["-D_GNU_SOURCE", "-pthread", "-ldl", "-rdynamic"]);
    let mut command = Command::new(host);
    command.arg(library()).args([config.to_string(), unique("limits"), kind.to_owned()]);
    let printed = run_without_leak_check(command.args([first, step].map(|number| number.to_string())));
    printed.trim().parse().unwrap_or_else(|_| panic!("{kind}: {printed}"))
}

fn kafka() -> Value {
    json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap()}, "disable_info_topic": true})
}

/// The number of processes that reached the limit is the number of threads that the program
/// creates.
#[test]
fn any_thread_that_cannot_be_created_is_an_error() {
    let met = check_limits("thread", 1, 1, &kafka());
    assert!(met > 12, "{met}");
}

#[test]
fn no_more_threads_is_an_error_until_there_are_more() {
    let met = check_limits("threads", 1, 2, &kafka());
    assert!(met > 4, "{met}");
}

#[test]
fn limit_of_the_user_is_an_error_until_it_is_raised() {
    // SAFETY: `geteuid` has no preconditions and always succeeds.
    assert_eq!(unsafe { libc::geteuid() }, 0, "only root can set the limit of another user");
    let met = check_limits("user", 1, 3, &kafka());
    assert!(met > 4, "{met}");
}

#[test]
fn no_more_descriptors_is_an_error_until_there_are_more() {
    let met = check_limits("descriptors", 1, 2, &kafka());
    assert!(met > 4, "{met}");
}

#[test]
fn an_embedded_kafka_that_cannot_be_started_is_an_error() {
    let config = json!({"embedded": {"brokers": 2}, "disable_info_topic": true});
    assert!(check_limits("thread", 1, 1, &config) > 12);
    assert!(check_limits("descriptors", 1, 2, &config) > 6);
}

/// A compressed response is small, so that its decompression is what lacks memory.
#[test]
fn no_memory_for_a_large_event_is_an_error_until_there_is_some() {
    let host = compile(&C, "memory.c", &unique("memory"), &["-D_GNU_SOURCE", "-ldl"]);
    for compression in ["none", "lz4", "snappy", "gzip", "zstd"] {
        let topic = unique("memory");
        create_topic(Kafka::shared().internal(), &topic, 1, &[("max.message.bytes", "33554432")]);
        let config = json!({
            "kafka": {
                "bootstrap.servers": Kafka::shared().bootstrap(),
                "message.max.bytes": 33_554_432,
                "linger.ms": 3000,
                "compression.type": compression,
            },
            "disable_info_topic": true,
        });
        let printed = run_without_leak_check(Command::new(&host).arg(library()).args([config.to_string(), topic]));
        assert_eq!(printed, "the event came when there was memory\n", "{compression}");
    }
}
