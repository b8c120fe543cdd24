//! Runs every program of plugin-tests/examples on a real Kafka, as a user would: compiled with the
//! public headers or as an example of this package, with the bootstrap servers as its argument and
//! the library in `OCTOPUS_LIBRARY`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use octopus_testkit::tools::Record;
use serde_json::Value;

use crate::hosts::{C, CPP, HOST_TIMEOUT, compile, library, run};
use crate::kafka::{Kafka, kcat_read, unique};

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");
const EXTENSIONS: [&str; 4] = ["c", "cpp", "py", "rs"];
/// The programs that take a topic as their second argument.
const WITH_TOPIC: [&str; 2] = ["detector.c", "monitor.cpp"];
/// The programs that read what another one pushes to the same topic: the reader, the writer.
const READERS: [(&str, &str); 1] = [("monitor.cpp", "detector.c")];
/// Runs a program and sends it SIGTERM, shortly after the kernel shows that it handles this signal:
/// in the fourth digit from the right. By then the detector has usually pushed some frames.
const STOP: &str = r#"
"$@" &
until grep -q '^SigCgt.*[4-7c-f]...$' /proc/$!/status; do sleep 0.01; done
sleep 0.2
kill $!
wait $!
"#;
const FRAMES: u64 = 200;
const FRAME_BYTES: usize = 256 * 256 * 2;

#[test]
fn c_examples_run() {
    run_examples("c");
}

#[test]
fn cpp_examples_run() {
    run_examples("cpp");
}

#[test]
fn python_examples_run() {
    run_examples("py");
}

#[test]
fn rust_examples_run() {
    run_examples("rs");
}

/// The detector and the monitor end with status 0, and no frame that was pushed is lost.
#[test]
fn examples_end_in_order_after_sigterm() {
    let topic = unique("example");
    let printed = stop_example("detector.c", &topic);
    let frames = records(&topic).len();
    assert!(printed.starts_with(&format!("{frames} frames of ")), "{frames} frames are stored, but: {printed}");
    stop_example("monitor.cpp", &topic);
}

/// So no program is left out by the tests above.
#[test]
fn every_example_has_a_known_extension() {
    let unknown: Vec<_> = examples().into_iter().filter(|name| !EXTENSIONS.contains(&extension(name))).collect();
    assert!(unknown.is_empty(), "no test runs {unknown:?}: their extension is not one of {EXTENSIONS:?}");
}

#[test]
fn every_special_example_exists() {
    let examples = examples();
    let special = WITH_TOPIC.into_iter().chain(READERS.into_iter().flat_map(|(reader, writer)| [reader, writer]));
    for name in special {
        assert!(examples.iter().any(|example| example == name), "plugin-tests/examples does not have {name}");
    }
}

/// Runs all programs in one language and checks their effects.
fn run_examples(language: &str) {
    let names: Vec<_> = examples().into_iter().filter(|name| extension(name) == language).collect();
    assert!(!names.is_empty(), "plugin-tests/examples has no program *.{language}");
    for name in names {
        let topic = unique("example");
        if let Some((_, writer)) = READERS.iter().find(|(reader, _)| *reader == name) {
            run_example(writer, &topic);
        }
        let printed = run_example(&name, &topic);
        assert!(!printed.is_empty(), "{name} printed nothing");
        check_effect(&name, &topic, &printed);
    }
}

fn check_effect(name: &str, topic: &str, printed: &str) {
    let expected: &[&str] = match name {
        "detector.c" => {
            check_frames(&records(topic));
            &["200 frames of 256 x 256 pixels stored\n"]
        }
        "monitor.cpp" => &["200 frames: mean ", "all 200 frames seen\n"],
        "other_programs.py" => &["json of b'sensor 7': {'frame': 2, 'celsius': 21.5}, [('run', b'42'), ("],
        "workflow.py" => &["60 tasks processed by "],
        "worker_pool.rs" => &["leaves: it failed in task 100\n", "does task 100, which was", "all 300 tasks done"],
        _ if name.starts_with("first_event.") => {
            let stored = records("first-event");
            assert!(stored.last().is_some_and(|record| record.value.ends_with(b"raw samples")), "{stored:?}");
            &["stored at offset ", "read offset "]
        }
        _ => &[],
    };
    for expected in expected {
        assert!(printed.contains(expected), "{name}: {expected:?} is not in:\n{printed}");
    }
}

