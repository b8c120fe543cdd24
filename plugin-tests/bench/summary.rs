//! The summary of the rows: for each point the medians of both sides and the ratios of its pairs,
//! as a table in Markdown.

use crate::runner::Row;
use crate::statistics::{Ratio, median};
use baseline::job::{Figures, Times};

pub struct Summary {
    pub scenario: &'static str,
    pub at: String,
    pub pairs: Vec<(Figures, Figures)>,
}

impl Summary {
    /// Summarizes the rows of one point.
    pub fn of(rows: &[Row]) -> Option<Self> {
        let first = rows.first()?;
        let of = |pair, is_b| rows.iter().find(|row| row.pair == pair && row.is_b == is_b);
        let pairs =
            (0..rows.len()).map_while(|pair| Some((of(pair, false)?.figures.clone(), of(pair, true)?.figures.clone())));
        Some(Summary { scenario: first.scenario, at: first.at.clone(), pairs: pairs.collect() })
    }

    pub fn ratio(&self, figure: impl Fn(&Figures) -> f64) -> Option<Ratio> {
        Ratio::of(&self.pairs, figure)
    }

    /// Returns the medians of A and of B.
    pub fn medians(&self, figure: impl Fn(&Figures) -> f64) -> (f64, f64) {
        let of = |it: Vec<f64>| median(&it).unwrap_or(f64::NAN);
        (
            of(self.pairs.iter().map(|(a, _)| figure(a)).collect()),
            of(self.pairs.iter().map(|(_, b)| figure(b)).collect()),
        )
    }

    /// As [`medians`](Self::medians), of a quantile. None if the point has no distribution of
    /// times.
    pub fn times(&self, pick: impl Fn(&Times) -> f64) -> Option<(f64, f64)> {
        let (a, b) = self.medians(|it| it.times.as_ref().map_or(f64::NAN, &pick));
        (a.is_finite() && b.is_finite()).then_some((a, b))
    }
}

pub fn cpu(figures: &Figures) -> f64 {
    figures.cpu_per_event()
}

pub fn rate(figures: &Figures) -> f64 {
    figures.rate()
}

pub const HEADINGS: [&str; 10] = [
    "scenario",
    "at",
    "pairs",
    "CPU/event A, µs",
    "B, µs",
    "ratio B/A",
    "events/s A",
    "B",
    "ratio B/A",
    "times A → B, µs: p50, p99, p99.9",
];

pub fn markdown(summaries: &[Summary]) -> String {
    let mut table = format!("| {} |\n|{}\n", HEADINGS.join(" | "), " --- |".repeat(HEADINGS.len()));
    for summary in summaries {
        table += &format!("| {} |\n", cells(summary).join(" | "));
    }
    table
}

fn cells(summary: &Summary) -> Vec<String> {
    let (cpu_a, cpu_b) = summary.medians(cpu);
    let (rate_a, rate_b) = summary.medians(rate);
    let times = |pick: fn(&Times) -> f64| summary.times(pick).map(|(a, b)| format!("{a:.0} → {b:.0}"));
    let distribution = [|it: &Times| it.median, |it: &Times| it.p99, |it: &Times| it.p999].map(times);
    vec![
        summary.scenario.to_owned(),
        summary.at.clone(),
        summary.pairs.len().to_string(),
        format!("{cpu_a:.2}"),
        format!("{cpu_b:.2}"),
        format_ratio(summary.ratio(cpu)),
        format!("{rate_a:.0}"),
        format!("{rate_b:.0}"),
        format_ratio(summary.ratio(rate)),
        distribution.into_iter().flatten().collect::<Vec<_>>().join(", "),
    ]
}

fn format_ratio(ratio: Option<Ratio>) -> String {
    let Some(ratio) = ratio else { return String::new() };
    let Ratio { median, low, high } = ratio;
    let mark = if ratio.is_significant() { "" } else { " ≈" };
    format!("{median:.2} [{low:.2}, {high:.2}]{mark}")
}

pub const COLUMNS: &str = "scenario,at,pair,run,side,events,cpu_us,wall_us,peak_kib,growth_kib,threads,descriptors,\
    p50_us,p99_us,p999_us,max_us,slip_p50_us,slip_p99_us,slip_p999_us,slip_max_us";

/// Returns a row of rows.csv.
pub fn csv(row: &Row) -> String {
    let Row { scenario, at, pair, is_b, side, figures } = row;
    let times = |it: Option<Times>| match it {
        None => ",,,".to_owned(),
        Some(it) => format!("{:.1},{:.1},{:.1},{:.1}", it.median, it.p99, it.p999, it.max),
    };
    let side = side.name();
    format!(
        "{scenario},\"{at}\",{pair},{},{side},{},{:.0},{:.0},{},{},{},{},{},{}",
        if *is_b { "B" } else { "A" },
        figures.events,
        figures.cpu,
        figures.wall,
        figures.peak,
        figures.growth,
        figures.threads,
        figures.descriptors,
        times(figures.times),
        times(figures.slip)
    )
}
