//! Tokens that the host provides, for SASL OAUTHBEARER and for the topic service: its function, and the reply that it puts them into.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, UNIX_EPOCH};

use super::args::{octopus_bytes, octopus_text};
use super::callback::{Owned, octopus_destroy_fn};
use super::status::octopus_status;
use crate::auth::Token;
use crate::error::{Error, Kind, Result};
use crate::process_exit;

/// How a provider of tokens answers: it calls `accept` or `refuse` once, before it returns, with `token`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_token_reply {
    /// `sizeof(octopus_token_reply)` as the plugin knows it.
    pub size: u64,
    /// To be handed back to `accept` or `refuse`.
    pub token: *mut c_void,
    /// The token, the principal it is for (may be empty), and its end in milliseconds since 1970. The texts are copied.
    pub accept:
        Option<unsafe extern "C" fn(token: *mut c_void, value: octopus_text, principal: octopus_text, expires_ms: i64)>,
    /// There is no token, and why.
    pub refuse: Option<unsafe extern "C" fn(token: *mut c_void, why: octopus_text)>,
}

/// Provides a token for SASL OAUTHBEARER whenever a client of the driver needs one: when it is made, and at 80 % of the
/// life of the token before, also when the host does nothing else; again 10 s after a refusal. `config` is
/// `sasl.oauthbearer.config`, empty when that is not set. A negative status refuses as `refuse` does. Called on threads
/// of the plugin made for it, several at a time; it may take its time. Not together with `aws_msk_iam`.
///
/// For `authorization` it is called when a call of the driver first needs the topic service, and once for each call that the
/// service refuses as unauthorized (HTTP status 401), on the caller's thread. `config` is empty; the token is the header's text, as
/// `Bearer …`; its principal and end are not looked at.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_token_callback {
    pub function: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            config: octopus_text,
            reply: *const octopus_token_reply,
        ) -> octopus_status,
    >,
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
}

type TokenFunction = unsafe extern "C" fn(*mut c_void, octopus_text, *const octopus_token_reply) -> octopus_status;

/// What a provider of tokens has replied.
struct Reply {
    /// Of [`octopus_host_services`](super::services::octopus_host_services).
    field: &'static str,
    given: Option<Result<Token>>,
}

/// Asks the host's function in this field of its services for a token.
pub fn ask(field: &'static str, function: TokenFunction, callback: &Owned, config: &str) -> Result<Token> {
    let mut answer = Reply { field, given: None };
    if process_exit::has_begun() {
        return Err(answer.refusal("it is not called any more, since the process exits"));
    }
    let reply = octopus_token_reply {
        size: size_of::<octopus_token_reply>() as u64,
        token: (&raw mut answer).cast(),
        accept: Some(accept),
        refuse: Some(refuse),
    };
    // SAFETY: the host's function with its context, not destroyed yet; text and reply live during the call.
    let status = unsafe { function(callback.context, octopus_text::view(config), &reply) };
    match answer.given {
        Some(Ok(_)) | None if status < 0 => Err(answer.refusal(&format!("its function returned {status}"))),
        Some(given) => given,
        None => Err(answer.refusal("it called neither accept nor refuse")),
    }
}

impl Reply {
    fn refusal(&self, why: &str) -> Error {
        let field = self.field;
        Error::new(Kind::HostCallback, format!("the host's provider of tokens (services.{field}) gave none: {why}"))
    }
}

unsafe extern "C" fn accept(answer: *mut c_void, value: octopus_text, principal: octopus_text, expires_ms: i64) {
    // SAFETY: the answer that the reply was made with; the host hands it back during the call only. Texts are NULL or
    // readable.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe {
        let Some(answer) = answer.cast::<Reply>().as_mut() else { return };
        let token = made_of(value, principal, expires_ms).map_err(|error| answer.refusal(error.message()));
        answer.given.get_or_insert(token);
    }));
}

