//! Tokens that a client sends to brokers. librdkafka requests the next one on the client's queue,
//! which a thread of the plugin serves even if the host is idle: at 80 % of the current token's
//! lifetime, and 10 s after a failure.

use std::ffi::{CString, c_char};
use std::sync::{Arc, Weak};
use std::time::UNIX_EPOCH;

use rdkafka::bindings as rd;

use crate::kafka::librdkafka::codes::Code;
use crate::kafka::librdkafka::errors;
use crate::kafka::librdkafka::handle::Handle;
use crate::kafka::librdkafka::text::{c_string, text};
use crate::support::error::{Error, Kind, Result};
use crate::support::threads::spawn;
use crate::support::token::{Token, TokenSource};

/// Why a client needs a new token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It has none yet, or the current one expires soon.
    Due,
    /// A broker has refused the current one.
    Refused,
}

/// Gets a token and sets it, on a thread of its own, since a lookup of credentials or the host may
/// be slow. A failure is reported as an error of the client.
pub fn renew(
    client: &Arc<Handle>,
    cause: Cause,
    name: &str,
    source: &Arc<dyn TokenSource>,
    config: String,
    log: Arc<dyn log::Log>,
) {
    // Weak, so that a client that is not used any more can end without waiting for its token.
    let (weak, name, source) = (Arc::downgrade(client), name.to_owned(), source.clone());
    let started = spawn("octopus-token", move || {
        if cause == Cause::Refused {
            source.note_rejection();
        }
        let outcome = source.token(&config);
        if set_or_fail(&weak, outcome) {
            log::debug!(logger: &*log, target: &name, "has a new token");
        }
    });
    if let Err(error) = started {
        report_failure(client, &error);
    }
}

fn set_or_fail(client: &Weak<Handle>, outcome: Result<Token>) -> bool {
    let Some(client) = client.upgrade() else { return false };
    let result = outcome.and_then(|token| set(&client, &token));
    if let Err(error) = &result {
        report_failure(&client, error);
    }
    result.is_ok()
}

fn set(client: &Handle, token: &Token) -> Result<()> {
    if let Ok(ago) = token.expires.elapsed() {
        return Err(Error::new(
            Kind::Kafka,
            format!("the token ended {} s ago; if it is new, this machine's clock is wrong", ago.as_secs()),
        ));
    }
    let expires = token.expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let (value, principal) = (c_string(&token.value)?, c_string(&token.principal)?);
    let mut reason = [0 as c_char; 256];
    // SAFETY: `client` is alive; all texts are copied; the buffer has the given length.
    let code = unsafe {
        rd::rd_kafka_oauthbearer_set_token(
            client.as_ptr(),
            value.as_ptr(),
            i64::try_from(expires).unwrap_or(i64::MAX),
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    let code = Code::from(code);
    match code.number() {
        0 => {
            client.note_token();
            Ok(())
        }
        // SAFETY: the call failed, so librdkafka has written a NUL-terminated text.
        _ => Err(errors::error(code, &unsafe { text(reason.as_ptr()) }.replace(&token.value, crate::config::MASK))),
    }
}

fn report_failure(client: &Handle, error: &Error) {
    // The host's reason may contain a NUL character.
    let reason = CString::new(error.message().replace('\0', "\\0")).unwrap_or_default();
    // SAFETY: `client` is alive; the text is copied. The call fails only for clients without
    // tokens.
    unsafe { rd::rd_kafka_oauthbearer_set_token_failure(client.as_ptr(), reason.as_ptr()) };
}
