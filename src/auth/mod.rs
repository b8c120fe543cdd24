//! Creates tokens for SASL OAUTHBEARER. This module does not use librdkafka: `kafka` requests
//! tokens in time and passes them to librdkafka.

#[cfg(feature = "msk")]
mod credentials;
/// cbindgen:ignore
#[cfg(feature = "gssapi")]
#[cfg_attr(not(feature = "patched"), allow(dead_code, reason = "librdkafka calls it by a patch"))]
pub mod kerberos;
#[cfg(feature = "msk")]
mod msk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::{DriverSettings, MskSettings, ProxySettings, Secret};
use crate::support::error::{Error, Result};
use crate::support::services::Services;
use crate::support::token::{Token, TokenSource};

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

/// A user's access key at Amazon, as the topic service returns it.
#[cfg_attr(not(feature = "msk"), allow(dead_code, reason = "no token is signed"))]
pub struct AccessKey {
    pub id: String,
    pub secret: Secret,
    /// The brokers at which it is valid.
    pub bootstrap_servers: String,
}

/// Asks the topic service for the key.
pub type AskForKey = Arc<dyn Fn() -> Result<AccessKey> + Send + Sync>;

/// The token source of a driver's clients; `None` if neither the configuration nor the host has
/// one.
pub fn token_source(
    settings: &DriverSettings,
    services: &Services,
    ask_for_key: Option<AskForKey>,
) -> Result<Option<Arc<dyn TokenSource>>> {
    match (&settings.msk, &services.token) {
        (Some(_), Some(_)) => Err(Error::configuration(
            "aws_msk_iam",
            "the host provides tokens too (services.token); use one of the two",
        )),
        (Some(msk), None) => msk_tokens(msk, settings.proxy.as_ref(), services, ask_for_key).map(Some),
        (None, token) => Ok(token.clone()),
    }
}

#[cfg(feature = "msk")]
fn msk_tokens(
    settings: &MskSettings,
    proxy: Option<&ProxySettings>,
    services: &Services,
    ask_for_key: Option<AskForKey>,
) -> Result<Arc<dyn TokenSource>> {
    Ok(Arc::new(msk::MskTokens::new(settings, proxy, services.log.clone(), ask_for_key)?))
}

#[cfg(not(feature = "msk"))]
fn msk_tokens(
    _: &MskSettings,
    _: Option<&ProxySettings>,
    _: &Services,
    _: Option<AskForKey>,
) -> Result<Arc<dyn TokenSource>> {
    Err(Error::missing_feature("aws_msk_iam", "Amazon MSK's access control", "msk"))
}

#[cfg(all(test, not(feature = "msk")))]
mod tests {
    use super::*;
    use crate::support::error::Kind;

    #[test]
    fn access_control_of_msk_needs_its_feature() {
        let config = r#"{"kafka": {"bootstrap.servers": "127.0.0.1:1"}, "aws_msk_iam": {"region": "us-east-1"}}"#;
        let settings = DriverSettings::parse(config).unwrap();
        let error = token_source(&settings, &Services::default(), None).err().unwrap();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.message().contains("aws_msk_iam") && error.message().contains("\"msk\""), "{error}");
    }
}
