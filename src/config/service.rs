//! `octopus`: the web service that makes topics in place of Kafka, and who to be there.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::properties::MASK;
use super::value::{as_options, as_text};
use crate::error::{Error, Result};

const KEY: &str = "octopus";
/// The service that diaspora-event-sdk talks to (`_environments.py` of its release 0.5.1).
const DEFAULT_URL: &str = "https://diaspora-web-service.qpp943wkvr7b2.us-east-1.cs.amazonlightsail.com";

/// Where the service is, and what is sent with each request, as given.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceSettings {
    /// Without a `/` at the end.
    pub url: String,
    pub subject: Secret,
    pub authorization: Secret,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, out: S) -> std::result::Result<S::Ok, S::Error> {
        out.serialize_str(MASK)
    }
}

impl ServiceSettings {
    pub fn find(root: &Map<String, Value>) -> Result<Option<Self>> {
        root.get(KEY).map(Self::from_json).transpose()
    }

    fn from_json(value: &Value) -> Result<Self> {
        const OPTIONS: [&str; 5] = ["subject", "subject_env", "authorization", "authorization_env", "url"];
        let options = as_options(KEY, value, &OPTIONS)?;
        let url = match options.get("url") {
            None => DEFAULT_URL.to_owned(),
            Some(value) => checked_url(as_text("octopus.url", value)?)?,
        };
        let (subject, authorization) = (identity("subject", options)?, identity("authorization", options)?);
        Ok(ServiceSettings { url, subject, authorization })
    }
}

fn checked_url(url: &str) -> Result<String> {
    let key = "octopus.url";
    let parsed: http::Uri =
        url.parse().map_err(|why| Error::configuration(key, format_args!("is no address: {why}")))?;
    let refusal = match (parsed.scheme_str(), parsed.authority(), parsed.query()) {
        (_, Some(authority), _) if authority.as_str().contains('@') => {
            // Not repeated, since a password stands in it.
            "names a user; who asks is said by octopus.subject and octopus.authorization"
        }
        (Some("http" | "https"), Some(_), None) => return Ok(url.trim_end_matches('/').to_owned()),
        (Some("http" | "https"), Some(_), Some(_)) => "has a query; expected \"https://host\" or \"https://host/path\"",
        _ => "expected \"https://host\" or \"https://host/path\"",
    };
    Err(Error::configuration(key, refusal))
}

/// One of the two headers: what the environment variable named by `…_env` holds, or the text itself.
fn identity(name: &str, options: &Map<String, Value>) -> Result<Secret> {
    let (plain, variable) = (format!("{KEY}.{name}"), format!("{KEY}.{name}_env"));
    let (key, text) = match (options.get(&format!("{name}_env")), options.get(name)) {
        (Some(value), _) => {
            let wanted = as_text(&variable, value)?;
            let found = std::env::var(wanted).map_err(|why| {
                let why = match why {
                    std::env::VarError::NotPresent => "is not set",
                    std::env::VarError::NotUnicode(_) => "is no text",
                };
                Error::configuration(&variable, format_args!("the environment variable {wanted:?} {why}"))
            })?;
            (variable, found)
        }
        (None, Some(value)) => (plain.clone(), as_text(&plain, value)?.to_owned()),
        (None, None) => {
            let why = format!("missing; expected it, or \"{name}_env\" with the name of an environment variable");
            return Err(Error::configuration(plain, why));
        }
    };
    match http::HeaderValue::from_str(&text) {
        _ if text.is_empty() => Err(Error::configuration(key, "is empty")),
        Ok(_) => Ok(Secret(text)),
        // Without the text, which may be a secret.
        Err(_) => Err(Error::configuration(key, "has characters that can't be sent in an HTTP header")),
    }
}
