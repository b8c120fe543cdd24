//! Credentials from the environment, the one place that needs no further code: for builds without the feature `aws`.

use aws_credential_types::Credentials;

use crate::config::MskSettings;
use crate::error::{Error, Kind, Result};

pub struct Provider;

impl Provider {
    pub fn new(settings: &MskSettings) -> Result<Self> {
        let unsupported = [("profile", settings.profile.is_some()), ("role_arn", settings.role.is_some())];
        match unsupported.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(Error::new(
                Kind::Unsupported,
                format!(
                    "configuration: aws_msk_iam.{key}: this build takes AWS credentials from the environment only; \
                         build it with the feature \"aws\""
                ),
            )),
            None => Ok(Provider),
        }
    }

    pub fn look_up(&self) -> Result<Credentials> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let needed = |name: &str| {
            variable(name).ok_or_else(|| {
                Error::new(
                    Kind::Configuration,
                    format!("looking up AWS credentials: the environment variable {name} is not set"),
                )
            })
        };
        Ok(Credentials::new(
            needed("AWS_ACCESS_KEY_ID")?,
            needed("AWS_SECRET_ACCESS_KEY")?,
            variable("AWS_SESSION_TOKEN"),
            None,
            "environment",
        ))
    }
}
