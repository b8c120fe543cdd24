//! AWS credentials: looked up by AWS' provider chain, cached while they are valid, and renewed
//! before they expire.

#[cfg(feature = "aws")]
#[path = "credentials/chain.rs"]
mod provider;
#[cfg(not(feature = "aws"))]
#[path = "credentials/environment.rs"]
mod provider;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use parking_lot::Mutex;

use super::{AskForKey, RejectionDebounce};
use crate::config::{KeySource, MskSettings, ProxySettings};
use crate::support::error::{Error, Kind, Result};
use crate::support::protection::Protection;
use provider::Provider;

/// How long before their expiry credentials are renewed. A look-up takes up to 20 s, and may fail.
const RENEWAL_MARGIN: Duration = Duration::from_secs(5 * 60);
/// How long credentials without an expiry are cached. A user may replace them, in a file for
/// example.
const MAX_AGE: Duration = Duration::from_secs(15 * 60);
/// The minimum remaining lifetime of credentials that sign a token. With less, the token would
/// expire before or soon after the broker receives it.
const MIN_LIFETIME: Duration = Duration::from_secs(60);

pub struct CachedCredentials {
    source: Source,
    log: Arc<dyn log::Log>,
    /// Locked during a look-up, which has a time limit, so that concurrent callers share one
    /// look-up.
    cached: Mutex<Option<CacheEntry>>,
    rejection: RejectionDebounce,
    /// [`Self::are_of_user`] of the cached credentials, for callers that must not wait for a
    /// look-up.
    of_user: AtomicBool,
}

enum Source {
    Chain(Box<Provider>),
    Environment { access_key: &'static str, secret_key: &'static str },
    TopicService(AskForKey),
}

impl Source {
    fn new(settings: &MskSettings, proxy: Option<&ProxySettings>, ask_for_key: Option<AskForKey>) -> Result<Self> {
        match (settings.keys, ask_for_key) {
            (KeySource::Chain, _) => Provider::new(settings, proxy).map(|provider| Source::Chain(Box::new(provider))),
            (KeySource::Environment { access_key, secret_key }, _) => {
                Ok(Source::Environment { access_key, secret_key })
            }
            (KeySource::TopicService, Some(ask)) => Ok(Source::TopicService(ask)),
            (KeySource::TopicService, None) => {
                Err(Error::missing_feature("globus", "the topic service", "topic-service"))
            }
        }
    }

    fn look_up(&self) -> Result<Credentials> {
        match self {
            Source::Chain(provider) => provider.look_up(),
            Source::Environment { access_key, secret_key } => {
                let needed = |name: &str| {
                    std::env::var(name).map_err(|_| {
                        let reason = format!("looking up AWS credentials: the environment has no {name} any more");
                        Error::new(Kind::Configuration, reason)
                    })
                };
                Ok(Credentials::new(needed(access_key)?, needed(secret_key)?, None, None, "environment"))
            }
            Source::TopicService(ask) => {
                ask().map(|key| Credentials::new(key.id, key.secret.reveal(), None, None, "topic service"))
            }
        }
    }
}

struct CacheEntry {
    credentials: Credentials,
    renew_at: SystemTime,
}

impl CachedCredentials {
    pub fn new(
        settings: &MskSettings,
        proxy: Option<&ProxySettings>,
        log: Arc<dyn log::Log>,
        ask_for_key: Option<AskForKey>,
    ) -> Result<Self> {
        Ok(CachedCredentials {
            source: Source::new(settings, proxy, ask_for_key)?,
            log,
            cached: Mutex::default(),
            rejection: RejectionDebounce::default(),
            of_user: AtomicBool::new(false),
        })
    }

