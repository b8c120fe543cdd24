//! The library within a process: exits with open handles, uses from different threads, and other
//! loaded libraries. The hosts are separate programs; their exit status reports whether their
//! checks passed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::hosts::{
    C, VALGRIND_TIMEOUT, compile, compile_linked, library, run, run_host, run_without_leak_check, with_valgrind,
    without_leak_check,
};
use crate::kafka::{Kafka, unique};
use crate::secured::mutual_tls;

/// The timeout of a host that exits at once.
const EXIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The ways in which the host in leaving.c ends, and its exit statuses.
const EXITS: [(&str, i32); 12] = [
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
const IN_EXIT_HANDLERS: (&str, i32) = ("using all at the end", 6);

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

fn check_exits(exits: &[(&str, i32)], config: &Value) {
    let host = compile(&C, "leaving.c", &unique("leaving"), &["-D_DEFAULT_SOURCE", "-pthread", "-ldl"]);
    for (exit, status) in exits {
        check_exit_status(
            *status,
            Command::new(&host).arg(library()).args([exit, config.to_string().as_str(), &unique("leaving")]),
        );
    }
}

/// Runs a host, and checks that it exits with this status, or 128 plus the number of a signal.
fn check_exit_status(status: i32, host: &Command) -> String {
    let script = r#"expected=$1; shift; "$@"; status=$?; [ $status = $expected ] || { echo "status $status, not $expected"; exit 1; }"#;
    let host = without_leak_check(host);
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", &status.to_string()]).arg(host.get_program()).args(host.get_args());
    run(if with_valgrind() { VALGRIND_TIMEOUT } else { EXIT_TIMEOUT }, &command)
}

/// The host also closes the library with `dlclose` before it exits.
#[test]
fn host_exits_in_any_way_with_open_handles() {
    check_exits(&EXITS, &embedded());
    check_exits(&EXITS, &plaintext());
}

#[test]
fn host_exits_in_any_way_while_its_clients_use_tls() {
    check_exits(&EXITS, &tls());
}

#[test]
fn exit_handlers_can_push_create_drivers_and_close() {
    for config in [embedded(), plaintext(), tls()] {
        check_exits(&[IN_EXIT_HANDLERS], &config);
    }
}

#[test]
fn static_and_thread_local_destructors_can_push_and_close() {
    let host = compile_linked("statics.cpp", &unique("statics"), &[]);
    for config in [embedded(), plaintext(), tls()] {
        const LAST_DESTRUCTOR_OF_ALL: i32 = 6;
        check_exit_status(LAST_DESTRUCTOR_OF_ALL, Command::new(&host).args([config.to_string(), unique("statics")]));
    }
}

/// Other threads can use the objects that an ended thread created.
#[test]
fn ended_threads_leave_no_event_and_no_thread_behind() {
    let host = compile(&C, "threads.c", &unique("threads"), &["-D_DEFAULT_SOURCE", "-pthread", "-ldl"]);
    let printed = run_host(Command::new(host).arg(library()).args([plaintext().to_string(), unique("threads")]));
    assert_eq!(printed, "800 events of 200 threads, each once, and no thread is left\n");
}

/// Children of fork, _Fork, vfork and posix_spawn, created while the parent's events are in flight.
#[test]
fn child_processes_get_errors_and_the_parent_loses_no_event() {
    let host = compile(&C, "forking.c", &unique("forking"), &["-D_GNU_SOURCE", "-pthread", "-ldl"]);
    for config in [plaintext(), tls()] {
        let printed =
            run_without_leak_check(Command::new(&host).arg(library()).args([config.to_string(), unique("forking")]));
        assert_eq!(printed, "calls in each child returned OCTOPUS_FORKED, and the parent lost no events\n");
    }
}

/// Opening the library twice gives the same instance; opening a copy of the file gives another one.
#[test]
fn reopened_library_is_shared_and_a_copy_is_separate() {
    let host = compile(&C, "twice.c", &unique("twice"), &["-D_DEFAULT_SOURCE", "-pthread", "-ldl"]);
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("copy"));
    fs::copy(library(), &copy).unwrap();
    for config in [embedded(), plaintext(), tls()] {
        let mut command = Command::new(&host);
        command.arg(library()).arg(&copy).args([config.to_string(), unique("twice")]);
        assert_eq!(run_without_leak_check(&command), "two instances, each with its own events\n");
    }
    fs::remove_file(copy).unwrap();
}

#[test]
fn plugin_works_beside_another_librdkafka_and_openssl() {
    let host = compile(&C, "neighbor.c", &unique("neighbor"), &["-D_DEFAULT_SOURCE", "-pthread", "-ldl"]);
    let (plaintext, tls) = (plaintext(), tls());
    for loaded in ["first", "last"] {
        for config in [&plaintext, &tls] {
            let of_kafka = |name: &str| config["kafka"][name].as_str();
            let certificates = ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location"];
            let mut command = Command::new(&host);
            command.arg(library()).args([loaded, &config.to_string(), &unique("neighbor")]);
            command.args(of_kafka("bootstrap.servers")).args(certificates.iter().filter_map(|name| of_kafka(name)));
            assert_eq!(run_without_leak_check(&command), "both libraries wrote, and all records were read\n");
        }
    }
}

/// The size of the library's thread-local storage, which takes a part of the stack of every thread
/// in the process.
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
