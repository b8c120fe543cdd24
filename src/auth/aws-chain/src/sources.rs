//! The places where credentials may be, in the order of AWS' own default chain.

use aws_config::Region;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::{self, ProfileFileCredentialsProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::os_shim_internal::{Env, Fs};

use crate::Settings;

pub async fn provider(settings: &Settings, region: Region, http: SharedHttpClient) -> SharedCredentialsProvider {
    let config = ProviderConfig::without_region().with_region(Some(region)).with_http_client(http);
    let files = files_with_session_names(&settings.session_name).await;
    let profiles = ProfileFileCredentialsProvider::builder().profile_files(files);
    match &settings.profile {
        // The chain would prefer credentials in the environment.
        Some(name) => SharedCredentialsProvider::new(profiles.profile_name(name).configure(&config).build()),
        None => {
            let chain =
                CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
                    .or_else("Profile", profiles.configure(&config).build())
                    .or_else("WebIdentityToken", web_identity(&settings.session_name, &config))
                    .or_else("EcsContainer", EcsCredentialsProvider::builder().configure(&config).build())
                    .or_else("Ec2InstanceMetadata", ImdsCredentialsProvider::builder().configure(&config).build());
            SharedCredentialsProvider::new(chain)
        }
    }
}

fn web_identity(default_session_name: &str, config: &ProviderConfig) -> WebIdentityTokenCredentialsProvider {
    let builder = WebIdentityTokenCredentialsProvider::builder().configure(config);
    let variable = |name: &str| std::env::var(name).ok();
    match (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")) {
        (Some(file), Some(role_arn)) => {
            let session_name = variable("AWS_ROLE_SESSION_NAME").filter(|name| !name.is_empty());
            builder.static_configuration(StaticConfiguration {
                web_identity_token_file: file.into(),
                role_arn,
                session_name: session_name.unwrap_or_else(|| default_session_name.to_owned()),
            })
        }
        // The provider itself reports which of them is missing.
        _ => builder,
    }
    .build()
}

/// The shared files, with a session name added to each profile that has a role and no session name.
async fn files_with_session_names(session_name: &str) -> EnvConfigFiles {
    let files = EnvConfigFiles::default();
    // The provider, which reads the files next, reports their errors.
    let Ok(found) = profile::load(&Fs::real(), &Env::real(), &files, None).await else { return files };
    let nameless = found.profiles().filter(|name| {
        let has = |key| found.get_profile(name).is_some_and(|profile| profile.get(key).is_some());
        has("role_arn") && !has("role_session_name")
    });
    let names: String = nameless.map(|name| format!("[{name}]\nrole_session_name = {session_name}\n")).collect();
    EnvConfigFiles::builder()
        .include_default_config_file(true)
        .include_default_credentials_file(true)
        // In this kind of file, section names do not begin with the word "profile".
        .with_contents(EnvConfigFileKind::Credentials, names)
        .build()
}