fn check_frames(records: &[Record]) {
    assert_eq!(records.len() as u64, FRAMES);
    let frames: BTreeSet<u64> = records.iter().map(frame_number).collect();
    assert_eq!(frames, (0..FRAMES).collect());
}

/// The frame that the metadata of a record names. The record has the format of src/record.rs.
fn frame_number(record: &Record) -> u64 {
    let (header, content) = record.value.split_at(24);
    let json_bytes = u64::from_le_bytes(header[16..].try_into().unwrap()) as usize;
    let (json, data) = content.split_at(json_bytes);
    assert_eq!(data.len(), FRAME_BYTES);
    let metadata: Value = serde_json::from_slice(json).unwrap();
    metadata["frame"].as_u64().unwrap()
}

fn records(topic: &str) -> Vec<Record> {
    kcat_read(Kafka::shared().bootstrap(), topic)
}

/// Builds and runs a program, and returns its stdout. Panics unless it exits with status 0 in time.
fn run_example(name: &str, topic: &str) -> String {
    // The first event has the same topic and the same group in each language, so that users see
    // that the languages share them. Two members of the group would wait for each other's event.
    static FIRST_EVENT: Mutex<()> = Mutex::new(());
    let _one_at_a_time =
        name.starts_with("first_event.").then(|| FIRST_EVENT.lock().unwrap_or_else(PoisonError::into_inner));
    run(HOST_TIMEOUT, &example_command(name, topic))
}

/// As `run_example`, but ends the program by SIGTERM.
fn stop_example(name: &str, topic: &str) -> String {
    let example = example_command(name, topic);
    let mut command = Command::new("sh");
    command.args(["-c", STOP, "sh"]).arg(example.get_program()).args(example.get_args());
    command.envs(example.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(HOST_TIMEOUT, &command)
}

fn example_command(name: &str, topic: &str) -> Command {
    let mut command = example_program(name);
    command.env("OCTOPUS_LIBRARY", library()).env("PYTHONPATH", Path::new(PACKAGE).join("python"));
    command.arg(Kafka::shared().bootstrap());
    if WITH_TOPIC.contains(&name) {
        command.arg(topic);
    }
    command
}

fn example_program(name: &str) -> Command {
    let source = folder().join(name);
    match extension(name) {
        "c" => Command::new(compile_example(&C, &source)),
        "cpp" => Command::new(compile_example(&CPP, &source)),
        "py" => {
            let mut python = Command::new("python3");
            // Python would write the compiled package into the source folder.
            python.env("PYTHONDONTWRITEBYTECODE", "1").arg(source);
            python
        }
        _ => Command::new(rust_example(&source)),
    }
}

fn compile_example(compiler: &[&str], source: &Path) -> PathBuf {
    // Several tests compile the detector.
    static COMPILING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    let name = source.file_name().and_then(|name| name.to_str()).expect("the name of an example is UTF-8");
    let build = format!("example-{}", name.replace('.', "-"));
    compile(compiler, source.to_str().expect("the path of this package is UTF-8"), &build, &["-pthread", "-ldl"])
}

/// The program that cargo built of an example in Rust.
fn rust_example(source: &Path) -> PathBuf {
    let stem = source.file_stem().expect("an example has a name");
    let program = library().ancestors().nth(2).expect("the library is in a folder").join("examples").join(stem);
    assert!(program.exists(), "{} does not exist: run cargo build --examples first", program.display());
    program
}

fn folder() -> PathBuf {
    Path::new(PACKAGE).join("examples")
}

/// The names of all files in the folder, sorted.
fn examples() -> Vec<String> {
    let entries = fs::read_dir(folder()).unwrap_or_else(|why| panic!("reading {}: {why}", folder().display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}
