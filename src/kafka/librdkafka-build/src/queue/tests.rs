use std::path::PathBuf;

use super::*;
use crate::sources;

const HEADER: &str =
    "Reason: A reason\n  in two lines.\nUpstream: none\nTest: suite a::b\nRequires: none\nRemove-when: never.\n\n";

fn text(diff: &str) -> String {
    format!("{HEADER}{diff}")
}

fn patch(name: &str, diff: &str) -> Patch {
    Patch::parse(name, &text(diff)).expect("a patch")
}

fn sources_with(files: &[(&str, &str)]) -> Sources {
    let folder = std::env::temp_dir().join(format!("librdkafka-build-{}-{}", std::process::id(), next_number()));
    for (path, text) in [("src/rdkafka.h", "#define RD_KAFKA_VERSION 0x020c01ff\n")].iter().chain(files) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let sources = Sources::read(&folder).unwrap();
    fs::remove_dir_all(folder).unwrap();
    sources
}

fn next_number() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn read<'a>(sources: &'a Sources, path: &str) -> &'a str {
    std::str::from_utf8(sources.get(path).unwrap_or_default()).unwrap()
}

const TWO_FILES: &str = "--- a/src/a.c\n+++ b/src/a.c\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n\
                         --- a/src/a.h\n+++ b/src/a.h\n@@ -1 +1,2 @@\n head\n+er\n";

#[test]
fn patch_changes_all_of_its_files() {
    let mut sources = sources_with(&[("src/a.c", "one\ntwo\n"), ("src/a.h", "head\n")]);
    let patch = patch("0001-fix-both.patch", TWO_FILES);
    assert!(!patch.is_contained_in(&sources));
    patch.apply(&mut sources).unwrap();
    assert_eq!((read(&sources, "src/a.c"), read(&sources, "src/a.h")), ("one\n2\n", "head\ner\n"));
    assert!(patch.is_contained_in(&sources), "the reverse applies now");
}

#[test]
fn patch_with_conflict_changes_no_file_and_names_it() {
    let mut sources = sources_with(&[("src/a.c", "one\ntwo\n"), ("src/a.h", "other\n")]);
    let conflict = patch("0001-fix-both.patch", TWO_FILES).apply(&mut sources).unwrap_err();
    assert!(conflict.to_string().contains("src/a.h"), "{conflict}");
    assert_eq!(read(&sources, "src/a.c"), "one\ntwo\n");
}

#[test]
fn patch_creates_and_deletes_files() {
    let mut sources = sources_with(&[("src/old.c", "gone\n")]);
    let patch = patch(
        "0001-hook-new.patch",
        "--- /dev/null\n+++ b/src/new.c\n@@ -0,0 +1 @@\n+new\n--- a/src/old.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n",
    );
    patch.apply(&mut sources).unwrap();
    assert_eq!(read(&sources, "src/new.c"), "new\n");
    assert!(sources.get("src/old.c").is_none());
}

#[test]
fn header_fields_include_continuation_lines() {
    let patch =
        Patch::parse("0012-perf-x.patch", &text(TWO_FILES).replace("Requires: none", "Requires: 3, 0007")).unwrap();
    assert_eq!((patch.number, patch.kind, patch.name.as_str()), (12, PatchKind::Perf, "0012-perf-x"));
    assert_eq!((patch.reason.as_str(), patch.test.as_str()), ("A reason\nin two lines.", "suite a::b"));
    assert_eq!(patch.requires, [3, 7]);
}

