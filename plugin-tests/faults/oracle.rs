//! Checks that a run kept the promises of docs/reliability.md, from the journals of its workers and
//! from what an independent client read from the topic.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::journal::Entry;
use crate::run::{Failure, Result};
use crate::worker::Content;

/// Everything that a run recorded.
#[derive(Debug, Default, Clone)]
pub struct Evidence {
    /// The index is the producer's number.
    pub producers: Vec<WorkerJournal>,
    pub consumers: Vec<WorkerJournal>,
    /// All records of the topic, sorted by partition and offset.
    pub log: Vec<LogRecord>,
}

/// The journal of one worker.
#[derive(Debug, Default, Clone)]
pub struct WorkerJournal {
    pub entries: Vec<Entry>,
    /// Whether the worker was killed, so that its journal may end anywhere.
    pub is_killed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRecord {
    pub partition: u32,
    pub offset: u64,
    /// Which event the record holds; `None` if it is corrupted.
    pub content: Option<Content>,
}

/// Which deviations a run permits.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether pushes may fail, and how long after the push.
    pub failures: Failures,
    /// Whether consumers must have received every record.
    pub all_seen: bool,
    /// Whether acknowledged events may be delivered again, as after a crash.
    pub may_redeliver_acknowledged: bool,
    /// Whether responses arrive as the brokers sent them. If not, their offsets and errors mean
    /// nothing, and an event whose response reports an error may be sent again.
    pub responses_are_intact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failures {
    None,
    /// Only once the delivery timeout, in milliseconds, has expired, and soon after it.
    NotBefore(u64),
    Any,
}

impl Default for Rules {
    fn default() -> Self {
        Rules { failures: Failures::None, all_seen: true, may_redeliver_acknowledged: true, responses_are_intact: true }
    }
}

/// librdkafka checks for timeouts once a second; the rest is for a busy machine.
const MAX_LATE_MS: u64 = 4_000;
/// The resolution of the clocks, and the time between the push and its timestamp.
const MAX_EARLY_MS: u64 = 100;

/// Returns the number of pushes with a result, or the violations that were found.
pub fn judge(evidence: &Evidence, rules: &Rules) -> Result<u64> {
    let mut judge = Judge { evidence, rules, violations: Vec::new() };
    let places = judge.check_log();
    for (number, journal) in evidence.producers.iter().enumerate() {
        judge.check_producer(number as u32, journal, &places);
    }
    if rules.responses_are_intact {
        judge.check_order();
    }
    judge.check_consumers(&places);
    match judge.violations.as_slice() {
        [] => Ok(evidence.producer_entries().filter(|entry| is_result(entry)).count() as u64),
        violations => Err(Failure(summary(violations))),
    }
}

impl Evidence {
    /// What the producers recorded.
    pub fn producer_entries(&self) -> impl Iterator<Item = &Entry> {
        self.producers.iter().flat_map(|journal| &journal.entries)
    }

    /// What the consumers recorded.
    pub fn consumer_entries(&self) -> impl Iterator<Item = &Entry> {
        self.consumers.iter().flat_map(|journal| &journal.entries)
    }
}

fn is_result(entry: &Entry) -> bool {
    matches!(entry, Entry::Delivered { .. } | Entry::Failed { .. } | Entry::Rejected { .. })
}

fn summary(violations: &[String]) -> String {
    const SHOWN: usize = 10;
    let more =
        if violations.len() > SHOWN { format!("; and {} more", violations.len() - SHOWN) } else { String::new() };
    format!("{}{more}", violations[..violations.len().min(SHOWN)].join("; "))
}

type Places = HashMap<Content, Vec<(u32, u64)>>;

struct Judge<'a> {
    evidence: &'a Evidence,
    rules: &'a Rules,
    violations: Vec<String>,
}

