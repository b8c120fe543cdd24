//! `globus`: what Globus' diaspora-event-sdk leaves in the environment, as settings for Amazon MSK
//! and for the topic service. The names of variables are those of its release 0.5.1.

use std::env;

use serde_json::{Map, Value};

use super::msk::{KeySource, MskSettings, check_region};
use super::properties::Properties;
use super::service::{AuthorizationSource, DEFAULT_URL, ServiceSettings, checked_url};
use super::value::{as_options, as_text};
use crate::support::error::{Error, Result};

pub(super) const KEY: &str = "globus";
const REGION: &str = "globus.region";
const ACCESS_KEY: &str = "OCTOPUS_AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "OCTOPUS_AWS_SECRET_ACCESS_KEY";
const BOOTSTRAP_SERVERS: &str = "OCTOPUS_BOOTSTRAP_SERVERS";
const SUBJECT: &str = "OCTOPUS_SUBJECT";
const AUTHORIZATION: &str = "OCTOPUS_AUTHORIZATION";
/// Selects the service for the SDK.
const ENVIRONMENT: &str = "DIASPORA_SDK_ENVIRONMENT";
const LOCAL_URL: &str = "http://localhost:8000";
/// The one that the SDK signs tokens for.
const DEFAULT_REGION: &str = "us-east-1";

/// The settings that replace `aws_msk_iam`, `octopus`, `namespace` and `bootstrap.servers`.
pub struct GlobusSettings {
    pub msk: MskSettings,
    /// `None` without an identity: Kafka itself is asked for topics, and creates none.
    pub service: Option<ServiceSettings>,
    /// The user's, which the SDK derives from the subject.
    pub namespace: Option<String>,
    /// `None`: the topic service names them, with the key.
    pub bootstrap_servers: Option<String>,
}

impl GlobusSettings {
    pub fn find(root: &Map<String, Value>) -> Result<Option<Self>> {
        let Some(value) = root.get(KEY) else { return Ok(None) };
        for other in ["embedded", "aws_msk_iam", "octopus"] {
            if root.contains_key(other) {
                let reason = format_args!("is given together with {other:?}; remove one of the two");
                return Err(Error::configuration(KEY, reason));
            }
        }
        let kafka = root.get("kafka").map(Properties::of_driver).transpose()?;
        let has_brokers = kafka.is_some_and(|kafka| kafka.get("bootstrap.servers").is_some());
        Self::from_json(value, has_brokers).map(Some)
    }

    fn from_json(value: &Value, has_brokers: bool) -> Result<Self> {
        let options = as_options(KEY, value, &["region", "url"])?;
        let region = match options.get("region") {
            None => DEFAULT_REGION,
            Some(value) => as_text(REGION, value)?,
        };
        check_region(REGION, region)?;
        let url = match options.get("url") {
            Some(value) => checked_url("globus.url", as_text("globus.url", value)?)?,
            None if env::var(ENVIRONMENT).is_ok_and(|name| name == "local") => LOCAL_URL.to_owned(),
            None => DEFAULT_URL.to_owned(),
        };
        let service = service(url)?;
        let namespace = service.as_ref().map(|service| namespace(service.subject.reveal()));
        let bootstrap_servers = variable(BOOTSTRAP_SERVERS)?;
        let is_given = match (variable(ACCESS_KEY)?, variable(SECRET_KEY)?) {
            (Some(_), Some(_)) => true,
            (None, None) => false,
            (Some(_), None) => return Err(lonely(ACCESS_KEY, SECRET_KEY)),
            (None, Some(_)) => return Err(lonely(SECRET_KEY, ACCESS_KEY)),
        };
        let keys = match &service {
            _ if is_given && (has_brokers || bootstrap_servers.is_some()) => {
                KeySource::Environment { access_key: ACCESS_KEY, secret_key: SECRET_KEY }
            }
            Some(_) => KeySource::TopicService,
            None => {
                let missing =
                    if is_given { BOOTSTRAP_SERVERS.to_owned() } else { format!("{ACCESS_KEY}, {SECRET_KEY}") };
                let reason = format_args!(
                    "the environment has no {missing}, which get_diaspora_config() of Globus' SDK sets, and no {SUBJECT} \
                     and {AUTHORIZATION}, with which the service would create a key"
                );
                return Err(Error::configuration(KEY, reason));
            }
        };
        let msk = MskSettings::with_keys(region, keys);
        Ok(GlobusSettings { msk, service, namespace, bootstrap_servers })
    }
}

/// The topic service with the identity of the environment; `None` if it has none.
fn service(url: String) -> Result<Option<ServiceSettings>> {
    let authorization = AuthorizationSource::Environment { option: KEY, name: AUTHORIZATION.to_owned() };
    match (variable(SUBJECT)?, variable(AUTHORIZATION)?) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(lonely(SUBJECT, AUTHORIZATION)),
        (None, Some(_)) => Err(lonely(AUTHORIZATION, SUBJECT)),
        (Some(_), Some(_)) => {
            let subject = super::service::environment(KEY, SUBJECT)?;
            authorization.read()?;
            Ok(Some(ServiceSettings { url, subject, authorization: Some(authorization), is_globus: true }))
        }
    }
}

/// `ns-` and the last twelve characters of the subject, without hyphens (`Client` of the SDK).
fn namespace(subject: &str) -> String {
    let characters: Vec<_> = subject.chars().filter(|character| *character != '-').collect();
    let last: String = characters[characters.len().saturating_sub(12)..].iter().collect();
    format!("ns-{last}")
}

/// Rejects what Globus' service would reject: `validate_name` of its web_service/services.py.
pub(super) fn check_name(name: &str) -> Result<()> {
    const ENDS: [char; 2] = ['-', '_'];
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || ENDS.contains(&character);
    let problem = match () {
        () if !(3..=32).contains(&name.len()) => "must have 3 to 32 characters",
        () if !name.chars().all(is_allowed) => "can only have letters, digits, - and _",
        () if name.starts_with(ENDS) || name.ends_with(ENDS) => "can't begin or end with - or _",
        () => return Ok(()),
    };
    Err(Error::invalid(format!("{name:?} {problem}, as the name of a topic or info topic at Globus' service")))
}

/// `None` if it is not set, or empty.
fn variable(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => {
            Err(Error::configuration(KEY, format_args!("the environment variable {name} is not UTF-8")))
        }
    }
}

fn lonely(given: &str, missing: &str) -> Error {
    Error::configuration(KEY, format_args!("the environment has {given}, but no {missing}"))
}

#[cfg(test)]
mod tests {
    use super::{check_name, namespace};

    #[test]
    fn name_that_the_service_rejects_is_rejected() {
        for name in ["abc", "valid-ns_123", &"a".repeat(32), "1-1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for (name, reason) in [
            ("ab", "3 to 32"),
            (&*"a".repeat(33), "3 to 32"),
            ("a.b", "letters"),
            ("a b", "letters"),
            ("\u{e4}\u{e4}", "letters"),
            ("-abc", "begin or end"),
            ("abc_", "begin or end"),
        ] {
            let error = check_name(name).unwrap_err();
            assert!(error.message().contains(reason), "{name}: {error}");
        }
    }

    #[test]
    fn namespace_is_that_of_the_sdk() {
        assert_eq!(namespace("12345678-aaaa-bbbb-cccc-0123456789ab"), "ns-0123456789ab");
        assert_eq!(namespace("ab-cd"), "ns-abcd");
    }
}
