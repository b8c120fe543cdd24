//! Each slot of the ABI is exercised by hosts that use include/octopus.h only. The slots are read
//! from the header, and the calls are recorded while the hosts run: the hosts load a library in C
//! that is generated from the header, and whose tables record each call and pass it on to the
//! plugin.
//!
//! A slot counts as exercised if one call of it succeeds, and if each of its pointers is NULL in
//! some call.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::hosts::{C, CPP, compile, library, run_host};
use crate::kafka::{Kafka, unique};

const HEADER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../include/octopus.h");
/// Names the file into which the recording library writes when its process exits.
const RECORD_VARIABLE: &str = "OCTOPUS_TEST_RECORDED_CALLS";
/// The bit of a recorded call that succeeded. The bits below are those of the parameters that were
/// NULL.
const SUCCEEDED: u64 = 1 << 31;

/// The bits of all recorded calls of each slot.
type Recorded = BTreeMap<String, u64>;

#[test]
fn each_slot_succeeds_and_gets_null_for_each_pointer() {
    let header = fs::read_to_string(HEADER).expect("include/octopus.h exists");
    let slots = slots_of(&header);
    let recorder = compile_recorder(&slots);

    let mut recorded = Recorded::new();
    for name in ["nulls", "preparing"] {
        let host = compile(&C, &format!("{name}.c"), &format!("{name}-recorded"), &["-pthread", "-ldl"]);
        record(&mut recorded, Command::new(host).arg(&recorder));
    }
    // The hosts in C delete no topic: what no host calls is not recorded.
    assert!(without_success(&slots, &recorded).contains(&"driver.delete_topic: no call succeeds".to_owned()));
    for name in ["promises", "provided"] {
        let flags = [recorder.to_str().expect("UTF-8"), "-O0"];
        let host = compile(&CPP, &format!("{name}.cpp"), &format!("{name}-recorded"), &flags);
        let prefix = unique(name) + "-";
        record(&mut recorded, Command::new(host).args([Kafka::shared().bootstrap(), &prefix]));
    }

    let missing = [without_success(&slots, &recorded), without_null(&slots, &recorded)].concat();
    assert!(missing.is_empty(), "these hosts do not exercise all slots of the ABI:\n{}", missing.join("\n"));
}

#[test]
fn slot_that_no_host_exercises_is_named() {
    let invented = "octopus_status (*invented)(const struct octopus_driver *driver,
                               uint32_t partition,
                               uint64_t *count,
                               struct octopus_error **error);";
    let header = fs::read_to_string(HEADER).expect("include/octopus.h exists");
    let grown = header.replace("} octopus_driver_api;", &format!("{invented}\n}} octopus_driver_api;"));
    let known = slots_of(&header).into_iter().map(|slot| (slot.name(), u64::MAX));
    let (slots, mut recorded) = (slots_of(&grown), known.collect::<Recorded>());
    let no_success = ["driver.invented: no call succeeds"];
    let no_null = |parameter| format!("driver.invented: no call passes NULL for `{parameter}`");

    assert_eq!(without_success(&slots, &recorded), no_success);
    assert_eq!(without_null(&slots, &recorded), ["driver", "count", "error"].map(no_null));
    // A call with NULL for `driver` and `error`, then one that succeeds.
    recorded.insert("driver.invented".to_owned(), 0b1001);
    assert_eq!(without_success(&slots, &recorded), no_success);
    assert_eq!(without_null(&slots, &recorded), [no_null("count")]);
    recorded.insert("driver.invented".to_owned(), SUCCEEDED | 0b1101);
    assert_eq!(without_success(&slots, &recorded), [""; 0]);
    assert_eq!(without_null(&slots, &recorded), [""; 0]);
}

