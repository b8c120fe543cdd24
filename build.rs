//! Sets the linker options of the plugin: it is never unmapped, all symbols are resolved when it is
//! loaded, and its soname is its file name. Compiles librdkafka and, with the feature `diaspora`,
//! the C++ adapter.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Before librdkafka, which takes a minute to compile: a missing API is an error at once.
    #[cfg(feature = "diaspora")]
    let api = diaspora::find_api();
    compile_librdkafka();
    #[cfg(feature = "diaspora")]
    diaspora::compile(&api);
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    // Threads of librdkafka and of the plugin, exit handlers of OpenSSL and destructors of
    // thread-locals are in the library, so a host's dlclose must not unmap it.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // A missing symbol fails the load of the library, not a later call.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,now");
    // Rejects undefined symbols, except with a fuzzer or a sanitizer (ci/sanitize.sh), whose
    // runtime the program provides.
    if ["CARGO_CFG_FUZZING", "CARGO_CFG_SANITIZE"].iter().all(|name| std::env::var_os(name).is_none()) {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,defs");
    }
    if matches!(std::env::var("CARGO_CFG_TARGET_ARCH").as_deref(), Ok("x86_64" | "aarch64")) {
        // Makes librdkafka's pipes close-on-exec, so that child processes of the host don't inherit
        // them: src/kafka/librdkafka/pipe.rs.
        println!("cargo:rustc-cdylib-link-arg=-Wl,--wrap=pipe");
    }
    // A host that links the library records this name instead of the path of the build.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,liboctopus.so");
}

/// Compiles librdkafka with the patch queue, unless the feature `patched` is off:
/// docs/librdkafka.md.
fn compile_librdkafka() {
    let features = librdkafka_build::Features {
        tls: cfg!(feature = "tls"),
        oidc: cfg!(feature = "oidc"),
        gssapi: cfg!(feature = "gssapi"),
        zstd: cfg!(feature = "zstd"),
    };
    let mut build = librdkafka_build::Build::new(features, "octopus-librdkafka");
    if cfg!(feature = "patched") {
        build = build.patches("src/kafka/patches");
        if std::env::var_os("CARGO_CFG_FUZZING").is_some() {
            build = build.harness("src/fuzz/batches.c");
        }
    }
    build.compile().unwrap_or_else(|why| panic!("\n\n{why}\n"));
}

/// Compiles the driver "octopus" of the C++ Diaspora Stream API (src/diaspora) against an
/// installed diaspora-stream-api.
#[cfg(feature = "diaspora")]
mod diaspora {
    use std::env;
    use std::path::{Path, PathBuf};

    const LIBRARY: &str = "diaspora-stream-api";
    const PREFIX: &str = "DIASPORA_PREFIX";
    const MIN_VERSION: &str = "0.5.2";

    /// The paths of the installed API.
    pub struct Api {
        includes: Vec<PathBuf>,
        libraries: Vec<PathBuf>,
    }

    /// Finds the installed API, and ends the build with an error if there is none or an old one.
    pub fn find_api() -> Api {
        println!("cargo:rerun-if-env-changed={PREFIX}");
        find().unwrap_or_else(|why| {
            panic!(
                "\n\nThe feature `diaspora` needs {LIBRARY} {MIN_VERSION} or later, and {why}.\n\
                 Install it, and set {PREFIX} to the folder that it is installed in (the one with include/diaspora \
                 and lib), or PKG_CONFIG_PATH to the one with {LIBRARY}.pc; or build without the feature.\n"
            )
        })
    }

