//! The properties of librdkafka by name: flattens what the user wrote, merges it, and masks
//! secrets.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::value::{as_object, kind};
use crate::support::error::{Error, Result};

/// Replaces secrets in descriptions and logs.
pub(crate) const MASK: &str = "********";

/// Whether a property's value must never be shown. Names are librdkafka's (its CONFIGURATION.md).
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "secret", "token", ".pem", "oauthbearer.config", "jaas", "assertion", "credential"]
        .iter()
        .any(|part| name.contains(part))
        && name != "sasl.oauthbearer.token.endpoint.url"
}

/// The aliases of librdkafka (its CONFIGURATION.md, "Alias for"), and the names that they are
/// replaced by. Merging two maps works only if each property has one name.
const ALIASES: [(&str, &str); 12] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("message.send.max.retries", "retries"),
    ("compression.codec", "compression.type"),
    ("request.required.acks", "acks"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("auto.commit.enable", "enable.auto.commit"),
];

fn canonical_name(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, canonical)| canonical)
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Reads an object whose values are strings, numbers, booleans, arrays of these (joined with
    /// commas), or nested objects, since command-line tools split names at their dots.
    pub fn from_json(value: &Value, key: &str) -> Result<Self> {
        as_object(key, value)?;
        let mut properties = Properties::default();
        properties.flatten("", value, key)?;
        if properties.get("transactional.id").is_some() {
            let reason = "is not a property here; use the producer's option \"transactional_id\"";
            return Err(Error::configuration(format_args!("{key}.transactional.id"), reason));
        }
        Ok(properties)
    }

    /// Reads the `kafka` of a driver, without `aws_msk_iam`, which is not a property of librdkafka.
    pub fn of_driver(value: &Value) -> Result<Self> {
        let mut value = value.clone();
        if let Value::Object(properties) = &mut value {
            properties.remove("aws_msk_iam");
        }
        Self::from_json(&value, "kafka")
    }

    fn flatten(&mut self, name: &str, value: &Value, root: &str) -> Result<()> {
        let at = || if name.is_empty() { root.to_owned() } else { format!("{root}.{name}") };
        if let Value::Object(nested) = value {
            return nested.iter().try_for_each(|(key, value)| {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                self.flatten(&name, value, root)
            });
        }
        let text = match value {
            Value::Array(items) => {
                let items = items.iter().map(|item| scalar(item, &at())).collect::<Result<Vec<_>>>()?;
                items.join(",")
            }
            other => scalar(other, &at())?,
        };
        if name.contains('\0') || text.contains('\0') {
            return Err(Error::configuration(at().replace('\0', "\\0"), "contains a NUL character"));
        }
        match self.0.insert(canonical_name(name).to_owned(), text) {
            None => Ok(()),
            Some(_) => Err(Error::configuration(at(), "is given twice: by two names, or nested and not nested")),
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets `name`, replacing its value.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    pub fn set_default(&mut self, name: &str, value: impl Into<String>) {
        self.0.entry(name.to_owned()).or_insert_with(|| value.into());
    }

    /// These properties, replaced by those of `other` where both have one.
    pub fn overlaid_with(&self, other: &Properties) -> Properties {
        let mut all = self.clone();
        all.0.extend(other.0.iter().map(|(name, value)| (name.clone(), value.clone())));
        all
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn masked(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(name, value)| (name, if is_secret(name) { MASK } else { value }))
    }
}

/// Serialized only for descriptions, so secrets are masked.
impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, out: S) -> std::result::Result<S::Ok, S::Error> {
        out.collect_map(self.masked())
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.masked()).finish()
    }
}

fn scalar(value: &Value, key: &str) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        other => {
            let expected = "expected a string, a number, a boolean or an array of these";
            Err(Error::configuration(key, format_args!("{expected}, got {}", kind(other))))
        }
    }
}
