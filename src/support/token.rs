//! Tokens for SASL OAUTHBEARER, and their source.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::error::Result;

/// The credential that a client sends to a broker instead of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub value: String,
    /// The identity of the client; may be empty.
    pub principal: String,
    pub expires: SystemTime,
}

/// Omits the value, which is a secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("principal", &self.principal)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Creates tokens. Called on plugin threads, concurrently, shortly before the previous token
/// expires.
pub trait TokenSource: Send + Sync {
    /// `config` is the property `sasl.oauthbearer.config`.
    fn token(&self, config: &str) -> Result<Token>;

    /// Called when a broker has rejected a token, before the next call of [`Self::token`] on the
    /// same thread.
    fn note_rejection(&self) {}

    /// For how long a rejection by brokers is not an error: AWS takes time to propagate new
    /// credentials. Does not block.
    fn rejection_grace(&self) -> Duration {
        Duration::ZERO
    }
}
