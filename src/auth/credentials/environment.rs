//! Credentials from the environment, for builds without the feature `aws`: the one source that
//! needs no AWS crates.

use aws_credential_types::Credentials;

use crate::config::{MskSettings, ProxySettings};
use crate::support::error::{Error, Kind, Result};

pub struct Provider;

impl Provider {
    pub fn new(settings: &MskSettings, _: Option<&ProxySettings>) -> Result<Self> {
        let unsupported = [("profile", settings.profile.is_some()), ("role_arn", settings.role.is_some())];
        match unsupported.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(Error::missing_feature(
                &format!("aws_msk_iam.{key}"),
                "AWS credentials from elsewhere than the environment",
                "aws",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeySource;

    fn settings(profile: Option<&str>) -> MskSettings {
        let lifetime = std::time::Duration::from_secs(900);
        MskSettings {
            region: "us-east-1".to_owned(),
            profile: profile.map(str::to_owned),
            role: None,
            lifetime,
            keys: KeySource::Chain,
        }
    }

    #[test]
    fn profile_needs_the_feature_aws() {
        let error = Provider::new(&settings(Some("work")), None).err().map(|error| error.message().to_owned()).unwrap();
        assert!(error.contains("aws_msk_iam.profile") && error.contains("\"aws\""), "{error}");
    }

    #[test]
    fn missing_environment_variable_is_named() {
        // The variables are not set where tests run. A test must not unset them: they belong to the
        // whole process.
        let found = Provider::new(&settings(None), None).and_then(|provider| provider.look_up());
        let error = found.map(drop).unwrap_err();
        assert!(error.message().contains("AWS_ACCESS_KEY_ID is not set"), "{error}");
    }
}
