//! Hosts in C and C++ that use Octopus through include/octopus.h only. The tests compile them with
//! warnings as errors, run them, and check their records in Kafka with a client that shares no code
//! with the plugin.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use octopus_testkit::tools::Record;

use crate::kafka::{Kafka, committed_offset, kcat_read, unique};

const HOSTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hosts");
const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../include");
pub const C: [&str; 2] = ["cc", "-std=c11"];
pub const CPP: [&str; 2] = ["c++", "-std=c++17"];

/// With sanitizers, gcc reports empty optionals as maybe uninitialized. Its documentation warns of
/// such false positives.
pub const SANITIZED: [&str; 3] =
    ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wno-maybe-uninitialized"];

const PARTITIONS: usize = 3;
/// The timeout of one run of a host on a busy machine.
pub const HOST_TIMEOUT: Duration = Duration::from_mins(2);
/// With templates and two sanitizers a compiler takes half a minute, and several times that while
/// many tests run concurrently.
const COMPILER_TIMEOUT: Duration = Duration::from_secs(600);
/// A host is about twenty times as slow under valgrind.
pub const VALGRIND_TIMEOUT: Duration = Duration::from_mins(5);
/// If set, each host that is not compiled with sanitizers runs under valgrind: `ci/sanitize.sh
/// valgrind`.
const VALGRIND_VARIABLE: &str = "OCTOPUS_TEST_VALGRIND";

#[test]
fn c_host_reads_back_ten_thousand_events_in_order() {
    let host = compile(&C, "roundtrip.c", "roundtrip", &["-ldl"]);
    let (bootstrap, topic, group) = (Kafka::shared().bootstrap(), unique("c-host"), unique("c-host-group"));

    let printed = run_host(Command::new(host).arg(library()).args([bootstrap, &topic, &group]));

    assert_eq!(printed, "10000 events in 3 partitions, each in its place and in order\n");
    check_records(&kcat_read(bootstrap, &topic), 10_000);
    for (partition, events) in [(0, 3334), (1, 3333), (2, 3333)] {
        assert_eq!(committed_offset(bootstrap, &group, &topic, partition), Some(events), "partition {partition}");
    }
}

#[test]
fn c_host_has_no_errors_or_leaks_under_valgrind() {
    let host = compile(&C, "roundtrip.c", "roundtrip-valgrind", &["-ldl"]);
    let (bootstrap, topic, group) = (Kafka::shared().bootstrap(), unique("valgrind"), unique("valgrind-group"));

    let printed = run_in_valgrind(Command::new(host).arg(library()).args([bootstrap, &topic, &group, "500"]));

    assert_eq!(printed, "500 events in 3 partitions, each in its place and in order\n");
    check_records(&kcat_read(bootstrap, &topic), 500);
}

/// The host also checks the errors of calls that it makes wrong on purpose.
#[test]
fn linked_cpp_host_reads_back_its_events_and_gets_errors() {
    run_linked_host("linked", &[]);
}

/// Runs with the address and the undefined behavior sanitizers.
#[test]
fn linked_cpp_host_passes_the_sanitizers() {
    run_linked_host("linked-sanitized", &SANITIZED);
}

#[test]
fn cpp_header_host_passes_every_test_case() {
    run_cpp_header_hosts("", &[]);
}

#[test]
fn cpp_header_host_passes_the_sanitizers() {
    run_cpp_header_hosts("-sanitized", &SANITIZED);
}

fn run_cpp_header_hosts(suffix: &str, flags: &[&str]) {
    for (name, count) in [("promises", 11), ("provided", 4)] {
        let host = compile_linked(&format!("{name}.cpp"), &format!("{name}{suffix}"), flags);
        let prefix = unique(name) + "-";
        let printed = run_host(Command::new(host).args([Kafka::shared().bootstrap(), &prefix]));
        assert!(printed.ends_with(&format!("0 of {count} test cases failed\n")), "{printed}");
    }
}

pub fn compile_linked(source: &str, name: &str, flags: &[&str]) -> PathBuf {
    let library = library();
    let folder = library.parent().expect("the library is in a folder").to_str().expect("the folder's name is UTF-8");
    let (search, remember) = (format!("-L{folder}"), format!("-Wl,-rpath,{folder}"));
    compile(&CPP, source, name, &[flags, &[&search, "-loctopus", &remember]].concat())
}

