//! Checks that the fault matrix detects a missing protection: with the protection switched off, its
//! row must fail.
//!
//! A library with debug assertions switches off the protection that `OCTOPUS_TEST_WITHOUT` names
//! (src/support/protection.rs).

use std::process::{Command, ExitCode, Stdio};

use crate::options::Options;
use crate::run::{OrFail as _, Result};

/// The name of each protection and the row that must fail without it.
const PROTECTIONS: &[(&str, u8)] = &[
    ("exit-flush", 23),
    ("forked-child", 24),
    ("forked-child-flush", 24),
    ("inherited-sockets", 24),
    ("resource-limit", 25),
    ("reserved-teardown", 25),
    ("damaged-data", 26),
    ("topic-of-position", 27),
    ("too-large", 28),
    ("first-contact", 29),
    ("passed-offsets", 30),
    ("superseded-failure", 31),
    ("refused-credentials", 32),
    ("refused-authorization", 32),
];

pub fn check_all(options: &Options) -> ExitCode {
    let is_chosen = |row: u8| options.rows.is_empty() || options.rows.contains(&row);
    let mut unnoticed = 0;
    for (name, row) in PROTECTIONS.iter().filter(|(_, row)| is_chosen(*row)) {
        match fails_without(name, *row) {
            Ok(true) => println!("row {row} fails without {name}"),
            Ok(false) => {
                unnoticed += 1;
                println!("row {row} PASSES without {name}");
            }
            Err(why) => {
                unnoticed += 1;
                eprintln!("{why}");
            }
        }
    }
    if unnoticed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether the row ran in its short form and reported a failure, as opposed to a row that could not
/// be run.
fn fails_without(protection: &str, row: u8) -> Result<bool> {
    let program = std::env::current_exe().or_fail("looking for this program")?;
    let mut command = Command::new(program);
    // A fixed seed, so that every check runs the same faults.
    command
        .args(["--row", &row.to_string(), "--seed", "1"])
        .env("OCTOPUS_TEST_WITHOUT", protection)
        .stdin(Stdio::null());
    let output = command.output().or_fail(format_args!("running row {row} without {protection}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    Ok(!output.status.success() && printed.lines().any(|line| line.ends_with("1 failed")))
}
