//! librdkafka's objects as owned values, its error codes and configuration, and the meaning of its
//! log messages.

/// cbindgen:ignore
pub mod codes;
pub mod conf;
pub mod errors;
pub mod extensions;
pub mod group_metadata;
/// cbindgen:ignore
pub mod handle;
/// cbindgen:ignore
#[cfg(all(feature = "gssapi", feature = "patched"))]
pub mod kerberos;
pub mod log_messages;
pub mod message;
pub mod partitions;
pub mod pinned_responses;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod pipe;
mod property_names;
/// cbindgen:ignore
pub mod proxy;
pub mod queue;
pub mod record;
/// cbindgen:ignore
pub mod sockets;
mod teardown;
pub mod text;
pub mod topic_handle;
pub mod topic_id;
