//! Hosts in C and C++ that know nothing of Octopus but include/octopus.h. They are compiled here with every warning an
//! error, run, and what they left in Kafka is looked at by a client that shares no code with the plugin.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use crate::kafka::{Kafka, KcatRecord, committed_offset, kcat_read, unique};

const HOSTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hosts");
const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../include");
pub const C: [&str; 2] = ["cc", "-std=c11"];
pub const CPP: [&str; 2] = ["c++", "-std=c++17"];

/// With sanitizers gcc takes optionals that are empty for uninitialized, which its documentation warns of.
pub const SANITIZED: [&str; 3] =
    ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wno-maybe-uninitialized"];

const PARTITIONS: usize = 3;
/// For one run of a host on a busy machine.
pub const LIMIT: Duration = Duration::from_mins(2);
/// Templates and two sanitizers take a compiler half a minute, and several times that where many tests run at once.
const LIMIT_OF_A_COMPILER: Duration = Duration::from_secs(600);
/// Under valgrind a host is some twenty times as slow.
pub const LIMIT_WITH_VALGRIND: Duration = Duration::from_mins(5);
/// Has every host run in valgrind that is not compiled with sanitizers: `ci/sanitize.sh valgrind`.
const VALGRIND_VARIABLE: &str = "OCTOPUS_TEST_VALGRIND";

