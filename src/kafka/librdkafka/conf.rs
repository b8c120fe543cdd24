//! librdkafka's configuration from properties. Its errors name the property and never contain a
//! secret.

use rdkafka::ClientConfig;
use rdkafka::config::NativeClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::property_names::{is_float, similar_property};
use crate::config::{MASK, Properties, is_secret};
use crate::support::error::{Error, Kind, Result};

/// The configuration with these properties.
pub fn native(properties: &Properties) -> Result<NativeClientConfig> {
    check_numbers(properties)?;
    let config: ClientConfig = properties.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    config.create_native_config().map_err(|error| match error {
        KafkaError::ClientConfig(problem, reason, name, value) => property_error(problem, &reason, &name, &value),
        other => Error::new(Kind::Configuration, other.to_string()),
    })
}

fn property_error(problem: RDKafkaConfRes, reason: &str, name: &str, value: &str) -> Error {
    let key = format!("kafka.{name}");
    if matches!(problem, RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN) {
        let suggestion = similar_property(name).map(|name| format!(" (did you mean {name:?}?)")).unwrap_or_default();
        let reason = format_args!("librdkafka has no property of this name{suggestion}; see its CONFIGURATION.md");
        return Error::configuration(key, reason);
    }
    if is_secret(name) {
        return Error::configuration(key, reason.replace(value, MASK));
    }
    Error::configuration(key, format_args!("{} (given: {value:?})", reason.trim_end()))
}

/// Rejects numbers with a unit: librdkafka ignores what follows the digits, and takes
/// `"30s"` for 30 milliseconds.
fn check_numbers(properties: &Properties) -> Result<()> {
    let starts_with_digits =
        |value: &str| value.trim_start_matches(['+', '-']).starts_with(|character: char| character.is_ascii_digit());
    for (name, value) in properties.iter().map(|(name, value)| (name, value.trim())) {
        if !starts_with_digits(value) || is_whole_number(value) || !is_number(name) {
            continue;
        }
        let allows_fractions = is_float(name);
        if !allows_fractions || value.parse::<f64>().is_err() {
            let kind = if allows_fractions { "number" } else { "whole number" };
            let expected = format_args!("expected a {kind} without a unit (given: {value:?})");
            return Err(Error::configuration(format_args!("kafka.{name}"), expected));
        }
    }
    Ok(())
}

/// Whether the property's default is a number.
fn is_number(name: &str) -> bool {
    // A property of topics creates the part of the configuration that has these.
    let defaults = ClientConfig::new().set("acks", "-1").create_native_config();
    let default = defaults.ok().and_then(|defaults| effective(&defaults, name).ok());
    default.is_some_and(|default| default.parse::<i64>().is_ok())
}

/// Whether librdkafka reads all of a value: decimal, or hexadecimal digits after `0x`.
fn is_whole_number(value: &str) -> bool {
    let digits = value.trim_start_matches(['+', '-']);
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hexadecimal) => i64::from_str_radix(hexadecimal, 16).is_ok(),
        None => digits.parse::<i64>().is_ok(),
    }
}

