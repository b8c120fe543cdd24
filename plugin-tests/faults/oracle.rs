//! Says whether a run kept what is promised: from what its workers wrote down, and from what an independent client found in
//! the topic.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::journal::Entry;
use crate::run::{Failure, Result};
use crate::worker::Content;

/// All that is known of a run when it is over.
#[derive(Debug, Default, Clone)]
pub struct Evidence {
    /// Each producer's number is its place.
    pub producers: Vec<Work>,
    pub consumers: Vec<Work>,
    /// All records of the topic, in order within each partition.
    pub log: Vec<LogRecord>,
}

/// The journal of one worker.
#[derive(Debug, Default, Clone)]
pub struct Work {
    pub entries: Vec<Entry>,
    /// Whether it was killed, and has no end.
    pub is_killed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRecord {
    pub partition: u32,
    pub offset: u64,
    /// What the record says that it is; none if it is spoiled.
    pub content: Option<Content>,
}

/// What a run may do besides delivering everything.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether pushes may fail, and from when on after their push.
    pub failures: Failures,
    /// Whether consumers must have seen everything.
    pub all_seen: bool,
    /// Whether what was acknowledged may come again, as it may after a crash.
    pub acknowledged_comes_again: bool,
    /// Whether answers arrive as the brokers sent them. If not, what they say of offsets and of failures means nothing, and an event whose
    /// answer says that it failed may be sent again.
    pub answers_are_true: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failures {
    None,
    /// Only when the delivery time-out, in milliseconds, is over, and not much later.
    NotBefore(u64),
    Any,
}

impl Default for Rules {
    fn default() -> Self {
        Rules { failures: Failures::None, all_seen: true, acknowledged_comes_again: true, answers_are_true: true }
    }
}

/// librdkafka looks for time-outs once a second; the rest is for a busy machine.
const NOT_MUCH_LATER_MS: u64 = 4_000;
/// Clocks and the time between the push and its timestamp.
const EARLY_MS: u64 = 100;

/// The number of events whose fate is as it must be.
pub fn judge(evidence: &Evidence, rules: &Rules) -> Result<u64> {
    let mut judge = Judge { evidence, rules, wrongs: Vec::new() };
    let places = judge.look_at_log();
    for (number, work) in evidence.producers.iter().enumerate() {
        judge.look_at_producer(number as u32, work, &places);
    }
    if rules.answers_are_true {
        judge.look_at_order();
    }
    judge.look_at_consumers(&places);
    match judge.wrongs.as_slice() {
        [] => Ok(evidence.told().filter(|entry| has_fate(entry)).count() as u64),
        wrongs => Err(Failure(summary(wrongs))),
    }
}

impl Evidence {
    /// What producers were told.
    pub fn told(&self) -> impl Iterator<Item = &Entry> {
        self.producers.iter().flat_map(|work| &work.entries)
    }

    /// What consumers were told.
    pub fn seen(&self) -> impl Iterator<Item = &Entry> {
        self.consumers.iter().flat_map(|work| &work.entries)
    }
}

fn has_fate(entry: &Entry) -> bool {
    matches!(entry, Entry::Delivered { .. } | Entry::Failed { .. } | Entry::Refused { .. })
}

fn summary(wrongs: &[String]) -> String {
    const SHOWN: usize = 10;
    let more = if wrongs.len() > SHOWN { format!("; and {} more", wrongs.len() - SHOWN) } else { String::new() };
    format!("{}{more}", wrongs[..wrongs.len().min(SHOWN)].join("; "))
}

type Places = HashMap<Content, Vec<(u32, u64)>>;

struct Judge<'a> {
    evidence: &'a Evidence,
    rules: &'a Rules,
    wrongs: Vec<String>,
}

