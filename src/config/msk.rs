//! `aws_msk_iam`: who to be at Amazon MSK, and what that asks of librdkafka.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::in_seconds;
use super::properties::Properties;
use super::value::{as_count, as_options, as_text};
use crate::error::{Error, Result};

const KEY: &str = "aws_msk_iam";
/// MSK's brokers take no token that lives longer.
const LONGEST_LIFE: u64 = 900;
/// Of a role's session, which becomes part of the principal that brokers see.
pub const DEFAULT_SESSION_NAME: &str = "octopus";

/// Whose credentials sign the tokens, and for which region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MskSettings {
    pub region: String,
    /// A profile of AWS' shared files, in place of the usual chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A role to take on with the credentials found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    #[serde(rename = "expiry_seconds", serialize_with = "in_seconds")]
    pub life: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Role {
    pub arn: String,
    pub session_name: String,
}

impl MskSettings {
    /// From the top of the driver's configuration, or from inside `kafka`, where earlier versions of Octopus had it.
    pub fn find(root: &Map<String, Value>) -> Result<Option<Self>> {
        let top = root.get(KEY).map(|value| Self::from_json(value, KEY)).transpose()?;
        let inside = root.get("kafka").and_then(|kafka| kafka.get(KEY));
        let inside = inside.map(|value| Self::from_json(value, "kafka.aws_msk_iam")).transpose()?;
        match (top, inside) {
            (Some(top), Some(inside)) if top != inside => Err(Error::configuration(
                KEY,
                "is given at the top and inside \"kafka\", and they differ; give it once, at the top",
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
        // It becomes part of a host's name.
        if !region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            let why = format!("{region:?} is no AWS region; expected one such as \"us-east-1\"");
            return Err(Error::configuration(format_args!("{at}.region"), why));
        }
        let session_name = text("role_session_name")?;
        let role = match text("role_arn")? {
            Some(arn) if !arn.starts_with("arn:") => {
                let why = format!("{arn:?} is no ARN; expected \"arn:aws:iam::<account>:role/<name>\"");
                return Err(Error::configuration(format_args!("{at}.role_arn"), why));
            }
            Some(arn) => {
                Some(Role { arn, session_name: session_name.unwrap_or_else(|| DEFAULT_SESSION_NAME.to_owned()) })
            }
            None if session_name.is_some() => {
                let why = "is for a role, but \"role_arn\" is not given";
                return Err(Error::configuration(format_args!("{at}.role_session_name"), why));
            }
            None => None,
        };
        let life = match options.get("expiry_seconds") {
            None => LONGEST_LIFE,
            Some(value) => as_count(&format!("{at}.expiry_seconds"), value, LONGEST_LIFE)?,
        };
        Ok(MskSettings { region, profile: text("profile")?, role, life: Duration::from_secs(life) })
    }

    /// Sets what a client needs to show its tokens, and refuses what would keep it from that or show them to anyone.
    pub fn secure(&self, properties: &mut Properties) -> Result<()> {
        // SASL_PLAINTEXT is for tests, and for private proxies that bring the encryption.
        require(properties, "security.protocol", &["sasl_ssl", "sasl_plaintext"])?;
        require(properties, "sasl.mechanism", &["OAUTHBEARER"])?;
        require(properties, "sasl.oauthbearer.method", &["default"])
    }
}

/// The first of `wanted` unless the user gave one of them.
fn require(properties: &mut Properties, name: &str, wanted: &[&str]) -> Result<()> {
    match properties.get(name) {
        None => properties.set(name, wanted[0]),
        Some(given) if wanted.iter().any(|one| one.eq_ignore_ascii_case(given)) => {}
        Some(given) => {
            let why = format!("is {given:?}, but \"aws_msk_iam\" needs {:?}; leave it out", wanted[0]);
            return Err(Error::configuration(format_args!("kafka.{name}"), why));
        }
    }
    Ok(())
}
