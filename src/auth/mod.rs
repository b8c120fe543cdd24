//! Tokens for SASL OAUTHBEARER: who makes them, and what they are. There is no librdkafka in here; asking for tokens
//! in time and handing them over is `kafka`'s.

mod credentials;
mod msk;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::config::DriverSettings;
use crate::error::{Error, Result};
use crate::services::Services;
use msk::MskTokens;

/// What a client shows to a broker instead of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub value: String,
    /// Whom it is for; may be empty.
    pub principal: String,
    pub expires: SystemTime,
}

/// A token is as good as a password while it lives.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("principal", &self.principal)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Makes tokens; asked on threads of the plugin, several at a time, a little before the last token's end.
pub trait TokenSource: Send + Sync {
    /// `config` is `sasl.oauthbearer.config`, for whoever makes use of it.
    fn token(&self, config: &str) -> Result<Token>;

    /// A broker has refused a token; another one is asked for next, on the same thread.
    fn note_refusal(&self) {}

    /// How long brokers may refuse tokens before that is an error: what they are made with may be too new for a broker.
    /// Returns at once.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }
}

/// When a broker last refused what it was shown. Several brokers, and several clients of a driver, do so at the same time.
#[derive(Default)]
pub struct LatestRefusal(Mutex<Option<Instant>>);

impl LatestRefusal {
    /// Whether this refusal calls for something new, unlike another one of the last few seconds.
    pub fn note(&self) -> bool {
        const BETWEEN: Duration = Duration::from_secs(5);
        let mut latest = self.0.lock();
        let calls = latest.is_none_or(|latest| latest.elapsed() >= BETWEEN);
        if calls {
            *latest = Some(Instant::now());
        }
        calls
    }
}

/// A function of the host's.
impl<F: Fn(&str) -> Result<Token> + Send + Sync> TokenSource for F {
    fn token(&self, config: &str) -> Result<Token> {
        self(config)
    }
}

/// Whoever makes the tokens of a driver's clients; nobody, if the configuration asks for none and the host has none.
pub fn token_source(settings: &DriverSettings, services: &Services) -> Result<Option<Arc<dyn TokenSource>>> {
    match (&settings.msk, &services.token) {
        (Some(_), Some(_)) => Err(Error::configuration(
            "aws_msk_iam",
            "the host provides tokens too (services.token); a driver takes them from one place",
        )),
        (Some(msk), None) => Ok(Some(Arc::new(MskTokens::new(msk, services.log.clone())?))),
        (None, token) => Ok(token.clone()),
    }
}
