//! Loads `liboctopus.so` and checks that it has the ABI that this crate is built for.

use std::ffi::OsStr;
use std::fmt;
use std::mem;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::abi::{OCTOPUS_ABI_MAJOR, OCTOPUS_ABI_MINOR, octopus_api, octopus_register_fn, octopus_text};
use crate::driver::{Driver, DriverBuilder};
use crate::error::{Error, Result};
use crate::raw::{Tables, read_bytes};
use crate::thread_pool::{HostPool, ThreadPool};

/// The loaded library. It is never unmapped, so this value can be copied and dropped freely.
///
/// ```no_run
/// use octopus_loader::{Library, Status};
///
/// let library = match Library::find() {
///     Ok(library) => library,
///     Err(error) if error.status == Status::BadLibrary => panic!("{error}"),
///     Err(error) => panic!("unexpected: {error}"),
/// };
/// println!("Octopus {} with librdkafka {}", library.version(), library.librdkafka_version());
/// ```
#[derive(Clone, Copy)]
pub struct Library {
    tables: &'static Tables,
    path: &'static Path,
}

impl Library {
    /// The name of the library's file, which is its soname.
    pub const FILE_NAME: &str = "liboctopus.so";

    /// Loads the library at `path`. A path without a slash is a name that the dynamic loader
    /// searches for, as `dlopen` does: in the program's `RUNPATH`, in `LD_LIBRARY_PATH`, in the
    /// cache of `ldconfig` and in the system's folders.
    ///
    /// Loading runs code of the file, so open only files that you trust as you trust the program
    /// itself. Opening the same file again is cheap and gives the same library.
    ///
    /// Fails with [`Status::BadLibrary`](crate::Status::BadLibrary) if the file can't be loaded, is
    /// not Octopus, or has an ABI that this crate is not built for: another major version or, while
    /// the major version is 0, another minor version.
    pub fn open(path: impl AsRef<OsStr>) -> Result<Self> {
        let path = Path::new(path.as_ref());
        Self::load(path)
            .map_err(|why| Error::bad_library(format!("loading {}: {why}{}", path.display(), search_hint(path))))
    }

    /// As [`open`](Self::open); an error is the reason alone.
    pub(crate) fn load(path: &Path) -> std::result::Result<Self, String> {
        // SAFETY: the caller vouches for the file and its constructors (documented at `open` and
        // `find`); Octopus has no constructor with preconditions.
        let library = unsafe { libloading::Library::new(path) }.map_err(|why| dlopen_message(&why, path))?;
        // SAFETY: include/octopus.h declares the type of the symbol `octopus_register`, which only
        // Octopus exports.
        let register = unsafe { library.get::<octopus_register_fn>(b"octopus_register") }
            .map_err(|why| format!("it is not Octopus: {}", dlopen_message(&why, path)))?;
        let register = register.ok_or("it is not Octopus: its octopus_register is NULL")?;
        // SAFETY: include/octopus.h allows this call from any thread with any major version.
        let api = unsafe { register(OCTOPUS_ABI_MAJOR) };
        if api.is_null() {
            return Err(format!(
                "it does not have ABI version {OCTOPUS_ABI_MAJOR}, for which this program is built: {REBUILD}"
            ));
        }
        // SAFETY: `octopus_register` has returned `api` for this crate's major version, and the
        // library is not unmapped, since `library` is leaked below if this function succeeds.
        let tables = unsafe { Tables::copy(api) };
        check_version(tables.api.abi_major, tables.api.abi_minor)?;
        // Tables and handles point into the library until the process ends. Octopus is linked with
        // `-z nodelete`; a file that is not must stay mapped, too.
        mem::forget(library);
        Ok(Self::keep(tables, path))
    }

