//! Token providers of the host, for SASL OAUTHBEARER and for the topic service.

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, UNIX_EPOCH};

use super::args::{octopus_bytes, octopus_text};
use super::callback::{Owned, octopus_destroy_fn};
use super::status::octopus_status;
use crate::support::error::{Error, Kind, Result};
use crate::support::process_exit;
use crate::support::token::Token;

/// Receives the result of a token provider.
///
/// The provider calls either `accept` or `refuse`, once, before it returns. Of several calls the
/// first one counts.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_token_reply {
    /// `sizeof(octopus_token_reply)` in the plugin, in bytes.
    pub size: u64,
    /// The argument for `accept` and `refuse`. Valid until the provider returns.
    pub token: *mut c_void,
    /// Provides a token.
    ///
    /// @param token The `token` of this struct.
    /// @param value The token. Copied during the call.
    /// @param principal The principal that the token is for; may be empty. Copied during the call.
    /// @param expires_ms The time at which the token expires, in milliseconds since 1970-01-01 UTC.
    /// @note Call it on the thread that the provider was called on.
    pub accept:
        Option<unsafe extern "C" fn(token: *mut c_void, value: octopus_text, principal: octopus_text, expires_ms: i64)>,
    /// Reports that there is no token.
    ///
    /// @param token The `token` of this struct.
    /// @param reason The reason, which becomes part of an error message. Copied during the call.
    /// @note Call it on the thread that the provider was called on.
    pub refuse: Option<unsafe extern "C" fn(token: *mut c_void, reason: octopus_text)>,
}

/// Provides tokens for SASL OAUTHBEARER, or the header `Authorization` for the topic service.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_token_callback {
    /// Provides one token through `reply`.
    ///
    /// As `octopus_host_services::token`, it is called when a client of the driver is created, when
    /// 80 % of the lifetime of the previous token has passed, and 10 s after a failure. It can't be
    /// combined with `aws_msk_iam`.
    ///
    /// As `octopus_host_services::authorization`, it is called when a call of the driver first
    /// needs the topic service, and once for each request that the service rejects with HTTP status
    /// 401. The token is the value of the header, for example `Bearer …`; its principal and its
    /// expiry are ignored.
    ///
    /// @param context The `context` of this struct.
    /// @param config The property `sasl.oauthbearer.config`; empty if that is not set, and for the
    /// topic service. Valid during the call.
    /// @param reply Receives the token, or the reason why there is none. Valid during the call.
    /// @return `OCTOPUS_OK`. A negative status is a failure, also after `accept`.
    /// @note For OAUTHBEARER it is called on threads that the plugin creates for this purpose,
    /// possibly several at the same time; it may block. For the topic service it is called on the
    /// thread of the call that needs it. It must not unwind.
    pub function: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            config: octopus_text,
            reply: *const octopus_token_reply,
        ) -> octopus_status,
    >,
    /// Passed to each call of `function`, and to `destroy`.
    pub context: *mut c_void,
    /// Destroys the context.
    pub destroy: octopus_destroy_fn,
}

type TokenFunction = unsafe extern "C" fn(*mut c_void, octopus_text, *const octopus_token_reply) -> octopus_status;

/// The result of one call of a token provider.
struct TokenResult {
    /// The provider's field in [`octopus_host_services`](super::services::octopus_host_services).
    field: &'static str,
    given: Option<Result<Token>>,
}

/// Calls the token provider in this field of the host's services.
pub fn ask(field: &'static str, function: TokenFunction, callback: &Owned, config: &str) -> Result<Token> {
    let mut result = TokenResult { field, given: None };
    if process_exit::has_begun() {
        return Err(result.refusal("it is not called any more, since the process exits"));
    }
    let reply = octopus_token_reply {
        size: size_of::<octopus_token_reply>() as u64,
        token: (&raw mut result).cast(),
        accept: Some(accept),
        refuse: Some(refuse),
    };
    // SAFETY: function and context are the host's, and `callback` keeps the context from being
    // destroyed; the text and the reply live during the call.
    let status = unsafe { function(callback.context, octopus_text::view(config), &reply) };
    match result.given {
        Some(Ok(_)) | None if status < 0 => Err(result.refusal(&format!("its function returned {status}"))),
        Some(given) => given,
        None => Err(result.refusal("it called neither accept nor refuse")),
    }
}

impl TokenResult {
    fn refusal(&self, why: &str) -> Error {
        let field = self.field;
        Error::new(Kind::HostCallback, format!("the host's token provider (services.{field}) provided no token: {why}"))
    }
}

unsafe extern "C" fn accept(token: *mut c_void, value: octopus_text, principal: octopus_text, expires_ms: i64) {
    // SAFETY: `token` is NULL or the pointer of a reply whose call is running, and the texts are
    // NULL or readable (contract of `octopus_token_reply`).
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe {
        let Some(result) = token.cast::<TokenResult>().as_mut() else { return };
        let given = read_token(value, principal, expires_ms).map_err(|error| result.refusal(error.message()));
        result.given.get_or_insert(given);
    }));
}

