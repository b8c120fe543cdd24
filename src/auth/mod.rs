//! Creates tokens for SASL OAUTHBEARER. This module does not use librdkafka: `kafka` requests
//! tokens in time and passes them to librdkafka.

mod credentials;
mod msk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::DriverSettings;
use crate::support::error::{Error, Result};
use crate::support::services::Services;
use crate::support::token::{Token, TokenSource};
use msk::MskTokens;

/// When a broker last rejected a token or credentials. Several brokers and several clients of a
/// driver see the same rejection at the same time, and only the first of them needs a reaction.
#[derive(Default)]
pub struct RejectionDebounce(Mutex<Option<Instant>>);

impl RejectionDebounce {
    /// Records a rejection. Returns whether it is the first one in 5 s.
    pub fn note(&self) -> bool {
        const INTERVAL: Duration = Duration::from_secs(5);
        let mut latest = self.0.lock();
        let is_first = latest.is_none_or(|latest| latest.elapsed() >= INTERVAL);
        if is_first {
            *latest = Some(Instant::now());
        }
        is_first
    }
}

/// A function of the host.
impl<F: Fn(&str) -> Result<Token> + Send + Sync> TokenSource for F {
    fn token(&self, config: &str) -> Result<Token> {
        self(config)
    }
}

/// The token source of a driver's clients; `None` if neither the configuration nor the host has
/// one.
pub fn token_source(settings: &DriverSettings, services: &Services) -> Result<Option<Arc<dyn TokenSource>>> {
    match (&settings.msk, &services.token) {
        (Some(_), Some(_)) => Err(Error::configuration(
            "aws_msk_iam",
            "the host provides tokens too (services.token); use one of the two",
        )),
        (Some(msk), None) => Ok(Some(Arc::new(MskTokens::new(msk, services.log.clone())?))),
        (None, token) => Ok(token.clone()),
    }
}
