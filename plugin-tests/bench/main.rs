//! Compares Octopus with librdkafka without Octopus: the same version of librdkafka, the same
//! settings and the same bytes, in pairs of runs, each in a separate process. docs/performance.md
//! has the method and the results; ci/bench.sh starts it.

mod instructions;
mod options;
mod plots;
mod plugin;
mod runner;
mod scenarios;
mod statistics;
mod summary;
mod targets;
mod through_cpp;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use baseline::job::{Figures, Job, Side, Work};
use baseline::librdkafka::Librdkafka;
use options::Options;
use plugin::Plugin;
use runner::{Row, Runner};
use scenarios::Point;
use summary::Summary;
use through_cpp::CppPoint;

fn main() -> ExitCode {
    let began = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(job) = baseline::job_in(&arguments) {
        baseline::print_figures(&measure(&job, began));
    }
    if arguments == [instructions::MOCK] {
        return instructions::run_broker();
    }
    let options = match Options::read(&arguments) {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    let done = match &options.instructions {
        Some(file) => instructions::count(file, options.write).map(|holds| holds || options.write),
        None => bench(&options).map(|all_hold| all_hold || !options.check),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Measures the sides that run in this program, which is linked with the plugin's patched
/// librdkafka.
fn measure(job: &Job, began: Instant) -> Figures {
    match job.side {
        Side::Plugin if job.work == Work::List => plugin::list(job),
        Side::Plugin => baseline::measure::<Plugin>(job, began),
        Side::Patched => baseline::measure::<Librdkafka>(job, began),
        Side::Baseline | Side::CppOctopus | Side::ThroughCpp => panic!("other programs measure these"),
    }
}

/// Measures the chosen points and writes the results. With `--check`, returns whether all targets
/// hold.
fn bench(options: &Options) -> Result<bool, String> {
    let (points, cpp_points) = chosen(options);
    if points.is_empty() && cpp_points.is_empty() {
        return Err(format!("no scenario is called {}; see --list", options.only.join(", ")));
    }
    if options.list {
        points.iter().for_each(|point| println!("{}, {}", point.scenario, point.at));
        cpp_points.iter().for_each(|point| println!("{}, {}", point.scenario, point.at));
        return Ok(true);
    }
    let folder = options.out.clone().unwrap_or_else(|| PathBuf::from("target/bench"));
    fs::create_dir_all(&folder).map_err(|why| format!("creating {}: {why}", folder.display()))?;
    let mut runner = Runner::new(&options.bootstrap)?;
    let mut results = Results::new(&folder, points.len() + cpp_points.len());
    for point in &points {
        results.begin(point.scenario, &point.at, point.pairs);
        results.add(&runner.run(point)?)?;
    }
    if let Some(cpp) = &options.cpp {
        for point in &cpp_points {
            results.begin(point.scenario, point.at, point.pairs);
            results.add(&runner.run_through_cpp(cpp, point)?)?;
        }
    }
    let Results { summaries, .. } = results;
    let table = summary::markdown(&summaries);
    println!("{table}");
    write(&folder, "summary.md", &table)?;
    plots::draw(&summaries, &folder).map_err(|why| format!("drawing: {why}"))?;
    Ok(!options.check || check_targets(&summaries))
}

/// The results so far. Each new one is printed and written to the files at once.
struct Results<'a> {
    folder: &'a Path,
    expected: usize,
    rows: String,
    summaries: Vec<Summary>,
}

impl<'a> Results<'a> {
    fn new(folder: &'a Path, expected: usize) -> Self {
        Results { folder, expected, rows: format!("{}\n", summary::COLUMNS), summaries: Vec::new() }
    }

    fn begin(&self, scenario: &str, at: &str, pairs: usize) {
        eprintln!("{} of {}: {scenario}, {at}, {pairs} pairs", self.summaries.len() + 1, self.expected);
    }

    fn add(&mut self, measured: &[Row]) -> Result<(), String> {
        measured.iter().for_each(|row| writeln!(self.rows, "{}", summary::csv(row)).expect("a text takes all"));
        write(self.folder, "rows.csv", &self.rows)?;
        if let Some(summary) = Summary::of(measured) {
            let table = summary::markdown(std::slice::from_ref(&summary));
            eprintln!("{}", table.lines().last().unwrap_or_default());
            self.summaries.push(summary);
        }
        Ok(())
    }
}

fn chosen(options: &Options) -> (Vec<Point>, Vec<CppPoint>) {
    let mut points = if options.quick { scenarios::quick() } else { scenarios::all() };
    let mut cpp_points = if options.cpp.is_some() { through_cpp::points(options.quick) } else { Vec::new() };
    let is_chosen = |scenario: &str, at: &str| {
        let listed = format!("{scenario}, {at}");
        options.only.is_empty() || options.only.iter().any(|it| it == scenario || *it == listed)
    };
    points.retain(|point| is_chosen(point.scenario, &point.at));
    cpp_points.retain(|point| is_chosen(point.scenario, point.at));
    if let Some(pairs) = options.pairs {
        points.iter_mut().for_each(|point| point.pairs = point.pairs.min(pairs));
        cpp_points.iter_mut().for_each(|point| point.pairs = point.pairs.min(pairs));
    }
    (points, cpp_points)
}

/// Prints the verdicts on all targets and returns whether all binding ones hold.
fn check_targets(summaries: &[Summary]) -> bool {
    let verdicts = targets::judge(summaries);
    for verdict in &verdicts {
        println!("target {}: {}: {}", verdict.target, verdict.text, if verdict.holds { "holds" } else { "MISSED" });
    }
    verdicts.iter().all(|verdict| verdict.holds || !verdict.is_binding())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let file = folder.join(name);
    fs::write(&file, text).map_err(|why| format!("writing {}: {why}", file.display()))
}
