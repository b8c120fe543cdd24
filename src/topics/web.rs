//! HTTP requests to the topic service. A request that fails for a transient reason is retried; all
//! requests are idempotent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::Authorization;
use crate::auth::AccessKey;
use crate::config::{MASK, ProxySettings, Secret, ServiceSettings};
use crate::http_client::{self, Options, Proxy};
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result, shortened};

const LOG_TARGET: &str = "topic service";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one attempt, from the name look-up to the last byte of the response.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_ATTEMPTS: u32 = 5;
const MIN_BACKOFF: Duration = Duration::from_millis(250);
/// Also if the header `retry-after` is larger.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Enough for the names of tens of thousands of topics.
const MAX_RESPONSE_SIZE: usize = 16 * 1024 * 1024;
/// The characters to escape in a segment of a path: all but the unreserved ones of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Its responses contain secrets.
const KEY_PATH: &str = "/api/v3/key";

pub struct WebService {
    settings: ServiceSettings,
    authorization: Authorization,
    proxy: Proxy,
    log: Arc<dyn log::Log>,
}

/// The JSON of a response. Some versions of the service list namespaces without a status.
#[derive(Default, Deserialize)]
struct ServiceResponse {
    status: Option<String>,
    message: Option<String>,
    namespaces: Option<BTreeMap<String, BTreeSet<String>>>,
    access_key: Option<String>,
    secret_key: Option<Secret>,
    /// The brokers at which the key is valid.
    endpoint: Option<String>,
}

struct FailedAttempt {
    error: Error,
    is_transient: bool,
    /// From the header `retry-after`.
    retry_after: Option<Duration>,
    /// Status 401: the authorization is invalid or has expired.
    is_unauthorized: bool,
}

impl WebService {
    pub fn new(
        settings: &ServiceSettings,
        authorization: Authorization,
        proxy: Option<&ProxySettings>,
        log: Arc<dyn log::Log>,
    ) -> Self {
        let proxy = Proxy::given(proxy, Proxy::Environment);
        let service = WebService { settings: settings.clone(), authorization, proxy, log };
        if !service.is_private() {
            log::warn!(
                logger: &*service.log, target: LOG_TARGET,
                "{} is {:?}: without https, the authorization is sent unencrypted", service.option(), settings.url
            );
        }
        service
    }

    /// The names of the topics in a namespace; none if the service does not know the namespace.
    pub fn topics(&self, namespace: &str, deadline: Deadline) -> Result<BTreeSet<String>> {
        let operation = format!("asking the topic service for the topics of namespace {namespace:?}");
        let response = self.request(&Method::GET, "/api/v3/namespace", &operation, deadline)?;
        let Some(mut namespaces) = response.namespaces else {
            return Err(self.unexpected_response("has no \"namespaces\"").context(operation));
        };
        Ok(namespaces.remove(namespace).unwrap_or_default())
    }

    /// The user's access key. The service creates one if there is none.
    pub fn access_key(&self, deadline: Deadline) -> Result<AccessKey> {
        let operation = "asking the topic service for an access key";
        let response = self.request(&Method::POST, KEY_PATH, operation, deadline)?;
        match (response.access_key, response.secret_key, response.endpoint) {
            (Some(id), Some(secret), Some(bootstrap_servers)) => Ok(AccessKey { id, secret, bootstrap_servers }),
            _ => {
                let difference = "has no \"access_key\", \"secret_key\" and \"endpoint\"";
                Err(self.unexpected_response(difference).context(operation))
            }
        }
    }

