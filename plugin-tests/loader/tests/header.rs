//! Whether this crate covers what include/octopus.h declares.

use std::fs;

use octopus_loader::Status;

/// Name and value of each constant of the header.
fn constants() -> Vec<(String, String)> {
    let header = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../include/octopus.h")).unwrap();
    let defines = header.lines().filter_map(|line| line.strip_prefix("#define OCTOPUS_")?.split_once(' '));
    defines
        .filter(|(name, _)| !name.contains('('))
        .map(|(name, value)| (format!("OCTOPUS_{name}"), value.to_owned()))
        .collect()
}

/// bindgen leaves macros out that it can't evaluate. ci/bindings.sh compares the values.
#[test]
fn each_constant_of_the_header_is_in_the_bindings() {
    let bindings = include_str!("../src/bindings.rs");
    let constants = constants();
    assert!(constants.len() > 40, "{constants:?}");
    let mut missing = constants;
    missing.retain(|(name, _)| !bindings.contains(&format!("pub const {name}: ")));
    assert!(missing.is_empty(), "run ci/bindings.sh: {missing:?}");
}

/// All negative constants are statuses.
#[test]
fn each_error_status_of_the_header_has_a_name() {
    let codes = constants().into_iter().filter_map(|(name, value)| Some((name, value.parse::<i32>().ok()?)));
    for (name, code) in codes.filter(|(_, code)| *code < 0) {
        assert!(!matches!(Status::from_code(code), Status::Other(_)), "{name} is missing in Status");
    }
}
