//! Properties into librdkafka's configuration, with errors that name the property and never show a secret.

use rdkafka::ClientConfig;
use rdkafka::config::NativeClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use crate::config::{MASK, Properties, is_secret};
use crate::error::{Error, Kind, Result};

pub fn native(properties: &Properties) -> Result<NativeClientConfig> {
    let config: ClientConfig = properties.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    config.create_native_config().map_err(|error| match error {
        KafkaError::ClientConfig(problem, why, name, value) => refused(problem, &why, &name, &value),
        other => Error::new(Kind::Configuration, other.to_string()),
    })
}

fn refused(problem: RDKafkaConfRes, why: &str, name: &str, value: &str) -> Error {
    let key = format!("kafka.{name}");
    if matches!(problem, RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN) {
        return Error::configuration(key, "librdkafka has no property of this name; see its CONFIGURATION.md");
    }
    if is_secret(name) {
        return Error::configuration(key, why.replace(value, MASK));
    }
    Error::configuration(key, format_args!("{why} (given: {value:?})"))
}

/// The system's CA certificates, where the user names none: the built-in OpenSSL looks where no distribution keeps them.
/// `probe` has librdkafka look in the places of all. OpenSSL's own variables go before that, if they are set.
pub fn trust_the_system(properties: &mut Properties) {
    if ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let has =
        |name: &str, part: &str| properties.get(name).is_some_and(|value| value.to_ascii_lowercase().contains(part));
    let (brokers, identity_provider) = (has("security.protocol", "ssl"), has("sasl.oauthbearer.method", "oidc"));
    for (scope, is_used) in [("ssl", brokers), ("https", identity_provider)] {
        if is_used && properties.get(&format!("{scope}.ca.pem")).is_none() {
            properties.set_default(&format!("{scope}.ca.location"), "probe");
        }
    }
}

/// Refuses what librdkafka accepts but nothing in this build would serve.
pub fn check_supported(properties: &Properties, has_tokens: bool) -> Result<()> {
    let is = |name: &str, value: &str| properties.get(name).is_some_and(|given| given.eq_ignore_ascii_case(value));
    let makes_its_own = is("sasl.oauthbearer.method", "oidc") || is("enable.sasl.oauthbearer.unsecure.jwt", "true");
    if is("sasl.mechanism", "OAUTHBEARER") && !makes_its_own && !has_tokens {
        return Err(Error::configuration(
            "kafka.sasl.mechanism",
            "OAUTHBEARER needs tokens, and nobody provides any; give \"aws_msk_iam\" for Amazon MSK, or \
             \"sasl.oauthbearer.method\": \"oidc\" with its properties, or have the host provide them (services.token)",
        ));
    }
    Ok(())
}

pub fn check(properties: &Properties, has_tokens: bool) -> Result<()> {
    check_supported(properties, has_tokens)?;
    native(properties).map(drop)
}

/// What a property is in effect, librdkafka's defaults and other names included.
pub fn effective(config: &NativeClientConfig, name: &str) -> Result<String> {
    config
        .get(name)
        .map(|value| value.trim_end_matches('\0').to_owned())
        .map_err(|why| Error::configuration(format_args!("kafka.{name}"), why))
}

pub fn effective_number(config: &NativeClientConfig, name: &str) -> Result<u64> {
    let value = effective(config, name)?;
    value
        .parse()
        .map_err(|_| Error::configuration(format_args!("kafka.{name}"), format_args!("{value:?} is not a number")))
}

pub fn built_in_features() -> String {
    native(&Properties::default()).and_then(|config| effective(&config, "builtin.features")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A feature that a build lost, because a header was missing say, is missed here.
    #[test]
    fn built_in_features_are_those_of_the_cargo_features() {
        let mut expected = BTreeSet::from(["gzip", "lz4", "plugins", "regex", "sasl", "sasl_plain", "snappy"]);
        for (is_on, names) in [
            (cfg!(feature = "tls"), &["ssl", "sasl_scram", "sasl_oauthbearer"] as &[_]),
            (cfg!(feature = "oidc"), &["http", "oidc"]),
            (cfg!(feature = "zstd"), &["zstd"]),
        ] {
            expected.extend(names.iter().filter(|_| is_on));
        }
        assert_eq!(built_in_features().split(',').collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn version_has_the_number_of_the_last_patch() {
        let patches = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/kafka/patches")).unwrap();
        let number = |name: String| name.split_once('-').and_then(|(number, _)| number.parse::<u32>().ok());
        let last = patches.filter_map(|entry| number(entry.unwrap().file_name().into_string().unwrap())).max().unwrap();
        let version = crate::kafka::librdkafka_version();
        let (published, patch) = match version.split_once("+octopus.") {
            Some((published, patch)) => (published, Some(patch.to_owned())),
            None => (version.as_str(), None),
        };
        assert_eq!(patch, cfg!(feature = "patched").then(|| last.to_string()), "{version}");
        assert_eq!(published.split('.').count(), 3, "{version}");
    }
}
