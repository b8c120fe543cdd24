//! Threads and descriptors that the system refuses: an error that names the limit, and afterwards everything works.

use std::process::Command;

use serde_json::{Value, json};

use crate::hosts::{C, compile, library, run_careless_of_leaks};
use crate::kafka::{Kafka, create_topic, unique};

/// Runs the program with the limit at each place from `first` on, and returns how many processes met it.
pub fn check_limits(kind: &str, first: u32, step: u32, config: &Value) -> u32 {
    let host = compile(&C, "limits.c", &unique("limits"), &["-D_GNU_SOURCE", "-pthread", "-ldl", "-rdynamic"]);
    let mut command = Command::new(host);
    command.arg(library()).args([config.to_string(), unique("limits"), kind.to_owned()]);
    let printed = run_careless_of_leaks(command.args([first, step].map(|number| number.to_string())));
    printed.trim().parse().unwrap_or_else(|_| panic!("{kind}: {printed}"))
}

fn kafka() -> Value {
    json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap()}, "disable_info_topic": true})
}

/// The last number at which a process met the limit says how many threads the program has created.
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
    // SAFETY: asks for a number.
    assert_eq!(unsafe { libc::geteuid() }, 0, "another user's limit can be set by root only");
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

/// As it is sent, and as small a response as what compresses well is: there it is decompressing that needs the memory.
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
        let printed = run_careless_of_leaks(Command::new(&host).arg(library()).args([config.to_string(), topic]));
        assert_eq!(printed, "the event came when there was memory\n", "{compression}");
    }
}
