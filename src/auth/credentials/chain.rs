//! Credentials by AWS' chain of providers, whose requests Octopus' HTTP client sends.

use std::sync::Arc;

use aws_credential_types::Credentials;
use http::{Request, Response};
use octopus_aws_chain::{Chain, LOOK_UP_TIMEOUT, Limits, LookUpError, Role, SendFailure, Settings};

use crate::config::{DEFAULT_SESSION_NAME, MskSettings, ProxySettings};
use crate::http_client::{self, Options, Proxy};
use crate::support::error::{Error, Kind, Result};
use crate::support::resource_limit;

pub struct Provider {
    chain: Chain,
    /// For errors: where credentials are looked for.
    sources: String,
}

impl Provider {
    pub fn new(settings: &MskSettings, proxy: Option<&ProxySettings>) -> Result<Self> {
        let chain = Settings {
            region: settings.region.clone(),
            profile: settings.profile.clone(),
            role: settings
                .role
                .as_ref()
                .map(|role| Role { arn: role.arn.clone(), session_name: role.session_name.clone() }),
            session_name: DEFAULT_SESSION_NAME.to_owned(),
        };
        // AWS' own client ignores the environment's proxy. One of the configuration is not used for
        // instance metadata, which only this machine reaches.
        let proxy = Proxy::given(proxy, Proxy::None);
        let chain = Chain::new(chain, Arc::new(move |request, limits| send(request, limits, proxy.clone())))
            .map_err(|cause| resource_limit::error("preparing to look up AWS credentials", &cause))?;
        Ok(Provider { chain, sources: sources(settings) })
    }

    pub fn look_up(&self) -> Result<Credentials> {
        self.chain.look_up().map_err(|error| {
            let (kind, reason) = match error {
                LookUpError::TimedOut => {
                    (Kind::Unreachable, format!("no response within {} s", LOOK_UP_TIMEOUT.as_secs()))
                }
                LookUpError::NotFound(reason) => (Kind::Kafka, reason),
            };
            let operation = format_args!("looking up AWS credentials ({})", self.sources);
            Error::new(kind, reason).retriable(true).context(operation)
        })
    }
}

fn send(
    request: &Request<Vec<u8>>,
    limits: Limits,
    proxy: Proxy,
) -> std::result::Result<Response<Vec<u8>>, SendFailure> {
    let options = Options {
        connect_timeout: limits.connect_timeout,
        timeout: limits.timeout,
        max_response_size: limits.response_size,
        proxy,
    };
    http_client::send(request, &options)
        .map_err(|error| SendFailure { is_transient: error.is_retriable(), cause: error.into() })
}

fn sources(settings: &MskSettings) -> String {
    let from = match &settings.profile {
        Some(profile) => format!("the profile {profile:?}"),
        None => "environment, profile, web identity, container, instance metadata".to_owned(),
    };
    match &settings.role {
        Some(role) => format!("{from}; then the role {}", role.arn),
        None => from,
    }
}
