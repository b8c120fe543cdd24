//! The topic service's requests: one short exchange over HTTP each, tried again when the service or the way to it fails for
//! a moment. Everything that is asked for can be asked for twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;

use super::Authorization;
use crate::config::{MASK, Secret, ServiceSettings};
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result, shortened};
use crate::name_lookup::BlockingResolver;
use crate::resource_limit;

const LOG_TARGET: &str = "topic service";
const CONNECTING: Duration = Duration::from_secs(5);
/// For one attempt, from looking up the host's address to the last byte of the answer.
const ATTEMPT: Duration = Duration::from_secs(15);
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Also when the service asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Names of tens of thousands of topics.
const MAX_RESPONSE_SIZE: u64 = 16 * 1024 * 1024;
/// Names are parts of paths. What RFC 3986 calls unreserved stays as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub struct WebService {
    agent: Agent,
    settings: ServiceSettings,
    authorization: Authorization,
    log: Arc<dyn log::Log>,
}

/// What the service answers; a list of namespaces comes without a status from some versions.
#[derive(Default, Deserialize)]
struct ServiceResponse {
    status: Option<String>,
    message: Option<String>,
    namespaces: Option<BTreeMap<String, BTreeSet<String>>>,
}

/// Why an attempt failed.
struct Failure {
    error: Error,
    /// Worth trying again, after this pause if the service named one.
    passes: bool,
    pause: Option<Duration>,
    /// The service doesn't know who asks, or not any more.
    is_unauthorized: bool,
}

