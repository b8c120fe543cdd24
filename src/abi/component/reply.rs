//! What a function of the host gives to its reply: bytes, or the reason of its failure.

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::octopus_component_reply;
use crate::abi::args::{octopus_bytes, octopus_text};
use crate::abi::status::octopus_status;
use crate::support::error::{Error, Kind, Result};
use crate::support::process_exit;

/// The result of a function of the host, collected through its reply.
#[derive(Default)]
pub(in crate::abi) struct CollectedReply {
    bytes: Vec<u8>,
    /// An error in the arguments of `append`.
    append_error: Option<Error>,
    /// The reason passed to `refuse`.
    reason: Option<String>,
}

impl CollectedReply {
    /// Calls a function with a reply. Returns the bytes that it appended, or its failure.
    pub(in crate::abi) fn of(
        function: &str,
        call: impl FnOnce(*const octopus_component_reply) -> Option<octopus_status>,
    ) -> Result<Vec<u8>> {
        if process_exit::has_begun() {
            return Err(failed(function, "it is not called any more, since the process exits"));
        }
        let mut collected = CollectedReply::default();
        let reply = octopus_component_reply {
            size: size_of::<octopus_component_reply>() as u64,
            token: (&raw mut collected).cast(),
            append: Some(append),
            refuse: Some(refuse),
        };
        match call(&reply) {
            Some(0..) => match collected.append_error {
                None => Ok(collected.bytes),
                Some(error) => Err(failed(function, error.message())),
            },
            Some(status) => {
                let no_reason = || format!("it returned {status} and gave no reason");
                Err(failed(function, &collected.reason.unwrap_or_else(no_reason)))
            }
            None => Err(failed(function, "it is NULL")),
        }
    }
}

pub(super) fn failed(function: &str, why: &str) -> Error {
    Error::new(Kind::HostCallback, format!("the host's component failed in {function}: {why}"))
}

unsafe extern "C" fn append(token: *mut c_void, bytes: octopus_bytes) {
    // SAFETY: `token` is NULL or the pointer of a reply whose call is running, and the bytes are
    // NULL or readable (contract of `octopus_component_reply`).
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe {
        let Some(collected) = token.cast::<CollectedReply>().as_mut() else { return };
        match bytes.read("the bytes given to append") {
            Ok(bytes) => collected.bytes.extend_from_slice(bytes),
            Err(error) => collected.append_error = Some(error),
        }
    }));
}

unsafe extern "C" fn refuse(token: *mut c_void, reason: octopus_text) {
    // SAFETY: as in `append`.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe {
        let reason = octopus_bytes { data: reason.data.cast(), size: reason.size };
        if let (Some(collected), Ok(reason)) = (token.cast::<CollectedReply>().as_mut(), reason.read("reply")) {
            collected.reason = Some(String::from_utf8_lossy(reason).into_owned());
        }
    }));
}
