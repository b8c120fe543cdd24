//! `octopus`: the web service that makes topics in place of Kafka, and who to be there.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::properties::MASK;
use super::value::{as_options, as_text};
use crate::error::{Error, Result};

const KEY: &str = "octopus";
const AUTHORIZATION_ENV: &str = "octopus.authorization_env";
const AUTHORIZATION_FILE: &str = "octopus.authorization_file";
/// Headers are no longer anywhere.
const LARGEST_FILE: u64 = 64 * 1024;
/// The service that diaspora-event-sdk talks to (`_environments.py` of its release 0.5.1).
const DEFAULT_URL: &str = "https://diaspora-web-service.qpp943wkvr7b2.us-east-1.cs.amazonlightsail.com";

/// Where the service is, and what is sent with each request, as given.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceSettings {
    /// Without a `/` at the end.
    pub url: String,
    pub subject: Secret,
    /// `None`: the host provides it.
    pub authorization: Option<AuthorizationSource>,
}

/// Where the header `authorization` is read, also again when the service refuses it.
#[derive(Debug, Clone)]
pub enum AuthorizationSource {
    Text(Secret),
    Environment(String),
    File(PathBuf),
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A text that can be sent in an HTTP header.
    ///
    /// # Errors
    /// Why it can't, without the text, which may be a secret.
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

impl AuthorizationSource {
    /// What stands there now.
    ///
    /// # Errors
    /// By the name of the option: nothing can be read, or it can't be sent.
    pub fn read(&self) -> Result<Secret> {
        match self {
            AuthorizationSource::Text(text) => Ok(text.clone()),
            AuthorizationSource::Environment(name) => environment(AUTHORIZATION_ENV, name),
            AuthorizationSource::File(path) => file(path),
        }
    }
}

/// As what is read there, which is never shown.
impl Serialize for AuthorizationSource {
    fn serialize<S: Serializer>(&self, out: S) -> std::result::Result<S::Ok, S::Error> {
        out.serialize_str(MASK)
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
        const OPTIONS: [&str; 6] =
            ["subject", "subject_env", "authorization", "authorization_env", "authorization_file", "url"];
        let options = as_options(KEY, value, &OPTIONS)?;
        let url = match options.get("url") {
            None => DEFAULT_URL.to_owned(),
            Some(value) => checked_url(as_text("octopus.url", value)?)?,
        };
        Ok(ServiceSettings { url, subject: subject(options)?, authorization: authorization(options)? })
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

/// What the environment variable named by `subject_env` holds, or the text itself.
fn subject(options: &Map<String, Value>) -> Result<Secret> {
    match (options.get("subject_env"), options.get("subject")) {
        (Some(value), _) => environment("octopus.subject_env", as_text("octopus.subject_env", value)?),
        (None, Some(value)) => header("octopus.subject", as_text("octopus.subject", value)?),
        (None, None) => {
            let why = "missing; expected it, or \"subject_env\" with the name of an environment variable";
            Err(Error::configuration("octopus.subject", why))
        }
    }
}

/// From a file, from the environment, or as it is given; read once, so that an error shows at once.
fn authorization(options: &Map<String, Value>) -> Result<Option<AuthorizationSource>> {
    let given = |name: &str| options.get(name);
    let source = match (given("authorization_file"), given("authorization_env"), given("authorization")) {
        (Some(_), Some(_), _) => {
            let why = "is given together with \"authorization_env\"; give one of them";
            return Err(Error::configuration(AUTHORIZATION_FILE, why));
        }
        (Some(value), None, _) => AuthorizationSource::File(as_text(AUTHORIZATION_FILE, value)?.into()),
        (None, Some(value), _) => AuthorizationSource::Environment(as_text(AUTHORIZATION_ENV, value)?.to_owned()),
        (None, None, Some(value)) => {
            let key = "octopus.authorization";
            AuthorizationSource::Text(header(key, as_text(key, value)?)?)
        }
        (None, None, None) => return Ok(None),
    };
    source.read()?;
    Ok(Some(source))
}

fn environment(key: &str, name: &str) -> Result<Secret> {
    let found = std::env::var(name).map_err(|why| {
        let why = match why {
            std::env::VarError::NotPresent => "is not set",
            std::env::VarError::NotUnicode(_) => "is no text",
        };
        Error::configuration(key, format_args!("the environment variable {name:?} {why}"))
    })?;
    header(key, &found)
}

fn file(path: &Path) -> Result<Secret> {
    use std::io::Read as _;

    let unreadable = |why: std::io::Error| {
        Error::configuration(AUTHORIZATION_FILE, format_args!("reading {}: {why}", path.display()))
    };
    let unusable = |why| Error::configuration(AUTHORIZATION_FILE, format_args!("{}: {why}", path.display()));
    // Opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unusable("is no regular file"));
    }
    let mut text = String::new();
    let mut limited = std::fs::File::open(path).map_err(unreadable)?.take(LARGEST_FILE + 1);
    limited.read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(unusable("is larger than 64 KiB"));
    }
    header(AUTHORIZATION_FILE, text.trim_end_matches(['\r', '\n']))
}

/// Checks that the text can be sent in an HTTP header.
fn header(key: &str, text: &str) -> Result<Secret> {
    Secret::header(text).map_err(|why| Error::configuration(key, why))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("octopus-{name}-{}", std::process::id()))
    }

    fn refusal(path: &Path) -> String {
        file(path).unwrap_err().message().to_owned()
    }

    #[test]
    fn authorization_is_read_from_regular_files_up_to_a_size() {
        let path = path("authorization");
        std::fs::write(&path, "Bearer one\n").unwrap();
        assert_eq!(file(&path).unwrap().reveal(), "Bearer one");
        std::fs::write(&path, "x".repeat(LARGEST_FILE as usize + 1)).unwrap();
        let error = refusal(&path);
        assert!(error.contains("octopus.authorization_file") && error.contains("larger than 64 KiB"), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(refusal(&path).contains("No such file"));
    }

    #[test]
    fn pipe_is_refused_and_not_waited_for() {
        let path = path("pipe");
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the name ends with NUL.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let error = refusal(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("is no regular file"), "{error}");
    }
}