    /// The option that names the service.
    fn option(&self) -> &'static str {
        if self.settings.is_globus { "globus.url" } else { "octopus.url" }
    }

    /// Succeeds if the topic exists, whether this call or another one created it.
    pub fn create(&self, namespace: &str, topic: &str, deadline: Deadline) -> Result<()> {
        let operation = format!("having the topic service create {topic:?} in namespace {namespace:?}");
        self.request(&Method::POST, &path(namespace, topic, ""), &operation, deadline).map(drop)
    }

    /// Fails with `UnknownTopic` if the topic does not exist.
    pub fn delete(&self, namespace: &str, topic: &str, deadline: Deadline) -> Result<()> {
        let operation = format!("having the topic service delete {topic:?} in namespace {namespace:?}");
        self.request(&Method::DELETE, &path(namespace, topic, ""), &operation, deadline).map(drop)
    }

    /// Deletes and creates the topic. Fails with `UnknownTopic` if it does not exist.
    pub fn recreate(&self, namespace: &str, topic: &str, deadline: Deadline) -> Result<()> {
        let operation = format!("having the topic service empty {topic:?} in namespace {namespace:?}");
        self.request(&Method::PUT, &path(namespace, topic, "/recreate"), &operation, deadline).map(drop)
    }

    fn request(&self, method: &Method, path: &str, operation: &str, deadline: Deadline) -> Result<ServiceResponse> {
        let mut backoff = MIN_BACKOFF;
        let mut attempt = 1;
        let mut authorization = self.authorization.current().map_err(|error| error.context(operation))?;
        let mut is_renewed = false;
        loop {
            let FailedAttempt { error, is_transient, retry_after, .. } =
                match self.attempt(method, path, &authorization, deadline) {
                    Ok(response) => return Ok(response),
                    Err(failure) if failure.is_unauthorized && !is_renewed => {
                        authorization =
                            self.renewed(&authorization, failure.error).map_err(|error| error.context(operation))?;
                        is_renewed = true;
                        continue;
                    }
                    // An earlier attempt may have deleted it, and its response was lost.
                    Err(failure) if attempt > 1 && *method == Method::DELETE && failure.is_unknown_topic() => {
                        return Ok(ServiceResponse::default());
                    }
                    Err(failure) => failure,
                };
            let pause = retry_after.unwrap_or(backoff).min(MAX_BACKOFF);
            let is_last = attempt == MAX_ATTEMPTS || deadline.remaining(pause) < pause;
            if !is_transient || is_last {
                let error = if attempt > 1 { error.with_note(format_args!("tried {attempt} times")) } else { error };
                return Err(error.context(operation));
            }
            log::warn!(
                logger: &*self.log, target: LOG_TARGET,
                "{operation}: {error}; trying again in {} ms", pause.as_millis()
            );
            thread::sleep(pause);
            backoff *= 2;
            attempt += 1;
        }
    }

    /// Another authorization than the rejected one, or the error of the service with a note on its
    /// source.
    fn renewed(&self, rejected: &Secret, rejection: Error) -> Result<Secret> {
        let source = self.authorization.source_name();
        match self.authorization.renewed(rejected) {
            Ok(Some(renewed)) => {
                log::info!(
                    logger: &*self.log, target: LOG_TARGET,
                    "the authorization was rejected; {source} has another one"
                );
                Ok(renewed)
            }
            Ok(None) => Err(rejection.with_note(format_args!("{source} has no other authorization"))),
            Err(error) => Err(rejection.with_note(format_args!("{source} has no other authorization: {error}"))),
        }
    }

    fn attempt(
        &self,
        method: &Method,
        path: &str,
        authorization: &Secret,
        deadline: Deadline,
    ) -> std::result::Result<ServiceResponse, FailedAttempt> {
        let response = self
            .send(method, path, authorization, deadline.remaining(ATTEMPT_TIMEOUT))
            .map_err(|error| self.no_response(&error, authorization))?;
        let status = response.status();
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = String::from_utf8_lossy(response.body());
        let parsed = serde_json::from_str::<ServiceResponse>(&text);
        let message = match &parsed {
            Ok(ServiceResponse { message: Some(message), .. }) => self.without_secrets(message, authorization),
            // It may contain a key.
            _ if path == KEY_PATH => "not shown".to_owned(),
            _ => self.without_secrets(text.trim(), authorization),
        };
        if !status.is_success() {
            return Err(self.status_failure(method, status, &message, retry_after.map(Duration::from_secs)));
        }
        match parsed {
            Ok(response) if response.is_success() => Ok(response),
            Ok(ServiceResponse { status: Some(word), .. }) => {
                let reason = format!("{} responded {word:?} instead of \"success\": {message}", self.settings.url);
                Err(FailedAttempt::new(Kind::Kafka, reason))
            }
            _ => Err(FailedAttempt::from(self.unexpected_response(&format!("is {message:?}")))),
        }
    }

    /// The headers contain credentials, so they are sent to the configured URL only: redirects are
    /// not followed.
    fn send(
        &self,
        method: &Method,
        path: &str,
        authorization: &Secret,
        timeout: Duration,
    ) -> Result<Response<Vec<u8>>> {
        let ServiceSettings { url, subject, .. } = &self.settings;
        let request = Request::builder()
            .method(method)
            .uri(format!("{url}{path}"))
            .header("user-agent", concat!("octopus/", env!("CARGO_PKG_VERSION")))
            .header("subject", subject.reveal())
            .header("authorization", authorization.reveal())
            .body(Vec::new())
            .map_err(|cause| Error::invalid(format!("{method} {path}: {cause}")))?;
        let options = Options {
            connect_timeout: CONNECT_TIMEOUT,
            timeout,
            max_response_size: MAX_RESPONSE_SIZE,
            proxy: self.proxy.clone(),
        };
        http_client::send(&request, &options)
    }

    fn no_response(&self, error: &Error, authorization: &Secret) -> FailedAttempt {
        let cause = self.without_secrets(error.message(), authorization);
        let reason = format!("no response from {}: {cause}", self.settings.url);
        let is_transient = error.is_retriable();
        let error = Error::new(error.kind(), reason).retriable(is_transient);
        FailedAttempt { is_transient, ..FailedAttempt::from(error) }
    }

    fn status_failure(
        &self,
        method: &Method,
        status: StatusCode,
        message: &str,
        retry_after: Option<Duration>,
    ) -> FailedAttempt {
        // Only these methods fail if the topic in the path does not exist.
        let names_a_topic = [Method::DELETE, Method::PUT].contains(method);
        let is_transient = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let option = self.option();
        let advice = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.settings.is_globus => {
                "; see OCTOPUS_SUBJECT and OCTOPUS_AUTHORIZATION in the environment, and namespace".to_owned()
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "; see octopus.subject, octopus.authorization and namespace".to_owned()
            }
            StatusCode::NOT_FOUND if !names_a_topic => format!("; is {option} the address of a topic service?"),
            status if status.is_redirection() => format!("; set {option} to the new address of the service"),
            _ => String::new(),
        };
        let kind = match status {
            _ if is_transient => Kind::Unreachable,
            StatusCode::NOT_FOUND if names_a_topic => Kind::UnknownTopic,
            _ => Kind::Kafka,
        };
        let reason = format!("{} responded {status}: {message}{advice}", self.settings.url);
        let is_unauthorized = status == StatusCode::UNAUTHORIZED;
        FailedAttempt {
            error: Error::new(kind, reason).retriable(is_transient),
            is_transient,
            retry_after,
            is_unauthorized,
        }
    }

    fn unexpected_response(&self, difference: &str) -> Error {
        let url = &self.settings.url;
        let option = self.option();
        let reason = format!("the response of {url} {difference}; is {option} the address of a topic service?");
        Error::new(Kind::Kafka, reason)
    }

    /// A text of the service for an error: shortened, and with the credentials of the request
    /// masked.
    fn without_secrets(&self, text: &str, authorization: &Secret) -> String {
        let ServiceSettings { subject, .. } = &self.settings;
        let mut text = text.to_owned();
        let token = authorization.reveal().split_whitespace().last();
        for secret in [Some(authorization.reveal()), token, Some(subject.reveal())].into_iter().flatten() {
            text = text.replace(secret, MASK);
        }
        shortened(&text)
    }

    /// Whether the headers are encrypted, or stay on this machine.
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
            None => self.namespaces.is_some() || self.access_key.is_some(),
        }
    }
}

impl FailedAttempt {
    fn new(kind: Kind, reason: String) -> Self {
        FailedAttempt::from(Error::new(kind, reason))
    }

    fn is_unknown_topic(&self) -> bool {
        self.error.kind() == Kind::UnknownTopic
    }
}

impl From<Error> for FailedAttempt {
    fn from(error: Error) -> Self {
        FailedAttempt { error, is_transient: false, retry_after: None, is_unauthorized: false }
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
    fn path_escapes_namespace_and_topic() {
        assert_eq!(path("beam line/7", "scans?#%é", ""), "/api/v3/beam%20line%2F7/scans%3F%23%25%C3%A9");
        assert_eq!(path("ns-1", "a_b.c~d", "/recreate"), "/api/v3/ns-1/a_b.c~d/recreate");
    }
}