#[test]
fn a_c_host_that_opens_the_library_reads_back_ten_thousand_events_in_their_partitions_and_in_order() {
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
fn a_c_host_runs_under_valgrind_without_an_error_or_a_leak() {
    let host = compile(&C, "roundtrip.c", "roundtrip-valgrind", &["-ldl"]);
    let (bootstrap, topic, group) = (Kafka::shared().bootstrap(), unique("valgrind"), unique("valgrind-group"));

    let printed = run_in_valgrind(Command::new(host).arg(library()).args([bootstrap, &topic, &group, "500"]));

    assert_eq!(printed, "500 events in 3 partitions, each in its place and in order\n");
    check_records(&kcat_read(bootstrap, &topic), 500);
}

#[test]
fn a_cpp_host_that_links_the_library_reads_back_its_events_and_is_told_what_it_did_wrong() {
    run_linked_host("linked", &[]);
}

#[test]
fn a_cpp_host_shows_no_error_to_the_address_and_undefined_behaviour_sanitizers() {
    run_linked_host("linked-sanitized", &SANITIZED);
}

#[test]
fn a_cpp_host_on_the_cpp_headers_finds_every_promise_kept() {
    check_promises("", &[]);
}

#[test]
fn a_cpp_host_on_the_cpp_headers_shows_no_error_to_the_address_and_undefined_behaviour_sanitizers() {
    check_promises("-sanitized", &SANITIZED);
}

fn check_promises(suffix: &str, flags: &[&str]) {
    for (name, promises) in [("promises", 9), ("provided", 4)] {
        let host = compile_linked(&format!("{name}.cpp"), &format!("{name}{suffix}"), flags);
        let prefix = unique(name) + "-";
        let printed = run_host(Command::new(host).args([Kafka::shared().bootstrap(), &prefix]));
        assert!(printed.ends_with(&format!("0 of {promises} promises are broken\n")), "{printed}");
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
fn a_careless_host_gets_statuses_not_crashes() {
    run_careless_hosts("", &[], run_host);
}

#[test]
fn a_careless_host_shows_no_error_to_the_address_and_undefined_behaviour_sanitizers() {
    run_careless_hosts("-sanitized", &SANITIZED, run_host);
}

#[test]
fn a_careless_host_runs_under_valgrind_without_an_error_or_a_leak() {
    run_careless_hosts("-valgrind", &[], run_in_valgrind);
}

#[test]
fn what_a_host_gives_to_prepare_an_event_is_destroyed_once_whatever_becomes_of_the_push() {
    let flags = if with_valgrind() { &[][..] } else { &SANITIZED };
    let host = compile(&C, "preparing.c", "preparing", &[flags, &["-pthread", "-ldl"]].concat());
    assert_eq!(run_host(Command::new(host).arg(library())), "every preparation was destroyed once\n");
}

#[test]
fn a_host_that_forks_is_told_so_in_the_child_and_goes_on_in_the_parent() {
    let host = compile(&C, "forked.c", "forked", &["-D_POSIX_C_SOURCE=200809L", "-ldl"]);
    assert_eq!(run_careless_of_leaks(Command::new(host).arg(library())), "the child was told, the parent went on\n");
}

/// Those that share strangers.h. Their last line is printed when everything was checked.
fn run_careless_hosts(suffix: &str, flags: &[&str], run: fn(&Command) -> String) {
    for name in ["nulls", "sizes", "lifetimes"] {
        let flags = [flags, &["-ldl"]].concat();
        let host = compile(&C, &format!("{name}.c"), &format!("{name}{suffix}"), &flags);
        let printed = run(Command::new(host).arg(library()));
        assert!(printed.ends_with("has given its host's context back once\n"), "{printed}");
    }
}

/// So many events, each in its partition and in order, are all there is; their bytes are as src/record.rs says.
fn check_records(records: &[KcatRecord], events: usize) {
    assert_eq!(records.len(), events);
    for partition in 0..PARTITIONS {
        let there: Vec<_> = records.iter().filter(|record| record.partition as usize == partition).collect();
        let pushed: Vec<_> = (partition..events).step_by(PARTITIONS).collect();
        assert_eq!(there.len(), pushed.len(), "partition {partition}");
        for (offset, (record, event)) in there.into_iter().zip(pushed).enumerate() {
            assert_eq!(record.offset as usize, offset, "event {event}");
            assert_eq!(record.key, None, "event {event}");
            assert_eq!(record.value, bytes_of(event), "event {event}");
        }
    }
}

/// What the C host pushes as its event of this number, as it should be in Kafka.
fn bytes_of(event: usize) -> Vec<u8> {
    let number = |number: usize| (number as u64).to_le_bytes();
    let (json, data) = (format!(r#"{{"number":{event}}}"#), number(event));
    [&number(8 + json.len())[..], &number(data.len()), &number(json.len()), json.as_bytes(), &data].concat()
}

/// The library as cargo built it for this test, beside the test's own program.
pub fn library() -> PathBuf {
    let program = env::current_exe().expect("a test knows its own path");
    let library = program.with_file_name("liboctopus.so");
    assert!(library.exists(), "{} is not there: cargo build should have made it", library.display());
    library
}

pub fn compile(compiler: &[&str], source: &str, name: &str, arguments: &[&str]) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("host-{name}"));
    // Another run of the tests may be running a program of this name: it keeps the file it started from.
    let fresh = program.with_extension(std::process::id().to_string());
    let warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
    let mut command = Command::new(compiler[0]);
    command.args(&compiler[1..]).args(warnings).args(["-O1", "-g", "-I", INCLUDE, "-o"]).arg(&fresh);
    run(LIMIT_OF_A_COMPILER, command.arg(Path::new(HOSTS).join(source)).args(arguments));
    fs::rename(&fresh, &program).unwrap_or_else(|why| panic!("{} could not be named {name}: {why}", fresh.display()));
    program
}

/// Runs a host that gives back all that it has.
pub fn run_host(host: &Command) -> String {
    if with_valgrind() { run_in_valgrind(host) } else { run(LIMIT, host) }
}

fn run_in_valgrind(host: &Command) -> String {
    // What librdkafka, OpenSSL and their threads still hold at the end of the process is no leak of the host's.
    let leaks = ["--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"];
    run(LIMIT_WITH_VALGRIND, &valgrind(&leaks, host))
}

/// Runs a host that ends with everything open, or whose child does: in a child, nothing refers to what its parent's threads had.
/// Programs that read a topic and say what they are given, in C, C++ and Python. Their arguments: the brokers, the topic, a group,
/// and a number of events.
pub fn reading_programs() -> [(&'static str, Command); 3] {
    let mut c = Command::new(compile(&C, "reading.c", "reading", &["-ldl"]));
    c.arg(library());
    let cpp = Command::new(compile_linked("reading.cpp", "reading-linked", &[]));
    let mut python = Command::new("python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/reading.py")).arg(library());
    [("C", c), ("C++", cpp), ("Python", python)]
}

pub fn run_careless_of_leaks(host: &Command) -> String {
    if with_valgrind() { run(LIMIT_WITH_VALGRIND, &careless_of_leaks(host)) } else { run(LIMIT, host) }
}

/// The command that runs such a host, and ends as it does.
pub fn careless_of_leaks(host: &Command) -> Command {
    if with_valgrind() {
        // Nor does valgrind have libc free what it has: a child would wait for a lock that a thread of its parent held.
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

/// Runs a command to its end, and gives what it printed to stdout. Fails with all that it printed, if it fails, and
/// after `limit`; also if it is not installed, as nothing was tested then.
pub fn run(limit: Duration, command: &Command) -> String {
    run_to_its_end(limit, command).unwrap_or_else(|stderr| panic!("{command:?} failed:\n{stderr}"))
}

/// What a command that may fail printed to stdout, or, if it failed, to both. A command that a signal ends is a defect.
pub fn run_to_its_end(limit: Duration, command: &Command) -> Result<String, String> {
    // Any host may end while clients are torn down in the background.
    let suppressions = format!("suppressions={HOSTS}/leaks.supp:print_suppressions=0");
    let output = Command::new("timeout")
        .args(["--kill-after=5", &limit.as_secs().to_string()])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("LSAN_OPTIONS", suppressions)
        // Where cargo says that the librdkafka is which was built for the plugin: no neighbour of it.
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|why| panic!("timeout could not be run for {command:?}: {why}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let fate = match output.status.code() {
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
    panic!("{command:?} {fate}\n{stdout}\n{stderr}")
}