    /// The path that was opened.
    pub fn path(&self) -> &'static Path {
        self.path
    }

    /// The version of the library.
    pub fn version(&self) -> &'static str {
        self.text(self.tables.api.version)
    }

    /// The version of the librdkafka inside.
    pub fn librdkafka_version(&self) -> &'static str {
        self.text(self.tables.api.librdkafka_version)
    }

    /// The features that librdkafka was built with, separated by commas: `gzip,snappy,ssl,…`.
    pub fn built_in(&self) -> &'static str {
        self.text(self.tables.api.built_in)
    }

    /// The table that `octopus_register` returned, for calls that this crate does not wrap. What it
    /// points to lives until the process ends. Fields that the library does not have are zero.
    pub fn api(&self) -> &'static octopus_api {
        &self.tables.api
    }

    /// Makes a driver from its configuration (docs/reference/configuration.md), without connecting
    /// to a broker yet.
    ///
    /// [`Status::InvalidConfiguration`](crate::Status::InvalidConfiguration) names the wrong key,
    /// [`Status::Unsupported`](crate::Status::Unsupported) the feature that this library is built
    /// without.
    pub fn driver(&self, config: impl Serialize) -> Result<Driver> {
        self.driver_builder(config).create()
    }

    /// As [`driver`](Self::driver), from the configuration's JSON text.
    pub fn driver_from_text(&self, config: &str) -> Result<Driver> {
        self.driver_builder_from_text(config).create()
    }

    /// Begins a driver that gets callbacks of this program, such as one for its log.
    pub fn driver_builder(&self, config: impl Serialize) -> DriverBuilder {
        DriverBuilder::new(self.tables, config)
    }

    /// As [`driver_builder`](Self::driver_builder), from the configuration's JSON text.
    pub fn driver_builder_from_text(&self, config: &str) -> DriverBuilder {
        DriverBuilder::from_text(self.tables, config)
    }

    /// Makes a pool of `threads` threads of the library; in a pool of 0 threads the caller does the
    /// work. [`Status::InvalidArgument`](crate::Status::InvalidArgument) above 4,096.
    pub fn thread_pool(&self, threads: u64) -> Result<ThreadPool> {
        ThreadPool::make(self.tables, threads)
    }

    /// Makes a pool of this program's threads, for the library to use.
    pub fn host_pool(&self, pool: impl HostPool) -> Result<ThreadPool> {
        ThreadPool::from_host(self.tables, pool)
    }

    /// Keeps the tables until the process ends: one copy per library, however often it is opened.
    fn keep(tables: Tables, path: &Path) -> Self {
        static LOADED: Mutex<Vec<Library>> = Mutex::new(Vec::new());
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |known: &&Library| known.path == path && known.tables.api.driver == tables.api.driver;
        if let Some(known) = loaded.iter().find(is_same) {
            return *known;
        }
        let new = Library { tables: Box::leak(Box::new(tables)), path: Box::leak(path.into()) };
        loaded.push(new);
        new
    }

    fn text(&self, text: octopus_text) -> &'static str {
        // SAFETY: include/octopus.h guarantees that the texts of `octopus_api` live until the
        // process ends.
        str::from_utf8(unsafe { read_bytes(text.data.cast(), text.size) }).unwrap_or("not UTF-8")
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Octopus {} from {}", self.version(), self.path.display())
    }
}

const REBUILD: &str = "build the program and the library from the same version of Octopus";

fn check_version(major: u32, minor: u32) -> std::result::Result<(), String> {
    let (library, program) = ((major, minor), (OCTOPUS_ABI_MAJOR, OCTOPUS_ABI_MINOR));
    if is_compatible(library, program) {
        return Ok(());
    }
    let (major_built_for, minor_built_for) = program;
    Err(format!(
        "it has ABI version {major}.{minor}, this program is built for {major_built_for}.{minor_built_for}: {REBUILD}"
    ))
}

/// Within a major version from 1 on, tables only grow: a slot that the library lacks is
/// [`Status::Unsupported`](crate::Status::Unsupported), and one that the program does not know is
/// not used. In major version 0 any change may break.
pub(crate) fn is_compatible(library: (u32, u32), program: (u32, u32)) -> bool {
    library.0 == program.0 && (program.0 > 0 || library.1 == program.1)
}

/// What to do if a name without a slash was not found.
fn search_hint(path: &Path) -> &'static str {
    match path.as_os_str().as_encoded_bytes().contains(&b'/') {
        true => "",
        false => "; add its folder to LD_LIBRARY_PATH, or open it by a path with a slash",
    }
}

/// The text of `dlerror`, which libloading has as the source of its error, without the path that it
/// mostly begins with.
fn dlopen_message(error: &libloading::Error, path: &Path) -> String {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), |source| source.to_string());
    match text.strip_prefix(&format!("{}: ", path.display())) {
        Some(reason) => reason.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Status;

    #[test]
    fn minor_versions_are_compatible_from_major_1_on() {
        assert!(is_compatible((1, 5), (1, 3)) && is_compatible((1, 3), (1, 5)));
        assert!(is_compatible((0, 3), (0, 3)) && !is_compatible((0, 4), (0, 3)));
        assert!(!is_compatible((2, 3), (1, 3)));
    }

    #[test]
    fn incompatible_version_is_rejected_with_both_versions() {
        assert_eq!(check_version(OCTOPUS_ABI_MAJOR, OCTOPUS_ABI_MINOR), Ok(()));
        let why = check_version(OCTOPUS_ABI_MAJOR + 1, 7).unwrap_err();
        assert!(why.contains(&format!("ABI version {}.7", OCTOPUS_ABI_MAJOR + 1)), "{why}");
        assert!(why.contains(&format!("built for {OCTOPUS_ABI_MAJOR}.{OCTOPUS_ABI_MINOR}")), "{why}");
    }

    #[test]
    fn opening_a_missing_file_names_it() {
        let error = Library::open("/nowhere/liboctopus.so").unwrap_err();
        assert_eq!(error.status, Status::BadLibrary);
        assert!(error.message.starts_with("loading /nowhere/liboctopus.so: "), "{error}");
        assert!(!error.message.contains("LD_LIBRARY_PATH"), "{error}");
    }

    #[test]
    fn opening_an_unknown_name_says_how_to_find_it() {
        let error = Library::open("liboctopus-unknown.so").unwrap_err();
        assert!(error.message.contains("LD_LIBRARY_PATH"), "{error}");
    }

    #[test]
    fn opening_another_library_reports_that_it_is_not_octopus() {
        let error = Library::open("libc.so.6").unwrap_err();
        assert_eq!(error.status, Status::BadLibrary);
        assert!(error.message.contains("it is not Octopus") && error.message.contains("octopus_register"), "{error}");
    }
}