fn without_success(slots: &[Slot], recorded: &Recorded) -> Vec<String> {
    let has_success = |slot: &Slot| recorded.get(&slot.name()).is_some_and(|bits| bits & SUCCEEDED != 0);
    slots.iter().filter(|slot| !has_success(slot)).map(|slot| format!("{}: no call succeeds", slot.name())).collect()
}

fn without_null(slots: &[Slot], recorded: &Recorded) -> Vec<String> {
    let mut missing = Vec::new();
    for slot in slots {
        let bits = recorded.get(&slot.name()).copied().unwrap_or(0);
        for (index, name) in slot.pointers() {
            if bits & (1 << index) == 0 {
                missing.push(format!("{}: no call passes NULL for `{name}`", slot.name()));
            }
        }
    }
    missing
}

/// A pointer to a function in a table of include/octopus.h.
struct Slot {
    table: String,
    function: String,
    result: String,
    /// Declarations: `const struct octopus_error *error`.
    parameters: Vec<String>,
}

impl Slot {
    /// Parses `octopus_status (*code)(const struct octopus_error *error)`.
    fn parse(table: &str, field: &str) -> Option<Slot> {
        let (result, rest) = field.split_once(" (*")?;
        let (function, parameters) = rest.strip_suffix(')')?.split_once(")(")?;
        let parameters = parameters.split(", ").map(str::to_owned).collect();
        Some(Slot { table: table.to_owned(), function: function.to_owned(), result: result.to_owned(), parameters })
    }

    fn name(&self) -> String {
        format!("{}.{}", self.table, self.function)
    }

    /// The indexes and names of the parameters that are pointers.
    fn pointers(&self) -> impl Iterator<Item = (usize, &str)> {
        let parameters = self.parameters.iter().enumerate();
        parameters.filter(|(_, parameter)| parameter.contains('*')).map(|(index, one)| (index, parameter_name(one)))
    }

    /// A function that records a call and passes it on to the plugin.
    ///
    /// A call that can't fail counts as a success if its handle is not NULL.
    fn recording_function(&self, index: usize) -> String {
        let Slot { table, function, result, parameters } = self;
        let declarations = parameters.join(", ");
        let names: Vec<_> = parameters.iter().map(|parameter| parameter_name(parameter)).collect();
        let nulls: Vec<_> = self.pointers().map(|(bit, name)| format!("(uint64_t)!{name} << {bit}")).collect();
        let nulls = nulls.join(" | ");
        let call = format!("plugin->{table}->{function}({})", names.join(", "));
        let can_fail = parameters.last().is_some_and(|last| last.ends_with("**error"));
        let body = match (can_fail, result.as_str()) {
            (true, _) => {
                format!("{result} result_ = {call}; record({index}, nulls_, result_ == OCTOPUS_OK); return result_;")
            }
            (false, "void") => format!("record({index}, nulls_, !(nulls_ & 1)); {call};"),
            (false, _) => format!("record({index}, nulls_, !(nulls_ & 1)); return {call};"),
        };
        format!("static {result} record_{table}_{function}({declarations}) {{ uint64_t nulls_ = {nulls}; {body} }}\n")
    }
}

fn parameter_name(declaration: &str) -> &str {
    declaration.rsplit([' ', '*']).next().expect("a parameter has a name")
}

/// The slots of all tables of the header.
fn slots_of(header: &str) -> Vec<Slot> {
    let mut slots = Vec::new();
    for definition in header.split("typedef struct octopus_").skip(1) {
        let Some((table, rest)) = definition.split_once("_api {") else { continue };
        // The entry table, `struct octopus_api`, and other types have no name before `_api`.
        if table.contains(|other: char| !other.is_ascii_lowercase() && other != '_') {
            continue;
        }
        let (body, _) = rest.split_once("\n}").expect("a table ends");
        let code = body.lines().map(str::trim).filter(|line| !line.starts_with(['/', '*']));
        let code = code.collect::<Vec<_>>().join(" ");
        for field in code.split(';').map(str::trim).filter(|field| !["", "uint64_t size"].contains(field)) {
            slots.push(Slot::parse(table, field).unwrap_or_else(|| panic!("octopus_{table}_api: a slot is: {field}")));
        }
    }
    assert!(slots.len() > 60, "the header has {} slots", slots.len());
    slots
}

