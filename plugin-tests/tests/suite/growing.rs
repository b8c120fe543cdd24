//! Hosts that are built with an older or a newer header than the library's. The headers are
//! generated from include/octopus.h: in the older one each extensible struct and table lacks its
//! last member, in the newer one each has additional members.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::hosts::{C, compile, library, run_host};
use crate::kafka::{Kafka, kcat_read, unique};

const HEADER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../include/octopus.h");

/// Returns the header with `change` applied to the name and fields of each struct that begins with
/// `size`.
fn change_structs(change: impl Fn(&str, &mut Vec<String>)) -> String {
    let header = fs::read_to_string(HEADER).expect("include/octopus.h exists");
    let mut generated = String::new();
    let mut rest = header.as_str();
    let mut count = 0;
    while let Some((before, after)) = rest.split_once("typedef struct octopus_") {
        generated += before;
        generated += "typedef struct octopus_";
        rest = after;
        let line = rest.lines().next().expect("a struct begins with its name");
        let Some(name) = line.strip_suffix(" {") else { continue };
        let (body, _) = rest[line.len()..].split_once("\n}").expect("a struct ends");
        let mut fields = fields_of(body);
        if fields[0] == "uint64_t size;" {
            change(name, &mut fields);
            count += 1;
        }
        generated += &format!("{line}\n{}", fields.join("\n"));
        rest = &rest[line.len() + body.len()..];
    }
    assert_eq!(count, 24, "extensible structs and tables");
    generated + rest
}

fn fields_of(body: &str) -> Vec<String> {
    let is_comment = |line: &str| line.starts_with("/*") || line.starts_with('*');
    let code: Vec<_> = body.lines().map(str::trim).filter(|line| !is_comment(line)).collect();
    code.join(" ").trim().split_inclusive(';').map(|field| field.trim().to_owned()).collect()
}

fn older_header() -> String {
    change_structs(|_, fields| {
        // A 4-byte field and its padding were added together, so both are removed.
        if fields.pop().expect("a field") == "uint32_t reserved;" {
            fields.pop();
        }
    })
}

fn newer_header() -> String {
    change_structs(|name, fields| {
        let more = match name.ends_with("api") {
            true => "void (*invented)(void);",
            false => "uint64_t invented; void *invented_too;",
        };
        fields.push(more.to_owned());
    })
}

/// Compiles the host with this header, runs it, and checks its events with another client.
fn check(name: &str, header: &str, define: &[&str]) {
    let folder = headers_in(name, header);
    // The compiler searches -iquote folders before the folder with the library's own header.
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

/// Structs and array elements are shorter than the library's, and events are stored in full.
#[test]
fn host_built_with_an_older_header_works() {
    check("older", &older_header(), &["-DOLDER"]);
}

/// Table entries that the library lacks are missing, and the library does not touch struct members
/// that it does not know.
#[test]
fn host_built_with_a_newer_header_finds_new_members_missing() {
    check("newer", &newer_header(), &["-DNEWER"]);
}

/// A header that is rewritten without a change shows that the rewriting itself is correct.
#[test]
fn host_built_with_the_regenerated_header_works() {
    check("same", &change_structs(|_, _| {}), &[]);
}
