//! A text that descriptions, logs and errors never contain.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::properties::MASK;

#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// A text that can be sent in an HTTP header.
    ///
    /// # Errors
    /// The reason why it can't be sent. It does not quote the text, which may be a secret.
    pub fn header(text: &str) -> std::result::Result<Self, &'static str> {
        match http::HeaderValue::from_str(text) {
            _ if text.is_empty() => Err("is empty"),
            Ok(_) => Ok(Secret(text.to_owned())),
            Err(_) => Err("has characters that can't be sent in an HTTP header"),
        }
    }

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
