//! Hosts that were built with an older or a newer header than the library's, with headers made of include/octopus.h: in the
//! one each struct and table that may grow lacks what came last, in the other it has something more.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::hosts::{C, compile, library, run_host};
use crate::kafka::{Kafka, kcat_read, unique};

const HEADER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../include/octopus.h");

/// The header with each struct that begins with its size changed: `change` gets its name and its fields.
fn changed(change: impl Fn(&str, &mut Vec<String>)) -> String {
    let header = fs::read_to_string(HEADER).expect("include/octopus.h is there");
    let mut made = String::new();
    let mut rest = header.as_str();
    let mut count = 0;
    while let Some((before, behind)) = rest.split_once("typedef struct octopus_") {
        made += before;
        made += "typedef struct octopus_";
        rest = behind;
        let line = rest.lines().next().expect("a struct begins with its name");
        let Some(name) = line.strip_suffix(" {") else { continue };
        let (body, _) = rest[line.len()..].split_once("\n}").expect("a struct ends");
        let mut fields = fields_of(body);
        if fields[0] == "uint64_t size;" {
            change(name, &mut fields);
            count += 1;
        }
        made += &format!("{line}\n{}", fields.join("\n"));
        rest = &rest[line.len() + body.len()..];
    }
    assert_eq!(count, 21, "structs and tables that may grow");
    made + rest
}

fn fields_of(body: &str) -> Vec<String> {
    let code: Vec<_> = body.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect();
    code.join(" ").trim().split_inclusive(';').map(|field| field.trim().to_owned()).collect()
}

fn older() -> String {
    changed(|_, fields| {
        // Without both halves of its last eight bytes, as it was before them.
        if fields.pop().expect("a field") == "uint32_t reserved;" {
            fields.pop();
        }
    })
}

fn newer() -> String {
    changed(|name, fields| {
        let more = match name.ends_with("api") {
            true => "void (*invented)(void);",
            false => "uint64_t invented; void *invented_too;",
        };
        fields.push(more.to_owned());
    })
}

/// Compiles the host with this header, runs it, and looks for its events with another client.
fn check(name: &str, header: &str, define: &[&str]) {
    let folder = headers_in(name, header);
    // Looked into before where the library's own header is.
    let include = ["-iquote", folder.to_str().expect("UTF-8")];
    let host = compile(&C, "grown.c", name, &[&["-D_DEFAULT_SOURCE", "-ldl"], &include[..], define].concat());
    let (bootstrap, topic) = (Kafka::shared().bootstrap(), unique(name));

    let printed = run_host(Command::new(host).arg(library()).args([bootstrap, &topic]));

    assert_eq!(printed, "8 events\n");
    assert_eq!(kcat_read(bootstrap, &topic).len(), 8);
}

fn headers_in(name: &str, header: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique(name));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("octopus.h"), header).unwrap();
    folder
}

#[test]
fn a_host_built_with_an_older_header_has_shorter_structs_also_in_arrays_and_its_events_are_whole() {
    check("older", &older(), &["-DOLDER"]);
}

#[test]
fn a_host_built_with_a_newer_header_finds_what_is_not_there_missing_and_what_it_fills_besides_is_not_touched() {
    check("newer", &newer(), &["-DNEWER"]);
}

#[test]
fn a_host_built_with_this_header_made_over_in_the_same_way_is_at_home() {
    check("same", &changed(|_, _| {}), &[]);
}
