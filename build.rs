//! Sets the linker options of the plugin: it is never unmapped, all symbols are resolved when it is
//! loaded, and its soname is its file name. Compiles librdkafka and, with the feature `diaspora`,
//! the C++ adapter.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    compile_librdkafka();
    #[cfg(feature = "diaspora")]
    diaspora::compile();
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

    /// The paths of the installed API.
    struct Api {
        includes: Vec<PathBuf>,
        libraries: Vec<PathBuf>,
    }

    pub fn compile() {
        println!("cargo:rerun-if-env-changed={PREFIX}");
        for folder in ["src/diaspora", "include"] {
            println!("cargo:rerun-if-changed={folder}");
        }
        let api = find().unwrap_or_else(|why| {
            panic!(
                "\n\nThe feature `diaspora` needs {LIBRARY} 0.5.2 or later, and {why}.\n\
                 Set {PREFIX} to the folder that it is installed in (the one with include/diaspora and lib), or \
                 PKG_CONFIG_PATH to the one with {LIBRARY}.pc; or build without the feature.\n"
            )
        });
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
            return pkg_config::Config::new()
                .cargo_metadata(false)
                .probe(LIBRARY)
                .map(|found| Api { includes: found.include_paths, libraries: found.link_paths })
                .map_err(|why| format!("pkg-config does not find it, and {PREFIX} is not set: {why}"));
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
        Ok(Api { includes: vec![prefix.join("include")], libraries })
    }

    fn has_headers(folder: &Path) -> bool {
        folder.join("diaspora/Driver.hpp").exists()
    }
}
