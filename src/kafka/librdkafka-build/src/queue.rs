//! The patch queue: `src/kafka/patches`, one change per file, applied in the order of their
//! numbers.

use std::fmt;
use std::fs;
use std::path::Path;

use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};

use crate::sources::Sources;

/// What a patch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// Corrects a bug that upstream has, too.
    Fix,
    /// Corrects a bug that a newer version of librdkafka has corrected.
    Backport,
    /// Makes something faster.
    Perf,
    /// Gives Octopus access to internals of librdkafka.
    Hook,
}

impl PatchKind {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "fix" => PatchKind::Fix,
            "backport" => PatchKind::Backport,
            "perf" => PatchKind::Perf,
            "hook" => PatchKind::Hook,
            _ => return None,
        })
    }
}

/// One file of the queue.
pub struct Patch {
    pub number: u32,
    pub kind: PatchKind,
    /// `0004-fix-committed-offsets-retry`.
    pub name: String,
    /// The problem without the patch.
    pub reason: String,
    /// The upstream issue, or how to report it.
    pub upstream: String,
    /// The test that fails without it: `unit TEST…`, `suite TEST…`, `faults ARGUMENT…` or `sanitize
    /// ARGUMENT…`, then a sentence.
    pub test: String,
    /// The numbers of the patches that must be applied before this one.
    pub requires: Vec<u32>,
    /// When it can be removed.
    pub remove_when: String,
    diff: String,
}

/// Why a patch cannot be applied.
#[derive(Debug)]
pub struct Conflict {
    file: String,
    reason: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.reason)
    }
}

/// The path and the new text of a file, `None` if the patch deletes it.
type Change = (String, Option<String>);