/// Compiles the recording library.
fn compile_recorder(slots: &[Slot]) -> PathBuf {
    let mut functions = String::new();
    let mut entries = String::new();
    let mut names = String::new();
    let mut tables: Vec<_> = slots.iter().map(|slot| slot.table.as_str()).collect();
    tables.dedup();
    for table in &tables {
        functions += &format!("static octopus_{table}_api {table}_table;\n");
        entries += &format!("    {table}_table = *plugin->{table};\n    api.{table} = &{table}_table;\n");
    }
    for (index, slot) in slots.iter().enumerate() {
        let Slot { table, function, .. } = slot;
        functions += &slot.recording_function(index);
        entries +=
            &format!("    if ({table}_table.{function}) {table}_table.{function} = record_{table}_{function};\n");
        names += &format!("\"{}\", ", slot.name());
    }
    let code = RECORDER
        .replace("LIBRARY", &format!("{:?}", library()))
        .replace("VARIABLE", &format!("{RECORD_VARIABLE:?}"))
        .replace("SUCCEEDED", &format!("{SUCCEEDED}u"))
        .replace("/* names */", &names)
        .replace("/* functions */", &functions)
        .replace("/* entries */", &entries);
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("recorder") + ".c");
    fs::write(&source, code).expect("the folder of temporary files is writable");
    // The hosts use the library after `dlclose`, as they can use the plugin.
    let flags = ["-shared", "-fPIC", "-Wl,-z,nodelete", "-ldl"];
    let recorder = compile(&C, source.to_str().expect("UTF-8"), "recorder", &flags);
    fs::remove_file(&source).expect("the source was written");
    recorder
}

const RECORDER: &str = r#"
#include "octopus.h"
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {/* names */};
static _Atomic uint64_t recorded[sizeof names / sizeof *names];
static const octopus_api *plugin, *(*register_plugin)(uint32_t);
static octopus_api api;

static void record(size_t slot, uint64_t nulls, int succeeded)
{
    atomic_fetch_or(&recorded[slot], nulls | (succeeded ? SUCCEEDED : 0));
}

/* functions */
__attribute__((constructor)) static void load(void)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "octopus_register") : NULL;
    if (!symbol) {
        fprintf(stderr, "recorder: %s\n", dlerror());
        exit(1);
    }
    memcpy(&register_plugin, &symbol, sizeof symbol);
    plugin = register_plugin(OCTOPUS_ABI_MAJOR);
    api = *plugin;
/* entries */
}

const octopus_api *octopus_register(uint32_t major)
{
    return register_plugin(major) ? &api : NULL;
}

__attribute__((destructor)) static void save(void)
{
    const char *const path = getenv(VARIABLE);
    FILE *const file = path ? fopen(path, "w") : NULL;
    for (size_t slot = 0; file && slot < sizeof names / sizeof *names; slot++)
        fprintf(file, "%s %llu\n", names[slot], (unsigned long long)recorded[slot]);
    if (file)
        fclose(file);
}
"#;

/// Runs a host that uses the recording library, and adds its calls.
fn record(recorded: &mut Recorded, host: &mut Command) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("recorded-calls"));
    run_host(host.env(RECORD_VARIABLE, &file));
    let text = fs::read_to_string(&file).unwrap_or_else(|why| panic!("reading {} failed: {why}", file.display()));
    for line in text.lines() {
        let (slot, bits) = line.split_once(' ').expect("a slot and its bits");
        *recorded.entry(slot.to_owned()).or_default() |= bits.parse::<u64>().expect("the bits are a number");
    }
    fs::remove_file(&file).expect("the host has written the file");
}
