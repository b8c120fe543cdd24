//! The library within a process: how that ends with everything open, from which threads it is used, what else is loaded.
//! The hosts are programs of their own, whose status says that all they looked at was so.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::hosts::{
    C, LIMIT_WITH_VALGRIND, careless_of_leaks, compile, compile_linked, library, run, run_careless_of_leaks, run_host,
    with_valgrind,
};
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
        ends_with(
            *status,
            Command::new(&host).arg(library()).args([way, config.to_string().as_str(), &unique("leaving")]),
        );
    }
}

/// Runs a host to its end, whose status or signal has to be this one.
fn ends_with(status: i32, host: &Command) -> String {
    let script = r#"expected=$1; shift; "$@"; status=$?; [ $status = $expected ] || { echo "status $status, not $expected"; exit 1; }"#;
    let host = careless_of_leaks(host);
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", &status.to_string()]).arg(host.get_program()).args(host.get_args());
    run(if with_valgrind() { LIMIT_WITH_VALGRIND } else { SOON }, &command)
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

#[test]
fn destructors_of_static_objects_and_of_thread_locals_can_still_push_and_close() {
    let host = compile_linked("statics.cpp", &unique("statics"), &[]);
    for config in [embedded(), plaintext(), tls()] {
        const LAST_DESTRUCTOR_OF_ALL: i32 = 6;
        ends_with(LAST_DESTRUCTOR_OF_ALL, Command::new(&host).args([config.to_string(), unique("statics")]));
    }
}

#[test]
fn threads_that_end_leave_no_event_and_no_thread_behind_and_others_use_what_they_made() {
    let host = compile(&C, "threads.c", &unique("threads"), &["-D_DEFAULT_SOURCE", "-pthread", "-ldl"]);
    let printed = run_host(Command::new(host).arg(library()).args([plaintext().to_string(), unique("threads")]));
    assert_eq!(printed, "800 events of 200 threads, each once, and no thread is left\n");
}

#[test]
fn processes_made_in_any_way_while_events_are_in_flight_are_told_and_the_parent_loses_nothing() {
    let host = compile(&C, "forking.c", &unique("forking"), &["-D_GNU_SOURCE", "-pthread", "-ldl"]);
    for config in [plaintext(), tls()] {
        let printed =
            run_careless_of_leaks(Command::new(&host).arg(library()).args([config.to_string(), unique("forking")]));
        assert_eq!(printed, "each child was told, and the parent lost nothing\n");
    }
}

#[test]
fn the_library_opened_again_is_the_same_and_a_copy_of_it_is_an_instance_of_its_own() {
    let host = compile(&C, "twice.c", &unique("twice"), &["-D_DEFAULT_SOURCE", "-pthread", "-ldl"]);
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("copy"));
    fs::copy(library(), &copy).unwrap();
    for config in [embedded(), plaintext(), tls()] {
        let mut command = Command::new(&host);
        command.arg(library()).arg(&copy).args([config.to_string(), unique("twice")]);
        assert_eq!(run_careless_of_leaks(&command), "two instances, each with its own events\n");
    }
    fs::remove_file(copy).unwrap();
}

#[test]
fn the_plugin_works_beside_another_librdkafka_and_another_openssl_at_the_same_time() {
    let host = compile(&C, "neighbour.c", &unique("neighbour"), &["-D_DEFAULT_SOURCE", "-pthread", "-ldl"]);
    let (plaintext, tls) = (plaintext(), tls());
    for loaded in ["first", "last"] {
        for config in [&plaintext, &tls] {
            let of_kafka = |name: &str| config["kafka"][name].as_str();
            let certificates = ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location"];
            let mut command = Command::new(&host);
            command.arg(library()).args([loaded, &config.to_string(), &unique("neighbour")]);
            command.args(of_kafka("bootstrap.servers")).args(certificates.iter().filter_map(|name| of_kafka(name)));
            assert_eq!(run_careless_of_leaks(&command), "both libraries wrote, and all records were read\n");
        }
    }
}

/// The size of its thread-local storage, which is a part of the stack of every thread in the process.
fn thread_local_storage() -> u64 {
    const PT_TLS: u32 = 7;
    const SEGMENT: usize = 56;
    let image = fs::read(library()).unwrap();
    let number = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
    // elf(5): e_phoff is at 32, e_phnum at 56; in a program header p_type is at 0, p_memsz at 40.
    let (start, count) = (number(32) as usize, u16::from_le_bytes(image[56..58].try_into().unwrap()));
    let segments = (0..usize::from(count)).map(|index| start + index * SEGMENT);
    segments.filter(|at| number(*at) as u32 == PT_TLS).map(|at| number(at + 40)).sum()
}

#[test]
fn thread_local_storage_is_at_most_four_kib() {
    let size = thread_local_storage();
    assert!((1..=4096).contains(&size), "{size} bytes");
}

#[test]
fn every_call_works_on_a_small_stack() {
    let host = compile(
        &C,
        "stacks.c",
        &unique("stacks"),
        &[
            "-pthread",
            &format!("-L{}", library().parent().unwrap().display()),
            "-loctopus",
            &format!("-Wl,-rpath,{}", library().parent().unwrap().display()),
            "-ldl",
        ],
    );
    for config in [embedded(), plaintext(), tls()] {
        let printed = run_host(Command::new(&host).args([config.to_string(), unique("stacks")]));
        assert_eq!(printed, "small stacks are enough\n");
    }
}
