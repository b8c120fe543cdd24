//! What became of all events of a driver's producers: how many were delivered and failed, and how
//! long they took.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::support::deadline::Moment;

/// Buckets of one millisecond, up to this.
const EXACT: u64 = 16;
/// Above, buckets for each doubling.
const PER_DOUBLING: usize = 8;
const BUCKETS: usize = EXACT as usize + 28 * PER_DOUBLING;

/// Counters that only grow, since the driver was created.
pub struct DeliveryTotals {
    delivered: AtomicU64,
    delivered_bytes: AtomicU64,
    failed: AtomicU64,
    /// The delivered events by their latency.
    latencies: [AtomicU64; BUCKETS],
    max_latency: AtomicU64,
}

/// A copy of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Deliveries {
    pub delivered: u64,
    /// Of the records' values.
    pub delivered_bytes: u64,
    /// Those whose failure was reported, also if they are delivered after that.
    pub failed: u64,
    pub latency_ms: Latency,
}

/// From the moment at which an event was given to librdkafka to its delivery report, in
/// milliseconds: the upper ends of buckets, and all 0 without events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
}

impl Default for DeliveryTotals {
    fn default() -> Self {
        DeliveryTotals {
            delivered: AtomicU64::new(0),
            delivered_bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            latencies: [const { AtomicU64::new(0) }; BUCKETS],
            max_latency: AtomicU64::new(0),
        }
    }
}

impl DeliveryTotals {
    /// Counts results that are reported together.
    pub fn tally(&self) -> Tally<'_> {
        let now = Moment::now();
        Tally { totals: self, now, delivered: 0, bytes: 0, failed: 0, since: now, run: 0 }
    }

    pub fn add_failed(&self, events: u64) {
        self.failed.fetch_add(events, Ordering::Relaxed);
    }

    pub fn read(&self) -> Deliveries {
        let counts: Vec<_> = self.latencies.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let max = self.max_latency.load(Ordering::Relaxed);
        let percentile = |percent| percentile(&counts, percent).min(max);
        Deliveries {
            delivered: self.delivered.load(Ordering::Relaxed),
            delivered_bytes: self.delivered_bytes.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            latency_ms: Latency { p50: percentile(50), p90: percentile(90), p99: percentile(99), max },
        }
    }
}

/// Results of one delivery report. Added to the totals when it is dropped.
pub struct Tally<'a> {
    totals: &'a DeliveryTotals,
    now: Moment,
    delivered: u64,
    bytes: u64,
    failed: u64,
    /// The last `run` delivered events were sent at this moment.
    since: Moment,
    run: u64,
}

impl Tally<'_> {
    #[inline]
    pub fn count(&mut self, since: Moment, bytes: u64, is_delivered: bool) {
        if !is_delivered {
            self.failed += 1;
            return;
        }
        if since != self.since {
            self.end_run();
            self.since = since;
        }
        self.run += 1;
        self.bytes += bytes;
    }

    #[cold]
    #[inline(never)]
    fn end_run(&mut self) {
        let latency = u64::try_from(self.now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        self.totals.latencies[bucket_of(latency)].fetch_add(self.run, Ordering::Relaxed);
        if self.run > 0 {
            self.totals.max_latency.fetch_max(latency, Ordering::Relaxed);
        }
        self.delivered += self.run;
        self.run = 0;
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.end_run();
        self.totals.delivered.fetch_add(self.delivered, Ordering::Relaxed);
        self.totals.delivered_bytes.fetch_add(self.bytes, Ordering::Relaxed);
        if self.failed > 0 {
            self.totals.add_failed(self.failed);
        }
    }
}

fn bucket_of(millis: u64) -> usize {
    if millis < EXACT {
        return millis as usize;
    }
    let doubling = millis.ilog2() as usize;
    let within = (millis >> (doubling - PER_DOUBLING.ilog2() as usize)) as usize % PER_DOUBLING;
    (EXACT as usize + (doubling - EXACT.ilog2() as usize) * PER_DOUBLING + within).min(BUCKETS - 1)
}

/// The longest latency of a bucket.
fn end_of(bucket: usize) -> u64 {
    if bucket < EXACT as usize {
        return bucket as u64;
    }
    let (doubling, within) = ((bucket - EXACT as usize) / PER_DOUBLING, (bucket - EXACT as usize) % PER_DOUBLING);
    let start = EXACT << doubling;
    start + start / PER_DOUBLING as u64 * (within as u64 + 1) - 1
}

fn percentile(counts: &[u64], percent: u64) -> u64 {
    let sum: u64 = counts.iter().sum();
    let rank = (sum * percent).div_ceil(100);
    let mut seen = 0;
    let found = counts.iter().position(|count| {
        seen += count;
        seen >= rank && rank > 0
    });
    found.map_or(0, end_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_latency_is_in_a_bucket_that_is_at_most_an_eighth_too_long() {
        for millis in (0..2_000).chain([5_000, 65_535, 65_536, 1_000_000, 86_400_000]) {
            let end = end_of(bucket_of(millis));
            assert!(end >= millis && end <= millis + millis / 8, "{millis}: {end}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        let ends: Vec<_> = (0..BUCKETS).map(end_of).collect();
        assert!(ends.is_sorted_by(|a, b| a < b), "{ends:?}");
    }

    #[test]
    fn percentile_is_the_end_of_its_bucket() {
        let mut counts = [0; BUCKETS];
        assert_eq!(percentile(&counts, 99), 0);
        counts[3] = 98;
        counts[bucket_of(100)] = 2;
        assert_eq!([50, 98, 99].map(|percent| percentile(&counts, percent)), [3, 3, 103]);
    }

    #[test]
    fn tally_counts_runs_of_one_age() {
        let totals = DeliveryTotals::default();
        let mut tally = totals.tally();
        tally.now = Moment::of_millis(1_000);
        for since in [990, 990, 990, 600, 990] {
            tally.count(Moment::of_millis(since), 7, true);
        }
        tally.count(Moment::of_millis(1), 7, false);
        drop(tally);
        totals.add_failed(2);
        let read = totals.read();
        assert_eq!((read.delivered, read.delivered_bytes, read.failed), (5, 35, 3));
        assert_eq!(read.latency_ms, Latency { p50: 10, p90: 400, p99: 400, max: 400 });
    }
}