impl Judge<'_> {
    fn wrong(&mut self, what: impl Into<String>) {
        self.wrongs.push(what.into());
    }

    /// Where each event is; none may be twice, spoiled, or nobody's.
    fn look_at_log(&mut self) -> Places {
        let mut places = Places::new();
        for record in &self.evidence.log {
            match record.content {
                Some(content) => places.entry(content).or_default().push((record.partition, record.offset)),
                None => self.wrong(format!("spoiled: the record at {}/{}", record.partition, record.offset)),
            }
        }
        for (content, places) in &places {
            if places.len() > 1 && self.rules.answers_are_true {
                self.wrong(format!("doubled: {content:?} is at {places:?}"));
            }
            if content.producer as usize >= self.evidence.producers.len() {
                self.wrong(format!("nobody's: {content:?} at {places:?}"));
            }
        }
        places
    }

    fn look_at_producer(&mut self, producer: u32, work: &Work, places: &Places) {
        let mut told = HashSet::new();
        let mut pushed = None;
        for entry in &work.entries {
            match entry {
                Entry::Delivered { number, partition, id, .. } => {
                    self.told_once(producer, *number, &mut told);
                    self.is_there(Content { producer, number: *number }, *partition, *id, places);
                }
                Entry::Failed { number, perhaps, after_ms, why, .. } => {
                    self.told_once(producer, *number, &mut told);
                    self.may_fail(producer, *number, *after_ms, why);
                    if !perhaps && self.rules.answers_are_true && places.contains_key(&Content { producer, number: *number }) {
                        self.wrong(format!("stored: push {number} of producer {producer} failed as not stored: {why}"));
                    }
                }
                Entry::Refused { number, why, .. } => {
                    self.told_once(producer, *number, &mut told);
                    if self.rules.failures == Failures::None {
                        self.wrong(format!("refused: push {number} of producer {producer}: {why}"));
                    }
                    if places.contains_key(&Content { producer, number: *number }) {
                        self.wrong(format!("stored: push {number} of producer {producer} was refused: {why}"));
                    }
                }
                Entry::Unanswered { number, after_ms } => {
                    told.insert(*number);
                    self.wrong(format!("unanswered: push {number} of producer {producer} after {after_ms} ms"));
                }
                Entry::Pushed { count } => pushed = Some(*count),
                Entry::Late { what, limit_ms, took_ms, machine_ms } => self.wrong(format!(
                    "late: {what} of producer {producer} took {took_ms} ms, not {limit_ms} (the machine was {machine_ms} late)"
                )),
                _ => {}
            }
        }
        match (pushed, work.entries.last()) {
            _ if work.is_killed => {}
            (Some(count), Some(Entry::Ended)) => {
                for number in (0..count).filter(|number| !told.contains(number)) {
                    self.wrong(format!("swallowed: nothing was told of push {number} of producer {producer}"));
                }
                let beyond = places.keys().filter(|content| content.producer == producer && content.number >= count);
                let beyond: Vec<_> = beyond.collect();
                if !beyond.is_empty() {
                    self.wrong(format!("never pushed, but there: {beyond:?}"));
                }
            }
            _ => self.wrong(format!("ended early: producer {producer} has written no end, see its log")),
        }
    }

    fn told_once(&mut self, producer: u32, number: u64, told: &mut HashSet<u64>) {
        if !told.insert(number) {
            self.wrong(format!("told twice: push {number} of producer {producer}"));
        }
    }

    fn is_there(&mut self, content: Content, partition: u32, id: Option<u64>, places: &Places) {
        match (places.get(&content).map(Vec::as_slice), id) {
            (None | Some([]), _) => self.wrong(format!("lost: {content:?} was delivered to {partition}/{id:?}")),
            _ if !self.rules.answers_are_true && places.contains_key(&content) => {}
            (Some([place, ..]), Some(id)) if *place != (partition, id) => {
                self.wrong(format!("misplaced: {content:?} was told to be at {partition}/{id} and is at {place:?}"));
            }
            (Some([place, ..]), None) if place.0 != partition => {
                self.wrong(format!("misplaced: {content:?} was told to be in {partition} and is at {place:?}"));
            }
            _ => {}
        }
    }

    fn may_fail(&mut self, producer: u32, number: u64, after_ms: u64, why: &str) {
        match self.rules.failures {
            Failures::Any => {}
            Failures::None => self.wrong(format!("failed: push {number} of producer {producer}: {why}")),
            Failures::NotBefore(limit) if after_ms + EARLY_MS < limit => {
                self.wrong(format!("failed early: push {number} of producer {producer} after {after_ms} ms: {why}"));
            }
            Failures::NotBefore(limit) if after_ms > limit + NOT_MUCH_LATER_MS => {
                self.wrong(format!("failed late: push {number} of producer {producer} after {after_ms} ms: {why}"));
            }
            Failures::NotBefore(_) => {}
        }
    }

    /// In each partition the events of a producer stand in the order of their pushes.
    fn look_at_order(&mut self) {
        let mut last: HashMap<(u32, u32), Content> = HashMap::new();
        for record in &self.evidence.log {
            let Some(content) = record.content else { continue };
            let before = last.insert((record.partition, content.producer), content);
            if let Some(before) = before
                && before.number > content.number
            {
                self.wrong(format!(
                    "swapped: {content:?} at {}/{} is behind {before:?}",
                    record.partition, record.offset
                ));
            }
        }
    }

    fn look_at_consumers(&mut self, places: &Places) {
        let log: HashMap<(u32, u64), Option<Content>> =
            self.evidence.log.iter().map(|record| ((record.partition, record.offset), record.content)).collect();
        let mut seen = HashSet::new();
        for (number, work) in self.evidence.consumers.iter().enumerate() {
            for entry in &work.entries {
                match entry {
                    Entry::Got { partition, id, producer, number: event, .. } => {
                        seen.insert((*partition, *id));
                        let content = Content { producer: *producer, number: *event };
                        let is_there = match self.rules.answers_are_true {
                            true => log.get(&(*partition, *id)) == Some(&Some(content)),
                            false => places.contains_key(&content),
                        };
                        if !is_there {
                            self.wrong(format!("made up: consumer {number} got {content:?} at {partition}/{id}"));
                        }
                    }
                    Entry::Spoiled { partition, id, why } => {
                        self.wrong(format!("spoiled: consumer {number} got {partition}/{id}: {why}"));
                    }
                    Entry::Late { what, limit_ms, took_ms, machine_ms } => self.wrong(format!(
                        "late: {what} of consumer {number} took {took_ms} ms, not {limit_ms} (the machine was {machine_ms} late)"
                    )),
                    _ => {}
                }
            }
            if !work.is_killed && work.entries.last() != Some(&Entry::Ended) {
                self.wrong(format!("ended early: consumer {number} has written no end, see its log"));
            }
        }
        if self.rules.all_seen && !self.evidence.consumers.is_empty() {
            let mut unseen: Vec<_> = log.keys().filter(|place| !seen.contains(*place)).collect();
            unseen.sort();
            if !unseen.is_empty() {
                let count = unseen.len();
                self.wrong(format!("skipped: no consumer got {:?}, {count} in all", &unseen[..count.min(5)]));
            }
        }
        if !self.rules.acknowledged_comes_again {
            self.look_at_what_came_again();
        }
    }

    /// Nobody gets what was acknowledged before. All processes look at one clock; those at the same millisecond stand in the order of
    /// their journals.
    fn look_at_what_came_again(&mut self) {
        let mut all: Vec<(u64, usize, &Entry)> = Vec::new();
        for (number, work) in self.evidence.consumers.iter().enumerate() {
            all.extend(work.entries.iter().filter_map(|entry| Some((time_of(entry)?, number, entry))));
        }
        all.sort_by_key(|(at, ..)| *at);
        let mut acknowledged: BTreeMap<u32, u64> = BTreeMap::new();
        for (_, number, entry) in all {
            match entry {
                Entry::Acknowledged { partition, id, .. } => {
                    let highest = acknowledged.entry(*partition).or_insert(*id);
                    *highest = (*highest).max(*id);
                }
                Entry::Got { partition, id, .. } => {
                    if let Some(highest) = acknowledged.get(partition).copied().filter(|highest| id <= highest) {
                        self.wrong(format!(
                            "came again: consumer {number} got {partition}/{id}, and {highest} was acknowledged before"
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
        Entry::Got { at, .. } | Entry::Acknowledged { at, .. } => Some(*at),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(entries: Vec<Entry>) -> Work {
        Work { entries, is_killed: false }
    }

    fn delivered(number: u64, partition: u32, id: u64) -> Entry {
        Entry::Delivered { number, partition, id: Some(id), after_ms: 1, at: 1 }
    }

    fn record(partition: u32, offset: u64, number: u64) -> LogRecord {
        LogRecord { partition, offset, content: Some(Content { producer: 0, number }) }
    }

    fn got(partition: u32, id: u64, number: u64) -> Entry {
        Entry::Got { partition, id, producer: 0, number, at: id }
    }

    /// Four events in two partitions, all pushed, delivered and seen.
    fn clean() -> Evidence {
        let mut entries = vec![delivered(0, 0, 0), delivered(1, 1, 0), delivered(2, 0, 1), delivered(3, 1, 1)];
        entries.extend([Entry::Pushed { count: 4 }, Entry::Ended]);
        let log = vec![record(0, 0, 0), record(0, 1, 2), record(1, 0, 1), record(1, 1, 3)];
        let seen = vec![got(0, 0, 0), got(1, 0, 1), got(0, 1, 2), got(1, 1, 3), Entry::Ended];
        Evidence { producers: vec![work(entries)], consumers: vec![work(seen)], log }
    }

    fn wrong(change: impl FnOnce(&mut Evidence)) -> String {
        let mut evidence = clean();
        change(&mut evidence);
        judge(&evidence, &Rules::default()).unwrap_err().0
    }

    #[test]
    fn a_clean_run_passes() {
        assert_eq!(judge(&clean(), &Rules::default()).unwrap(), 4);
    }

    #[test]
    fn each_wrong_is_found_and_named() {
        assert!(wrong(|run| run.log.truncate(3)).starts_with("lost"));
        assert!(wrong(|run| run.log.push(record(1, 2, 0))).contains("doubled"));
        assert!(wrong(|run| run.producers[0].entries[2] = delivered(2, 0, 5)).starts_with("misplaced"));
        assert!(wrong(|run| drop(run.producers[0].entries.remove(1))).starts_with("swallowed"));
        assert!(wrong(|run| run.log[0].content = None).contains("spoiled"));
        assert!(wrong(|run| drop(run.consumers[0].entries.remove(1))).starts_with("skipped"));
        assert!(wrong(|run| run.consumers[0].entries[0] = got(0, 0, 3)).contains("made up"));
        assert!(wrong(|run| run.log.push(record(1, 2, 9))).contains("never pushed"));
        assert!(wrong(|run| drop(run.producers[0].entries.pop())).contains("ended early"));
        let swapped = wrong(|run| {
            run.log[0] = record(0, 0, 2);
            run.log[1] = record(0, 1, 0);
        });
        assert!(swapped.contains("swapped"), "{swapped}");
    }

    fn failed(perhaps: bool, after_ms: u64) -> Entry {
        let (status, why) = (String::new(), String::new());
        Entry::Failed { number: 1, perhaps, status, kafka: None, why, after_ms, at: 1 }
    }

    #[test]
    fn a_push_that_failed_may_be_there_only_if_that_was_said() {
        let judged = |perhaps| {
            let mut evidence = clean();
            evidence.producers[0].entries[1] = failed(perhaps, 5_000);
            judge(&evidence, &Rules { failures: Failures::Any, ..Rules::default() })
        };
        assert!(judged(false).unwrap_err().0.starts_with("stored"));
        assert!(judged(true).is_ok());
    }

    #[test]
    fn a_push_fails_neither_early_nor_late() {
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
    fn what_was_acknowledged_must_not_come_again_to_another() {
        let mut evidence = clean();
        evidence.consumers[0].entries.insert(3, Entry::Acknowledged { partition: 0, id: 1, at: 2 });
        let again = work(vec![Entry::Got { partition: 0, id: 1, producer: 0, number: 2, at: 3 }, Entry::Ended]);
        evidence.consumers.push(again);
        assert!(judge(&evidence, &Rules::default()).is_ok());
        let strict = Rules { acknowledged_comes_again: false, ..Rules::default() };
        assert!(judge(&evidence, &strict).unwrap_err().0.starts_with("came again"));
    }
}
