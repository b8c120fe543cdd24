//! Support for the programs of this package: finds the library that cargo has built.

#![warn(missing_docs)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

// Links librdkafka into the programs here that use rdkafka beside the loaded library: the fault
// runner, the benchmarks and the suite. For other programs nothing of it is linked.
use octopus as _;
use octopus_loader::{Error, Library, Result, Status};

/// The environment variable with the path of the library. It takes precedence over the search.
pub const LIBRARY_VARIABLE: &str = "OCTOPUS_LIBRARY";

/// Opens the library that `OCTOPUS_LIBRARY` names or, without it, the newest one near the running
/// executable: in its folder, in the parent folder, and in the folder `deps` of either, where cargo
/// puts it for tests and examples.
///
/// [`Status::BadLibrary`] lists the paths that were searched.
pub fn open_library() -> Result<Library> {
    match env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => Library::open(path),
        None => Library::open(newest_near(&running_executable()?)?),
    }
}

fn running_executable() -> Result<PathBuf> {
    env::current_exe().map_err(|why| {
        let name = Library::FILE_NAME;
        Error::new(Status::BadLibrary, format!("looking for {name}: the path of the executable is unknown: {why}"))
    })
}

fn newest_near(executable: &Path) -> Result<PathBuf> {
    let candidates: Vec<PathBuf> = executable
        .ancestors()
        .skip(1)
        .take(2)
        .flat_map(|folder| [folder.join(Library::FILE_NAME), folder.join("deps").join(Library::FILE_NAME)])
        .collect();
    let newest = candidates.iter().filter_map(|path| Some((modified(path)?, path))).max();
    newest.map(|(_, path)| path.clone()).ok_or_else(|| {
        let searched: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        Error::new(
            Status::BadLibrary,
            format!(
                "{} was not found at {}: build it with `cargo build`, or set {LIBRARY_VARIABLE} to its path",
                Library::FILE_NAME,
                searched.join(", ")
            ),
        )
    })
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