    pub fn get(&self) -> Result<Credentials> {
        let mut cached = self.cached.lock();
        let now = SystemTime::now();
        if let Some(entry) = &*cached
            && now < entry.renew_at
        {
            return Ok(entry.credentials.clone());
        }
        let found = self.source.look_up().and_then(|found| usable(found, SystemTime::now()));
        let error = match found {
            Ok(credentials) => {
                let renew_at = renewal(&credentials, now);
                self.of_user.store(credentials.session_token().is_none(), Ordering::Relaxed);
                *cached = Some(CacheEntry { credentials: credentials.clone(), renew_at });
                return Ok(credentials);
            }
            Err(error) => error,
        };
        let old = cached.as_ref().map(|entry| entry.credentials.clone());
        let old = old.filter(|old| usable(old.clone(), SystemTime::now()).is_ok());
        drop(cached);
        let Some(old) = old else { return Err(error) };
        log::warn!(
            logger: &*self.log, target: "AWS credentials",
            "{error}; the previous credentials are used until they expire"
        );
        Ok(old)
    }

    /// Looks the credentials up again for the next token, since a broker has rejected their
    /// signature.
    pub fn note_rejection(&self) {
        if Protection::RejectedCredentials.is_on()
            && self.rejection.note()
            && let Some(entry) = &mut *self.cached.lock()
        {
            entry.renew_at = SystemTime::now();
        }
    }

    /// Whether the cached credentials are the keys of a user, which AWS takes some time to
    /// propagate. Those of a role are valid at once.
    pub fn are_of_user(&self) -> bool {
        self.of_user.load(Ordering::Relaxed)
    }
}

fn renewal(credentials: &Credentials, now: SystemTime) -> SystemTime {
    let Some(expiry) = credentials.expiry() else { return now + MAX_AGE };
    let left = expiry.duration_since(now).unwrap_or_default();
    // Credentials with a short lifetime are cached for half of it, or each token would need a
    // look-up; but never into their last minute.
    now + left.saturating_sub(RENEWAL_MARGIN).max(left / 2).min(left.saturating_sub(MIN_LIFETIME))
}

fn usable(credentials: Credentials, now: SystemTime) -> Result<Credentials> {
    let blank = credentials.access_key_id().is_empty() || credentials.secret_access_key().is_empty();
    if blank {
        return Err(Error::new(Kind::Configuration, "the AWS credentials found are empty"));
    }
    let Some(expiry) = credentials.expiry() else { return Ok(credentials) };
    let reason = match expiry.duration_since(now) {
        Ok(left) if left >= MIN_LIFETIME => return Ok(credentials),
        Ok(left) => {
            format!(
                "the AWS credentials found expire in {} s, which is too soon for a token; renew them",
                left.as_secs()
            )
        }
        Err(ago) => format!(
            "the AWS credentials found expired {} s ago; if they are new, this machine's clock is wrong",
            ago.duration().as_secs()
        ),
    };
    Err(Error::new(Kind::Kafka, reason).retriable(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiring_at(end: Option<SystemTime>) -> Credentials {
        Credentials::new("key", "secret", None, end, "test")
    }

    fn rejection(credentials: Credentials, now: SystemTime) -> String {
        usable(credentials, now).map(drop).unwrap_err().message().to_owned()
    }

    #[test]
    fn credentials_that_expire_within_a_minute_are_rejected() {
        let now = SystemTime::now();
        assert!(usable(expiring_at(None), now).is_ok());
        assert!(usable(expiring_at(Some(now + Duration::from_secs(60))), now).is_ok());
        let error = rejection(expiring_at(Some(now + Duration::from_secs(59))), now);
        assert!(error.contains("expire in 59 s"), "{error}");
        let error = rejection(expiring_at(Some(now - Duration::from_secs(9))), now);
        assert!(error.contains("expired 9 s ago") && error.contains("clock"), "{error}");
    }

    #[test]
    fn credentials_are_renewed_before_their_last_minute() {
        let now = SystemTime::now();
        for lifetime in [60, 70, 100, 600, 3600] {
            let end = now + Duration::from_secs(lifetime);
            let renewed = renewal(&expiring_at(Some(end)), now);
            assert!(renewed + MIN_LIFETIME <= end, "{lifetime}");
        }
    }
}
