//! Checks the targets of docs/performance.md.

use baseline::job::Figures;

use crate::scenarios::LISTED;
use crate::summary::{Summary, cpu, rate};

pub struct Verdict {
    pub target: &'static str,
    pub holds: bool,
    pub text: String,
}

impl Verdict {
    /// Whether a miss fails the check. The targets of the C++ API depend on the installed
    /// libraries, so they don't count.
    pub fn is_binding(&self) -> bool {
        !self.target.starts_with(['3', '5'])
    }
}

/// Returns one verdict for each figure that a target limits.
pub fn judge(summaries: &[Summary]) -> Vec<Verdict> {
    let mut judge = Judge { summaries, verdicts: Vec::new() };
    judge.pushes();
    judge.pulls();
    judge.waiting();
    judge.memory();
    judge.idle();
    judge.scaling();
    judge.listing();
    judge.opening();
    judge.through_cpp();
    judge.verdicts
}

struct Judge<'a> {
    summaries: &'a [Summary],
    verdicts: Vec<Verdict>,
}

impl Judge<'_> {
    fn at(&self, scenario: &str, at: &str) -> Option<&Summary> {
        self.summaries.iter().find(|it| it.scenario == scenario && it.at == at)
    }

    fn add(
        &mut self,
        target: &'static str,
        what: String,
        figure: Option<f64>,
        limit: f64,
        holds: fn(f64, f64) -> bool,
    ) {
        let Some(figure) = figure else {
            self.verdicts.push(Verdict { target, holds: false, text: format!("{what}: not measured") });
            return;
        };
        self.verdicts.push(Verdict {
            target,
            holds: holds(figure, limit),
            text: format!("{what}: {figure:.2}, limit {limit:.2}"),
        });
    }

    fn at_most(&mut self, target: &'static str, what: String, figure: Option<f64>, limit: f64) {
        self.add(target, what, figure, limit, |figure, limit| figure <= limit);
    }

    fn at_least(&mut self, target: &'static str, what: String, figure: Option<f64>, limit: f64) {
        self.add(target, what, figure, limit, |figure, limit| figure >= limit);
    }

    fn cpu_ratio(&self, scenario: &str, at: &str) -> Option<f64> {
        Some(self.at(scenario, at)?.ratio(cpu)?.median)
    }

    fn rate_ratio(&self, scenario: &str, at: &str) -> Option<f64> {
        Some(self.at(scenario, at)?.ratio(rate)?.median)
    }

    fn pushes(&mut self) {
        const TARGET: &str = "1 push";
        for (at, limit) in
            [("16 B", 1.25), ("128 B", 1.25), ("1 KB", 1.05), ("16 KB", 1.05), ("100 KB", 1.05), ("900 KB", 1.05)]
        {
            self.at_most(TARGET, format!("CPU ratio of a push of {at}"), self.cpu_ratio("push", at), limit);
            self.at_least(TARGET, format!("rate ratio of pushes of {at}"), self.rate_ratio("push", at), 0.9);
        }
    }

    fn pulls(&mut self) {
        const TARGET: &str = "2 pull";
        for at in ["16 B", "128 B", "1 KB", "16 KB", "100 KB", "900 KB"] {
            for (scenario, limit) in [("pull_many", 1.1), ("pull", 1.25)] {
                self.at_most(TARGET, format!("CPU ratio of {scenario} of {at}"), self.cpu_ratio(scenario, at), limit);
                self.at_least(
                    TARGET,
                    format!("rate ratio of {scenario} of {at}"),
                    self.rate_ratio(scenario, at),
                    1.0 / limit,
                );
            }
        }
    }

    fn waiting(&mut self) {
        let medians = self.at("push and wait", "default linger").and_then(|it| it.times(|times| times.median));
        let difference = medians.map(|(baseline, plugin)| plugin - baseline);
        self.at_most("4 push and wait", "µs beyond librdkafka's without linger".to_owned(), difference, 100.0);
    }

    fn memory(&mut self) {
        const TARGET: &str = "6 memory";
        for at in ["100,000 in flight", "a consumer that nobody reads", "one event held"] {
            let peaks = self.at("memory", at).map(|it| it.medians(|figures| figures.peak as f64));
            let beyond = peaks.map(|(baseline, plugin)| (plugin - baseline) / 1024.0);
            self.at_most(TARGET, format!("MiB beyond librdkafka's with {at}"), beyond, 32.0);
        }
    }

    /// Counts the threads of a producer and a consumer. The plugin's driver, which has no
    /// equivalent in librdkafka, exists before and idles with them.
    fn idle(&mut self) {
        const TARGET: &str = "7 idle";
        let idle = self.at("idle", "producer and consumer");
        let threads = idle.map(|it| it.medians(|figures| figures.threads as f64));
        let cpu = idle.map(|it| it.medians(|figures| figures.cpu / figures.wall * 100.0));
        self.at_most(
            TARGET,
            "threads beyond librdkafka's, of two clients".to_owned(),
            threads.map(|(a, b)| b - a),
            2.0,
        );
        self.at_most(TARGET, "% of a processor beyond librdkafka's".to_owned(), cpu.map(|(a, b)| b - a), 0.1);
    }

    /// Pushing with several threads or to several partitions is as fast as with librdkafka, which
    /// has the same processors and brokers. The case of one thread and one partition is the push of
    /// 16 B.
    fn scaling(&mut self) {
        const TARGET: &str = "8 more of them";
        for (scenario, points) in [("pushers", ["2", "4"]), ("partitions", ["6", "100"])] {
            for at in points {
                self.at_least(TARGET, format!("rate ratio with {at} {scenario}"), self.rate_ratio(scenario, at), 0.9);
            }
        }
    }

    fn opening(&mut self) {
        const TARGET: &str = "10 open and close";
        let open = self.at("open and close", "1,000 times");
        let of = |figure: fn(&Figures) -> f64| open.map(|it| it.medians(figure).1);
        let (threads, descriptors, growth) =
            (of(|it| it.threads as f64), of(|it| it.descriptors as f64), of(|it| it.growth as f64 / 1024.0));
        self.at_most(TARGET, "threads more after it".to_owned(), threads, 0.0);
        self.at_most(TARGET, "descriptors more after it".to_owned(), descriptors, 0.0);
        self.at_most(TARGET, "MiB more after it".to_owned(), growth, 4.0);
    }

    fn listing(&mut self) {
        let seconds = self.at("list", &format!("{LISTED} topics")).map(|it| it.medians(|it| it.wall / 1e6).1);
        self.at_most("9 list", format!("seconds for a list of {LISTED} topics"), seconds, 3.0);
    }

    /// Checked only if C++ Octopus was measured.
    fn through_cpp(&mut self) {
        const THROUGH: &str = "3 through the C++ API";
        for scenario in ["C++ push", "C++ pull"] {
            for at in ["16 B", "128 B", "1 KB"] {
                if let Some(ratio) = self.cpu_ratio(scenario, at) {
                    self.at_most(THROUGH, format!("CPU ratio of {scenario} of {at}"), Some(ratio), 0.7);
                }
                if let ("C++ pull", Some(ratio)) = (scenario, self.rate_ratio(scenario, at)) {
                    self.at_least(THROUGH, format!("rate ratio of {scenario} of {at}"), Some(ratio), 4.0);
                }
            }
        }
        for (scenario, at, limit) in [
            ("C++ open", "made and opened", 0.3),
            ("C++ first push", "delivered", 0.5),
            ("C++ first event", "pulled", 0.5),
        ] {
            if let Some(ratio) = self.at(scenario, at).and_then(|it| it.ratio(|figures| figures.wall)) {
                self.at_most("5 beginning", format!("time ratio of {scenario}"), Some(ratio.median), limit);
            }
        }
    }
}
