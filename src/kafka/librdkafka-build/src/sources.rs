//! Finds librdkafka's sources and selects the C files of a build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::config::Features;

/// The version of rdkafka-sys in Cargo.toml, which pins it exactly.
pub const RDKAFKA_SYS: &str = "4.10.0";

/// The system that librdkafka is compiled for.
pub struct TargetSystem {
    pub is_x86_64: bool,
}

impl TargetSystem {
    /// # Errors
    /// If `config.h` does not support that system.
    pub fn from_cargo() -> Result<Self, String> {
        let system = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
        if system != "linux" {
            return Err(format!(
                "librdkafka's configuration (src/kafka/librdkafka-build/src/config.rs) is written for Linux, and the target \
                 is {system}: build on or for Linux, or add a configuration for {system} there"
            ));
        }
        Ok(TargetSystem { is_x86_64: env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|name| name == "x86_64") })
    }
}

/// The directory of librdkafka in rdkafka-sys, which cargo has downloaded as a dependency. Build
/// scripts don't get the paths of their dependencies' sources, but `cargo metadata` prints them. It
/// runs on an empty package with this one dependency, so that it needs nothing that the build has
/// not downloaded.
///
/// # Errors
/// When cargo cannot be run or does not know the package.
pub fn locate(scratch: &Path) -> Result<PathBuf, String> {
    let package = scratch.join("locate-rdkafka-sys");
    let manifest = package.join("Cargo.toml");
    let text = format!(
        "[package]\nname = \"locate-rdkafka-sys\"\nedition = \"2024\"\n[workspace]\n[lib]\npath = \"lib.rs\"\n\
         [dependencies]\nrdkafka-sys = {{ version = \"={RDKAFKA_SYS}\", default-features = false }}\n"
    );
    fs::create_dir_all(&package)
        .and_then(|()| fs::write(package.join("lib.rs"), ""))
        .and_then(|()| fs::write(&manifest, text))
        .map_err(|error| format!("writing {}: {error}", manifest.display()))?;
    // Tries offline first, as the build has downloaded the package and may have no network. A
    // pruned cache needs it.
    let metadata = metadata(&manifest, &["--offline"]).or_else(|_| metadata(&manifest, &[]))?;
    let root = manifest_path_in(&metadata)
        .and_then(|path| Some(path.parent()?.join("librdkafka")))
        .ok_or_else(|| format!("cargo metadata does not name the sources of rdkafka-sys {RDKAFKA_SYS}"))?;
    Ok(root)
}

