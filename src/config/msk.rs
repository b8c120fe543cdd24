//! `aws_msk_iam`: the identity at Amazon MSK, and the properties of librdkafka that it requires.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::in_seconds;
use super::properties::Properties;
use super::value::{as_count, as_options, as_text};
use crate::support::error::{Error, Result};

const KEY: &str = "aws_msk_iam";
/// Brokers of MSK reject tokens with a longer lifetime.
const MAX_LIFETIME: u64 = 900;
/// The session name of a role, which becomes part of the principal that brokers see.
pub const DEFAULT_SESSION_NAME: &str = "octopus";

/// The credentials that sign tokens, and the region of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MskSettings {
    pub region: String,
    /// A profile in AWS' shared files, instead of the default chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A role to assume with the credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<AssumedRole>,
    #[serde(rename = "expiry_seconds", serialize_with = "in_seconds")]
    pub lifetime: Duration,
    #[serde(skip)]
    pub keys: KeySource,
}

/// Where the access key comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeySource {
    /// AWS' chain of providers.
    #[default]
    Chain,
    /// These environment variables.
    Environment { access_key: &'static str, secret_key: &'static str },
    /// The topic service creates it, or returns the one that the user has.
    TopicService,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AssumedRole {
    pub arn: String,
    pub session_name: String,
}

impl MskSettings {
    /// Reads the key at the top of the configuration, or inside `kafka`, where earlier versions of
    /// Octopus had it.
    pub fn find(root: &Map<String, Value>) -> Result<Option<Self>> {
        let top = root.get(KEY).map(|value| Self::from_json(value, KEY)).transpose()?;
        let inside = root.get("kafka").and_then(|kafka| kafka.get(KEY));
        let inside = inside.map(|value| Self::from_json(value, "kafka.aws_msk_iam")).transpose()?;
        match (top, inside) {
            (Some(top), Some(inside)) if top != inside => Err(Error::configuration(
                KEY,
                "is given at the top and inside \"kafka\", and the values differ; keep the one at the top",
            )),
            (top, inside) => Ok(top.or(inside)),
        }
    }

    fn from_json(value: &Value, at: &str) -> Result<Self> {
        const OPTIONS: [&str; 5] = ["region", "profile", "role_arn", "role_session_name", "expiry_seconds"];
        let options = as_options(at, value, &OPTIONS)?;
        let text = |key: &str| match options.get(key) {
            None => Ok(None),
            Some(value) => match as_text(&format!("{at}.{key}"), value)? {
                "" => Err(Error::configuration(format_args!("{at}.{key}"), "is empty")),
                text => Ok(Some(text.to_owned())),
            },
        };
        let region = text("region")?.ok_or_else(|| {
            Error::configuration(format_args!("{at}.region"), "missing; expected the cluster's, such as \"us-east-1\"")
        })?;
        check_region(&format!("{at}.region"), &region)?;
        let session_name = text("role_session_name")?;
        let role = match text("role_arn")? {
            Some(arn) if !arn.starts_with("arn:") => {
                let reason = format!("{arn:?} is not an ARN; expected \"arn:aws:iam::<account>:role/<name>\"");
                return Err(Error::configuration(format_args!("{at}.role_arn"), reason));
            }
            Some(arn) => {
                Some(AssumedRole { arn, session_name: session_name.unwrap_or_else(|| DEFAULT_SESSION_NAME.to_owned()) })
            }
            None if session_name.is_some() => {
                let reason = "names the session of a role, but \"role_arn\" is missing";
                return Err(Error::configuration(format_args!("{at}.role_session_name"), reason));
            }
            None => None,
        };
        let lifetime = match options.get("expiry_seconds") {
            None => MAX_LIFETIME,
            Some(value) => as_count(&format!("{at}.expiry_seconds"), value, MAX_LIFETIME)?,
        };
        let keys = KeySource::Chain;
        Ok(MskSettings { region, profile: text("profile")?, role, lifetime: Duration::from_secs(lifetime), keys })
    }

    /// The settings for keys from elsewhere than AWS' chain.
    pub(super) fn with_keys(region: &str, keys: KeySource) -> Self {
        let lifetime = Duration::from_secs(MAX_LIFETIME);
        MskSettings { region: region.to_owned(), profile: None, role: None, lifetime, keys }
    }

    /// Sets the properties that a client needs to authenticate with tokens. Rejects those that
    /// prevent it, or that send tokens unencrypted.
    pub fn secure(&self, properties: &mut Properties) -> Result<()> {
        // SASL_PLAINTEXT is for tests, and for private proxies that encrypt.
        require(properties, "security.protocol", &["sasl_ssl", "sasl_plaintext"])?;
        require(properties, "sasl.mechanism", &["OAUTHBEARER"])?;
        require(properties, "sasl.oauthbearer.method", &["default"])
    }
}

/// The region becomes part of a host name.
pub(super) fn check_region(option: &str, region: &str) -> Result<()> {
    if region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !region.is_empty()
    {
        return Ok(());
    }
    let reason = format!("{region:?} is not an AWS region; expected one such as \"us-east-1\"");
    Err(Error::configuration(option, reason))
}

/// Sets the property to the first of the `allowed` values, unless the user has set one of them.
fn require(properties: &mut Properties, name: &str, allowed: &[&str]) -> Result<()> {
    match properties.get(name) {
        None => properties.set(name, allowed[0]),
        Some(given) if allowed.iter().any(|value| value.eq_ignore_ascii_case(given)) => {}
        Some(given) => {
            let reason = format!("is {given:?}, but \"aws_msk_iam\" needs {:?}; remove it", allowed[0]);
            return Err(Error::configuration(format_args!("kafka.{name}"), reason));
        }
    }
    Ok(())
}
