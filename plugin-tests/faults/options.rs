//! The command line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

const USAGE: &str = "\
Usage: faults [option...]

Runs the fault matrix: a short form of each row, some seconds long; with --full the whole matrix.

  --full        the whole matrix: more than an hour
  --row N       only this row; may be repeated
  --seed S      the seed of the first run of each row (default: random); with --row, repeats a failed run
  --keep        keep the folders of passed runs, too
  --table FILE  also write the summary to FILE, as a Markdown table
  --protections instead of the matrix: switch off each protection of the library in turn, and check that its row fails
  --list        list the rows and exit
  --help        print this text

The folder of a failed run is kept in target/tmp/faults: its log, the workers' journals and logs, the brokers' logs.";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Options {
    pub full: bool,
    pub rows: Vec<u8>,
    pub seed: Option<u64>,
    pub keep: bool,
    pub table: Option<PathBuf>,
    pub list: bool,
    pub protections: bool,
}

impl Options {
    pub fn read(arguments: &[String]) -> Result<Self, String> {
        let mut options = Options::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or(format!("{argument} needs a value\n\n{USAGE}"));
            let number = |text: &String| text.parse::<u64>().map_err(|why| format!("{argument} {text:?}: {why}"));
            match argument.as_str() {
                "--full" => options.full = true,
                "--keep" => options.keep = true,
                "--list" => options.list = true,
                "--protections" => options.protections = true,
                "--row" => options.rows.push(number(value()?)?.try_into().map_err(|why| format!("--row: {why}"))?),
                "--seed" => options.seed = Some(number(value()?)?),
                "--table" => options.table = Some(value()?.into()),
                "--help" => return Err(USAGE.to_owned()),
                _ => return Err(format!("unknown option {argument}\n\n{USAGE}")),
            }
        }
        Ok(options)
    }
}
