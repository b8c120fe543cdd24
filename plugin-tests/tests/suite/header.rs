//! include/octopus.h matches the output of cbindgen for src/abi, and compiles alone as C11 and
//! C++17 without warnings. So do the C++ headers.

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
fn header_matches_the_output_of_cbindgen() {
    let path = root().join("include/octopus.h");
    let generated = generated();
    if env::var_os("OCTOPUS_WRITE_HEADER").is_some() {
        fs::write(&path, &generated).expect("writing include/octopus.h");
    }
    let committed = fs::read_to_string(&path).expect("include/octopus.h exists");
    assert!(
        committed == generated,
        "include/octopus.h differs from the output of cbindgen for src/abi: run OCTOPUS_WRITE_HEADER=1 cargo test --test suite header"
    );
}

fn check_compiles_alone(header: &Path, compiler: &str, standard: &str, language: &str) {
    let output = Command::new(compiler)
        .args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-x", language])
        .arg(header)
        .output()
        .unwrap_or_else(|why| panic!("running {compiler} failed: {why}"));
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {standard} {}: {messages}", header.display());
}

#[test]
fn header_compiles_alone_as_c11_and_cpp17_without_warnings() {
    let header = root().join("include/octopus.h");
    check_compiles_alone(&header, "cc", "-std=c11", "c");
    check_compiles_alone(&header, "c++", "-std=c++17", "c++");
}

#[test]
fn cpp_headers_compile_alone_as_cpp17_and_cpp20() {
    let parts = fs::read_dir(root().join("include/octopus")).expect("include/octopus exists");
    let parts: Vec<_> = parts.map(|part| part.expect("a part").path()).collect();
    assert!(parts.len() > 10, "{parts:?}");
    for header in parts.iter().chain([&root().join("include/octopus.hpp")]) {
        check_compiles_alone(header, "c++", "-std=c++17", "c++");
        check_compiles_alone(header, "c++", "-std=c++20", "c++");
    }
}
