//! Credentials by AWS' own crates: environment, shared files and profiles, single sign-on, web
//! identity, container, instance metadata, and a role that is assumed with them.

mod http_connector;
mod sources;

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, Instant};

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use tokio::runtime::{Builder, Runtime};

pub use http_connector::{Limits, Send, SendFailure};

/// The time limit of the whole chain. The slowest case is a machine outside AWS, where the request
/// for instance metadata times out.
pub const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(20);

pub struct Settings {
    pub region: String,
    /// Of the shared files; it takes precedence over credentials in the environment.
    pub profile: Option<String>,
    pub role: Option<Role>,
    /// Of a role that is assumed for a profile or a web identity without a session name. It becomes
    /// part of the principal, and a broker rejects a connection whose principal changes from one
    /// token to the next; AWS' crates would generate another name each time.
    pub session_name: String,
}

/// A role to be assumed with the credentials found.
pub struct Role {
    pub arn: String,
    pub session_name: String,
}

pub struct Chain {
    settings: Settings,
    /// Sends the requests.
    send: Send,
    /// Runs one look-up at a time, on the calling thread.
    runtime: Runtime,
}

pub enum LookUpError {
    /// The limit is [`LOOK_UP_TIMEOUT`].
    TimedOut,
    /// With the reason.
    NotFound(String),
}

impl Chain {
    /// Fails if the system refuses a descriptor.
    pub fn new(settings: Settings, send: Send) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Chain { settings, send, runtime })
    }

    pub fn look_up(&self) -> Result<Credentials, LookUpError> {
        self.runtime.block_on(async {
            let look_up = async {
                // A new chain each time: AWS' crates read the shared files once, and keys in them
                // may have been replaced.
                self.provider().await.provide_credentials().await
            };
            match tokio::time::timeout(LOOK_UP_TIMEOUT, look_up).await {
                Ok(Ok(credentials)) => Ok(credentials),
                Ok(Err(error)) => Err(LookUpError::NotFound(with_causes(&error))),
                Err(_) => Err(LookUpError::TimedOut),
            }
        })
    }

    async fn provider(&self) -> SharedCredentialsProvider {
        let region = Region::new(self.settings.region.clone());
        let http = http_connector::client(self.send.clone(), Instant::now() + LOOK_UP_TIMEOUT);
        let provider = sources::provider(&self.settings, region.clone(), http.clone()).await;
        let Some(role) = &self.settings.role else { return provider };
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http)
            .region(region)
            .credentials_provider(provider)
            .load()
            .await;
        let role = AssumeRoleProvider::builder(&role.arn).session_name(&role.session_name);
        SharedCredentialsProvider::new(role.configure(&config).build().await)
    }
}

/// The text of an error and its sources. The errors of AWS' crates state the reason in a source.
fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let source_text = source.to_string();
        if !text.contains(&source_text) {
            text = format!("{text}: {source_text}");
        }
        cause = source.source();
    }
    text
}
