//! The scenarios and the points at which they are measured.

use std::collections::BTreeMap;

use baseline::job::{Pulling, Rate, Side, Work};

/// One comparison: both sides do the same work, in `pairs` pairs of runs.
#[derive(Debug, Clone)]
pub struct Point {
    pub scenario: &'static str,
    pub at: String,
    pub partitions: u32,
    /// Bytes of data in an event.
    pub data: usize,
    /// Properties of librdkafka on both sides.
    pub kafka: BTreeMap<String, String>,
    /// Properties of the baseline only, where the plugin's default has the same effect.
    pub baseline_only: BTreeMap<String, String>,
    pub work: Work,
    /// The number of events in the topic before the run.
    pub filled: u64,
    /// The minimum number of topics that exist before the run.
    pub topics: u32,
    pub pairs: usize,
    /// A and B. Ratios are B/A.
    pub sides: [Side; 2],
}

impl Point {
    pub fn new(scenario: &'static str, at: impl ToString, data: usize, work: Work) -> Self {
        Point {
            scenario,
            at: at.to_string(),
            partitions: 1,
            data,
            kafka: BTreeMap::new(),
            baseline_only: BTreeMap::new(),
            work,
            filled: 0,
            topics: 0,
            pairs: PAIRS,
            sides: [Side::Baseline, Side::Plugin],
        }
    }

    fn partitions(self, partitions: u32) -> Self {
        Point { partitions, ..self }
    }

    pub fn filled(self, filled: u64) -> Self {
        Point { filled, ..self }
    }

    fn topics(self, topics: u32) -> Self {
        Point { topics, ..self }
    }

    fn pairs(self, pairs: usize) -> Self {
        Point { pairs, ..self }
    }

    fn sides(self, sides: [Side; 2]) -> Self {
        Point { sides, ..self }
    }

    fn kafka(mut self, name: &str, value: &str) -> Self {
        self.kafka.insert(name.to_owned(), value.to_owned());
        self
    }

