//! Measures librdkafka as published, compiled as octopus compiles it.

use std::process::ExitCode;
use std::time::Instant;

use floor::librdkafka::Librdkafka;
// Linked only if it is named.
use unpatched_librdkafka as _;

fn main() -> ExitCode {
    let began = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match floor::job_in(&arguments) {
        Some(job) => floor::tell(&floor::measure::<Librdkafka>(&job, began)),
        None => {
            eprintln!("usage: floor {} JOB; the benchmarks of ci/bench.sh start it", floor::ROLE);
            ExitCode::from(2)
        }
    }
}
