//! Compiles librdkafka with all features and without patches.

use librdkafka_build::{Build, Features};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let all = Features { tls: true, oidc: true, gssapi: false, zstd: true };
    Build::new(all, "unpatched-librdkafka").compile().unwrap_or_else(|why| panic!("\n\n{why}\n"));
}
