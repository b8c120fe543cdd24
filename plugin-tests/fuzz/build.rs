//! Redirects the coverage callback. ci/fuzz.sh compiles librdkafka with a call of
//! `__sanitizer_cov_trace_pc` at each branch, whose implementation in libFuzzer ends the process.
//! src/fuzz/batches.c of octopus has an implementation that counts the branches.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,--wrap=__sanitizer_cov_trace_pc");
}
