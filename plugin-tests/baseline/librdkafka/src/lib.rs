//! Links a program that has `use unpatched_librdkafka as _;` with librdkafka as published. Contains
//! no Rust code.

// A crate that nothing refers to is not linked.
use curl_sys as _;
use libz_sys as _;
use openssl_sys as _;
use rdkafka_sys as _;
use zstd_sys as _;
