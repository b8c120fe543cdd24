//! Nothing in Rust: a program that has `use unpatched_librdkafka as _;` is linked with librdkafka as published.

// Linked only if they are named.
use curl_sys as _;
use libz_sys as _;
use openssl_sys as _;
use rdkafka_sys as _;
use zstd_sys as _;