impl Patch {
    /// # Errors
    /// If the name or the header does not have the format of docs/librdkafka.md.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, String> {
        let name = file_name.strip_suffix(".patch").unwrap_or(file_name);
        let mut words = name.splitn(3, '-');
        let number = words.next().filter(|digits| digits.len() == 4).and_then(|digits| digits.parse().ok());
        let (Some(number), Some(kind), Some(_)) = (number, words.next().and_then(PatchKind::parse), words.next())
        else {
            return Err(format!("{file_name}: a patch is named NNNN-fix|backport|perf|hook-NAME.patch"));
        };
        let diff_at = text.find("\n--- ").ok_or_else(|| format!("{file_name}: no line that starts with \"--- \""))? + 1;
        let (header, diff) = text.split_at(diff_at);
        let field = |key: &str| field(header, key).ok_or_else(|| format!("{file_name}: its header has no \"{key}:\""));
        let requires = field("Requires")?;
        let requires = match requires.as_str() {
            "none" => Vec::new(),
            list => list
                .split(',')
                .map(|number| {
                    number
                        .trim()
                        .parse()
                        .map_err(|_| format!("{file_name}: Requires: {list}: expected numbers or none"))
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Patch {
            number,
            kind,
            name: name.to_owned(),
            reason: field("Reason")?,
            upstream: field("Upstream")?,
            test: field("Test")?,
            requires,
            remove_when: field("Remove-when")?,
            diff: diff.to_owned(),
        })
    }

    /// # Errors
    /// The first file that the patch does not apply to.
    pub fn apply(&self, sources: &mut Sources) -> Result<(), Conflict> {
        for (path, text) in self.changes(sources, false)? {
            match text {
                Some(text) => sources.set(&path, text),
                None => sources.remove(&path),
            }
        }
        Ok(())
    }

    /// The functions that the patch adds for Octopus to call.
    fn hooks(&self) -> impl Iterator<Item = &str> {
        let added = self.diff.lines().filter(|line| line.starts_with('+') && !line.starts_with("+ "));
        added.filter_map(|line| {
            let name = &line[line.find("octopus_")?..];
            name.split_once('(').map(|(name, _)| name)
        })
    }

    /// Whether the sources have the change already, so that the reverse patch applies.
    pub fn is_contained_in(&self, sources: &Sources) -> bool {
        self.changes(sources, true).is_ok()
    }

    fn changes(&self, sources: &Sources, is_reverse: bool) -> Result<Vec<Change>, Conflict> {
        let mut changes = Vec::new();
        for file in PatchSet::parse(&self.diff, ParseOptions::unidiff()) {
            let file = file.map_err(|reason| Conflict { file: self.name.clone(), reason: reason.to_string() })?;
            let (path, is_created, is_deleted) = match file.operation().strip_prefix(1) {
                FileOperation::Create(path) => (path.into_owned(), !is_reverse, is_reverse),
                FileOperation::Delete(path) => (path.into_owned(), is_reverse, !is_reverse),
                FileOperation::Modify { original, .. } => (original.into_owned(), false, false),
                other => {
                    return Err(Conflict { file: self.name.clone(), reason: format!("{other:?} is not supported") });
                }
            };
            let conflict = |reason: String| Conflict { file: path.clone(), reason };
            let before = match sources.get(&path) {
                Some(_) if is_created => return Err(conflict("the file exists".to_owned())),
                Some(bytes) => std::str::from_utf8(bytes).map_err(|_| conflict("not UTF-8".to_owned()))?,
                None if is_created => "",
                None => return Err(conflict("there is no such file".to_owned())),
            };
            let patch = file.patch().as_text().ok_or_else(|| conflict("a binary patch".to_owned()))?;
            let after = if is_reverse { diffy::apply(before, &patch.reverse()) } else { diffy::apply(before, patch) };
            let after = after.map_err(|reason| conflict(reason.to_string()))?;
            changes.push((path, (!is_deleted).then_some(after)));
        }
        Ok(changes)
    }
}

/// The text after `key:` in a header, with its indented continuation lines.
fn field(header: &str, key: &str) -> Option<String> {
    let mut lines = header.lines().skip_while(|line| !line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')));
    let first = lines.next()?[key.len() + 1..].trim();
    let rest = lines.take_while(|line| line.starts_with(' ')).map(str::trim);
    let text = std::iter::once(first).chain(rest).collect::<Vec<_>>().join("\n");
    (!text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// All patches, in order.
pub struct PatchQueue {
    patches: Vec<Patch>,
    last_number: u32,
    /// The functions of omitted patches.
    missing_hooks: Vec<String>,
}

impl PatchQueue {
    /// # Errors
    /// If a file is no patch of the queue, or a number is missing or used twice.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let failed = |reason| format!("reading the patch queue in {}: {reason}", directory.display());
        let mut patches = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".patch") {
                patches.push(Patch::parse(&name, &fs::read_to_string(&path).map_err(failed)?)?);
            }
        }
        PatchQueue::new(patches)
    }

    fn new(mut patches: Vec<Patch>) -> Result<Self, String> {
        patches.sort_by_key(|patch| patch.number);
        for pair in patches.windows(2) {
            if pair[0].number == pair[1].number {
                return Err(format!("{} and {} have the same number", pair[0].name, pair[1].name));
            }
        }
        for patch in &patches {
            let is_known = |number: &u32| patches.iter().any(|other| other.number == *number && *number < patch.number);
            if let Some(number) = patch.requires.iter().find(|number| !is_known(number)) {
                return Err(format!("{} requires {number}, and no patch before it has that number", patch.name));
            }
        }
        let last_number = patches.last().map_or(0, |patch| patch.number);
        Ok(PatchQueue { patches, last_number, missing_hooks: Vec::new() })
    }

    /// Omits these patches and those that require one of them. The functions that these add for
    /// Octopus return 0, so that it can still be linked.
    ///
    /// # Errors
    /// If there is no patch with that number.
    pub fn without(mut self, numbers: &[u32]) -> Result<Self, String> {
        let mut removed = numbers.to_vec();
        if let Some(number) = numbers.iter().find(|number| !self.patches.iter().any(|patch| patch.number == **number)) {
            return Err(format!("there is no patch {number} to omit"));
        }
        // A patch requires only patches before it, so that one pass is enough.
        self.patches.retain(|patch| {
            let is_removed =
                removed.contains(&patch.number) || patch.requires.iter().any(|number| removed.contains(number));
            if is_removed {
                removed.push(patch.number);
                self.missing_hooks.extend(patch.hooks().map(str::to_owned));
            }
            !is_removed
        });
        Ok(self)
    }

    pub fn patches(&self) -> &[Patch] {
        &self.patches
    }

    /// The number of the last patch, which is part of librdkafka's version.
    pub fn last_number(&self) -> u32 {
        self.last_number
    }

    /// # Errors
    /// The first patch that does not apply, and what to do about it.
    pub fn apply(&self, sources: &mut Sources) -> Result<(), String> {
        for patch in &self.patches {
            patch.apply(sources).map_err(|conflict| {
                format!(
                    "the patch {}.patch does not apply to these sources of librdkafka: {conflict}.\n\
                     If the version of rdkafka-sys has changed, run `ci/librdkafka.sh bump DIRECTORY` on the new sources: it \
                     reports which patches apply, conflict or are no longer needed. docs/librdkafka.md, \"Changing a patch\", \
                     says how to rebase one.",
                    patch.name
                )
            })?;
        }
        if !self.missing_hooks.is_empty() {
            let file = "src/rdkafka.c";
            let mut text = String::from_utf8_lossy(sources.get(file).unwrap_or_default()).into_owned();
            for hook in &self.missing_hooks {
                text += &format!("\nlong {hook}(void) {{\n        return 0;\n}}\n");
            }
            sources.set(file, text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
