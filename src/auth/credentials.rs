//! AWS credentials: looked up by AWS' own chain of providers, kept while they are good, and renewed before they end.

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

use super::LatestRefusal;
use crate::config::MskSettings;
use crate::error::{Error, Kind, Result};
use crate::protection::Protection;
use provider::Provider;

/// Credentials are renewed so long before they end; others look them up meanwhile, and each may take some time.
const BEFORE_THE_END: Duration = Duration::from_secs(5 * 60);
/// Those that never end by themselves may be changed by hand, in a file say.
const LOOK_AGAIN: Duration = Duration::from_secs(15 * 60);
/// How long credentials have to be good for a token: with less, it would end on its way or soon after.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);

pub struct CachedCredentials {
    provider: Provider,
    log: Arc<dyn log::Log>,
    /// Held during a look-up, which has an end: of several who need credentials one looks.
    kept: Mutex<Option<Kept>>,
    refusal: LatestRefusal,
    /// Of the credentials that are kept: for who must not wait for a look-up.
    of_a_user: AtomicBool,
}

struct Kept {
    credentials: Credentials,
    renew_at: SystemTime,
}

impl CachedCredentials {
    pub fn new(settings: &MskSettings, log: Arc<dyn log::Log>) -> Result<Self> {
        Ok(CachedCredentials {
            provider: Provider::new(settings)?,
            log,
            kept: Mutex::default(),
            refusal: LatestRefusal::default(),
            of_a_user: AtomicBool::new(false),
        })
    }

    pub fn get(&self) -> Result<Credentials> {
        let mut kept = self.kept.lock();
        let now = SystemTime::now();
        if let Some(kept) = &*kept
            && now < kept.renew_at
        {
            return Ok(kept.credentials.clone());
        }
        let found = self.provider.look_up().and_then(|found| usable(found, SystemTime::now()));
        let error = match found {
            Ok(credentials) => {
                let renew_at = renewal(&credentials, now);
                self.of_a_user.store(credentials.session_token().is_none(), Ordering::Relaxed);
                *kept = Some(Kept { credentials: credentials.clone(), renew_at });
                return Ok(credentials);
            }
            Err(error) => error,
        };
        let old = kept.as_ref().map(|kept| kept.credentials.clone());
        let old = old.filter(|old| usable(old.clone(), SystemTime::now()).is_ok());
        drop(kept);
        let Some(old) = old else { return Err(error) };
        log::warn!(
            logger: &*self.log, target: "AWS credentials",
            "{error}; those from before are used as long as they are good"
        );
        Ok(old)
    }

    /// A broker has refused what was signed with them: they are looked up again for the next token.
    pub fn note_refusal(&self) {
        if Protection::RefusedCredentials.is_on()
            && self.refusal.note()
            && let Some(kept) = &mut *self.kept.lock()
        {
            kept.renew_at = SystemTime::now();
        }
    }

    /// Whether they are keys of a user, which AWS takes some time to make known to everyone who checks them. Those of a role
    /// are good from the beginning.
    pub fn are_of_a_user(&self) -> bool {
        self.of_a_user.load(Ordering::Relaxed)
    }
}

fn renewal(credentials: &Credentials, now: SystemTime) -> SystemTime {
    let Some(expiry) = credentials.expiry() else { return now + LOOK_AGAIN };
    let left = expiry.duration_since(now).unwrap_or_default();
    // Those with a short life are used for half of it, or each token would need a look-up; but not in their last minute.
    now + left.saturating_sub(BEFORE_THE_END).max(left / 2).min(left.saturating_sub(SHORTEST_LIFE))
}

fn usable(credentials: Credentials, now: SystemTime) -> Result<Credentials> {
    let blank = credentials.access_key_id().is_empty() || credentials.secret_access_key().is_empty();
    if blank {
        return Err(Error::new(Kind::Configuration, "the AWS credentials found are empty"));
    }
    let Some(expiry) = credentials.expiry() else { return Ok(credentials) };
    let why = match expiry.duration_since(now) {
        Ok(left) if left >= SHORTEST_LIFE => return Ok(credentials),
        Ok(left) => {
            format!("the AWS credentials found end in {} s, which is too soon for a token; renew them", left.as_secs())
        }
        Err(ago) => format!(
            "the AWS credentials found ended {} s ago; if they are new, this machine's clock is wrong",
            ago.duration().as_secs()
        ),
    };
    Err(Error::new(Kind::Kafka, why).retriable(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(end: Option<SystemTime>) -> Credentials {
        Credentials::new("key", "secret", None, end, "test")
    }

    fn refusal(credentials: Credentials, now: SystemTime) -> String {
        usable(credentials, now).map(drop).unwrap_err().message().to_owned()
    }

    #[test]
    fn credentials_with_less_than_a_minute_left_are_not_used() {
        let now = SystemTime::now();
        assert!(usable(ending(None), now).is_ok());
        assert!(usable(ending(Some(now + Duration::from_secs(60))), now).is_ok());
        let error = refusal(ending(Some(now + Duration::from_secs(59))), now);
        assert!(error.contains("end in 59 s"), "{error}");
        let error = refusal(ending(Some(now - Duration::from_secs(9))), now);
        assert!(error.contains("ended 9 s ago") && error.contains("clock"), "{error}");
    }

    #[test]
    fn credentials_are_renewed_before_the_last_minute() {
        let now = SystemTime::now();
        for life in [60, 70, 100, 600, 3600] {
            let end = now + Duration::from_secs(life);
            let renewed = renewal(&ending(Some(end)), now);
            assert!(renewed + SHORTEST_LIFE <= end, "{life}");
        }
    }
}
