//! Searches for the library: docs/reference/discovery.md. The C++ header and the Python package
//! search in the same way, with the same words.

use std::env;
use std::ffi::{OsString, c_ulong};
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use crate::abi::{OCTOPUS_ABI_MAJOR, OCTOPUS_ABI_MINOR};
use crate::error::{Error, Result};
use crate::library::{Library, is_compatible};

const VARIABLE: &str = "OCTOPUS_LIBRARY";
const MANIFEST: &str = "octopus/octopus.driver";
const SYSTEM_FOLDER: &str = "/etc";

impl Library {
    /// Finds the library and loads it. The search ends at the first of these that has it:
    ///
    /// 1. the path in the environment variable `OCTOPUS_LIBRARY`; if it is set, nothing else is
    ///    tried
    /// 2. the manifest of the user, `$XDG_CONFIG_HOME/octopus/octopus.driver` (by default in
    ///    `~/.config`), then that of the system, `/etc/octopus/octopus.driver`
    /// 3. `$CONDA_PREFIX/lib/liboctopus.so`
    /// 4. [`FILE_NAME`](Self::FILE_NAME), where the dynamic loader finds it; see
    ///    [`open`](Self::open)
    ///
    /// Variables are ignored in a program with more rights than its user (setuid, setgid or file
    /// capabilities). docs/reference/discovery.md describes manifests.
    ///
    /// The error, [`Status::BadLibrary`](crate::Status::BadLibrary), lists each location that was
    /// tried, with the reason.
    pub fn find() -> Result<Self> {
        let mut search = Search::default();
        if let Some(path) = search.variable(VARIABLE) {
            return Library::load(path.as_ref())
                .map_err(|why| Error::bad_library(format!("loading Octopus: {VARIABLE}={}: {why}", path.display())));
        }
        search
            .by_manifests()
            .or_else(|| search.in_conda())
            .or_else(|| search.try_path(Path::new(Library::FILE_NAME), ""))
            .ok_or_else(|| {
                Error::bad_library(format!(
                    "loading Octopus: it was not found: {}; install it, or set {VARIABLE} to the path of {}",
                    search.tried.join("; "),
                    Library::FILE_NAME
                ))
            })
    }
}

/// The locations that were tried in vain, each with the reason.
#[derive(Default)]
struct Search {
    tried: Vec<String>,
}

impl Search {
    /// A variable of the environment, which a program with more rights than its user (setuid) must
    /// not obey.
    fn variable(&mut self, name: &str) -> Option<OsString> {
        match env::var_os(name).filter(|value| !value.is_empty()) {
            None => self.failed(name, "not set"),
            Some(_) if has_more_rights() => {
                self.failed(name, "ignored, since the program has more rights than its user")
            }
            Some(value) => Some(value),
        }
    }

    fn by_manifests(&mut self) -> Option<Library> {
        let user = self.user_folder();
        [user, Some(SYSTEM_FOLDER.into())]
            .into_iter()
            .flatten()
            .find_map(|folder| self.by_manifest(&folder.join(MANIFEST)))
    }

    fn user_folder(&mut self) -> Option<PathBuf> {
        const FOLDER: &str = "XDG_CONFIG_HOME";
        match env::var_os(FOLDER).and_then(|_| self.variable(FOLDER)) {
            Some(folder) => Some(folder.into()),
            None => Some(Path::new(&self.variable("HOME")?).join(".config")),
        }
    }

    fn by_manifest(&mut self, file: &Path) -> Option<Library> {
        let location = file.display().to_string();
        let text = match fs::read(file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(why) => return self.failed(&location, why),
        };
        let manifest = Manifest::parse(&text);
        let Some(path) = manifest.path else { return self.failed(&location, "it has no line path=...") };
        if let Some(abi) = manifest.abi.filter(|abi| !is_usable(abi)) {
            return self.failed(
                &location,
                format_args!(
                    "its library has ABI version {abi}, this program is built for {OCTOPUS_ABI_MAJOR}.{OCTOPUS_ABI_MINOR}"
                ),
            );
        }
        // A relative path begins at the folder of the manifest.
        let path = file.parent().unwrap_or(Path::new("")).join(path);
        self.try_path(&path, &format!("{location}: "))
    }

    fn in_conda(&mut self) -> Option<Library> {
        let prefix = self.variable("CONDA_PREFIX")?;
        self.try_path(&Path::new(&prefix).join("lib").join(Library::FILE_NAME), "")
    }

    fn try_path(&mut self, path: &Path, from: &str) -> Option<Library> {
        match Library::load(path) {
            Ok(library) => Some(library),
            Err(why) => self.failed(&format!("{from}{}", path.display()), why),
        }
    }

    fn failed<T>(&mut self, location: &str, why: impl Display) -> Option<T> {
        self.tried.push(format!("{location}: {why}"));
        None
    }
}

/// The keys of a manifest that a search needs. Other keys are for people.
#[derive(Debug, Default, PartialEq, Eq)]
struct Manifest<'a> {
    path: Option<&'a str>,
    abi: Option<&'a str>,
}

impl<'a> Manifest<'a> {
    fn parse(text: &'a str) -> Self {
        let mut manifest = Manifest::default();
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = Some(value.trim()).filter(|value| !value.is_empty());
            match key.trim() {
                "path" => manifest.path = value,
                "abi" => manifest.abi = value,
                _ => {}
            }
        }
        manifest
    }
}

fn is_usable(abi: &str) -> bool {
    let version = abi.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    version.is_some_and(|version| is_compatible(version, (OCTOPUS_ABI_MAJOR, OCTOPUS_ABI_MINOR)))
}

/// Whether the program is setuid, setgid or has file capabilities, so that its user must not choose
/// the code that it loads.
fn has_more_rights() -> bool {
    /// From the system's elf.h.
    const AT_SECURE: c_ulong = 23;
    unsafe extern "C" {
        fn getauxval(kind: c_ulong) -> c_ulong;
    }
    // SAFETY: the C library allows this call at any time with any number.
    unsafe { getauxval(AT_SECURE) != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_has_keys_comments_and_blanks() {
        let manifest = Manifest::parse("# path=/old\nversion=1\n path = ../lib/liboctopus.so \r\nabi=0.1\nnonsense\n");
        assert_eq!(manifest, Manifest { path: Some("../lib/liboctopus.so"), abi: Some("0.1") });
        assert_eq!(Manifest::parse("path=\n=\n"), Manifest::default());
    }

    #[test]
    fn abi_of_another_version_is_not_usable() {
        assert!(is_usable(&format!("{OCTOPUS_ABI_MAJOR}.{OCTOPUS_ABI_MINOR}")));
        for other in ["", "1", "x.y", "99.0", "0.99"] {
            assert!(!is_usable(other), "{other:?}");
        }
    }
}