impl WebService {
    pub fn new(settings: &ServiceSettings, authorization: Authorization, log: Arc<dyn log::Log>) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_connect(Some(CONNECTING))
            .http_status_as_error(false)
            // The headers say who asks, so they go nowhere but where the configuration says.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("octopus/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = Agent::with_parts(agent, DefaultConnector::new(), BlockingResolver);
        let service = WebService { agent, settings: settings.clone(), authorization, log };
        if !service.is_private() {
            log::warn!(
                logger: &*service.log, target: LOG_TARGET,
                "octopus.url is {:?}: without https, octopus.authorization can be read on the way", settings.url
            );
        }
        service
    }

    /// The topics of a namespace, by their names in it; none when the service knows no such namespace.
    pub fn topics(&self, namespace: &str, deadline: Deadline) -> Result<BTreeSet<String>> {
        let doing = format!("asking the topic service for the topics of namespace {namespace:?}");
        let answer = self.ask(&Method::GET, "/api/v3/namespace", &doing, deadline)?;
        let Some(mut namespaces) = answer.namespaces else {
            return Err(self.unlike("has no \"namespaces\"").context(doing));
        };
        Ok(namespaces.remove(namespace).unwrap_or_default())
    }

    /// Succeeds when the topic is there, whoever made it.
    pub fn create(&self, namespace: &str, topic: &str, deadline: Deadline) -> Result<()> {
        let doing = format!("having the topic service create {topic:?} in namespace {namespace:?}");
        self.ask(&Method::POST, &path(namespace, topic, ""), &doing, deadline).map(drop)
    }

    /// Fails with `UnknownTopic` when there is none.
    pub fn delete(&self, namespace: &str, topic: &str, deadline: Deadline) -> Result<()> {
        let doing = format!("having the topic service delete {topic:?} in namespace {namespace:?}");
        self.ask(&Method::DELETE, &path(namespace, topic, ""), &doing, deadline).map(drop)
    }

    /// Has a topic deleted and made anew. Fails with `UnknownTopic` when there is none.
    pub fn recreate(&self, namespace: &str, topic: &str, deadline: Deadline) -> Result<()> {
        let doing = format!("having the topic service empty {topic:?} in namespace {namespace:?}");
        self.ask(&Method::PUT, &path(namespace, topic, "/recreate"), &doing, deadline).map(drop)
    }

    fn ask(&self, method: &Method, path: &str, doing: &str, deadline: Deadline) -> Result<ServiceResponse> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        let mut authorization = self.authorization.current().map_err(|error| error.context(doing))?;
        let mut is_renewed = false;
        loop {
            let Failure { error, passes, pause: wanted, .. } =
                match self.attempt(method, path, &authorization, deadline) {
                    Ok(answer) => return Ok(answer),
                    Err(failure) if failure.is_unauthorized && !is_renewed => {
                        authorization =
                            self.renewed(&authorization, failure.error).map_err(|error| error.context(doing))?;
                        is_renewed = true;
                        continue;
                    }
                    // An attempt before may have deleted it, and its answer been lost.
                    Err(failure) if attempt > 1 && *method == Method::DELETE && failure.is_unknown() => {
                        return Ok(ServiceResponse::default());
                    }
                    Err(failure) => failure,
                };
            let pausing = wanted.unwrap_or(pause).min(LONGEST_PAUSE);
            let is_last = attempt == ATTEMPTS || deadline.remaining(pausing) < pausing;
            if !passes || is_last {
                let error = if attempt > 1 { error.with_note(format_args!("tried {attempt} times")) } else { error };
                return Err(error.context(doing));
            }
            log::warn!(
                logger: &*self.log, target: LOG_TARGET,
                "{doing}: {error}; trying again in {} ms", pausing.as_millis()
            );
            thread::sleep(pausing);
            pause *= 2;
            attempt += 1;
        }
    }

    /// Another authorization than the refused one, or the service's refusal with what is missing.
    fn renewed(&self, refused: &Secret, refusal: Error) -> Result<Secret> {
        let place = self.authorization.place();
        match self.authorization.renewed(refused) {
            Ok(Some(renewed)) => {
                log::info!(logger: &*self.log, target: LOG_TARGET, "the authorization was refused; {place} has another one");
                Ok(renewed)
            }
            Ok(None) => Err(refusal.with_note(format_args!("{place} has no other authorization"))),
            Err(why) => Err(refusal.with_note(format_args!("{place} has no other authorization: {why}"))),
        }
    }

    fn attempt(
        &self,
        method: &Method,
        path: &str,
        authorization: &Secret,
        deadline: Deadline,
    ) -> std::result::Result<ServiceResponse, Failure> {
        let ServiceSettings { url, subject, .. } = &self.settings;
        let request = Request::builder()
            .method(method)
            .uri(format!("{url}{path}"))
            .header("subject", subject.reveal())
            .header("authorization", authorization.reveal())
            .body(())
            .map_err(|why| Failure::of(Kind::InvalidArgument, format!("{method} {path}: {why}")))?;
        let request = self.agent.configure_request(request).timeout_global(Some(deadline.remaining(ATTEMPT))).build();
        let mut answer = self.agent.run(request).map_err(|why| self.no_answer(&why, authorization))?;
        let status = answer.status();
        let wanted = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = answer.body_mut().with_config().limit(MAX_RESPONSE_SIZE).read_to_string();
        let text = text.map_err(|why| self.no_answer(&why, authorization))?;
        let parsed = serde_json::from_str::<ServiceResponse>(&text);
        let said = match &parsed {
            Ok(ServiceResponse { message: Some(message), .. }) => self.clean(message, authorization),
            _ => self.clean(text.trim(), authorization),
        };
        if !status.is_success() {
            return Err(self.refused(method, status, &said, wanted.map(Duration::from_secs)));
        }
        match parsed {
            Ok(answer) if answer.is_success() => Ok(answer),
            Ok(ServiceResponse { status: Some(word), .. }) => {
                let why = format!("{} answers {word:?} instead of \"success\": {said}", self.settings.url);
                Err(Failure::of(Kind::Kafka, why))
            }
            _ => Err(Failure::from(self.unlike(&format!("is {said:?}")))),
        }
    }

    fn no_answer(&self, why: &ureq::Error, authorization: &Secret) -> Failure {
        let limited = match why {
            ureq::Error::Io(cause) if cause.raw_os_error().is_some_and(resource_limit::is_limit) => {
                Some(resource_limit::error(format_args!("connecting to {}", self.settings.url), cause))
            }
            ureq::Error::Other(cause) => cause.downcast_ref::<Error>().cloned(),
            _ => None,
        };
        if let Some(error) = limited {
            return Failure { passes: true, ..Failure::from(error) };
        }
        let passes = match why {
            ureq::Error::Io(why) => !matches!(why.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput),
            ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => true,
            ureq::Error::Protocol(_) => true,
            _ => false,
        };
        let why = format!("no answer from {}: {}", self.settings.url, self.clean(&why.to_string(), authorization));
        Failure { passes, ..Failure::from(Error::new(Kind::Unreachable, why).retriable(passes)) }
    }

    fn refused(&self, method: &Method, status: StatusCode, said: &str, pause: Option<Duration>) -> Failure {
        // Only these need the topic that they name.
        let names_a_topic = [Method::DELETE, Method::PUT].contains(method);
        let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let advice = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "; see octopus.subject, octopus.authorization and namespace"
            }
            StatusCode::NOT_FOUND if !names_a_topic => "; is octopus.url the address of a topic service?",
            status if status.is_redirection() => "; set octopus.url to where the service is now",
            _ => "",
        };
        let kind = match status {
            _ if passes => Kind::Unreachable,
            StatusCode::NOT_FOUND if names_a_topic => Kind::UnknownTopic,
            _ => Kind::Kafka,
        };
        let why = format!("{} answers {status}: {said}{advice}", self.settings.url);
        let is_unauthorized = status == StatusCode::UNAUTHORIZED;
        Failure { error: Error::new(kind, why).retriable(passes), passes, pause, is_unauthorized }
    }

    fn unlike(&self, what: &str) -> Error {
        let why = format!("the answer of {} {what}; is octopus.url the address of a topic service?", self.settings.url);
        Error::new(Kind::Kafka, why)
    }

    /// What somebody else said, for an error: not too long, and without what we said of ourselves.
    fn clean(&self, said: &str, authorization: &Secret) -> String {
        let ServiceSettings { subject, .. } = &self.settings;
        let mut said = said.to_owned();
        let token = authorization.reveal().split_whitespace().last();
        for secret in [Some(authorization.reveal()), token, Some(subject.reveal())].into_iter().flatten() {
            said = said.replace(secret, MASK);
        }
        shortened(&said)
    }

    /// Whether nobody on the way can read the headers.
    fn is_private(&self) -> bool {
        let url: http::Uri = self.settings.url.parse().unwrap_or_default();
        let is_loopback = |host: &str| host == "localhost" || host == "[::1]" || host.starts_with("127.");
        url.scheme_str() == Some("https") || url.host().is_some_and(is_loopback)
    }
}

impl ServiceResponse {
    fn is_success(&self) -> bool {
        match &self.status {
            Some(status) => status == "success",
            None => self.namespaces.is_some(),
        }
    }
}

impl Failure {
    fn of(kind: Kind, why: String) -> Self {
        Failure::from(Error::new(kind, why))
    }

    fn is_unknown(&self) -> bool {
        self.error.kind() == Kind::UnknownTopic
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, passes: false, pause: None, is_unauthorized: false }
    }
}

fn path(namespace: &str, topic: &str, action: &str) -> String {
    let escaped = |name| utf8_percent_encode(name, ESCAPED);
    format!("/api/v3/{}/{}{action}", escaped(namespace), escaped(topic))
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn names_are_escaped_as_parts_of_a_path() {
        assert_eq!(path("beam line/7", "scans?#%é", ""), "/api/v3/beam%20line%2F7/scans%3F%23%25%C3%A9");
        assert_eq!(path("ns-1", "a_b.c~d", "/recreate"), "/api/v3/ns-1/a_b.c~d/recreate");
    }
}
