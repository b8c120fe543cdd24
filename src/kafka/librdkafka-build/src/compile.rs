//! Runs the C compiler for each file. Objects of an earlier build are reused if nothing that they
//! were compiled from has changed, so that a changed patch recompiles only its own files.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use crate::config::Features;
use crate::sources::Sources;
use crate::{Build, CFLAGS_VARIABLE};

/// Compiled with -O3, as by librdkafka's Makefile: a producer with compression spends most of its
/// time here.
const LZ4: [&str; 3] = ["src/lz4.c", "src/lz4frame.c", "src/rdxxhash.c"];

/// Not in the path of an event, so compiled for size: administration, assignment of partitions,
/// configuration, the embedded cluster, the start of a connection, timers, and what is done once
/// for a request. The beginnings of names.
const COLD: [&str; 46] = [
    "src/cJSON",
    // Only for compression levels that are not the default.
    "src/lz4hc",
    "src/rdaddr",
    "src/rdbase64",
    "src/rddl",
    "src/rdhdrhistogram",
    "src/rdhttp",
    "src/rdkafka.c",
    "src/rdkafka_admin",
    "src/rdkafka_assign",
    "src/rdkafka_aux",
    "src/rdkafka_background",
    "src/rdkafka_broker",
    "src/rdkafka_cert",
    "src/rdkafka_cgrp",
    "src/rdkafka_conf",
    "src/rdkafka_coord",
    "src/rdkafka_error",
    "src/rdkafka_feature",
    "src/rdkafka_fetcher",
    "src/rdkafka_idempotence",
    "src/rdkafka_interceptor",
    "src/rdkafka_metadata",
    "src/rdkafka_mock",
    "src/rdkafka_offset",
    "src/rdkafka_pattern",
    "src/rdkafka_plugin",
    "src/rdkafka_range_assignor",
    "src/rdkafka_request",
    "src/rdkafka_sasl",
    "src/rdkafka_ssl",
    "src/rdkafka_sticky_assignor",
    "src/rdkafka_subscription",
    "src/rdkafka_telemetry",
    "src/rdkafka_timer",
    "src/rdkafka_topic",
    "src/rdkafka_transport",
    "src/rdkafka_txnmgr",
    "src/rdlist",
    "src/rdlog",
    "src/rdmap",
    "src/rdrand",
    "src/rdregex",
    "src/rdstring",
    "src/regexp",
    "src/tinycthread",
];

/// The compiler's level of optimization for a file. It is the same in all profiles: a debug build
/// of librdkafka is too slow for tests that measure time.
fn optimization(file: &str) -> &'static str {
    if LZ4.contains(&file) {
        "3"
    } else if COLD.iter().any(|start| file.starts_with(start)) {
        "s"
    } else {
        "2"
    }
}

/// Compiles `sources`, which are stored in `directory` with their `config.h`, and the harness into
/// a static library.
pub fn compile(sources: &Sources, directory: &Path, config_h: &str, settings: &Build) -> Result<(), String> {
    let features = &settings.features;
    features.check()?;
    let mut includes = include_directories(features)?;
    includes.extend(settings.includes.iter().cloned());
    let flags = env::var(CFLAGS_VARIABLE).unwrap_or_default();
    let mut common = DefaultHasher::new();
    (config_h, &includes, &flags, environment()).hash(&mut common);
    sources.headers().for_each(|header| header.hash(&mut common));

    let mut objects = Objects::read(directory);
    let mut used = Vec::new();
    let mut files_by_level: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in sources.c_files(features) {
        files_by_level.entry(optimization(file)).or_default().push(file);
    }
    for (level, files) in files_by_level {
        let mut build = cc::Build::new();
        build
            .include(directory.join("src"))
            .includes(&includes)
            .opt_level_str(level)
            .force_frame_pointer(false)
            .warnings(false)
            .flags(flags.split_whitespace());
        let key = |file: &str| {
            let mut key = common.clone();
            (level, sources.get(file)).hash(&mut key);
            key.finish()
        };
        let changed: Vec<_> = files.iter().copied().filter(|file| !objects.has(file, key(file))).collect();
        if !changed.is_empty() {
            let compiled = build.files(changed.iter().map(|file| directory.join(file))).try_compile_intermediates();
            let compiled =
                compiled.map_err(|error| format!("compiling librdkafka in {}: {error}", directory.display()))?;
            for (file, object) in changed.iter().zip(compiled) {
                objects.set(file, key(file), object);
            }
        }
        used.extend(files.iter().map(|file| objects.path(file)));
    }
    objects.write()?;
    if let Some(file) = &settings.harness {
        println!("cargo:rerun-if-changed={}", file.display());
        let mut build = cc::Build::new();
        build.include(directory.join("src")).includes(&includes).file(file);
        let compiled = build.try_compile_intermediates();
        used.extend(compiled.map_err(|error| format!("compiling {}: {error}", file.display()))?);
    }
    cc::Build::new()
        .objects(used)
        // GNU's linker takes from an archive only symbols that were requested before it;
        // rdkafka-sys follows it.
        .link_lib_modifier("+whole-archive")
        .try_compile(settings.archive)
        .map_err(|error| format!("archiving librdkafka as {}: {error}", settings.archive))
}