unsafe extern "C" fn refuse(token: *mut c_void, reason: octopus_text) {
    // SAFETY: as in `accept`.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe {
        let reason = octopus_bytes { data: reason.data.cast(), size: reason.size };
        if let (Some(result), Ok(reason)) = (token.cast::<TokenResult>().as_mut(), reason.read("reason")) {
            let refusal = result.refusal(&String::from_utf8_lossy(reason));
            result.given.get_or_insert(Err(refusal));
        }
    }));
}

/// Copies and checks the arguments of `accept`.
///
/// # Safety
/// The texts are NULL or readable.
unsafe fn read_token(value: octopus_text, principal: octopus_text, expires_ms: i64) -> Result<Token> {
    // SAFETY: the texts are NULL or readable (fn contract); both are copied below.
    let (value, principal) = unsafe { (value.read("the token")?, principal.read("the token's principal")?) };
    let expires = u64::try_from(expires_ms).ok().and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    let expires =
        expires.ok_or_else(|| Error::invalid("the token's expiry is not a time in milliseconds since 1970"))?;
    match value {
        "" => Err(Error::invalid("the token is empty")),
        value => Ok(Token { value: value.to_owned(), principal: principal.to_owned(), expires }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NULL: octopus_text = octopus_text::EMPTY;
    const SOON: i64 = i64::MAX;

    fn ask_provider(function: TokenFunction) -> Result<Token> {
        ask("token", function, &Owned { context: std::ptr::null_mut(), destroy: None }, "config")
    }

    fn refusal_of(function: TokenFunction) -> String {
        ask_provider(function).map(drop).unwrap_err().message().to_owned()
    }

    /// A token provider with this body.
    macro_rules! host {
        (|$reply:ident| $body:block) => {{
            unsafe extern "C" fn provide(
                _: *mut c_void,
                _: octopus_text,
                reply: *const octopus_token_reply,
            ) -> octopus_status {
                // SAFETY: the reply lives during the call.
                let $reply = unsafe { &*reply };
                $body
            }
            provide as TokenFunction
        }};
    }

    macro_rules! call {
        ($reply:ident.$how:ident($($argument:expr),*)) => {
            // SAFETY: function and token are those of the reply; the texts live during the call.
            unsafe { ($reply.$how.unwrap())($reply.token, $($argument),*) }
        };
    }

    /// Of several calls of `accept` and `refuse` the first one counts; a negative status fails the
    /// provider although it called `accept`.
    #[test]
    fn first_reply_of_a_token_provider_counts() {
        let several_calls = host!(|reply| {
            call!(reply.accept(octopus_text::of("first"), NULL, SOON));
            call!(reply.accept(octopus_text::of("second"), NULL, SOON));
            call!(reply.refuse(octopus_text::of("changed my mind")));
            0
        });
        assert_eq!(ask_provider(several_calls).unwrap().value, "first");
        let and_failed = host!(|reply| {
            call!(reply.accept(octopus_text::of("first"), NULL, SOON));
            -7
        });
        assert!(refusal_of(and_failed).contains("returned -7"));
        let with_reason = host!(|reply| {
            call!(reply.refuse(octopus_text::of("the vault is sealed")));
            -7
        });
        assert!(refusal_of(with_reason).contains("the vault is sealed"));
    }

    /// A token provider that calls neither function, or passes arguments that are not valid,
    /// provides no token.
    #[test]
    fn token_provider_with_wrong_reply_is_rejected() {
        assert!(refusal_of(host!(|_reply| { 0 })).contains("neither accept nor refuse"));
        assert!(refusal_of(host!(|_reply| { -1 })).contains("returned -1"));
        let empty = host!(|reply| {
            call!(reply.accept(NULL, NULL, SOON));
            0
        });
        assert!(refusal_of(empty).contains("empty"));
        let not_utf8 = host!(|reply| {
            call!(reply.accept(octopus_text { data: c"\xff".as_ptr(), size: 1 }, NULL, SOON));
            0
        });
        assert!(refusal_of(not_utf8).contains("UTF-8"));
        let null_value = host!(|reply| {
            call!(reply.accept(octopus_text { data: std::ptr::null(), size: 5 }, NULL, SOON));
            0
        });
        assert!(refusal_of(null_value).contains("the token"));
        let null_token = host!(|reply| {
            // SAFETY: both functions accept NULL.
            unsafe {
                (reply.accept.unwrap())(std::ptr::null_mut(), NULL, NULL, SOON);
                (reply.refuse.unwrap())(std::ptr::null_mut(), NULL);
            }
            0
        });
        assert!(refusal_of(null_token).contains("neither"));
    }
}
