//! Finds the library as a program of a user does, and prints where it is.

use std::process::ExitCode;

use octopus_loader::Library;

fn main() -> ExitCode {
    match Library::find() {
        Ok(library) => {
            println!("{}", library.path().display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
