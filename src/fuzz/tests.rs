//! Replays the corpora of the fuzzers.

use std::fs;
use std::path::{Path, PathBuf};

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugin-tests/fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("the corpus {folder:?} can't be read: {error}"));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry of the corpus").path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the corpus {folder:?} has {} files; ci/fuzz.sh fills it", files.len());
    files
}

/// Calls the target with each input of its corpus, and prints the file name if it panics.
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
        let input = fs::read(&file).unwrap_or_else(|error| panic!("{file:?} can't be read: {error}"));
        let _named = Named(&file);
        body(&input);
    }
}

#[test]
fn record_corpus_is_read_or_rejected() {
    replay("record", super::record);
}

#[test]
fn configuration_corpus_is_read_or_rejected_without_secrets() {
    replay("configuration", super::configuration);
}

#[test]
fn component_corpus_is_created_or_rejected() {
    replay("components", super::components);
}

#[test]
fn abi_corpus_returns_documented_statuses_and_frees_once() {
    replay("abi", super::abi);
}