fn metadata(manifest: &Path, arguments: &[&str]) -> Result<String, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--manifest-path"]).arg(manifest).args(arguments);
    // Runs in the package's own directory, from which cargo finds its configuration with mirrors
    // and vendored sources.
    let output = command.output().map_err(|error| format!("running {command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The `manifest_path` of the package rdkafka-sys. In a package the version follows the name; in a
/// dependency it does not.
fn manifest_path_in(metadata: &str) -> Option<PathBuf> {
    const KEY: &str = "\"manifest_path\":\"";
    let package = &metadata[metadata.find(&format!("\"name\":\"rdkafka-sys\",\"version\":\"{RDKAFKA_SYS}"))?..];
    let path = &package[package.find(KEY)? + KEY.len()..];
    Some(path[..path.find('"')?].replace("\\\\", "\\").into())
}

/// librdkafka's `src` directory in memory. The paths are relative to librdkafka's root:
/// `src/rdkafka.c`.
pub struct Sources {
    files: BTreeMap<String, Vec<u8>>,
}

impl Sources {
    /// # Errors
    /// If `root` is not a readable directory of librdkafka.
    pub fn read(root: &Path) -> Result<Self, String> {
        let mut sources = Sources { files: BTreeMap::new() };
        sources.read_directory(root, "src")?;
        sources
            .get("src/rdkafka.h")
            .ok_or_else(|| format!("{} is not librdkafka: no src/rdkafka.h", root.display()))?;
        Ok(sources)
    }

    fn read_directory(&mut self, root: &Path, relative: &str) -> Result<(), String> {
        let directory = root.join(relative);
        let failed = |error| format!("reading librdkafka's sources in {}: {error}", directory.display());
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{relative}/{name}");
            if entry.file_type().map_err(failed)?.is_dir() {
                self.read_directory(root, &path)?;
            } else if name.ends_with(".c") || name.ends_with(".h") {
                self.files.insert(path, fs::read(entry.path()).map_err(failed)?);
            }
        }
        Ok(())
    }

    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// The contents of all headers.
    pub fn headers(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().filter(|(path, _)| path.ends_with(".h")).map(|(_, bytes)| bytes.as_slice())
    }

    pub fn set(&mut self, path: &str, text: String) {
        self.files.insert(path.to_owned(), text.into_bytes());
    }

    pub fn remove(&mut self, path: &str) {
        self.files.remove(path);
    }

    /// The version, such as `2.12.1`, from `RD_KAFKA_VERSION` in rdkafka.h: one byte per number,
    /// and `ff` for a release.
    ///
    /// # Errors
    /// When the header does not define it.
    pub fn version(&self) -> Result<String, String> {
        let header = String::from_utf8_lossy(self.get("src/rdkafka.h").unwrap_or_default()).into_owned();
        header
            .lines()
            .find_map(|line| line.strip_prefix("#define RD_KAFKA_VERSION")?.trim().strip_prefix("0x"))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .map(|version| format!("{}.{}.{}", version >> 24, version >> 16 & 0xff, version >> 8 & 0xff))
            .ok_or_else(|| "src/rdkafka.h defines no RD_KAFKA_VERSION".to_owned())
    }

    /// Writes the files. Unchanged ones keep their modification time.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), String> {
        for (path, bytes) in &self.files {
            let path = directory.join(path);
            if fs::read(&path).is_ok_and(|before| before == *bytes) {
                continue;
            }
            let folder = path.parent().unwrap_or(directory);
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&path, bytes))
                .map_err(|error| format!("writing {}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// The C files to compile: all except those of other systems and of features that are off.
    pub fn c_files(&self, features: &Features) -> Vec<&str> {
        let all = self.files.keys().map(String::as_str).filter(|path| path.ends_with(".c"));
        all.filter(|path| is_compiled(path.strip_prefix("src/").unwrap_or(path), features)).collect()
    }
}

/// Whether a file is compiled, as by librdkafka's src/Makefile. Files that are unknown here are.
fn is_compiled(file: &str, features: &Features) -> bool {
    match file {
        "rdkafka_ssl.c" | "rdkafka_sasl_scram.c" | "rdkafka_sasl_oauthbearer.c" => features.tls,
        "rdhttp.c" | "rdkafka_sasl_oauthbearer_oidc.c" => features.oidc,
        "rdkafka_zstd.c" => features.zstd,
        // Kerberos by libsasl2; Windows; getopt and regular expressions for systems that lack them.
        "rdkafka_sasl_cyrus.c" | "rdkafka_sasl_win32.c" | "rdwin32.c" | "wingetopt.c" | "regexp.c" => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rdkafka_sys_has_the_version_in_cargo_lock() {
        let lock = include_str!("../../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"rdkafka-sys\"\nversion = \"{RDKAFKA_SYS}+")));
    }

    #[test]
    fn manifest_path_is_that_of_the_package_not_of_a_dependency() {
        let metadata = concat!(
            r#"{"packages":[{"name":"locate","dependencies":[{"name":"rdkafka-sys","source":"registry"}],"manifest_path":"/no"},"#,
            r#"{"name":"rdkafka-sys","version":"4.10.0+2.12.1","dependencies":[{"name":"libc"}],"manifest_path":"/a b/Cargo.toml"}]}"#
        );
        assert_eq!(manifest_path_in(metadata), Some("/a b/Cargo.toml".into()));
        assert_eq!(manifest_path_in("{}"), None);
    }

    #[test]
    fn version_is_read_from_the_header() {
        let mut sources = Sources { files: BTreeMap::new() };
        assert!(sources.version().is_err());
        sources.set("src/rdkafka.h", "/* */\n#define RD_KAFKA_VERSION 0x020c01ff\n".to_owned());
        assert_eq!(sources.version().as_deref(), Ok("2.12.1"));
    }

    #[test]
    fn files_of_features_that_are_off_are_not_compiled() {
        let all = Features { tls: true, oidc: true, gssapi: true, zstd: true };
        let none = Features { tls: false, oidc: false, gssapi: false, zstd: false };
        for file in ["rdkafka_ssl.c", "rdhttp.c", "rdkafka_zstd.c"] {
            assert!(is_compiled(file, &all) && !is_compiled(file, &none), "{file}");
        }
        assert!(is_compiled("rdkafka.c", &none) && !is_compiled("rdkafka_sasl_win32.c", &all));
    }
}
