//! Finds the library as a program of a user does, and prints which file it is.

use std::fs;
use std::process::ExitCode;

use octopus_loader::Library;

fn main() -> ExitCode {
    match Library::find() {
        Ok(_) => {
            // `path` of the library is only a name, if the dynamic loader has found it.
            let maps = fs::read_to_string("/proc/self/maps").expect("the memory map of this process");
            let file = maps
                .lines()
                .filter_map(|line| line.find('/').map(|at| &line[at..]))
                .find(|path| path.contains("liboctopus"));
            println!("{}", file.expect("the library is mapped"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
