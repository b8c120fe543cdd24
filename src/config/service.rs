//! `octopus`: the topic service, a web service that creates topics instead of Kafka, and the
//! identity for it.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::properties::MASK;
use super::secret::Secret;
use super::value::{as_options, as_text};
use crate::support::error::{Error, Result};

const KEY: &str = "octopus";
const AUTHORIZATION_ENV: &str = "octopus.authorization_env";
const AUTHORIZATION_FILE: &str = "octopus.authorization_file";
/// HTTP servers reject headers of this size.
const MAX_FILE_SIZE: u64 = 64 * 1024;
/// The service that diaspora-event-sdk uses (`_environments.py` of its release 0.5.1).
pub(super) const DEFAULT_URL: &str = "https://diaspora-web-service.qpp943wkvr7b2.us-east-1.cs.amazonlightsail.com";

/// The address of the service, and the identity that each request contains.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceSettings {
    /// Without a trailing `/`.
    pub url: String,
    pub subject: Secret,
    /// `None`: the host provides it.
    pub authorization: Option<AuthorizationSource>,
    /// The option is `globus`: the service has the rules for names of Globus' one.
    #[serde(skip)]
    pub is_globus: bool,
}

/// The source of the header `authorization`. It is read again if the service rejects the value.
#[derive(Debug, Clone)]
pub enum AuthorizationSource {
    Text(Secret),
    /// The variable, and the option that names it.
    Environment {
        option: &'static str,
        name: String,
    },
    File(PathBuf),
}

impl AuthorizationSource {
    /// Reads the current value.
    ///
    /// # Errors
    /// The value can't be read, or can't be sent in an HTTP header. The error names the option.
    pub fn read(&self) -> Result<Secret> {
        match self {
            AuthorizationSource::Text(text) => Ok(text.clone()),
            AuthorizationSource::Environment { option, name } => environment(option, name),
            AuthorizationSource::File(path) => file(path),
        }
    }
}

/// Masked, since it may be a secret.
impl Serialize for AuthorizationSource {
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
            Some(value) => checked_url("octopus.url", as_text("octopus.url", value)?)?,
        };
        Ok(ServiceSettings {
            url,
            subject: subject(options)?,
            authorization: authorization(options)?,
            is_globus: false,
        })
    }
}

pub(super) fn checked_url(key: &str, url: &str) -> Result<String> {
    let parsed: http::Uri =
        url.parse().map_err(|cause| Error::configuration(key, format_args!("is not a URL: {cause}")))?;
    let violation = match (parsed.scheme_str(), parsed.authority(), parsed.query()) {
        (_, Some(authority), _) if authority.as_str().contains('@') => {
            // Not quoted, since it may contain a password.
            "names a user; other options set the identity"
        }
        (Some("http" | "https"), Some(_), None) => return Ok(url.trim_end_matches('/').to_owned()),
        (Some("http" | "https"), Some(_), Some(_)) => "has a query; expected \"https://host\" or \"https://host/path\"",
        _ => "expected \"https://host\" or \"https://host/path\"",
    };
    Err(Error::configuration(key, violation))
}

/// The value of the environment variable that `subject_env` names, or `subject` itself.
fn subject(options: &Map<String, Value>) -> Result<Secret> {
    match (options.get("subject_env"), options.get("subject")) {
        (Some(value), _) => environment("octopus.subject_env", as_text("octopus.subject_env", value)?),
        (None, Some(value)) => header("octopus.subject", as_text("octopus.subject", value)?),
        (None, None) => {
            let reason = "missing; expected it, or \"subject_env\" with the name of an environment variable";
            Err(Error::configuration("octopus.subject", reason))
        }
    }
}

/// The source of the authorization: a file, the environment, or the configuration itself. It is
/// read once, so that an unusable source fails here.
fn authorization(options: &Map<String, Value>) -> Result<Option<AuthorizationSource>> {
    let given = |name: &str| options.get(name);
    let source = match (given("authorization_file"), given("authorization_env"), given("authorization")) {
        (Some(_), Some(_), _) => {
            let reason = "is given together with \"authorization_env\"; remove one of the two";
            return Err(Error::configuration(AUTHORIZATION_FILE, reason));
        }
        (Some(value), None, _) => AuthorizationSource::File(as_text(AUTHORIZATION_FILE, value)?.into()),
        (None, Some(value), _) => AuthorizationSource::Environment {
            option: AUTHORIZATION_ENV,
            name: as_text(AUTHORIZATION_ENV, value)?.to_owned(),
        },
        (None, None, Some(value)) => {
            let key = "octopus.authorization";
            AuthorizationSource::Text(header(key, as_text(key, value)?)?)
        }
        (None, None, None) => return Ok(None),
    };
    source.read()?;
    Ok(Some(source))
}

pub(super) fn environment(key: &str, name: &str) -> Result<Secret> {
    let found = std::env::var(name).map_err(|cause| {
        let reason = match cause {
            std::env::VarError::NotPresent => "is not set",
            std::env::VarError::NotUnicode(_) => "is not UTF-8",
        };
        Error::configuration(key, format_args!("the environment variable {name:?} {reason}"))
    })?;
    header(key, &found)
}

fn file(path: &Path) -> Result<Secret> {
    use std::io::Read as _;

    let unreadable = |cause: std::io::Error| {
        Error::configuration(AUTHORIZATION_FILE, format_args!("reading {}: {cause}", path.display()))
    };
    let unusable = |reason| Error::configuration(AUTHORIZATION_FILE, format_args!("{}: {reason}", path.display()));
    // Opening a pipe blocks until a writer opens it.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unusable("is not a regular file"));
    }
    let mut text = String::new();
    let mut limited = std::fs::File::open(path).map_err(unreadable)?.take(MAX_FILE_SIZE + 1);
    limited.read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_SIZE {
        return Err(unusable("is larger than 64 KiB"));
    }
    header(AUTHORIZATION_FILE, text.trim_end_matches(['\r', '\n']))
}

/// Checks that the text can be sent in an HTTP header.
fn header(key: &str, text: &str) -> Result<Secret> {
    Secret::header(text).map_err(|reason| Error::configuration(key, reason))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("octopus-{name}-{}", std::process::id()))
    }

    fn rejection(path: &Path) -> String {
        file(path).unwrap_err().message().to_owned()
    }

    #[test]
    fn authorization_file_is_regular_and_at_most_64_kib() {
        let path = path("authorization");
        std::fs::write(&path, "Bearer one\n").unwrap();
        assert_eq!(file(&path).unwrap().reveal(), "Bearer one");
        std::fs::write(&path, "x".repeat(MAX_FILE_SIZE as usize + 1)).unwrap();
        let error = rejection(&path);
        assert!(error.contains("octopus.authorization_file") && error.contains("larger than 64 KiB"), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(rejection(&path).contains("No such file"));
    }

    #[test]
    fn pipe_is_rejected_without_blocking() {
        let path = path("pipe");
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: `CString` guarantees that `name` ends with NUL.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let error = rejection(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("is not a regular file"), "{error}");
    }
}
