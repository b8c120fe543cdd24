//! Credentials by AWS' own crates: environment, shared files and profiles, single sign-on, web identity, container,
//! instance metadata, and a role taken on with them.

use std::error::Error as StdError;
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_http_client::tls;
use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Runtime};

use crate::config::MskSettings;
use crate::error::{Error, Kind, Result};
use crate::name_lookup::AsyncResolver;
use crate::resource_limit;

/// How long the whole chain may take. A laptop outside AWS has no instance metadata, which takes the longest to find out.
const LONGEST_LOOK_UP: Duration = Duration::from_secs(20);

pub struct Provider {
    settings: MskSettings,
    /// Serves one look-up at a time, on the thread that asks.
    runtime: Runtime,
    chain: OnceCell<SharedCredentialsProvider>,
}

impl Provider {
    pub fn new(settings: &MskSettings) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| resource_limit::error("preparing to look up AWS credentials", &cause))?;
        Ok(Provider { settings: settings.clone(), runtime, chain: OnceCell::new() })
    }

    pub fn look_up(&self) -> Result<Credentials> {
        let doing = |error: Error| error.during(format_args!("looking up AWS credentials ({})", self.places()));
        self.runtime
            .block_on(async {
                let looked = tokio::time::timeout(LONGEST_LOOK_UP, async {
                    // Reads files, so it is not done before it must.
                    let chain = match self.chain.get() {
                        Some(chain) => chain,
                        None => {
                            let made = self.make_chain().await?;
                            self.chain.get_or_init(|| made)
                        }
                    };
                    chain
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

    async fn make_chain(&self) -> Result<SharedCredentialsProvider> {
        let config = self.loader().load().await;
        match &self.settings.role {
            Some(role) => {
                let role = AssumeRoleProvider::builder(&role.arn).session_name(&role.session_name);
                let role = role.configure(&config).build().await;
                Ok(SharedCredentialsProvider::new(role))
            }
            None => config
                .credentials_provider()
                .ok_or_else(|| Error::new(Kind::Unsupported, "AWS' crates gave no provider of credentials")),
        }
    }

    fn loader(&self) -> ConfigLoader {
        let https = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_with_resolver(AsyncResolver);
        let region = Region::new(self.settings.region.clone());
        let loader =
            aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https.clone()).region(region.clone());
        let Some(profile) = &self.settings.profile else { return loader };
        // Whoever names a profile means it, also where the environment has credentials, which the chain would prefer.
        let config = ProviderConfig::without_region().with_region(Some(region)).with_http_client(https);
        let from_profile = ProfileFileCredentialsProvider::builder().profile_name(profile).configure(&config).build();
        loader.profile_name(profile).credentials_provider(from_profile)
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
