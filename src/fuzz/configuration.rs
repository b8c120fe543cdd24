//! Fuzzes the configuration. The input has four lines: the configuration of a driver, the options
//! of a topic, the options of a client, the name of a topic.

use serde_json::Value;

use super::input::lines;
use crate::config::{ClientSettings, DriverSettings, Properties, TopicSettings, check_topic_name, is_secret};
use crate::kafka::Connection;
use crate::support::error::{Error, Kind};
use crate::support::services::Services;

pub fn configuration(input: &[u8]) {
    let mut lines = lines(input);
    let mut line = || lines.next().unwrap_or_default();
    let (driver, topic, client, name) = (line(), line(), line(), line());

    let driver = match DriverSettings::parse(&driver) {
        Ok(settings) => {
            check_driver(&settings, &driver, &name);
            settings
        }
        Err(error) => {
            check_error(&error);
            assert_hidden(&secrets(&driver), error.message());
            DriverSettings::parse(r#"{"embedded": {"brokers": 2}, "namespace": "space"}"#)
                .expect("a valid configuration")
        }
    };
    match TopicSettings::parse(Some(&topic), &driver) {
        Ok(settings) => {
            assert!((1..=i32::MAX as u32).contains(&settings.partitions), "{settings:?}");
            assert!((1..=i16::MAX as u32).contains(&settings.replication), "{settings:?}");
            check_properties(&settings.config);
        }
        Err(error) => check_error(&error),
    }
    for read in [ClientSettings::of_producer, ClientSettings::of_consumer] {
        match read(&name, 1, 2, Some(&client)) {
            Ok(settings) => {
                check_properties(&settings.kafka);
                let all = driver.kafka.overlaid_with(&settings.kafka);
                for (name, value) in settings.kafka.iter() {
                    assert_eq!(all.get(name), Some(value), "a property of the client is not used");
                }
            }
            Err(error) => check_error(&error),
        }
    }
    check_name(&driver, &name);
}

fn check_error(error: &Error) {
    assert_eq!(error.kind(), Kind::Configuration, "{error}");
    assert!(error.message().starts_with("configuration: ") && error.message().len() > 20, "{error}");
}

fn check_driver(settings: &DriverSettings, json: &str, name: &str) {
    let max = i32::MAX as u128;
    assert!((1..=max).contains(&settings.timeout.as_millis()) && settings.open_retry.as_millis() <= max);
    assert!(!settings.info_topic_prefix.is_empty() && settings.namespace.as_deref() != Some(""));
    assert_eq!(settings.embedded.is_none(), settings.kafka.get("bootstrap.servers").is_some());
    check_properties(&settings.kafka);
    if let Some(msk) = &settings.msk {
        assert!((1..=900).contains(&msk.lifetime.as_secs()) && !msk.region.is_empty());
        assert_eq!(settings.kafka.get("sasl.mechanism").map(str::to_ascii_uppercase).as_deref(), Some("OAUTHBEARER"));
    }
    let secrets = secrets(json);
    assert_hidden(&secrets, &serde_json::to_string(settings).expect("settings are serialized"));
    assert_hidden(&secrets, &format!("{settings:?}"));
    if let Err(error) = check_name_of(name, settings) {
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }
    // Covers the parser of librdkafka too. Skipped if it would start a cluster, connect to AWS or
    // load a library.
    let is_local = settings.embedded.is_none() && settings.msk.is_none();
    if is_local && settings.kafka.get("plugin.library.paths").is_none() {
        match Connection::new(settings, Services::default()) {
            Ok(connection) => assert_hidden(&secrets, &format!("{:?}", connection.properties)),
            Err(error) => {
                check_error(&error);
                assert_hidden(&secrets, error.message());
            }
        }
    }
}

fn check_properties(properties: &Properties) {
    for (name, value) in properties.iter() {
        assert!(!name.contains('\0') && !value.contains('\0'), "{name:?}");
    }
}

fn check_name(driver: &DriverSettings, name: &str) {
    let kafka_name = driver.kafka_name(name);
    let is_valid = (1..=249).contains(&kafka_name.len())
        && kafka_name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && ![".", ".."].contains(&kafka_name.as_str());
    assert_eq!(check_topic_name(&kafka_name).is_ok(), is_valid, "{kafka_name:?}");
    assert_eq!(driver.name_of(&driver.info_topic_name(name)), None, "an info topic is listed as a topic");
    if !name.is_empty() && !name.starts_with(&driver.info_topic_prefix) {
        assert_eq!(driver.name_of(&kafka_name), Some(name));
    }
}

fn check_name_of(name: &str, settings: &DriverSettings) -> crate::support::error::Result<()> {
    check_topic_name(&settings.kafka_name(name))
}

/// Marks secrets, to distinguish them from texts of Octopus itself. The corpus contains it.
const SECRET_MARKER: &str = "hush-";

/// The secrets in the configuration of a driver.
fn secrets(json: &str) -> Vec<String> {
    let root: Value = crate::json::parse(json).unwrap_or_default();
    let mut found = Vec::new();
    for key in ["subject", "authorization"] {
        find_texts(root.pointer(&format!("/octopus/{key}")), &mut found);
    }
    if let Some(Value::Object(kafka)) = root.get("kafka") {
        for (name, value) in kafka.iter().filter(|(name, _)| *name != "aws_msk_iam") {
            find_secrets(name, value, &mut found);
        }
    }
    found.retain(|text| text.contains(SECRET_MARKER) && json.matches(text.as_str()).count() == 1);
    found
}

fn find_secrets(name: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(nested) => {
            nested.iter().for_each(|(key, value)| find_secrets(&format!("{name}.{key}"), value, found));
        }
        value if is_secret(name) => find_texts(Some(value), found),
        _ => {}
    }
}

fn find_texts(value: Option<&Value>, found: &mut Vec<String>) {
    match value {
        Some(Value::String(text)) => found.push(text.clone()),
        Some(Value::Array(items)) => items.iter().for_each(|item| find_texts(Some(item), found)),
        Some(Value::Object(named)) => named.values().for_each(|value| find_texts(Some(value), found)),
        _ => {}
    }
}

fn assert_hidden(secrets: &[String], shown: &str) {
    for secret in secrets {
        assert!(!shown.contains(secret.as_str()), "the secret {secret:?} is shown: {shown}");
    }
}