/// The environment variables that select the compiler and its flags: `CC`, `CFLAGS` and their forms
/// for one target.
fn environment() -> BTreeMap<String, String> {
    let is_relevant = |name: &str| {
        ["CC", "CFLAGS"].iter().any(|start| name == *start || name.starts_with(&format!("{start}_")))
            || ["DEBUG", "HOST", "TARGET", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"].contains(&name)
    };
    let variables = env::vars_os().map(|(name, value)| [name, value].map(|text| text.to_string_lossy().into_owned()));
    variables.filter(|[name, _]| is_relevant(name)).map(|[name, value]| (name, value)).collect()
}

/// The objects of this and of the last build: for each C file the hash of everything that its
/// object was compiled from.
struct Objects {
    list: PathBuf,
    by_file: BTreeMap<String, (u64, PathBuf)>,
}

impl Objects {
    fn read(directory: &Path) -> Self {
        let list = directory.join("objects.txt");
        let text = fs::read_to_string(&list).unwrap_or_default();
        let by_file = text.lines().filter_map(|line| {
            let mut fields = line.splitn(3, '\t');
            let (file, key, object) = (fields.next()?, fields.next()?, fields.next()?);
            Some((file.to_owned(), (u64::from_str_radix(key, 16).ok()?, object.into())))
        });
        Objects { by_file: by_file.collect(), list }
    }

    fn has(&self, file: &str, key: u64) -> bool {
        self.by_file.get(file).is_some_and(|(known, object)| *known == key && object.exists())
    }

    fn set(&mut self, file: &str, key: u64, object: PathBuf) {
        self.by_file.insert(file.to_owned(), (key, object));
    }

    fn path(&self, file: &str) -> PathBuf {
        self.by_file.get(file).map(|(_, object)| object.clone()).unwrap_or_default()
    }

    fn write(&self) -> Result<(), String> {
        let line =
            |(file, (key, object)): (&String, &(u64, PathBuf))| format!("{file}\t{key:x}\t{}\n", object.display());
        let text: String = self.by_file.iter().map(line).collect();
        fs::write(&self.list, text).map_err(|error| format!("writing {}: {error}", self.list.display()))
    }
}

/// The directories with the headers of the libraries that cargo has built for librdkafka. A library
/// without headers is an error; librdkafka's configure script would omit its feature.
fn include_directories(features: &Features) -> Result<Vec<PathBuf>, String> {
    let needed = [
        ("Z", "libz-sys", true),
        ("OPENSSL", "openssl-sys", features.tls),
        ("CURL", "curl-sys", features.oidc),
        ("ZSTD", "zstd-sys", features.zstd),
    ];
    let mut directories = Vec::new();
    for (library, package, _) in needed.iter().filter(|(_, _, is_needed)| *is_needed) {
        let variable = |key: &str| env::var(format!("DEP_{library}_{key}")).ok();
        let listed = variable("INCLUDE").or_else(|| Some(format!("{}/include", variable("ROOT")?)));
        let found: Vec<_> =
            listed.unwrap_or_default().split(',').map(PathBuf::from).filter(|folder| folder.is_dir()).collect();
        if found.is_empty() {
            return Err(format!(
                "librdkafka needs the headers of {package}, and its build script names no directory that has them \
                 (DEP_{library}_INCLUDE). Let it compile its own library, or install the library's development package"
            ));
        }
        directories.extend(found);
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_object_with_equal_key_is_reused() {
        let folder = env::temp_dir().join(format!("librdkafka-objects-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (kept, lost) = (folder.join("kept.o"), folder.join("lost.o"));
        fs::write(&kept, "").unwrap();
        let mut objects = Objects::read(&folder);
        objects.set("src/kept.c", 1, kept.clone());
        objects.set("src/lost.c", 1, lost);
        objects.write().unwrap();

        let objects = Objects::read(&folder);
        assert!(objects.has("src/kept.c", 1) && objects.path("src/kept.c") == kept);
        assert!(!objects.has("src/kept.c", 2), "something has changed");
        assert!(!objects.has("src/lost.c", 1), "there is no object");
        assert!(!objects.has("src/new.c", 1));
        fs::remove_dir_all(folder).unwrap();
    }
}
