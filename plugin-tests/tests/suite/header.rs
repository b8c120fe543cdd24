//! include/octopus.h is what cbindgen makes of src/abi, and compiles alone as C11 and C++17 without a warning; so do the
//! headers for C++.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("plugin-tests is inside the repository").to_owned()
}

fn generated() -> String {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::generate_with_config(root(), config).expect("cbindgen reads src/abi");
    let mut header = Vec::new();
    bindings.write(&mut header);
    String::from_utf8(header).expect("the header is UTF-8")
}

#[test]
fn the_header_is_what_cbindgen_makes_of_the_sources() {
    let path = root().join("include/octopus.h");
    let generated = generated();
    if env::var_os("OCTOPUS_WRITE_HEADER").is_some() {
        fs::write(&path, &generated).expect("writing include/octopus.h");
    }
    let committed = fs::read_to_string(&path).expect("include/octopus.h is there");
    assert!(
        committed == generated,
        "include/octopus.h is not what cbindgen makes of src/abi: run OCTOPUS_WRITE_HEADER=1 cargo test --test suite header"
    );
}

fn compiles_alone(header: &Path, compiler: &str, standard: &str, language: &str) {
    let output = Command::new(compiler)
        .args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-x", language])
        .arg(header)
        .output()
        .unwrap_or_else(|why| panic!("{compiler} could not be run: {why}"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {standard} {}: {complaints}", header.display());
}

#[test]
fn the_header_compiles_alone_as_c11_and_as_cpp17_without_a_warning() {
    let header = root().join("include/octopus.h");
    compiles_alone(&header, "cc", "-std=c11", "c");
    compiles_alone(&header, "c++", "-std=c++17", "c++");
}

#[test]
fn each_header_for_cpp_compiles_alone_as_cpp17_and_cpp20_without_a_warning() {
    let parts = fs::read_dir(root().join("include/octopus")).expect("include/octopus is there");
    let parts: Vec<_> = parts.map(|part| part.expect("a part").path()).collect();
    assert!(parts.len() > 10, "{parts:?}");
    for header in parts.iter().chain([&root().join("include/octopus.hpp")]) {
        compiles_alone(header, "c++", "-std=c++17", "c++");
        compiles_alone(header, "c++", "-std=c++20", "c++");
    }
}