fn run_linked_host(name: &str, flags: &[&str]) {
    let host = compile_linked("linked.cpp", name, flags);

    let printed = run_host(Command::new(host).args([Kafka::shared().bootstrap(), &unique(name), &unique(name)]));

    for expected in [
        "ABI 0.1",
        "300 events in 3 partitions, each in its place and in order",
        "kafka.message.max.bytes",
        "the log's context was destroyed once",
    ] {
        assert!(printed.contains(expected), "{expected:?} is not in:\n{printed}");
    }
}

#[test]
fn host_misuse_returns_statuses_and_does_not_crash() {
    run_misusing_hosts("", &[], run_host);
}

#[test]
fn host_misuse_passes_the_sanitizers() {
    run_misusing_hosts("-sanitized", &SANITIZED, run_host);
}

#[test]
fn host_misuse_has_no_errors_or_leaks_under_valgrind() {
    run_misusing_hosts("-valgrind", &[], run_in_valgrind);
}

/// The destructor of a preparation runs exactly once, whether the push succeeds, fails or is
/// rejected.
#[test]
fn preparation_is_destroyed_once_whatever_the_push_result() {
    let flags = if with_valgrind() { &[][..] } else { &SANITIZED };
    let host = compile(&C, "preparing.c", "preparing", &[flags, &["-pthread", "-ldl"]].concat());
    assert_eq!(run_host(Command::new(host).arg(library())), "every preparation was destroyed once\n");
}

#[test]
fn forked_child_gets_errors_and_the_parent_continues() {
    let host = compile(&C, "forked.c", "forked", &["-D_POSIX_C_SOURCE=200809L", "-ldl"]);
    assert_eq!(
        run_without_leak_check(Command::new(host).arg(library())),
        "each call of the child returned OCTOPUS_FORKED, and the parent continued\n"
    );
}

/// The hosts that share abi_misuse.h. They print the last line when all checks have passed.
fn run_misusing_hosts(suffix: &str, flags: &[&str], run: fn(&Command) -> String) {
    for name in ["nulls", "sizes", "lifetimes"] {
        let flags = [flags, &["-ldl"]].concat();
        let host = compile(&C, &format!("{name}.c"), &format!("{name}{suffix}"), &flags);
        let printed = run(Command::new(host).arg(library()));
        assert!(printed.ends_with("has destroyed its host's context once\n"), "{printed}");
    }
}

/// Checks that the topic holds exactly these events, each in its partition and in order, in the
/// format of src/record.rs.
fn check_records(records: &[Record], events: usize) {
    assert_eq!(records.len(), events);
    for partition in 0..PARTITIONS {
        let stored: Vec<_> = records.iter().filter(|record| record.partition as usize == partition).collect();
        let pushed: Vec<_> = (partition..events).step_by(PARTITIONS).collect();
        assert_eq!(stored.len(), pushed.len(), "partition {partition}");
        for (offset, (record, event)) in stored.into_iter().zip(pushed).enumerate() {
            assert_eq!(record.offset as usize, offset, "event {event}");
            assert_eq!(record.key, None, "event {event}");
            assert_eq!(record.value, bytes_of(event), "event {event}");
        }
    }
}

/// The record that Kafka should hold for the C host's event with this number.
fn bytes_of(event: usize) -> Vec<u8> {
    let number = |number: usize| (number as u64).to_le_bytes();
    let (json, data) = (format!(r#"{{"number":{event}}}"#), number(event));
    [&number(8 + json.len())[..], &number(data.len()), &number(json.len()), json.as_bytes(), &data].concat()
}

/// The library that cargo built for this test, in the folder of the test program.
pub fn library() -> PathBuf {
    let program = env::current_exe().expect("a test knows its own path");
    let library = program.with_file_name("liboctopus.so");
    assert!(library.exists(), "{} does not exist: cargo build should have created it", library.display());
    library
}

pub fn compile(compiler: &[&str], source: &str, name: &str, arguments: &[&str]) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("host-{name}"));
    // Another test run may be executing a program of this name. The rename leaves its file intact.
    let fresh = program.with_extension(std::process::id().to_string());
    let warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
    let mut command = Command::new(compiler[0]);
    command.args(&compiler[1..]).args(warnings).args(["-O1", "-g", "-I", INCLUDE, "-o"]).arg(&fresh);
    run(COMPILER_TIMEOUT, command.arg(Path::new(HOSTS).join(source)).args(arguments));
    fs::rename(&fresh, &program).unwrap_or_else(|why| panic!("renaming {} to {name} failed: {why}", fresh.display()));
    program
}

