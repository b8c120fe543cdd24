//! The HTTP header `authorization` for the topic service: the current value, and where to get
//! another one after the service has rejected it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::{AuthorizationSource, Secret};
use crate::support::error::{Error, Kind, Result};
use crate::support::protection::Protection;
use crate::support::services::AuthorizationProvider;

pub struct Authorization {
    /// The value in the configuration, if the host provides the later ones.
    first: Option<AuthorizationSource>,
    renewal: Renewal,
    /// Not locked while the host is called or a file is read.
    current: Mutex<Option<Secret>>,
}

enum Renewal {
    Host(Arc<AuthorizationProvider>),
    Configured(AuthorizationSource),
}

impl Authorization {
    /// # Errors
    /// Neither the configuration nor the host provides it.
    pub fn new(configured: Option<AuthorizationSource>, host: Option<Arc<AuthorizationProvider>>) -> Result<Self> {
        let (first, renewal) = match (configured, host) {
            (first, Some(host)) => (first, Renewal::Host(host)),
            (Some(source), None) => (None, Renewal::Configured(source)),
            (None, None) => {
                let reason = "missing; expected it, \"authorization_env\", \"authorization_file\", \
                           or a host that provides it (services.authorization)";
                return Err(Error::configuration("octopus.authorization", reason));
            }
        };
        Ok(Authorization { first, renewal, current: Mutex::new(None) })
    }

    pub fn current(&self) -> Result<Secret> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let first = match &self.first {
            Some(source) => source.read()?,
            None => self.renewal.read()?,
        };
        Ok(self.current.lock().get_or_insert(first).clone())
    }

    /// Another value than the one that the service has rejected; `None` if the source still has the
    /// same.
    pub fn renewed(&self, rejected: &Secret) -> Result<Option<Secret>> {
        if !Protection::RejectedAuthorization.is_on() {
            return Ok(None);
        }
        // Another call may have renewed it already.
        if let Some(known) = self.known().filter(|known| known != rejected) {
            return Ok(Some(known));
        }
        let next = self.renewal.read()?;
        if next == *rejected {
            return Ok(None);
        }
        *self.current.lock() = Some(next.clone());
        Ok(Some(next))
    }

    /// Where another value would come from, for an error.
    pub fn source_name(&self) -> String {
        match &self.renewal {
            Renewal::Host(_) => "the host (services.authorization)".to_owned(),
            Renewal::Configured(AuthorizationSource::Text(_)) => "octopus.authorization".to_owned(),
            Renewal::Configured(AuthorizationSource::Environment { name, .. }) => {
                format!("the environment variable {name:?}")
            }
            Renewal::Configured(AuthorizationSource::File(path)) => path.display().to_string(),
        }
    }

    fn known(&self) -> Option<Secret> {
        self.current.lock().clone()
    }
}

impl Renewal {
    fn read(&self) -> Result<Secret> {
        match self {
            Renewal::Host(host) => Secret::header(&host()?).map_err(|reason| {
                Error::new(Kind::HostCallback, format!("the host's authorization (services.authorization) {reason}"))
            }),
            Renewal::Configured(source) => source.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Secret {
        Secret::header(text).unwrap()
    }

    #[test]
    fn host_is_called_at_first_and_once_after_each_rejection() {
        let count = Arc::new(Mutex::new(0));
        let calls = count.clone();
        let host: Arc<AuthorizationProvider> = Arc::new(move || {
            *calls.lock() += 1;
            Ok(format!("Bearer {}", calls.lock()))
        });
        let authorization = Authorization::new(None, Some(host)).unwrap();
        assert_eq!(authorization.current().unwrap(), text("Bearer 1"));
        assert_eq!(authorization.current().unwrap(), text("Bearer 1"));
        assert_eq!(authorization.renewed(&text("Bearer 1")).unwrap(), Some(text("Bearer 2")));
        assert_eq!(authorization.renewed(&text("Bearer 1")).unwrap(), Some(text("Bearer 2")), "it was renewed already");
        assert_eq!(*count.lock(), 2);
    }

    #[test]
    fn configured_authorization_is_renewed_only_by_the_host() {
        let given = || Some(AuthorizationSource::Text(text("Bearer given")));
        let fixed = Authorization::new(given(), None).unwrap();
        let current = fixed.current().unwrap();
        assert_eq!(fixed.renewed(&current).unwrap(), None);
        let host: Arc<AuthorizationProvider> = Arc::new(|| Ok("Bearer host".to_owned()));
        let renewed = Authorization::new(given(), Some(host)).unwrap();
        assert_eq!(renewed.current().unwrap(), current);
        assert_eq!(renewed.renewed(&current).unwrap(), Some(text("Bearer host")));
        let unsendable: Arc<AuthorizationProvider> = Arc::new(|| Ok("two\nlines".to_owned()));
        let error = Authorization::new(None, Some(unsendable)).unwrap().current().unwrap_err();
        assert!(error.message().contains("services.authorization") && !error.message().contains("two"), "{error}");
        assert!(Authorization::new(None, None).is_err());
    }
}
