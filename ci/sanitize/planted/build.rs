//! Compiles the faults in C with the flags of librdkafka.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=faults.c");
    println!("cargo:rerun-if-env-changed=OCTOPUS_LIBRDKAFKA_CFLAGS");
    let folder = env::var("OUT_DIR").expect("cargo names a folder");
    let (object, archive) = (format!("{folder}/faults.o"), format!("{folder}/libfaults.a"));
    let flags = env::var("OCTOPUS_LIBRDKAFKA_CFLAGS").unwrap_or_default();
    run(Command::new("cc")
        .args(flags.split_whitespace())
        .args(["-O1", "-g", "-fPIC", "-c", "faults.c", "-o", &object]));
    run(Command::new("ar").args(["crs", &archive, &object]));
    println!("cargo:rustc-link-search=native={folder}");
    println!("cargo:rustc-link-lib=static=faults");
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|why| panic!("{command:?} could not be run: {why}"));
    assert!(status.success(), "{command:?} failed: {status}");
}
