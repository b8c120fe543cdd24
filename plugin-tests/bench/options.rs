//! The command line.

use std::path::PathBuf;

use crate::through_cpp::ThroughCpp;

const USAGE: &str = "\
Usage: bench [option...] host:port
       bench --instructions FILE [--write]

Compares Octopus with librdkafka without Octopus, on the Kafka at host:port, in pairs of runs, and prints the ratios.

  --quick          measure the main ratios only, in about two minutes
  --only SCENARIO  measure this scenario only, or this point, as --list prints it; may be repeated
  --pairs N        measure at most N pairs of each point
  --check          fail unless the targets of docs/performance.md hold, except those of the C++ API
  --out FOLDER     write rows.csv, summary.md and plots there (default: target/bench)
  --list           list the points without measuring them
  --cpp PROGRAM LIBRARY LIBRARY  measure the C++ API, too: PROGRAM is plugin-tests/diaspora/bench.cpp, the
                   libraries are those of C++ Octopus and of this project
  --instructions FILE  count instructions with callgrind, and fail if an event costs over 3 % more than FILE says;
                   with --write, write FILE
  --help           print this text";

#[derive(Debug, Clone, Default)]
pub struct Options {
    pub quick: bool,
    pub only: Vec<String>,
    pub pairs: Option<usize>,
    pub check: bool,
    pub out: Option<PathBuf>,
    pub list: bool,
    pub cpp: Option<ThroughCpp>,
    pub instructions: Option<PathBuf>,
    pub write: bool,
    pub bootstrap: String,
}

impl Options {
    pub fn read(arguments: &[String]) -> Result<Self, String> {
        let mut options = Options::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or(format!("{argument} needs a value\n\n{USAGE}"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--only" => options.only.push(value()?.clone()),
                "--pairs" => {
                    let pairs = value()?;
                    options.pairs = Some(pairs.parse().map_err(|why| format!("--pairs {pairs:?}: {why}"))?);
                }
                "--check" => options.check = true,
                "--out" => options.out = Some(value()?.into()),
                "--cpp" => {
                    let [program, cpp_octopus, plugin] = [value()?.into(), value()?.into(), value()?.into()];
                    options.cpp = Some(ThroughCpp { program, cpp_octopus, plugin });
                }
                "--list" => options.list = true,
                "--instructions" => options.instructions = Some(value()?.into()),
                "--write" => options.write = true,
                "--help" => return Err(USAGE.to_owned()),
                option if option.starts_with('-') => return Err(format!("unknown option {option}\n\n{USAGE}")),
                address => options.bootstrap = address.to_owned(),
            }
        }
        if options.bootstrap.is_empty() && !options.list && options.instructions.is_none() {
            return Err(format!("host:port is missing\n\n{USAGE}"));
        }
        Ok(options)
    }
}
