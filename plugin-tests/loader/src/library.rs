//! Finding `liboctopus.so`, loading it, and making sure that both sides mean the same ABI. What is done with the
//! tables that it gives is the other files' business.

use std::env;
use std::fmt;
use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use libloading::Library;
use octopus::abi::{OCTOPUS_ABI_MAJOR, OCTOPUS_ABI_MINOR, octopus_api, octopus_text};
use serde::Serialize;

use crate::driver::{Driver, DriverBuilder};
use crate::error::{Error, Result};
use crate::raw::{Tables, read_bytes};
use crate::thread_pool::{HostPool, ThreadPool};

/// The environment variable that says where the library is, before anything is looked for.
pub const LIBRARY_VARIABLE: &str = "OCTOPUS_LIBRARY";

const FILE: &str = "liboctopus.so";

/// The loaded library. It is never unmapped, so this can be copied and dropped at will.
#[derive(Clone, Copy)]
pub struct Octopus {
    tables: &'static Tables,
    path: &'static Path,
}

type Register = unsafe extern "C" fn(abi_major: u32) -> *const octopus_api;

impl Octopus {
    /// Loads the library that `OCTOPUS_LIBRARY` names, or else the newest one near the running executable: beside
    /// it, one folder up, and in the folder `deps` of either, where cargo leaves it for tests and examples.
    ///
    /// [`Status::BadLibrary`](crate::Status::BadLibrary) says where it looked.
    pub fn find() -> Result<Self> {
        match env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
            Some(path) => Self::load(path),
            None => Self::load(newest_near(&running_executable()?)?),
        }
    }

    /// Loads the library at `path`. [`Status::BadLibrary`](crate::Status::BadLibrary) when it can't be loaded, is
    /// not Octopus, or speaks another version of the ABI than this host was built for.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let trouble = |why: &dyn fmt::Display| Error::bad_library(format!("loading {}: {why}", path.display()));
        // SAFETY: the host's choice of a library; Octopus does nothing in its constructors.
        let library = unsafe { Library::new(path) }.map_err(|why| trouble(&reason(&why)))?;
        // SAFETY: a library with this symbol is Octopus, in which it is of this type.
        let register = unsafe { library.get::<Register>(b"octopus_register") }.map_err(|why| trouble(&reason(&why)))?;
        // SAFETY: callable from any thread, any number of times.
        let api = unsafe { register(OCTOPUS_ABI_MAJOR) };
        if api.is_null() {
            return Err(trouble(&format_args!("it does not speak major {OCTOPUS_ABI_MAJOR} of the ABI")));
        }
        // SAFETY: just registered, and still mapped.
        let tables = unsafe { Tables::copy(api) };
        let (major, minor) = (tables.api.abi_major, tables.api.abi_minor);
        if (major, minor) != (OCTOPUS_ABI_MAJOR, OCTOPUS_ABI_MINOR) {
            return Err(trouble(&format_args!(
                "it speaks version {major}.{minor} of the ABI, this host {OCTOPUS_ABI_MAJOR}.{OCTOPUS_ABI_MINOR}; \
                 while the major is 0 they must be the same: build both from the same sources"
            )));
        }
        // Octopus is linked so that it is never unmapped; what tables and handles point to doesn't rely on it.
        mem::forget(library);
        Ok(Self::keep(tables, path))
    }

    /// Where it was loaded from.
    pub fn path(&self) -> &'static Path {
        self.path
    }

    /// The plugin's version.
    pub fn version(&self) -> &'static str {
        self.text(self.tables.api.version)
    }

    /// The version of the librdkafka inside.
    pub fn librdkafka_version(&self) -> &'static str {
        self.text(self.tables.api.librdkafka_version)
    }

    /// What librdkafka was built with, separated by commas: `gzip,snappy,ssl,…`.
    pub fn built_in(&self) -> &'static str {
        self.text(self.tables.api.built_in)
    }

    /// What `octopus_register` gave, for calls that this crate has no name for; its tables live until the process
    /// ends. Fields that the library doesn't have are zero.
    pub fn api(&self) -> &'static octopus_api {
        &self.tables.api
    }

    /// Makes a driver from its configuration (docs/configuration.md). Asks no broker yet.
    ///
    /// [`Status::InvalidConfiguration`](crate::Status::InvalidConfiguration) names the key,
    /// [`Status::Unsupported`](crate::Status::Unsupported) what this build lacks.
    pub fn driver(&self, config: impl Serialize) -> Result<Driver> {
        self.driver_builder(config).create()
    }

    /// As [`driver`](Self::driver), with the configuration's text as it is.
    pub fn driver_from_text(&self, config: &str) -> Result<Driver> {
        self.driver_builder_from_text(config).create()
    }

    /// Begins a driver that gets services of the host: where to log, and whom to tell of what.
    pub fn driver_builder(&self, config: impl Serialize) -> DriverBuilder {
        DriverBuilder::new(self.tables, config)
    }

    /// As [`driver_builder`](Self::driver_builder), with the configuration's text as it is.
    pub fn driver_builder_from_text(&self, config: &str) -> DriverBuilder {
        DriverBuilder::from_text(self.tables, config)
    }

    /// A pool of so many threads of the plugin's; with none, work is done in the caller.
    /// [`Status::InvalidArgument`](crate::Status::InvalidArgument) beyond 4,096.
    pub fn thread_pool(&self, threads: u64) -> Result<ThreadPool> {
        ThreadPool::make(self.tables, threads)
    }

    /// A pool of the host's, for the plugin to use.
    pub fn host_pool(&self, pool: impl HostPool) -> Result<ThreadPool> {
        ThreadPool::of_host(self.tables, pool)
    }

    /// Keeps the tables until the process ends, once for each library however often it is loaded.
    fn keep(tables: Tables, path: &Path) -> Self {
        static LOADED: Mutex<Vec<Octopus>> = Mutex::new(Vec::new());
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |known: &&Octopus| known.path == path && known.tables.api.driver == tables.api.driver;
        if let Some(known) = loaded.iter().find(is_same) {
            return *known;
        }
        let new = Octopus { tables: Box::leak(Box::new(tables)), path: Box::leak(path.into()) };
        loaded.push(new);
        new
    }

    fn text(&self, text: octopus_text) -> &'static str {
        // SAFETY: the plugin's, and there until the process ends.
        str::from_utf8(unsafe { read_bytes(text.data.cast(), text.size) }).unwrap_or("not UTF-8")
    }
}

impl fmt::Debug for Octopus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Octopus {}", self.version())
    }
}

/// The loader's own words, which are behind the error.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| source.to_string())
}

fn running_executable() -> Result<PathBuf> {
    env::current_exe().map_err(|why| {
        Error::bad_library(format!("looking for {FILE} beside the running executable, which can't be told: {why}"))
    })
}

fn newest_near(executable: &Path) -> Result<PathBuf> {
    let places: Vec<PathBuf> = executable
        .ancestors()
        .skip(1)
        .take(2)
        .flat_map(|folder| [folder.join(FILE), folder.join("deps").join(FILE)])
        .collect();
    let newest = places.iter().filter_map(|path| Some((modified(path)?, path))).max();
    newest.map(|(_, path)| path.clone()).ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        Error::bad_library(format!(
            "{FILE} was not found: neither at {}; build it with `cargo build`, or set {LIBRARY_VARIABLE} to its path",
            places.join(", nor at ")
        ))
    })
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
