//! Credentials by AWS' own crates: environment, shared files and profiles, single sign-on, web
//! identity, container, instance metadata, and a role that is assumed with them.

use std::error::Error as StdError;
use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::{self, ProfileFileCredentialsProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_smithy_http_client::tls;
use aws_types::os_shim_internal::{Env, Fs};
use tokio::runtime::{Builder, Runtime};

use crate::config::{DEFAULT_SESSION_NAME, MskSettings};
use crate::support::error::{Error, Kind, Result};
use crate::support::name_lookup::AsyncResolver;
use crate::support::resource_limit;

/// The time limit of the whole chain. The slowest case is a machine outside AWS, where the request
/// for instance metadata times out.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(20);

pub struct Provider {
    settings: MskSettings,
    /// Runs one look-up at a time, on the calling thread.
    runtime: Runtime,
}

impl Provider {
    pub fn new(settings: &MskSettings) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| resource_limit::error("preparing to look up AWS credentials", &cause))?;
        Ok(Provider { settings: settings.clone(), runtime })
    }

    pub fn look_up(&self) -> Result<Credentials> {
        let context = |error: Error| error.context(format_args!("looking up AWS credentials ({})", self.sources()));
        self.runtime
            .block_on(async {
                let look_up = tokio::time::timeout(LOOK_UP_TIMEOUT, async {
                    // A new chain each time: AWS' crates read the shared files once, and keys in
                    // them may have been replaced.
                    self.chain()
                        .await
                        .provide_credentials()
                        .await
                        .map_err(|cause| Error::new(Kind::Kafka, with_causes(&cause)).retriable(true))
                });
                look_up.await.unwrap_or_else(|_| {
                    let reason = format!("no response within {} s", LOOK_UP_TIMEOUT.as_secs());
                    Err(Error::new(Kind::Unreachable, reason).retriable(true))
                })
            })
            .map_err(context)
    }

    async fn chain(&self) -> SharedCredentialsProvider {
        let https = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_with_resolver(AsyncResolver);
        let region = Region::new(self.settings.region.clone());
        let config = ProviderConfig::without_region().with_region(Some(region.clone())).with_http_client(https.clone());
        let profiles = ProfileFileCredentialsProvider::builder().profile_files(profiles_with_session_names().await);
        let provider = match &self.settings.profile {
            // A configured profile takes precedence over credentials in the environment, which the
            // chain would prefer.
            Some(name) => SharedCredentialsProvider::new(profiles.profile_name(name).configure(&config).build()),
            None => SharedCredentialsProvider::new(default_chain(profiles.configure(&config).build(), &config)),
        };
        let Some(role) = &self.settings.role else { return provider };
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(https)
            .region(region)
            .credentials_provider(provider)
            .load()
            .await;
        let role = AssumeRoleProvider::builder(&role.arn).session_name(&role.session_name);
        SharedCredentialsProvider::new(role.configure(&config).build().await)
    }

    fn sources(&self) -> String {
        let from = match &self.settings.profile {
            Some(profile) => format!("the profile {profile:?}"),
            None => "environment, profile, web identity, container, instance metadata".to_owned(),
        };
        match &self.settings.role {
            Some(role) => format!("{from}; then the role {}", role.arn),
            None => from,
        }
    }
}

/// The order of AWS' own default chain, which generates another session name each time that it
/// assumes a role.
fn default_chain(profiles: ProfileFileCredentialsProvider, config: &ProviderConfig) -> CredentialsProviderChain {
    CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("Profile", profiles)
        .or_else("WebIdentityToken", web_identity(config))
        .or_else("EcsContainer", EcsCredentialsProvider::builder().configure(config).build())
        .or_else("Ec2InstanceMetadata", ImdsCredentialsProvider::builder().configure(config).build())
}

/// The session name becomes part of the principal, and a broker rejects a connection whose
/// principal changes from one token to the next.
fn web_identity(config: &ProviderConfig) -> WebIdentityTokenCredentialsProvider {
    let builder = WebIdentityTokenCredentialsProvider::builder().configure(config);
    let variable = |name: &str| std::env::var(name).ok();
    match (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")) {
        (Some(file), Some(role_arn)) => {
            let session_name = variable("AWS_ROLE_SESSION_NAME").filter(|name| !name.is_empty());
            builder.static_configuration(StaticConfiguration {
                web_identity_token_file: file.into(),
                role_arn,
                session_name: session_name.unwrap_or_else(|| DEFAULT_SESSION_NAME.to_owned()),
            })
        }
        // The provider itself reports which of them is missing.
        _ => builder,
    }
    .build()
}

/// The shared files, with a session name added to each profile that has a role and no session name.
async fn profiles_with_session_names() -> EnvConfigFiles {
    let files = EnvConfigFiles::default();
    // The provider, which reads the files next, reports their errors.
    let Ok(found) = profile::load(&Fs::real(), &Env::real(), &files, None).await else { return files };
    let nameless = found.profiles().filter(|name| {
        let has = |key| found.get_profile(name).is_some_and(|profile| profile.get(key).is_some());
        has("role_arn") && !has("role_session_name")
    });
    let names: String =
        nameless.map(|name| format!("[{name}]\nrole_session_name = {DEFAULT_SESSION_NAME}\n")).collect();
    EnvConfigFiles::builder()
        .include_default_config_file(true)
        .include_default_credentials_file(true)
        // In this kind of file, section names do not begin with the word "profile".
        .with_contents(EnvConfigFileKind::Credentials, names)
        .build()
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
