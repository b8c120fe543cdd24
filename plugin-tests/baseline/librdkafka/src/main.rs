//! Measures librdkafka as published, compiled as octopus compiles it.

use std::process::ExitCode;
use std::time::Instant;

use baseline::librdkafka::Librdkafka;
// Linked only if it is named.
use unpatched_librdkafka as _;

fn main() -> ExitCode {
    let began = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match baseline::job_in(&arguments) {
        Some(job) => baseline::tell(&baseline::measure::<Librdkafka>(&job, began)),
        None => {
            eprintln!("usage: baseline {} JOB; the benchmarks of ci/bench.sh start it", baseline::ROLE);
            ExitCode::from(2)
        }
    }
}
