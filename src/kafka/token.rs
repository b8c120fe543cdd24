//! Tokens for a client that shows them to brokers: librdkafka says on the client's queue, which a thread of ours serves
//! whether or not the host does anything, when it needs the next one: at 80 % of the last one's life, and 10 s after a
//! failure.

use std::ffi::{CString, c_char};
use std::sync::{Arc, Weak};
use std::time::UNIX_EPOCH;

use rdkafka::bindings as rd;

use super::codes::Code;
use super::errors;
use super::handle::Handle;
use super::native::{c_string, text};
use crate::auth::{Token, TokenSource};
use crate::completions::spawn;
use crate::error::{Error, Kind, Result};

/// Why a client needs another token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It has none yet, or its last one ends soon.
    Due,
    /// A broker has refused the last one.
    Refused,
}

/// Gets a token and hands it over, on a thread of its own: a look-up of credentials, or a host, may take its time.
/// What fails is told as an error of the client.
pub fn renew(
    client: &Arc<Handle>,
    cause: Cause,
    name: &str,
    source: &Arc<dyn TokenSource>,
    config: String,
    log: Arc<dyn log::Log>,
) {
    // A client that nobody needs any more need not wait for its token.
    let (weak, name, source) = (Arc::downgrade(client), name.to_owned(), source.clone());
    let started = spawn("octopus-token", move || {
        if cause == Cause::Refused {
            source.note_refusal();
        }
        let outcome = source.token(&config);
        if hand_over(&weak, outcome) {
            log::debug!(logger: &*log, target: &name, "has a new token");
        }
    });
    if let Err(error) = started {
        refuse(client, &error);
    }
}

fn hand_over(client: &Weak<Handle>, outcome: Result<Token>) -> bool {
    let Some(client) = client.upgrade() else { return false };
    let handed_over = outcome.and_then(|token| set(&client, &token));
    if let Err(error) = &handed_over {
        refuse(&client, error);
    }
    handed_over.is_ok()
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
    let mut why = [0 as c_char; 256];
    // SAFETY: the client is alive; all texts are copied; the buffer is as long as said.
    let code = unsafe {
        rd::rd_kafka_oauthbearer_set_token(
            client.as_ptr(),
            value.as_ptr(),
            i64::try_from(expires).unwrap_or(i64::MAX),
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            why.as_mut_ptr(),
            why.len(),
        )
    };
    let code = Code::from(code);
    match code.number() {
        0 => {
            client.note_token();
            Ok(())
        }
        // SAFETY: librdkafka terminates the text.
        _ => Err(errors::error(code, &unsafe { text(why.as_ptr()) }.replace(&token.value, crate::config::MASK))),
    }
}

fn refuse(client: &Handle, error: &Error) {
    // A NUL in a host's reason must not hide the reason.
    let why = CString::new(error.message().replace('\0', "\\0")).unwrap_or_default();
    // SAFETY: the client is alive; the text is copied. It fails only for clients that show no tokens.
    unsafe { rd::rd_kafka_oauthbearer_set_token_failure(client.as_ptr(), why.as_ptr()) };
}
