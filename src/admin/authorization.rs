//! The header `authorization` for the topic service: what is sent, and where the next one comes from once the service refuses it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::{AuthorizationSource, Secret};
use crate::error::{Error, Kind, Result};
use crate::protection::Protection;
use crate::services::ProvideAuthorization;

pub struct Authorization {
    /// By the configuration, where the host has the next ones.
    first: Option<AuthorizationSource>,
    renewal: Renewal,
    /// Not held while the host or a file is asked.
    current: Mutex<Option<Secret>>,
}

enum Renewal {
    Host(Arc<ProvideAuthorization>),
    Configured(AuthorizationSource),
}

impl Authorization {
    /// # Errors
    /// Neither the configuration nor the host says where it is.
    pub fn new(configured: Option<AuthorizationSource>, host: Option<Arc<ProvideAuthorization>>) -> Result<Self> {
        let (first, renewal) = match (configured, host) {
            (first, Some(host)) => (first, Renewal::Host(host)),
            (Some(source), None) => (None, Renewal::Configured(source)),
            (None, None) => {
                let why = "missing; expected it, \"authorization_env\", \"authorization_file\", \
                           or a host that provides it (services.authorization)";
                return Err(Error::configuration("octopus.authorization", why));
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

    /// Another one than the service has just refused; `None` if there is only the same.
    pub fn renewed(&self, refused: &Secret) -> Result<Option<Secret>> {
        if !Protection::RefusedAuthorization.is_on() {
            return Ok(None);
        }
        // Another call may have been faster.
        if let Some(known) = self.known().filter(|known| known != refused) {
            return Ok(Some(known));
        }
        let next = self.renewal.read()?;
        if next == *refused {
            return Ok(None);
        }
        *self.current.lock() = Some(next.clone());
        Ok(Some(next))
    }

    /// Where another one would come from, for an error.
    pub fn place(&self) -> String {
        match &self.renewal {
            Renewal::Host(_) => "the host (services.authorization)".to_owned(),
            Renewal::Configured(AuthorizationSource::Text(_)) => "octopus.authorization".to_owned(),
            Renewal::Configured(AuthorizationSource::Environment(name)) => format!("the environment variable {name:?}"),
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
            Renewal::Host(host) => Secret::header(&host()?).map_err(|why| {
                Error::new(Kind::HostCallback, format!("the host's authorization (services.authorization) {why}"))
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
    fn host_is_asked_once_for_the_first_and_once_for_each_refusal() {
        let count = Arc::new(Mutex::new(0));
        let asked = count.clone();
        let host: Arc<ProvideAuthorization> = Arc::new(move || {
            *asked.lock() += 1;
            Ok(format!("Bearer {}", asked.lock()))
        });
        let authorization = Authorization::new(None, Some(host)).unwrap();
        assert_eq!(authorization.current().unwrap(), text("Bearer 1"));
        assert_eq!(authorization.current().unwrap(), text("Bearer 1"));
        assert_eq!(authorization.renewed(&text("Bearer 1")).unwrap(), Some(text("Bearer 2")));
        assert_eq!(authorization.renewed(&text("Bearer 1")).unwrap(), Some(text("Bearer 2")), "it was renewed already");
        assert_eq!(*count.lock(), 2);
    }

    #[test]
    fn text_of_the_configuration_is_renewed_by_the_host_only() {
        let given = || Some(AuthorizationSource::Text(text("Bearer given")));
        let fixed = Authorization::new(given(), None).unwrap();
        let current = fixed.current().unwrap();
        assert_eq!(fixed.renewed(&current).unwrap(), None);
        let host: Arc<ProvideAuthorization> = Arc::new(|| Ok("Bearer host".to_owned()));
        let renewed = Authorization::new(given(), Some(host)).unwrap();
        assert_eq!(renewed.current().unwrap(), current);
        assert_eq!(renewed.renewed(&current).unwrap(), Some(text("Bearer host")));
        let unsendable: Arc<ProvideAuthorization> = Arc::new(|| Ok("two\nlines".to_owned()));
        let error = Authorization::new(None, Some(unsendable)).unwrap().current().unwrap_err();
        assert!(error.message().contains("services.authorization") && !error.message().contains("two"), "{error}");
        assert!(Authorization::new(None, None).is_err());
    }
}