/// Uses the system's CA certificates unless the properties name others. The bundled OpenSSL looks
/// in a directory that no distribution uses; `probe` makes librdkafka look in those of all
/// distributions. OpenSSL's own environment variables have precedence.
pub fn use_system_certificates(properties: &mut Properties) {
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

/// Rejects properties that librdkafka accepts but this build does not support.
pub fn check_supported(properties: &Properties, has_tokens: bool) -> Result<()> {
    let is = |name: &str, value: &str| properties.get(name).is_some_and(|given| given.eq_ignore_ascii_case(value));
    let has_own_tokens = is("sasl.oauthbearer.method", "oidc") || is("enable.sasl.oauthbearer.unsecure.jwt", "true");
    if is("sasl.mechanism", "OAUTHBEARER") && !has_own_tokens && !has_tokens {
        return Err(Error::configuration(
            "kafka.sasl.mechanism",
            "OAUTHBEARER needs tokens, and there is no source of tokens; give \"aws_msk_iam\" for Amazon MSK, or \
             \"sasl.oauthbearer.method\": \"oidc\" with its properties, or have the host provide them (services.token)",
        ));
    }
    Ok(())
}

/// Fails for unknown properties, wrong values and unsupported settings.
pub fn check(properties: &Properties, has_tokens: bool) -> Result<()> {
    check_supported(properties, has_tokens)?;
    native(properties).map(drop)
}

/// The effective value of a property, after librdkafka's defaults and aliases.
pub fn effective(config: &NativeClientConfig, name: &str) -> Result<String> {
    config
        .get(name)
        .map(|value| value.trim_end_matches('\0').to_owned())
        .map_err(|reason| Error::configuration(format_args!("kafka.{name}"), reason))
}

pub fn effective_number(config: &NativeClientConfig, name: &str) -> Result<u64> {
    let value = effective(config, name)?;
    value
        .parse()
        .map_err(|_| Error::configuration(format_args!("kafka.{name}"), format_args!("{value:?} is not a number")))
}

/// The first file of the configuration that can't be read, and the reason. librdkafka's errors name
/// neither.
pub fn unreadable_file(config: &NativeClientConfig) -> Option<String> {
    const FILES: [&str; 5] = [
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.keystore.location",
        "ssl.crl.location",
    ];
    /// Lets librdkafka search for the system's authorities.
    const SEARCH: &str = "probe";
    FILES.iter().find_map(|name| {
        let path = effective(config, name).ok().filter(|path| !path.is_empty() && path != SEARCH)?;
        // A folder can be opened, too.
        let cause = std::fs::File::open(&path).err()?;
        Some(format!("kafka.{name}: reading {path}: {cause}"))
    })
}

/// librdkafka's `builtin.features`: comma-separated.
pub fn built_in_features() -> String {
    native(&Properties::default()).and_then(|config| effective(&config, "builtin.features")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[cfg(feature = "tls")]
    #[test]
    fn unreadable_file_is_named_with_its_property() {
        let with = |path: &str| {
            let mut properties = Properties::default();
            properties.set("ssl.ca.location", path);
            unreadable_file(&native(&properties).unwrap())
        };
        let missing = with("/nowhere/ca.pem").unwrap();
        assert!(missing.starts_with("kafka.ssl.ca.location: reading /nowhere/ca.pem: No such file"), "{missing}");
        for readable in ["/", "probe", ""] {
            assert_eq!(with(readable), None, "{readable:?}");
        }
    }

    /// A feature that a build has lost, for example because of a missing header, fails this test.
    #[test]
    fn built_in_features_are_those_of_the_cargo_features() {
        let mut expected = BTreeSet::from(["gzip", "lz4", "plugins", "regex", "sasl", "sasl_plain", "snappy"]);
        for (is_on, names) in [
            (cfg!(feature = "tls"), &["ssl", "sasl_scram", "sasl_oauthbearer"] as &[_]),
            (cfg!(feature = "oidc"), &["http", "oidc"]),
            (cfg!(feature = "zstd"), &["zstd"]),
            (cfg!(all(feature = "gssapi", feature = "patched")), &["sasl_gssapi"]),
        ] {
            expected.extend(names.iter().filter(|_| is_on));
        }
        assert_eq!(built_in_features().split(',').collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn number_with_a_unit_is_rejected() {
        let check = |name: &str, value: &str| {
            let mut properties = Properties::default();
            properties.set(name, value);
            native(&properties).map(drop)
        };
        for (name, value) in [
            ("message.max.bytes", "5000MB"),
            ("message.max.bytes", "10MB"),
            ("socket.timeout.ms", "30s"),
            ("linger.ms", "5 ms"),
            ("socket.timeout.ms", "5.5"),
            ("session.timeout.ms", "1 min"),
            ("acks", "1x"),
            ("queue.buffering.max.kbytes", "1e7"),
        ] {
            let error = check(name, value).unwrap_err();
            assert!(error.message().contains(name) && error.message().contains("without a unit"), "{value}: {error}");
        }
        for (name, value) in [
            ("message.max.bytes", "5000"),
            ("message.max.bytes", " 0x2000 "),
            ("linger.ms", "5.5"),
            ("acks", "all"),
            ("acks", "-1"),
            ("client.id", "3x"),
            ("compression.type", "lz4"),
            ("log_level", "6"),
        ] {
            check(name, value).unwrap_or_else(|error| panic!("{name} {value:?}: {error}"));
        }
        let error = check("linger.ms", "-4").unwrap_err();
        assert!(error.message().contains("range") && !error.message().contains('\n'), "{error}");
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
