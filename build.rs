//! How the plugin is linked: never unmapped, wholly resolved when it is loaded, and known by its bare name.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    // librdkafka's and our threads, OpenSSL's exit handlers and thread-local destructors point into the library,
    // so a host's dlclose must not take it away.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // A symbol that is missing shows when the library is loaded, not as a jump to NULL in the middle of a run.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,now");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,defs");
    // Hosts that link the library find it by this name, wherever it was built.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,liboctopus.so");
}