/// Runs a host that releases all its handles and memory.
pub fn run_host(host: &Command) -> String {
    if with_valgrind() { run_in_valgrind(host) } else { run(HOST_TIMEOUT, host) }
}

fn run_in_valgrind(host: &Command) -> String {
    // Only definite leaks count: librdkafka, OpenSSL and their threads still hold memory at the end
    // of the process.
    let leaks = ["--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"];
    run(VALGRIND_TIMEOUT, &valgrind(&leaks, host))
}

/// Programs in C, C++ and Python that read a topic and print each result. Their arguments: the
/// brokers, the topic, a group, and a number of events.
pub fn reading_programs() -> [(&'static str, Command); 3] {
    let mut c = Command::new(compile(&C, "reading.c", "reading", &["-ldl"]));
    c.arg(library());
    let cpp = Command::new(compile_linked("reading.cpp", "reading-linked", &[]));
    let mut python = Command::new("python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/reading.py")).arg(library());
    [("C", c), ("C++", cpp), ("Python", python)]
}

/// Runs a host that exits with open handles, or whose child does. In a child, memory of the
/// parent's other threads is unreachable and would be reported as leaked.
pub fn run_without_leak_check(host: &Command) -> String {
    if with_valgrind() { run(VALGRIND_TIMEOUT, &without_leak_check(host)) } else { run(HOST_TIMEOUT, host) }
}

/// The command that runs such a host. It exits with the host's status.
pub fn without_leak_check(host: &Command) -> Command {
    if with_valgrind() {
        // libc's cleanup at exit is off, too: in a child it would wait for a lock that another
        // thread of the parent held.
        return valgrind(&["--leak-check=no", "--run-libc-freeres=no"], host);
    }
    let mut command = Command::new(host.get_program());
    command.args(host.get_args());
    command
}

pub fn with_valgrind() -> bool {
    env::var_os(VALGRIND_VARIABLE).is_some()
}

fn valgrind(leaks: &[&str], host: &Command) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--error-exitcode=9", "--fair-sched=yes"]).args(leaks);
    command.arg(host.get_program()).args(host.get_args());
    command
}

/// Runs a command and returns its stdout. Panics with all its output if it fails or exceeds
/// `limit`, and if it is not installed, as nothing was tested then.
pub fn run(limit: Duration, command: &Command) -> String {
    run_to_completion(limit, command).unwrap_or_else(|stderr| panic!("{command:?} failed:\n{stderr}"))
}

/// Runs a command that may fail. Returns its stdout, or both its outputs if it fails. Panics if a
/// signal ends it.
pub fn run_to_completion(limit: Duration, command: &Command) -> Result<String, String> {
    // Any host may exit while clients are destroyed in the background.
    let suppressions = format!("suppressions={HOSTS}/leaks.supp:print_suppressions=0");
    let output = Command::new("timeout")
        .args(["--kill-after=5", &limit.as_secs().to_string()])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("LSAN_OPTIONS", suppressions)
        // cargo sets it to the folder of the plugin's own librdkafka, which no other program may
        // load.
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|why| panic!("running timeout for {command:?} failed: {why}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let failure = match output.status.code() {
        Some(0) => return Ok(stdout.into_owned()),
        Some(124 | 137) => format!("took longer than {limit:?}"),
        Some(127) => "is not installed: install gcc, g++ and valgrind".to_owned(),
        Some(_) => {
            return Err(format!(
                "{} (it needs gcc and g++, with libasan and libubsan, or valgrind)\n{stdout}\n{stderr}",
                output.status
            ));
        }
        None => format!("was ended by {}", output.status),
    };
    panic!("{command:?} {failure}\n{stdout}\n{stderr}")
}
