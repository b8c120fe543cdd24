//! include/octopus.h is what cbindgen makes of src/abi, and compiles alone as C11 and C++17 without a warning.

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

fn compiles_alone(compiler: &str, standard: &str, language: &str) {
    let output = Command::new(compiler)
        .args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-x", language])
        .arg(root().join("include/octopus.h"))
        .output()
        .unwrap_or_else(|why| panic!("{compiler} could not be run: {why}"));
    assert!(output.status.success(), "{compiler} {standard}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_header_compiles_alone_as_c11_and_as_cpp17_without_a_warning() {
    compiles_alone("cc", "-std=c11", "c");
    compiles_alone("c++", "-std=c++17", "c++");
}
