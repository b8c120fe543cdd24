//! The fault runner: Octopus as a plugin, in processes of their own, against brokers that crash, hang, lie and go away. An
//! oracle that shares no code with the plugin says whether anything was lost, doubled, swapped or left without an answer.
//! docs/reliability.md says what is promised and has the table that a whole run wrote; ci/faults.sh is the way to start one.

mod brokers;
mod damage;
// The suite uses the rest of it.
#[allow(dead_code)]
#[path = "../tests/suite/damaged_log.rs"]
mod damaged_log;
mod journal;
mod numbered;
mod options;
mod oracle;
mod protections;
mod proxy;
mod rows;
mod run;
mod scene;
mod table;
mod trouble;
mod worker;

use std::process::ExitCode;

use options::Options;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, job] = &arguments[..]
        && role == worker::ROLE
    {
        return worker::work(job);
    }
    if let [role, job] = &arguments[..]
        && role == rows::LANE
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
