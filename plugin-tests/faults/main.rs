//! The fault runner. It runs Octopus as a plugin in worker processes, against brokers that crash,
//! hang, send corrupted bytes and disappear. An oracle that shares no code with the plugin checks
//! that no event was lost, duplicated or reordered, and that every future was resolved.
//! docs/reliability.md lists the promises and the results of a full run; ci/faults.sh starts a run.

mod brokers;
mod damage;
mod fault;
mod journal;
mod numbered;
mod options;
mod oracle;
mod protections;
mod rows;
mod run;
mod scenario;
mod table;
mod worker;

use std::process::ExitCode;

use options::Options;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, job] = &arguments[..]
        && role == worker::WORKER_ARGUMENT
    {
        return worker::run(job);
    }
    if let [role, job] = &arguments[..]
        && role == rows::LANE_ARGUMENT
    {
        return rows::run_lane(job);
    }
    match Options::read(&arguments) {
        Ok(options) if options.protections => protections::check_all(&options),
        Ok(options) => rows::run(&options),
        Err(usage) => {
            eprintln!("{usage}");
            ExitCode::from(2)
        }
    }
}
