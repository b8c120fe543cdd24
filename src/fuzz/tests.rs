//! What fuzzers found worth keeping, tried again in each run of the tests.

use std::fs;
use std::path::{Path, PathBuf};

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugin-tests/fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|why| panic!("the corpus {folder:?} can't be read: {why}"));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry of the corpus").path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the corpus {folder:?} has {} files; ci/fuzz.sh fills it", files.len());
    files
}

/// Tries each input, and names the one that a promise was broken with.
fn replay(target: &str, body: fn(&[u8])) {
    struct Named<'a>(&'a Path);
    impl Drop for Named<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input is {:?}", self.0);
            }
        }
    }
    for file in corpus(target) {
        let input = fs::read(&file).unwrap_or_else(|why| panic!("{file:?} can't be read: {why}"));
        let _named = Named(&file);
        body(&input);
    }
}

#[test]
fn records_that_fuzzing_found_are_read_as_they_are_or_refused() {
    replay("record", super::record);
}

#[test]
fn configuration_that_fuzzing_found_is_read_or_refused_and_shows_no_secret() {
    replay("configuration", super::configuration);
}

#[test]
fn components_that_fuzzing_found_are_made_or_refused_and_so_is_their_metadata() {
    replay("components", super::components);
}

#[test]
fn calls_that_fuzzing_found_return_what_the_abi_says_and_destroy_what_they_take_over_once() {
    replay("abi", super::abi);
}