    fn baseline_only(mut self, name: &str, value: &str) -> Self {
        self.baseline_only.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The number of events in a new topic after a run. None if the run pushes none, or is not
    /// checked.
    pub fn events_after_run(&self) -> Option<u64> {
        match self.work {
            Work::Push { events, threads } => {
                Some(events / threads as u64 * threads as u64 + u64::from(self.partitions))
            }
            Work::PushInWindow { events, .. } => Some(events + 1),
            Work::PushAndWait { times } => Some(times + 1),
            Work::PushAtRate { rate, seconds } => Some(rate.per_second(f64::NAN) * seconds + 1),
            Work::EndToEnd { per_second, seconds } => Some(per_second * seconds + 1),
            Work::FirstPush => Some(1),
            _ => None,
        }
    }

    /// Whether each run needs a new topic, since it would affect the next run on the same topic.
    pub fn needs_new_topic(&self) -> bool {
        self.filled == 0 && self.topics == 0
    }
}

/// The number of pairs by which the confidence intervals are narrow enough for the targets.
pub const PAIRS: usize = 16;
pub const LISTED: u32 = 500;
/// The number of pairs with `--quick`.
pub const FEW_PAIRS: usize = 3;

/// Bytes of data, its label, and the number of such events that takes about a second.
const SIZES: [(usize, &str, u64); 6] = [
    (16, "16 B", 800_000),
    (128, "128 B", 500_000),
    (1_024, "1 KB", 120_000),
    (16 * 1_024, "16 KB", 9_000),
    (100 * 1_024, "100 KB", 1_500),
    (900 * 1_024, "900 KB", 170),
];

pub fn all() -> Vec<Point> {
    let mut points = Vec::new();
    let push = |events| Work::Push { events, threads: 1 };
    // The noise of the measurement: both sides are the same.
    points.push(Point::new("baseline against itself", "16 B", 16, push(800_000)).sides([Side::Baseline; 2]));
    for (data, at, events) in SIZES {
        points.push(Point::new("push", at, data, push(events)));
    }
    // The cost of the plugin itself, without the gain by its patches of librdkafka.
    for (data, at, events) in &SIZES[..3] {
        points.push(Point::new("push, both patched", at, *data, push(*events)).sides([Side::Patched, Side::Plugin]));
    }
    for (data, at, events) in SIZES {
        // So many events that the time to create the consumer is negligible.
        let events = 3 * events;
        let pull = |by| Work::Pull { events, by };
        points.push(Point::new("pull", at, data, pull(Pulling::One)).filled(events));
        points.push(Point::new("pull_many", at, data, pull(Pulling::Many)).filled(events));
        points.push(Point::new("pull_many, batches", at, data, pull(Pulling::Batch)).filled(events));
    }
    for (data, at, events) in &SIZES[..3] {
        let events = 3 * events;
        for (name, by) in [("pull, both patched", Pulling::One), ("pull_many, both patched", Pulling::Many)] {
            let point = Point::new(name, at, *data, Work::Pull { events, by });
            points.push(point.sides([Side::Patched, Side::Plugin]).filled(events));
        }
    }
    // A program that waits for each event sets no linger.
    for (window, events) in [(1, 3_000), (16, 20_000), (1_000, 300_000), (100_000, 800_000)] {
        let point = Point::new("window", window, 16, Work::PushInWindow { events, window });
        points.push(if window < 1_000 { point.baseline_only("linger.ms", "0") } else { point });
    }
    points.push(
        Point::new("push and wait", "default linger", 16, Work::PushAndWait { times: 2_000 })
            .baseline_only("linger.ms", "0"),
    );
    for threads in [1, 2, 4] {
        points.push(Point::new("pushers", threads, 16, Work::Push { events: 800_000, threads }));
    }
    for partitions in [1, 6, 100] {
        points.push(Point::new("partitions", partitions, 16, push(800_000)).partitions(partitions));
    }
    for codec in ["none", "lz4", "zstd"] {
        points.push(Point::new("compression", codec, 1_024, push(120_000)).kafka("compression.codec", codec));
    }
    for share in [10, 50, 80] {
        let work = Work::PushAtRate { rate: Rate::Percent(share), seconds: 2 };
        points.push(Point::new("push at a rate", format!("{share} %"), 16, work).pairs(6));
    }
    for per_second in [100, 10_000] {
        points.push(
            Point::new("end to end", format!("{per_second}/s"), 16, Work::EndToEnd { per_second, seconds: 3 }).pairs(6),
        );
    }
    points.push(Point::new("first push", "delivered", 16, Work::FirstPush));
    points.push(Point::new("first event", "pulled", 16, Work::FirstEvent).filled(1_000));
    points.push(Point::new("idle", "producer and consumer", 16, Work::Idle { seconds: 10 }).pairs(4));
    points.push(
        Point::new("memory", "100,000 in flight", 16, Work::InFlight { events: 100_000 })
            .kafka("linger.ms", "60000")
            .kafka("batch.num.messages", "1000000")
            .pairs(4),
    );
    points.push(
        Point::new("memory", "a consumer that nobody reads", 1_024, Work::Unread { seconds: 5 })
            .filled(120_000)
            .pairs(4),
    );
    points.push(
        Point::new("memory", "one event held", 1_024, Work::OneHeld { events: 119_000 }).filled(120_000).pairs(4),
    );
    points.push(
        // Both sides are the plugin: growth of the baseline must not hide growth of the plugin, and
        // the baseline takes longer to open and close.
        Point::new("open and close", "1,000 times", 16, Work::OpenAndClose { times: 1_000 })
            .sides([Side::Plugin; 2])
            .filled(1_000)
            .pairs(1),
    );
    // The last scenario, since its many topics would affect any after it. librdkafka has no
    // equivalent, so both sides are the plugin.
    points.push(
        Point::new("list", format!("{LISTED} topics"), 0, Work::List).sides([Side::Plugin; 2]).topics(LISTED).pairs(4),
    );
    points
}

/// The points of `--quick`: the main ratios, in about two minutes.
pub fn quick() -> Vec<Point> {
    let is_main = |point: &Point| match point.scenario {
        "push" | "push, both patched" | "pull" | "pull_many" => matches!(point.data, 16 | 1_024),
        "push and wait" => true,
        _ => false,
    };
    all().into_iter().filter(is_main).map(|point| point.pairs(FEW_PAIRS)).collect()
}