impl Judge<'_> {
    fn add_violation(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Returns where each event is stored. Reports events that are duplicated, corrupted or of no
    /// known producer.
    fn check_log(&mut self) -> Places {
        let mut places = Places::new();
        for record in &self.evidence.log {
            match record.content {
                Some(content) => places.entry(content).or_default().push((record.partition, record.offset)),
                None => self.add_violation(format!("corrupted: the record at {}/{}", record.partition, record.offset)),
            }
        }
        for (content, places) in &places {
            if places.len() > 1 && self.rules.responses_are_intact {
                self.add_violation(format!("duplicated: {content:?} is at {places:?}"));
            }
            if content.producer as usize >= self.evidence.producers.len() {
                self.add_violation(format!("unknown producer: {content:?} at {places:?}"));
            }
        }
        places
    }

    fn check_producer(&mut self, producer: u32, journal: &WorkerJournal, places: &Places) {
        let mut resolved = HashSet::new();
        let mut pushed = None;
        for entry in &journal.entries {
            match entry {
                Entry::Delivered { number, partition, id, .. } => {
                    self.check_first_result(producer, *number, &mut resolved);
                    self.check_delivered(Content { producer, number: *number }, *partition, *id, places);
                }
                Entry::Failed { number, possibly_persisted, after_ms, why, .. } => {
                    self.check_first_result(producer, *number, &mut resolved);
                    self.check_failure(producer, *number, *after_ms, why);
                    if !possibly_persisted && self.rules.responses_are_intact && places.contains_key(&Content { producer, number: *number }) {
                        self.add_violation(format!("stored: push {number} of producer {producer} failed as not stored: {why}"));
                    }
                }
                Entry::Rejected { number, why, .. } => {
                    self.check_first_result(producer, *number, &mut resolved);
                    if self.rules.failures == Failures::None {
                        self.add_violation(format!("rejected: push {number} of producer {producer}: {why}"));
                    }
                    if places.contains_key(&Content { producer, number: *number }) {
                        self.add_violation(format!("stored: push {number} of producer {producer} was rejected: {why}"));
                    }
                }
                Entry::Unresolved { number, after_ms } => {
                    resolved.insert(*number);
                    self.add_violation(format!("unresolved: push {number} of producer {producer} is pending after {after_ms} ms"));
                }
                Entry::Pushed { count } => pushed = Some(*count),
                Entry::Late { what, limit_ms, took_ms, machine_ms } => self.add_violation(format!(
                    "late: {what} of producer {producer} took {took_ms} ms, not {limit_ms} (the machine was {machine_ms} late)"
                )),
                _ => {}
            }
        }
        match (pushed, journal.entries.last()) {
            _ if journal.is_killed => {}
            (Some(count), Some(Entry::Ended)) => {
                for number in (0..count).filter(|number| !resolved.contains(number)) {
                    self.add_violation(format!(
                        "unreported: there is no result of push {number} of producer {producer}"
                    ));
                }
                let beyond = places.keys().filter(|content| content.producer == producer && content.number >= count);
                let beyond: Vec<_> = beyond.collect();
                if !beyond.is_empty() {
                    self.add_violation(format!("never pushed, but stored: {beyond:?}"));
                }
            }
            _ => self.add_violation(format!("ended early: producer {producer} did not finish, see its log")),
        }
    }

    fn check_first_result(&mut self, producer: u32, number: u64, resolved: &mut HashSet<u64>) {
        if !resolved.insert(number) {
            self.add_violation(format!("two results: push {number} of producer {producer}"));
        }
    }

    fn check_delivered(&mut self, content: Content, partition: u32, id: Option<u64>, places: &Places) {
        match (places.get(&content).map(Vec::as_slice), id) {
            (None | Some([]), _) => {
                self.add_violation(format!("lost: {content:?} was delivered to {partition}/{id:?}"))
            }
            _ if !self.rules.responses_are_intact && places.contains_key(&content) => {}
            (Some([place, ..]), Some(id)) if *place != (partition, id) => {
                self.add_violation(format!(
                    "misplaced: {content:?} was reported at {partition}/{id} and is at {place:?}"
                ));
            }
            (Some([place, ..]), None) if place.0 != partition => {
                self.add_violation(format!("misplaced: {content:?} was reported in {partition} and is at {place:?}"));
            }
            _ => {}
        }
    }

    fn check_failure(&mut self, producer: u32, number: u64, after_ms: u64, why: &str) {
        match self.rules.failures {
            Failures::Any => {}
            Failures::None => self.add_violation(format!("failed: push {number} of producer {producer}: {why}")),
            Failures::NotBefore(limit) if after_ms + MAX_EARLY_MS < limit => {
                self.add_violation(format!(
                    "failed early: push {number} of producer {producer} after {after_ms} ms: {why}"
                ));
            }
            Failures::NotBefore(limit) if after_ms > limit + MAX_LATE_MS => {
                self.add_violation(format!(
                    "failed late: push {number} of producer {producer} after {after_ms} ms: {why}"
                ));
            }
            Failures::NotBefore(_) => {}
        }
    }

    /// Each partition has the events of one producer in the order of their pushes.
    fn check_order(&mut self) {
        let mut last: HashMap<(u32, u32), Content> = HashMap::new();
        for record in &self.evidence.log {
            let Some(content) = record.content else { continue };
            let before = last.insert((record.partition, content.producer), content);
            if let Some(before) = before
                && before.number > content.number
            {
                self.add_violation(format!(
                    "reordered: {content:?} at {}/{} is after {before:?}",
                    record.partition, record.offset
                ));
            }
        }
    }

    fn check_consumers(&mut self, places: &Places) {
        let log: HashMap<(u32, u64), Option<Content>> =
            self.evidence.log.iter().map(|record| ((record.partition, record.offset), record.content)).collect();
        let mut seen = HashSet::new();
        for (number, journal) in self.evidence.consumers.iter().enumerate() {
            for entry in &journal.entries {
                match entry {
                    Entry::Received { partition, id, producer, number: event, .. } => {
                        seen.insert((*partition, *id));
                        let content = Content { producer: *producer, number: *event };
                        let is_there = match self.rules.responses_are_intact {
                            true => log.get(&(*partition, *id)) == Some(&Some(content)),
                            false => places.contains_key(&content),
                        };
                        if !is_there {
                            self.add_violation(format!("not in the log: consumer {number} received {content:?} at {partition}/{id}"));
                        }
                    }
                    Entry::Corrupted { partition, id, why } => {
                        self.add_violation(format!("corrupted: consumer {number} received {partition}/{id}: {why}"));
                    }
                    Entry::Late { what, limit_ms, took_ms, machine_ms } => self.add_violation(format!(
                        "late: {what} of consumer {number} took {took_ms} ms, not {limit_ms} (the machine was {machine_ms} late)"
                    )),
                    _ => {}
                }
            }
            if !journal.is_killed && journal.entries.last() != Some(&Entry::Ended) {
                self.add_violation(format!("ended early: consumer {number} did not finish, see its log"));
            }
        }
        if self.rules.all_seen && !self.evidence.consumers.is_empty() {
            let mut unseen: Vec<_> = log.keys().filter(|place| !seen.contains(*place)).collect();
            unseen.sort();
            if !unseen.is_empty() {
                let count = unseen.len();
                self.add_violation(format!(
                    "skipped: no consumer received {:?}, {count} in all",
                    &unseen[..count.min(5)]
                ));
            }
        }
        if !self.rules.may_redeliver_acknowledged {
            self.check_redeliveries();
        }
    }

    /// No consumer receives an event that was acknowledged before. All processes use one clock;
    /// entries of the same millisecond are in the order of their journals.
    fn check_redeliveries(&mut self) {
        let mut all: Vec<(u64, usize, &Entry)> = Vec::new();
        for (number, journal) in self.evidence.consumers.iter().enumerate() {
            all.extend(journal.entries.iter().filter_map(|entry| Some((time_of(entry)?, number, entry))));
        }
        all.sort_by_key(|(at, ..)| *at);
        let mut acknowledged: BTreeMap<u32, u64> = BTreeMap::new();
        for (_, number, entry) in all {
            match entry {
                Entry::Acknowledged { partition, id, .. } => {
                    let highest = acknowledged.entry(*partition).or_insert(*id);
                    *highest = (*highest).max(*id);
                }
                Entry::Received { partition, id, .. } => {
                    if let Some(highest) = acknowledged.get(partition).copied().filter(|highest| id <= highest) {
                        self.add_violation(format!(
                            "redelivered: consumer {number} received {partition}/{id}, and {highest} was acknowledged before"
                        ));
                    }
                }
                _ => {}
            }
        }
    }
}

