//! AWS credentials: looked up by AWS' own chain of providers, kept while they are good, and renewed before they end.

#[cfg(feature = "aws")]
#[path = "credentials/chain.rs"]
mod provider;
#[cfg(not(feature = "aws"))]
#[path = "credentials/environment.rs"]
mod provider;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use parking_lot::Mutex;

use crate::config::MskSettings;
use crate::error::{Error, Kind, Result};
use provider::Provider;

/// Credentials are renewed so long before they end; others look them up meanwhile, and each may take some time.
const BEFORE_THE_END: Duration = Duration::from_secs(5 * 60);
/// Those that never end by themselves may be changed by hand, in a file say.
const LOOK_AGAIN: Duration = Duration::from_secs(15 * 60);

pub struct CachedCredentials {
    provider: Provider,
    log: Arc<dyn log::Log>,
    /// Held during a look-up, which has an end: of several who need credentials one looks.
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    credentials: Credentials,
    renew_at: SystemTime,
}

impl CachedCredentials {
    pub fn new(settings: &MskSettings, log: Arc<dyn log::Log>) -> Result<Self> {
        Ok(CachedCredentials { provider: Provider::new(settings)?, log, kept: Mutex::default() })
    }

    pub fn get(&self) -> Result<Credentials> {
        let mut kept = self.kept.lock();
        let now = SystemTime::now();
        if let Some(kept) = &*kept
            && now < kept.renew_at
        {
            return Ok(kept.credentials.clone());
        }
        let found = self.provider.look_up().and_then(usable);
        let error = match found {
            Ok(credentials) => {
                let renew_at = renewal(&credentials, now);
                *kept = Some(Kept { credentials: credentials.clone(), renew_at });
                return Ok(credentials);
            }
            Err(error) => error,
        };
        let still_good = |kept: &Kept| kept.credentials.expiry().is_none_or(|expiry| expiry > now);
        let old = kept.as_ref().filter(|kept| still_good(kept)).map(|kept| kept.credentials.clone());
        drop(kept);
        let Some(old) = old else { return Err(error) };
        log::warn!(
            logger: &*self.log, target: "AWS credentials",
            "{error}; those from before are used as long as they are good"
        );
        Ok(old)
    }
}

fn renewal(credentials: &Credentials, now: SystemTime) -> SystemTime {
    let Some(expiry) = credentials.expiry() else { return now + LOOK_AGAIN };
    let left = expiry.duration_since(now).unwrap_or_default();
    // Those with a short life are used for half of it at least, or each token would need a look-up.
    now + left.saturating_sub(BEFORE_THE_END).max(left / 2)
}

fn usable(credentials: Credentials) -> Result<Credentials> {
    let blank = credentials.access_key_id().is_empty() || credentials.secret_access_key().is_empty();
    if blank {
        return Err(Error::new(Kind::Configuration, "the AWS credentials found are empty"));
    }
    match credentials.expiry() {
        Some(expiry) if expiry <= SystemTime::now() => Err(Error::new(
            Kind::Kafka,
            format!(
                "the AWS credentials found ended {} s ago; if they are new, this machine's clock is wrong",
                expiry.elapsed().unwrap_or_default().as_secs()
            ),
        )
        .retriable(true)),
        _ => Ok(credentials),
    }
}