    pub fn compile(api: &Api) {
        for folder in ["src/diaspora", "include"] {
            println!("cargo:rerun-if-changed={folder}");
        }
        let mut sources: Vec<_> = std::fs::read_dir("src/diaspora")
            .expect("src/diaspora is there")
            .map(|entry| entry.expect("an entry of src/diaspora").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "cpp"))
            .collect();
        sources.sort();
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .flag("-fvisibility=hidden")
            .warnings(true)
            .extra_warnings(true)
            .files(sources)
            .include("include")
            .flags(api.includes.iter().flat_map(|folder| ["-isystem".into(), folder.clone().into_os_string()]))
            // The driver registers itself in a static initializer that nothing refers to, so the
            // linker would drop it.
            .link_lib_modifier("+whole-archive")
            .compile("octopus-diaspora");
        for folder in &api.libraries {
            println!("cargo:rustc-link-search=native={}", folder.display());
            // A host that doesn't link the API's library, such as one in C, must be able to load
            // the plugin.
            println!("cargo:rustc-cdylib-link-arg=-Wl,-rpath,{}", folder.display());
        }
        println!("cargo:rustc-link-lib=dylib={LIBRARY}");
    }

    fn find() -> Result<Api, String> {
        let Some(prefix) = env::var_os(PREFIX).filter(|prefix| !prefix.is_empty()) else {
            return find_by_pkg_config();
        };
        let prefix = PathBuf::from(prefix);
        let libraries: Vec<_> = ["lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"]
            .iter()
            .map(|folder| prefix.join(folder))
            .filter(|folder| folder.join(format!("lib{LIBRARY}.so")).exists())
            .collect();
        if libraries.is_empty() {
            return Err(format!("there is no lib/lib{LIBRARY}.so in {PREFIX}={}", prefix.display()));
        }
        if !has_headers(&prefix.join("include")) {
            return Err(format!("there is no include/diaspora/Driver.hpp in {PREFIX}={}", prefix.display()));
        }
        check_version(installed_version(&prefix, &libraries), &format!("the one in {PREFIX}={}", prefix.display()))?;
        Ok(Api { includes: vec![prefix.join("include")], libraries })
    }

    fn find_by_pkg_config() -> Result<Api, String> {
        let found = pkg_config::Config::new()
            .cargo_metadata(false)
            .probe(LIBRARY)
            .map_err(|why| format!("pkg-config does not find it, and {PREFIX} is not set: {why}"))?;
        let folder = |name| pkg_config::get_variable(LIBRARY, name).map(PathBuf::from).unwrap_or_default();
        let prefix = folder("prefix");
        let version = as_version(&found.version).or_else(|| installed_version(&prefix, &[folder("libdir")]));
        check_version(version, &format!("the one that pkg-config finds in {}", prefix.display()))?;
        Ok(Api { includes: found.include_paths, libraries: found.link_paths })
    }

    /// Fails for a version that is too old. Without a version, the compiler finds what is missing.
    fn check_version(version: Option<String>, place: &str) -> Result<(), String> {
        let numbers =
            |version: &str| version.split('.').map(|number| number.parse().unwrap_or(0)).collect::<Vec<u32>>();
        match version {
            Some(version) if numbers(&version) < numbers(MIN_VERSION) => Err(format!("{place} has version {version}")),
            Some(_) => Ok(()),
            None => {
                println!("cargo:warning={LIBRARY}: {place} states no version; {MIN_VERSION} or later is needed");
                Ok(())
            }
        }
    }

    /// The version that the files of the API state. In 0.5.2, the one for pkg-config states none.
    fn installed_version(prefix: &Path, libraries: &[PathBuf]) -> Option<String> {
        let stated = |file: PathBuf, before: &str| {
            let text = std::fs::read_to_string(&file).ok()?;
            println!("cargo:rerun-if-changed={}", file.display());
            text.lines().find_map(|line| as_version(line.strip_prefix(before)?))
        };
        let pkg_config = libraries.iter().map(|folder| folder.join(format!("pkgconfig/{LIBRARY}.pc")));
        let cmake = std::iter::once(prefix.join("share"))
            .chain(libraries.iter().cloned())
            .map(|folder| folder.join(format!("cmake/{LIBRARY}/{LIBRARY}-config-version.cmake")));
        let mut pkg_config = pkg_config.filter_map(|file| stated(file, "Version:"));
        let mut cmake = cmake.filter_map(|file| stated(file, "set(PACKAGE_VERSION \""));
        pkg_config
            .next()
            .or_else(|| cmake.next())
            .or_else(|| libraries.iter().find_map(|folder| version_of_file(folder)))
    }

    /// The version in the name of the library's file, such as lib….so.0.5.2.
    fn version_of_file(folder: &Path) -> Option<String> {
        let file = folder.join(format!("lib{LIBRARY}.so")).canonicalize().ok()?;
        as_version(file.file_name()?.to_str()?.split_once(".so.")?.1)
    }

    /// The numbers at the beginning of a text, such as 0.5.2 of `0.5.2-rc1`.
    fn as_version(text: &str) -> Option<String> {
        let text = text.trim_start();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        Some(text[..end].trim_end_matches('.').to_owned()).filter(|version| !version.is_empty())
    }

    fn has_headers(folder: &Path) -> bool {
        folder.join("diaspora/Driver.hpp").exists()
    }
}
