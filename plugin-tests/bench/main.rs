//! Octopus against librdkafka alone: the same librdkafka, the same settings, the same bytes, in pairs, each in a process of its
//! own. docs/performance.md says how, and what it came to; ci/bench.sh is the way to start it.

mod floor;
mod instructions;
mod job;
mod measure;
mod options;
mod plots;
mod plugin;
mod runner;
mod scenarios;
mod side;
mod statistics;
mod summary;
mod targets;
mod usage;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use options::Options;
use runner::Runner;
use scenarios::Point;
use summary::Summary;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, job] = &arguments[..]
        && role == measure::ROLE
    {
        return measure::measure(job);
    }
    if arguments == [instructions::MOCK] {
        return instructions::be_a_broker();
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

/// Whether all targets hold.
fn bench(options: &Options) -> Result<bool, String> {
    let points = chosen(options);
    if points.is_empty() {
        return Err(format!("no scenario is called {}; see --list", options.only.join(", ")));
    }
    if options.list {
        points.iter().for_each(|point| println!("{}, {}", point.scenario, point.at));
        return Ok(true);
    }
    let folder = options.out.clone().unwrap_or_else(|| PathBuf::from("target/bench"));
    fs::create_dir_all(&folder).map_err(|why| format!("making {}: {why}", folder.display()))?;
    let mut runner = Runner::new(&options.bootstrap)?;
    let (mut rows, mut summaries) = (format!("{}\n", summary::COLUMNS), Vec::new());
    for (index, point) in points.iter().enumerate() {
        eprintln!("{} of {}: {}, {}, {} pairs", index + 1, points.len(), point.scenario, point.at, point.pairs);
        let measured = runner.run(point)?;
        measured.iter().for_each(|row| writeln!(rows, "{}", summary::csv(row)).expect("a text takes all"));
        // After each point, for what is there already to be seen.
        write(&folder, "rows.csv", &rows)?;
        if let Some(summary) = Summary::of(&measured) {
            let table = summary::markdown(std::slice::from_ref(&summary));
            eprintln!("{}", table.lines().last().unwrap_or_default());
            summaries.push(summary);
        }
    }
    let table = summary::markdown(&summaries);
    println!("{table}");
    write(&folder, "summary.md", &table)?;
    plots::draw(&summaries, &folder).map_err(|why| format!("drawing: {why}"))?;
    Ok(!options.check || told(&summaries))
}

fn chosen(options: &Options) -> Vec<Point> {
    let mut points = if options.quick { scenarios::quick() } else { scenarios::all() };
    points.retain(|point| options.only.is_empty() || options.only.iter().any(|it| it == point.scenario));
    if let Some(pairs) = options.pairs {
        points.iter_mut().for_each(|point| point.pairs = pairs);
    }
    points
}

fn told(summaries: &[Summary]) -> bool {
    let verdicts = targets::judge(summaries);
    for verdict in &verdicts {
        println!("target {}: {}: {}", verdict.target, verdict.said, if verdict.holds { "holds" } else { "MISSED" });
    }
    verdicts.iter().all(|verdict| verdict.holds)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let file = folder.join(name);
    fs::write(&file, text).map_err(|why| format!("writing {}: {why}", file.display()))
}
