//! Compiles librdkafka with a configuration of its own: docs/librdkafka.md.
//!
//! The sources are those of the crate rdkafka-sys, whose own build script `.cargo/config.toml`
//! replaces. [`sources`] finds them, [`queue`] applies the patch queue to a copy, `config` writes
//! the `config.h` that librdkafka's configure script would otherwise write, and `compile` runs
//! the C compiler.

mod compile;
mod config;
pub mod queue;
pub mod sources;

use std::env;
use std::path::{Path, PathBuf};

pub use config::Features;

use queue::PatchQueue;
use sources::{Sources, TargetSystem};

/// The directory of sources that replaces those of rdkafka-sys. Set by `ci/librdkafka.sh bump`.
const SOURCES_VARIABLE: &str = "OCTOPUS_LIBRDKAFKA_SOURCES";
/// The numbers of patches to omit, separated by commas. Set by `ci/librdkafka.sh check`.
const WITHOUT_VARIABLE: &str = "OCTOPUS_LIBRDKAFKA_WITHOUT";
/// Additional flags for librdkafka's C files. Set by `ci/sanitize.sh`.
const CFLAGS_VARIABLE: &str = "OCTOPUS_LIBRDKAFKA_CFLAGS";

/// The settings of a build.
pub struct Build {
    features: Features,
    queue: Option<PathBuf>,
    harness: Option<PathBuf>,
    includes: Vec<PathBuf>,
    archive: &'static str,
}

impl Build {
    /// Builds librdkafka without patches, linked as `archive`.
    pub fn new(features: Features, archive: &'static str) -> Self {
        Build { features, queue: None, harness: None, includes: Vec::new(), archive }
    }

    /// Applies the patches in this directory.
    pub fn patches(mut self, directory: impl Into<PathBuf>) -> Self {
        self.queue = Some(directory.into());
        self
    }

    /// Adds a C file that uses librdkafka's internal headers.
    pub fn harness(mut self, file: impl Into<PathBuf>) -> Self {
        self.harness = Some(file.into());
        self
    }

    /// Adds directories with headers of libraries that cargo does not build.
    pub fn includes(mut self, directories: impl IntoIterator<Item = PathBuf>) -> Self {
        self.includes.extend(directories);
        self
    }

    /// Compiles librdkafka and makes cargo link it. Called by a build script.
    ///
    /// # Errors
    /// A message for the person who builds: what failed, on what, and what to do.
    pub fn compile(&self) -> Result<(), String> {
        for variable in [SOURCES_VARIABLE, WITHOUT_VARIABLE, CFLAGS_VARIABLE] {
            println!("cargo:rerun-if-env-changed={variable}");
        }
        ensure_rdkafka_sys_is_not_built()?;
        let target = TargetSystem::from_cargo()?;
        let root = match env::var_os(SOURCES_VARIABLE) {
            Some(directory) => PathBuf::from(directory),
            None => sources::locate(&out_dir())?,
        };
        let mut tree = Sources::read(&root)?;
        let patched_version = match &self.queue {
            None => None,
            Some(directory) => {
                println!("cargo:rerun-if-changed={}", directory.display());
                let queue = PatchQueue::read(directory)?.without(&omitted_patches()?)?;
                queue.apply(&mut tree)?;
                Some(format!("{}+octopus.{}", tree.version()?, queue.last_number()))
            }
        };
        let directory = out_dir().join("librdkafka");
        tree.write(&directory)?;
        let config_h = config::config_h(&self.features, &target, patched_version.as_deref());
        write(&directory.join("config.h"), &config_h)?;
        compile::compile(&tree, &directory, &config_h, self)
    }
}

/// Fails if rdkafka-sys compiles librdkafka too, which it does unless the configuration of cargo
/// replaces its build script.
fn ensure_rdkafka_sys_is_not_built() -> Result<(), String> {
    // Cargo sets the variable from the key `built_by` in .cargo/config.toml.
    if env::var_os("DEP_RDKAFKA_BUILT_BY").is_some_and(|by| by == "octopus") {
        return Ok(());
    }
    let target = env::var("TARGET").unwrap_or_else(|_| "your target".to_owned());
    Err(format!(
        "cargo has not read Octopus' .cargo/config.toml, or that file has no entry for the target {target}. Without it, \
         rdkafka-sys compiles a second librdkafka.\n\
         Run cargo inside the repository; or pass `--config REPOSITORY/.cargo/config.toml`; or add\n\
         \x20   [target.{target}.rdkafka]\n\
         \x20   built_by = \"octopus\"\n\
         to the configuration that cargo reads (https://doc.rust-lang.org/cargo/reference/config.html)."
    ))
}

fn omitted_patches() -> Result<Vec<u32>, String> {
    let list = env::var(WITHOUT_VARIABLE).unwrap_or_default();
    list.split(',')
        .map(str::trim)
        .filter(|number| !number.is_empty())
        .map(|number| {
            number.parse().map_err(|_| format!("{WITHOUT_VARIABLE}={list}: {number:?} is not a patch number"))
        })
        .collect()
}

fn out_dir() -> PathBuf {
    env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts").into()
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("writing {}: {error}", path.display()))
}
