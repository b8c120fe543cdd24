use super::*;
use crate::support::error::Kind;

fn driver(json: &str) -> DriverSettings {
    DriverSettings::parse(json).unwrap()
}

fn rejected(json: &str) -> String {
    let error = DriverSettings::parse(json).unwrap_err();
    assert!(matches!(error.kind(), Kind::Configuration | Kind::Unsupported), "{error:?}");
    error.message().to_owned()
}

#[test]
fn property_arrays_are_joined_with_commas() {
    let settings = driver(
        r#"{"kafka": {"bootstrap.servers": ["a:1", "b:2"], "linger.ms": 3, "log.queue": true, "debug": ["msg", "cgrp"]}}"#,
    );
    assert_eq!(settings.kafka.get("bootstrap.servers"), Some("a:1,b:2"));
    assert_eq!(settings.kafka.get("linger.ms"), Some("3"));
    assert_eq!(settings.kafka.get("log.queue"), Some("true"));
    assert_eq!(settings.kafka.get("debug"), Some("msg,cgrp"));
}

#[test]
fn nested_properties_are_flattened() {
    let settings = driver(r#"{"kafka": {"bootstrap": {"servers": "x:1"}, "linger": {"ms": "3"}}}"#);
    assert_eq!(settings.kafka.get("bootstrap.servers"), Some("x:1"));
    assert_eq!(settings.kafka.get("linger.ms"), Some("3"));
    assert!(
        rejected(r#"{"kafka": {"bootstrap.servers": "x:1", "bootstrap": {"servers": "y:1"}}}"#)
            .contains("kafka.bootstrap.servers")
    );
}

#[test]
fn invalid_configuration_is_rejected_by_its_key() {
    for (json, named) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "expected an object, got an array"),
        ("{}", "kafka: missing"),
        (r#"{"kafka": "x:1"}"#, "kafka: expected an object"),
        (r#"{"kafka": {}}"#, "kafka.bootstrap.servers: missing"),
        (
            r#"{"kafka": {"bootstrap.server": "x:1"}}"#,
            "kafka.bootstrap.servers: missing (there is \"bootstrap.server\")",
        ),
        (r#"{"Kafka": {"bootstrap.servers": "x:1"}}"#, "kafka: missing (there is \"Kafka\")"),
        (r#"{"kafka": {"bootstrap.servers": ["good:1", "http://x:1"]}}"#, "\"http://x:1\" has a protocol"),
        (r#"{"kafka": {"bootstrap.servers": ""}}"#, "kafka.bootstrap.servers: is empty"),
        (r#"{"kafka": {"bootstrap.servers": 1}}"#, "kafka.bootstrap.servers: expected"),
        (r#"{"kafka": {"bootstrap.servers": ["x", 1]}}"#, "kafka.bootstrap.servers: expected"),
        (r#"{"kafka": {"bootstrap.servers": null}}"#, "kafka.bootstrap.servers: expected"),
        (r#"{"kafka": {"bootstrap.servers": "x", "debug": [{}]}}"#, "kafka.debug: expected"),
        (r#"{"kafka": {"bootstrap.servers": "x\u0000y"}}"#, "NUL"),
        (r#"{"embedded": true}"#, "embedded: expected an object"),
        (r#"{"embedded": {"brokers": 0}}"#, "embedded.brokers: expected a whole number"),
        (r#"{"embedded": {"partition": 3}}"#, "embedded.partition: no such option"),
        (r#"{"embedded": {}, "kafka": {"bootstrap.servers": "x"}}"#, "embedded"),
        (r#"{"embedded": {}, "namespace": 1}"#, "namespace: expected a string"),
        (r#"{"embedded": {}, "info_topic_prefix": ""}"#, "info_topic_prefix: is empty"),
        (r#"{"embedded": {}, "disable_info_topic": "maybe"}"#, "disable_info_topic: expected true or false"),
        (r#"{"embedded": {}, "timeout_ms": -1}"#, "timeout_ms: expected a whole number"),
        (r#"{"embedded": {}, "connect_timeout_ms": -1}"#, "connect_timeout_ms: expected a whole number"),
        (r#"{"embedded": {}, "connect_timeout_ms": "soon"}"#, "connect_timeout_ms: expected a whole number"),
        (r#"{"embedded": {}, "exit_flush_ms": -1}"#, "exit_flush_ms: expected a whole number"),
        (r#"{"embedded": {}, "exit_flush_ms": "soon"}"#, "exit_flush_ms: expected a whole number"),
        (r#"{"embedded": {}, "aws_msk_iam": {"region": "x"}}"#, "aws_msk_iam: the embedded Kafka"),
        (r#"{"embedded": {}, "octopus": {}}"#, "octopus"),
    ] {
        let message = rejected(json);
        assert!(message.contains(named), "{json} gave: {message}");
    }
}

#[test]
fn strings_are_accepted_as_numbers_and_booleans() {
    let settings = driver(r#"{"embedded": {}, "disable_info_topic": "true", "timeout_ms": "1500"}"#);
    assert!(settings.disable_info_topic);
    assert_eq!(settings.timeout, Duration::from_millis(1500));
    let topic =
        TopicSettings::parse(Some(r#"{"num_partitions": "3", "disable_info_topic": "false"}"#), &settings).unwrap();
    assert_eq!(topic.partitions, 3);
    assert!(!topic.disable_info_topic, "the option of the driver was used");
}

#[test]
fn topic_has_one_partition_and_three_replicas_by_default() {
    let settings = driver(r#"{"kafka": {"bootstrap.servers": "x:1"}}"#);
    let topic = TopicSettings::parse(None, &settings).unwrap();
    assert_eq!((topic.partitions, topic.replication), (1, 3));
    for invalid in [r#"{"num_partitions": 0}"#, r#"{"num_partitions": -3}"#, r#"{"num_partitions": 1.5}"#] {
        let message = TopicSettings::parse(Some(invalid), &settings).unwrap_err().message().to_owned();
        assert!(message.contains("num_partitions: expected a whole number from 1"), "{message}");
    }
}

#[test]
fn names_are_prefixed_by_namespace_and_info_prefix() {
    let settings = driver(r#"{"kafka": {"bootstrap.servers": "x"}, "namespace": "lab"}"#);
    assert_eq!(settings.kafka_name("scan"), "lab.scan");
    assert_eq!(settings.info_topic_name("scan"), "lab.__info_scan");
}

#[test]
fn invalid_topic_name_is_rejected_with_the_rule() {
    for name in ["", ".", "..", "with space", "ümlaut", "a/b", &"x".repeat(250)] {
        assert!(check_topic_name(name).unwrap_err().message().contains("249"), "{name}");
    }
    check_topic_name(&"x".repeat(249)).unwrap();
    check_topic_name("a.b_c-D9").unwrap();
}

#[test]
fn client_options_other_than_an_object_are_ignored() {
    for options in ["null", "[1, 2]", "3", "{}"] {
        assert_eq!(ClientSettings::of_consumer("c", 0, 0, Some(options)).unwrap().kafka, Properties::default());
    }
    let settings = ClientSettings::of_consumer("c", 0, 0, Some(r#"{"kafka": {"linger.ms": 1}}"#)).unwrap();
    assert_eq!(settings.kafka.get("linger.ms"), Some("1"));
}

#[test]
fn unknown_options_of_a_client_are_found() {
    let options = r#"{"kafka": {}, "client": "shared", "on_damaged": "skip", "linger.ms": 1}"#;
    let settings = ClientSettings::of_consumer("c", 0, 0, Some(options)).unwrap();
    assert_eq!(settings.unknown_to_producers().collect::<Vec<_>>(), ["linger.ms", "on_damaged"]);
    assert_eq!(settings.unknown_to_consumers().collect::<Vec<_>>(), ["client", "linger.ms"]);
}

#[test]
fn description_masks_every_secret() {
    let settings = driver(
        r#"{"kafka": {"bootstrap.servers": "x", "sasl.password": "p1", "ssl.key.password": "p2", "ssl.key.pem": "p3",
            "sasl.oauthbearer.client.secret": "p4", "sasl.oauthbearer.config": "p5"}}"#,
    );
    let shown = serde_json::to_string(&settings).unwrap() + &format!("{settings:?}");
    for secret in ["p1", "p2", "p3", "p4", "p5"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("bootstrap.servers"));
}

#[test]
fn property_alias_is_the_same_property() {
    let driver = driver(r#"{"kafka": {"metadata.broker.list": "x:1", "queue.buffering.max.ms": 7}}"#);
    let own = ClientSettings::of_consumer("c", 0, 0, Some(r#"{"kafka": {"linger.ms": 1}}"#)).unwrap();
    let all = driver.kafka.overlaid_with(&own.kafka);
    assert_eq!(all.iter().collect::<Vec<_>>(), [("bootstrap.servers", "x:1"), ("linger.ms", "1")]);
    assert!(
        rejected(r#"{"kafka": {"bootstrap.servers": "x", "acks": 1, "request.required.acks": 1}}"#).contains("twice")
    );
}

#[test]
fn msk_options_at_top_and_inside_kafka_must_be_equal() {
    let at_the_top = driver(r#"{"kafka": {"bootstrap.servers": "x"}, "aws_msk_iam": {"region": "eu-west-1"}}"#);
    let inside = driver(r#"{"kafka": {"bootstrap.servers": "x", "aws_msk_iam": {"region": "eu-west-1"}}}"#);
    let both = driver(
        r#"{"kafka": {"bootstrap.servers": "x", "aws_msk_iam": {"region": "eu-west-1"}},
            "aws_msk_iam": {"region": "eu-west-1", "expiry_seconds": "900"}}"#,
    );
    for settings in [&at_the_top, &inside, &both] {
        let msk = settings.msk.as_ref().unwrap();
        assert_eq!((msk.region.as_str(), msk.lifetime.as_secs()), ("eu-west-1", 900));
        assert_eq!(settings.kafka.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(settings.kafka.get("sasl.mechanism"), Some("OAUTHBEARER"));
        assert!(settings.kafka.get("aws_msk_iam.region").is_none());
    }
    let error = rejected(
        r#"{"kafka": {"bootstrap.servers": "x", "aws_msk_iam": {"region": "eu-west-1"}}, "aws_msk_iam": {"region": "eu-west-2"}}"#,
    );
    assert!(error.contains("aws_msk_iam") && error.contains("differ"), "{error}");
}

#[test]
fn invalid_msk_option_is_rejected_by_its_name() {
    for (options, named) in [
        ("1", "aws_msk_iam: expected an object"),
        ("{}", "aws_msk_iam.region: missing"),
        (r#"{"region": 1}"#, "aws_msk_iam.region: expected a string"),
        (r#"{"region": "evil.example/"}"#, "aws_msk_iam.region: "),
        (r#"{"region": "us-east-1", "expiry": 1}"#, "aws_msk_iam.expiry: no such option"),
        (r#"{"region": "us-east-1", "expiry_seconds": 901}"#, "expected a whole number from 1 to 900"),
        (r#"{"region": "us-east-1", "profile": ""}"#, "aws_msk_iam.profile: is empty"),
        (r#"{"region": "us-east-1", "role_arn": "admin"}"#, "aws_msk_iam.role_arn: "),
        (r#"{"region": "us-east-1", "role_session_name": "me"}"#, "aws_msk_iam.role_session_name: "),
    ] {
        let error = rejected(&format!(r#"{{"kafka": {{"bootstrap.servers": "x"}}, "aws_msk_iam": {options}}}"#));
        assert!(error.contains(named), "{options}: {error}");
    }
}

#[test]
fn property_that_prevents_or_exposes_tokens_is_rejected() {
    let with = |property: &str| {
        format!(r#"{{"kafka": {{"bootstrap.servers": "x", {property}}}, "aws_msk_iam": {{"region": "us-east-1"}}}}"#)
    };
    for property in [
        r#""security.protocol": "ssl""#,
        r#""security.protocol": "plaintext""#,
        r#""sasl.mechanisms": "PLAIN""#,
        r#""sasl.oauthbearer.method": "oidc""#,
    ] {
        let error = rejected(&with(property));
        assert!(error.contains("needs") && error.contains("remove it"), "{error}");
    }
    for allowed in ["SASL_PLAINTEXT", "sasl_ssl"] {
        let settings = driver(&with(&format!(r#""security.protocol": "{allowed}""#)));
        assert_eq!(settings.kafka.get("security.protocol"), Some(allowed));
    }
}

#[test]
fn topic_service_identity_is_never_shown() {
    let driver = driver(
        r#"{"kafka": {"bootstrap.servers": "x"}, "namespace": "ns",
            "octopus": {"url": "https://topics.example/", "subject": "s-3cr-3t", "authorization": "Bearer s-3cr-3t"}}"#,
    );
    let service = driver.service.as_ref().unwrap();
    let authorization = service.authorization.as_ref().map(|source| source.read().unwrap());
    let revealed = authorization.as_ref().map(secret::Secret::reveal);
    assert_eq!((service.url.as_str(), revealed), ("https://topics.example", Some("Bearer s-3cr-3t")));
    let shown = serde_json::to_string(&driver).unwrap() + &format!("{driver:?}");
    assert!(shown.contains("topics.example") && !shown.contains("s-3cr-3t"), "{shown}");
    assert_eq!(driver.info_topic_name("scan"), "ns.info_scan");
}
