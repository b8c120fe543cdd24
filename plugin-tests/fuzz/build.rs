//! librdkafka is compiled with a call at each branch (ci/fuzz.sh), which libFuzzer answers by ending the process. src/fuzz/batches.c
//! of octopus counts them for it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,--wrap=__sanitizer_cov_trace_pc");
}
