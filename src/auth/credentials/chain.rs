//! Credentials by AWS' own crates: environment, shared files and profiles, single sign-on, web identity, container,
//! instance metadata, and a role taken on with them.

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
use crate::error::{Error, Kind, Result};
use crate::name_lookup::AsyncResolver;
use crate::resource_limit;

/// How long the whole chain may take. A laptop outside AWS has no instance metadata, which takes the longest to find out.
const LONGEST_LOOK_UP: Duration = Duration::from_secs(20);

pub struct Provider {
    settings: MskSettings,
    /// Serves one look-up at a time, on the thread that asks.
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
        let doing = |error: Error| error.context(format_args!("looking up AWS credentials ({})", self.places()));
        self.runtime
            .block_on(async {
                let looked = tokio::time::timeout(LONGEST_LOOK_UP, async {
                    // Made anew, since AWS' crates read the shared files once: keys in them may have been replaced.
                    self.chain()
                        .await
                        .provide_credentials()
                        .await
                        .map_err(|why| Error::new(Kind::Kafka, with_causes(&why)).retriable(true))
                });
                looked.await.unwrap_or_else(|_| {
                    let why = format!("no answer within {} s", LONGEST_LOOK_UP.as_secs());
                    Err(Error::new(Kind::Unreachable, why).retriable(true))
                })
            })
            .map_err(doing)
    }

    async fn chain(&self) -> SharedCredentialsProvider {
        let https = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_with_resolver(AsyncResolver);
        let region = Region::new(self.settings.region.clone());
        let config = ProviderConfig::without_region().with_region(Some(region.clone())).with_http_client(https.clone());
        let profiles = ProfileFileCredentialsProvider::builder().profile_files(profiles_with_session_names().await);
        let provider = match &self.settings.profile {
            // Whoever names a profile means it, also where the environment has credentials, which the chain would prefer.
            Some(name) => SharedCredentialsProvider::new(profiles.profile_name(name).configure(&config).build()),
            None => SharedCredentialsProvider::new(usual_chain(profiles.configure(&config).build(), &config)),
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

    fn places(&self) -> String {
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

/// The order of AWS' own default chain, which would make up another session name each time that it takes on a role.
fn usual_chain(profiles: ProfileFileCredentialsProvider, config: &ProviderConfig) -> CredentialsProviderChain {
    CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("Profile", profiles)
        .or_else("WebIdentityToken", web_identity(config))
        .or_else("EcsContainer", EcsCredentialsProvider::builder().configure(config).build())
        .or_else("Ec2InstanceMetadata", ImdsCredentialsProvider::builder().configure(config).build())
}

/// The session's name becomes part of the principal, and a broker lets nobody in whose principal changes between the
/// first token of a connection and the next.
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
        // It says itself which of them is missing.
        _ => builder,
    }
    .build()
}

/// The shared files as they are, and a session name for each profile that has a role and no name for its sessions.
async fn profiles_with_session_names() -> EnvConfigFiles {
    let files = EnvConfigFiles::default();
    // What is wrong with the files is said by whoever reads them next.
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
        // Sections of this kind of file are named without the word "profile".
        .with_contents(EnvConfigFileKind::Credentials, names)
        .build()
}

/// What AWS' crates say at the top is that it didn't work; why is further down.
fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        let why_text = why.to_string();
        if !text.contains(&why_text) {
            text = format!("{text}: {why_text}");
        }
        cause = why.source();
    }
    text
}