fn time_of(entry: &Entry) -> Option<u64> {
    match entry {
        Entry::Received { at, .. } | Entry::Acknowledged { at, .. } => Some(*at),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(entries: Vec<Entry>) -> WorkerJournal {
        WorkerJournal { entries, is_killed: false }
    }

    fn delivered(number: u64, partition: u32, id: u64) -> Entry {
        Entry::Delivered { number, partition, id: Some(id), after_ms: 1, at: 1 }
    }

    fn record(partition: u32, offset: u64, number: u64) -> LogRecord {
        LogRecord { partition, offset, content: Some(Content { producer: 0, number }) }
    }

    fn got(partition: u32, id: u64, number: u64) -> Entry {
        Entry::Received { partition, id, producer: 0, number, at: id }
    }

    /// Four events in two partitions, all pushed, delivered and received.
    fn clean() -> Evidence {
        let mut entries = vec![delivered(0, 0, 0), delivered(1, 1, 0), delivered(2, 0, 1), delivered(3, 1, 1)];
        entries.extend([Entry::Pushed { count: 4 }, Entry::Ended]);
        let log = vec![record(0, 0, 0), record(0, 1, 2), record(1, 0, 1), record(1, 1, 3)];
        let seen = vec![got(0, 0, 0), got(1, 0, 1), got(0, 1, 2), got(1, 1, 3), Entry::Ended];
        Evidence { producers: vec![journal(entries)], consumers: vec![journal(seen)], log }
    }

    fn violations_after(change: impl FnOnce(&mut Evidence)) -> String {
        let mut evidence = clean();
        change(&mut evidence);
        judge(&evidence, &Rules::default()).unwrap_err().0
    }

    #[test]
    fn clean_run_passes() {
        assert_eq!(judge(&clean(), &Rules::default()).unwrap(), 4);
    }

    #[test]
    fn each_violation_is_found_and_named() {
        assert!(violations_after(|run| run.log.truncate(3)).starts_with("lost"));
        assert!(violations_after(|run| run.log.push(record(1, 2, 0))).contains("duplicated"));
        assert!(violations_after(|run| run.producers[0].entries[2] = delivered(2, 0, 5)).starts_with("misplaced"));
        assert!(violations_after(|run| drop(run.producers[0].entries.remove(1))).starts_with("unreported"));
        assert!(violations_after(|run| run.log[0].content = None).contains("corrupted"));
        assert!(violations_after(|run| drop(run.consumers[0].entries.remove(1))).starts_with("skipped"));
        assert!(violations_after(|run| run.consumers[0].entries[0] = got(0, 0, 3)).contains("not in the log"));
        assert!(violations_after(|run| run.log.push(record(1, 2, 9))).contains("never pushed"));
        assert!(violations_after(|run| drop(run.producers[0].entries.pop())).contains("ended early"));
        let reordered = violations_after(|run| {
            run.log[0] = record(0, 0, 2);
            run.log[1] = record(0, 1, 0);
        });
        assert!(reordered.contains("reordered"), "{reordered}");
    }

    fn failed(possibly_persisted: bool, after_ms: u64) -> Entry {
        let (status, why) = (String::new(), String::new());
        Entry::Failed { number: 1, possibly_persisted, status, kafka: None, why, after_ms, at: 1 }
    }

    #[test]
    fn failed_push_is_stored_only_if_possibly_persisted() {
        let judged = |possibly_persisted| {
            let mut evidence = clean();
            evidence.producers[0].entries[1] = failed(possibly_persisted, 5_000);
            judge(&evidence, &Rules { failures: Failures::Any, ..Rules::default() })
        };
        assert!(judged(false).unwrap_err().0.starts_with("stored"));
        assert!(judged(true).is_ok());
    }

    #[test]
    fn push_that_fails_early_or_late_is_a_violation() {
        let judged = |after_ms| {
            let mut evidence = clean();
            evidence.producers[0].entries[1] = failed(true, after_ms);
            judge(&evidence, &Rules { failures: Failures::NotBefore(5_000), ..Rules::default() })
        };
        assert!(judged(4_000).unwrap_err().0.starts_with("failed early"));
        assert!(judged(6_000).is_ok());
        assert!(judged(20_000).unwrap_err().0.starts_with("failed late"));
    }

    #[test]
    fn acknowledged_event_is_not_redelivered_if_rules_forbid_it() {
        let mut evidence = clean();
        evidence.consumers[0].entries.insert(3, Entry::Acknowledged { partition: 0, id: 1, at: 2 });
        let again = journal(vec![Entry::Received { partition: 0, id: 1, producer: 0, number: 2, at: 3 }, Entry::Ended]);
        evidence.consumers.push(again);
        assert!(judge(&evidence, &Rules::default()).is_ok());
        let strict = Rules { may_redeliver_acknowledged: false, ..Rules::default() };
        assert!(judge(&evidence, &strict).unwrap_err().0.starts_with("redelivered"));
    }
}
