//! Measures librdkafka as published, compiled with the flags of octopus.

use std::process::ExitCode;
use std::time::Instant;

use baseline::librdkafka::Librdkafka;
// A crate that nothing refers to is not linked.
use unpatched_librdkafka as _;

fn main() -> ExitCode {
    let began = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match baseline::job_in(&arguments) {
        Some(job) => baseline::print_figures(&baseline::measure::<Librdkafka>(&job, began)),
        None => {
            eprintln!("usage: baseline {} JOB; the benchmarks of ci/bench.sh start it", baseline::ROLE);
            ExitCode::from(2)
        }
    }
}