unsafe extern "C" fn refuse(answer: *mut c_void, why: octopus_text) {
    // SAFETY: as in `accept`.
    let _ = catch_unwind(AssertUnwindSafe(|| unsafe {
        let why = octopus_bytes { data: why.data.cast(), size: why.size };
        if let (Some(answer), Ok(why)) = (answer.cast::<Reply>().as_mut(), why.read("why")) {
            let refusal = answer.refusal(&String::from_utf8_lossy(why));
            answer.given.get_or_insert(Err(refusal));
        }
    }));
}

/// # Safety
/// The texts are NULL or readable.
unsafe fn made_of(value: octopus_text, principal: octopus_text, expires_ms: i64) -> Result<Token> {
    // SAFETY: the caller's promise; both are copied.
    let (value, principal) = unsafe { (value.read("the token")?, principal.read("the token's principal")?) };
    let expires = u64::try_from(expires_ms).ok().and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    let expires = expires.ok_or_else(|| Error::invalid("the token's end is no time in milliseconds since 1970"))?;
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

    fn asked(function: TokenFunction) -> Result<Token> {
        ask("token", function, &Owned { context: std::ptr::null_mut(), destroy: None }, "config")
    }

    fn refused(function: TokenFunction) -> String {
        asked(function).map(drop).unwrap_err().message().to_owned()
    }

    /// A host's function that answers in this way.
    macro_rules! host {
        (|$reply:ident| $answer:block) => {{
            unsafe extern "C" fn provide(
                _: *mut c_void,
                _: octopus_text,
                reply: *const octopus_token_reply,
            ) -> octopus_status {
                // SAFETY: the reply lives during the call.
                let $reply = unsafe { &*reply };
                $answer
            }
            provide as TokenFunction
        }};
    }

    macro_rules! answers {
        ($reply:ident.$how:ident($($argument:expr),*)) => {
            // SAFETY: the reply's own function and token; texts live during the call.
            unsafe { ($reply.$how.unwrap())($reply.token, $($argument),*) }
        };
    }

    #[test]
    fn the_first_answer_of_a_provider_of_tokens_counts_and_an_error_after_it() {
        let twice = host!(|reply| {
            answers!(reply.accept(octopus_text::of("first"), NULL, SOON));
            answers!(reply.accept(octopus_text::of("second"), NULL, SOON));
            answers!(reply.refuse(octopus_text::of("changed my mind")));
            0
        });
        assert_eq!(asked(twice).unwrap().value, "first");
        let and_failed = host!(|reply| {
            answers!(reply.accept(octopus_text::of("first"), NULL, SOON));
            -7
        });
        assert!(refused(and_failed).contains("returned -7"));
        let with_reason = host!(|reply| {
            answers!(reply.refuse(octopus_text::of("the vault is sealed")));
            -7
        });
        assert!(refused(with_reason).contains("the vault is sealed"));
    }

    #[test]
    fn a_provider_of_tokens_that_answers_wrongly_is_refused_and_does_no_harm() {
        assert!(refused(host!(|_reply| { 0 })).contains("neither accept nor refuse"));
        assert!(refused(host!(|_reply| { -1 })).contains("returned -1"));
        let empty = host!(|reply| {
            answers!(reply.accept(NULL, NULL, SOON));
            0
        });
        assert!(refused(empty).contains("empty"));
        let no_text = host!(|reply| {
            answers!(reply.accept(octopus_text { data: c"\xff".as_ptr(), size: 1 }, NULL, SOON));
            0
        });
        assert!(refused(no_text).contains("UTF-8"));
        let no_pointer = host!(|reply| {
            answers!(reply.accept(octopus_text { data: std::ptr::null(), size: 5 }, NULL, SOON));
            0
        });
        assert!(refused(no_pointer).contains("the token"));
        let nobodys = host!(|reply| {
            // SAFETY: NULL is looked at.
            unsafe {
                (reply.accept.unwrap())(std::ptr::null_mut(), NULL, NULL, SOON);
                (reply.refuse.unwrap())(std::ptr::null_mut(), NULL);
            }
            0
        });
        assert!(refused(nobodys).contains("neither"));
    }
}