#[test]
fn wrong_name_or_header_is_an_error_with_the_format() {
    for name in ["1-fix-x.patch", "0001-change-x.patch", "0001-fix.patch", "fix-x.patch"] {
        let error = Patch::parse(name, &text(TWO_FILES)).err().unwrap();
        assert!(error.contains("NNNN-fix|backport|perf|hook-NAME.patch"), "{error}");
    }
    for key in ["Reason", "Upstream", "Test", "Requires", "Remove-when"] {
        let error = Patch::parse("0001-fix-x.patch", &text(TWO_FILES).replace(key, "Other")).err().unwrap();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn duplicate_number_or_later_requirement_is_an_error() {
    let same = PatchQueue::new(vec![patch("0001-fix-a.patch", TWO_FILES), patch("0001-fix-b.patch", TWO_FILES)]);
    assert!(same.err().unwrap().contains("same number"));
    let mut first = patch("0001-fix-a.patch", TWO_FILES);
    first.requires = vec![2];
    let later = PatchQueue::new(vec![first, patch("0002-fix-b.patch", TWO_FILES)]);
    assert!(later.err().unwrap().contains("requires 2"));
}

#[test]
fn omitting_a_patch_omits_those_that_require_it() {
    let queue = || {
        let patches = [(1, vec![]), (2, vec![1]), (3, vec![2]), (4, vec![])].map(|(number, requires)| {
            let mut patch = patch(&format!("{number:04}-fix-x.patch"), TWO_FILES);
            patch.requires = requires;
            patch
        });
        PatchQueue::new(patches.into()).unwrap()
    };
    let left = queue().without(&[1]).unwrap();
    assert_eq!(left.patches().iter().map(|patch| patch.number).collect::<Vec<_>>(), [4]);
    assert_eq!(left.last_number(), 4);
    assert!(queue().without(&[5]).err().unwrap().contains("no patch 5"));
}

#[test]
fn function_of_omitted_hook_returns_zero() {
    let mut sources = own_sources();
    own_queue().without(&[26]).unwrap().apply(&mut sources).unwrap();
    let text = String::from_utf8_lossy(sources.get("src/rdkafka.c").unwrap()).into_owned();
    for hook in ["octopus_has_reached_broker", "octopus_lacks_memory_of"] {
        assert!(text.contains(&format!("\nlong {hook}(void) {{\n        return 0;\n}}\n")), "{hook}");
    }
}

#[test]
fn conflict_of_queue_says_what_to_do() {
    let queue = PatchQueue::new(vec![patch("0001-fix-both.patch", TWO_FILES)]).unwrap();
    let error = queue.apply(&mut sources_with(&[("src/a.c", "another\n")])).unwrap_err();
    for part in ["0001-fix-both.patch", "src/a.c", "rdkafka-sys", "ci/librdkafka.sh bump", "docs/librdkafka.md"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

fn own_queue() -> PatchQueue {
    PatchQueue::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../patches")).unwrap()
}

/// librdkafka's sources without patches.
fn own_sources() -> Sources {
    let root = sources::locate(&std::env::temp_dir().join(format!("locate-{}", std::process::id()))).unwrap();
    Sources::read(&root).unwrap()
}

#[test]
fn own_queue_applies_whole_and_without_each_patch() {
    own_queue().apply(&mut own_sources()).unwrap();
    for patch in own_queue().patches() {
        own_queue().without(&[patch.number]).unwrap().apply(&mut own_sources()).unwrap();
    }
}

#[test]
fn own_queue_has_no_gap_and_a_test_for_each_fix() {
    let queue = own_queue();
    let numbers: Vec<_> = queue.patches().iter().map(|patch| patch.number).collect();
    assert!(numbers.iter().copied().eq(1..=queue.last_number()), "{numbers:?}");
    for patch in queue.patches().iter().filter(|patch| patch.kind == PatchKind::Fix) {
        let command = patch.test.lines().next().unwrap();
        let runs = ["unit ", "suite ", "faults ", "sanitize "].iter().any(|kind| command.starts_with(kind));
        assert!(runs, "{}: Test: {command}", patch.name);
    }
}

#[test]
fn own_queue_is_listed_in_the_docs() {
    let queue = own_queue();
    let page = include_str!("../../../../../docs/librdkafka.md");
    let rows = page.lines().filter(|line| line.starts_with("| 0")).count();
    assert_eq!(rows, queue.patches().len(), "rows of the table");
    for patch in queue.patches() {
        let row = format!("| {} | {} |", &patch.name[..4], &patch.name[5..]);
        assert!(page.contains(&row), "docs/librdkafka.md has no row that starts with {row}");
    }
    for patch in queue.patches().iter().filter(|patch| patch.kind == PatchKind::Fix) {
        assert!(page.contains(&format!("### {}, as ", &patch.name[..4])), "{}: no text for upstream", patch.name);
    }
    let version = format!("+octopus.{}`", queue.last_number());
    for text in [page, include_str!("../../../../../README.md")] {
        assert!(text.contains(&version), "{version} is not mentioned");
    }
}
