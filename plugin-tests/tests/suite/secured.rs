//! TLS on real brokers with generated certificates: the valid settings, and for each invalid one
//! the error that a user reads.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use octopus_loader::Driver;
use octopus_testkit::certificates::{Authority, KEY_PASSWORD, Pair};
use serde_json::{Value, json};

use crate::job::{folder, job, run_job, run_look_command, wait_for_output};
use crate::kafka::{Kafka, unique};
use crate::sasl::{PASSWORD, sasl};
use crate::support::{Log, eventually, merge, octopus, one_replica};

/// Within this time a call reports an invalid setting.
pub const MAX_REPORT_TIME: Duration = Duration::from_secs(10);

pub static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("octopus tests"));
/// An authority that neither brokers nor clients trust.
static UNTRUSTED_AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("untrusted"));
pub static BROKERS: LazyLock<Pair> = LazyLock::new(|| AUTHORITY.certificate("broker", "127.0.0.1"));
static CLIENTS: LazyLock<Pair> =
    LazyLock::new(|| AUTHORITY.certificate("client", "octopus-client").with_encrypted_key());

/// The broker's arguments for `settings` of the listener for clients.
pub fn listener(settings: &[(&str, &str)]) -> Vec<String> {
    settings
        .iter()
        .flat_map(|(name, value)| ["--set".to_owned(), format!("listener.name.client.{name}={value}")])
        .collect()
}

pub fn start(protocol: &str, listener: Vec<String>, other_args: &[&str]) -> Kafka {
    let mut args = vec!["--protocol", protocol];
    args.extend(listener.iter().map(String::as_str));
    args.extend(other_args);
    Kafka::start(&args).unwrap()
}

pub fn keystore(pair: &Pair) -> Vec<String> {
    listener(&[
        ("ssl.keystore.type", "PEM"),
        ("ssl.keystore.location", &pair.both()),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", AUTHORITY.file()),
    ])
}

/// A broker with TLS that requires a client certificate.
pub fn mutual() -> &'static Kafka {
    static BROKER: LazyLock<Kafka> = LazyLock::new(|| {
        let settings = [keystore(&BROKERS), listener(&[("ssl.client.auth", "required")])].concat();
        start("SSL", settings, &[])
    });
    &BROKER
}

/// A broker with TLS whose certificate has expired.
fn expired() -> &'static Kafka {
    static BROKER: LazyLock<Kafka> =
        LazyLock::new(|| start("SSL", keystore(&AUTHORITY.expired_certificate("expired", "127.0.0.1")), &[]));
    &BROKER
}

fn tls(broker: &Kafka) -> Value {
    json!({
        "bootstrap.servers": broker.bootstrap(), "security.protocol": "SSL", "ssl.ca.location": AUTHORITY.file(),
        "ssl.certificate.location": CLIENTS.certificate, "ssl.key.location": CLIENTS.key,
        "ssl.key.password": KEY_PASSWORD,
    })
}

/// Like [`tls`] for [`mutual`], without a secret: for programs that show their arguments.
pub fn mutual_tls() -> Value {
    static WITHOUT_PASSWORD: LazyLock<Pair> = LazyLock::new(|| AUTHORITY.certificate("open-client", "octopus-client"));
    json!({
        "bootstrap.servers": mutual().bootstrap(), "security.protocol": "SSL", "ssl.ca.location": AUTHORITY.file(),
        "ssl.certificate.location": WITHOUT_PASSWORD.certificate, "ssl.key.location": WITHOUT_PASSWORD.key,
    })
}

pub fn with(mut kafka: Value, changes: Value) -> Value {
    merge(&mut kafka, changes);
    kafka
}

fn without(mut kafka: Value, names: &[&str]) -> Value {
    names.iter().for_each(|name| drop(kafka.as_object_mut().unwrap().remove(*name)));
    kafka
}

pub fn driver_of(kafka: &Value, log: &Log) -> Driver {
    let log = log.clone();
    octopus()
        .driver_builder(json!({"kafka": kafka}))
        .log(move |level, source, message| log.push(format!("{level:?} {source}: {message}")))
        .create()
        .unwrap()
}

/// Checks that each call reports an invalid setting within [`MAX_REPORT_TIME`], with these words
/// and without a secret.
pub fn check_reported(kafka: Value, words: &[&str]) {
    let log = Log::default();
    let driver = driver_of(&kafka, &log);
    let name = unique("unreachable");
    let calls: [(&str, &dyn Fn() -> octopus_loader::Result<()>); 4] = [
        ("topic_exists", &|| driver.topic_exists(&name).map(drop)),
        ("open_topic", &|| driver.open_topic(&name).map(drop)),
        ("create_topic", &|| driver.create_topic(&name, &one_replica())),
        ("list_topics", &|| driver.list_topics().map(drop)),
    ];
    for (what, call) in calls {
        let started = Instant::now();
        let error = call().unwrap_err();
        assert!(started.elapsed() < MAX_REPORT_TIME, "{what} took {:?}: {error}", started.elapsed());
        for word in words {
            assert!(error.message.contains(word), "{what}: {word:?} is not in: {error}");
        }
        assert!(!error.message.contains(PASSWORD) && !error.message.contains(KEY_PASSWORD), "a secret was shown");
    }
}

#[test]
fn job_runs_over_tls_with_client_certificates() {
    run_job(&json!({"kafka": tls(mutual())}), &[]);
}

#[test]
fn certificates_can_be_given_as_text_in_the_configuration() {
    let files = ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location"];
    let read = |file: &str| std::fs::read_to_string(file).unwrap();
    let texts = json!({
        "ssl.ca.pem": read(AUTHORITY.file()),
        "ssl.certificate.pem": read(&CLIENTS.certificate),
        "ssl.key.pem": read(&CLIENTS.key),
    });
    let driver = driver_of(&with(without(tls(mutual()), &files), texts), &Log::default());
    assert!(!driver.topic_exists("x").unwrap());
    let described = driver.describe().unwrap().to_string();
    assert!(!described.contains("PRIVATE KEY") && described.contains("********"), "{described}");
}

#[test]
fn broker_certificate_of_unknown_authority_names_the_setting() {
    let kafka = with(tls(mutual()), json!({"ssl.ca.location": UNTRUSTED_AUTHORITY.file()}));
    check_reported(kafka, &["certificate", "kafka.ssl.ca.location", mutual().bootstrap()]);
}

/// The certificate is for 127.0.0.1, not for `localhost`.
#[test]
fn broker_certificate_for_another_host_is_reported() {
    let localhost = mutual().bootstrap().replace("127.0.0.1", "localhost");
    check_reported(
        with(tls(mutual()), json!({"bootstrap.servers": localhost})),
        &["host name", "kafka.bootstrap.servers"],
    );
}

#[test]
fn expired_broker_certificate_is_reported() {
    check_reported(tls(expired()), &["certificate has expired", "clock"]);
}

#[test]
fn tls_client_at_a_plaintext_broker_names_the_setting() {
    let plain = with(tls(mutual()), json!({"bootstrap.servers": mutual().internal()}));
    check_reported(plain, &["doesn't speak TLS", "kafka.security.protocol"]);
}

#[test]
fn plaintext_client_at_a_tls_broker_names_the_setting() {
    check_reported(
        json!({"bootstrap.servers": mutual().bootstrap()}),
        &["wants TLS or SASL", "kafka.security.protocol"],
    );
    check_reported(json!({"bootstrap.servers": sasl().bootstrap()}), &["wants TLS or SASL", "kafka.security.protocol"]);
}

#[test]
fn tls_client_at_a_sasl_broker_names_the_setting() {
    let kafka = with(tls(mutual()), json!({"bootstrap.servers": sasl().bootstrap()}));
    check_reported(kafka, &["SASL", "security.protocol"]);
}

#[test]
fn missing_or_untrusted_client_certificate_is_reported() {
    let names = ["ssl.certificate.location", "ssl.key.location", "ssl.key.password"];
    check_reported(without(tls(mutual()), &names), &["certificate", "kafka.ssl.certificate.location"]);
    let untrusted = UNTRUSTED_AUTHORITY.certificate("untrusted", "octopus-client");
    let kafka = json!({"ssl.certificate.location": untrusted.certificate, "ssl.key.location": untrusted.key});
    check_reported(with(tls(mutual()), kafka), &["certificate", "kafka.ssl.certificate.location"]);
}

#[test]
fn replaced_client_certificate_is_used_without_a_new_driver() {
    let old = AUTHORITY.expired_certificate("renewed-client", "octopus-client");
    let new = AUTHORITY.certificate("renewing-client", "octopus-client");
    let files = json!({"ssl.certificate.location": old.certificate, "ssl.key.location": old.key});
    let kafka = with(without(tls(mutual()), &["ssl.key.password"]), files);
    let log = Log::default();
    let driver = driver_of(&kafka, &log);
    let error = driver.topic_exists("x").unwrap_err();
    assert!(error.message.contains("kafka.ssl.certificate.location"), "{error}");

    // The program that renews a certificate replaces its files one after the other.
    fs::rename(&new.certificate, &old.certificate).unwrap();
    eventually("a certificate without its key is reported", || {
        log.text().contains("SSL files were replaced, but cannot be used")
    });
    assert!(driver.topic_exists("x").is_err());
    fs::rename(&new.key, &old.key).unwrap();
    eventually("the new certificate is used", || driver.topic_exists("x").is_ok());
}

/// The files in which distributions keep the CA certificates that they trust.
const SYSTEM_AUTHORITIES: [(&str, &str); 4] = [
    ("Debian, Ubuntu, Arch", "/etc/ssl/certs/ca-certificates.crt"),
    ("Fedora, Red Hat, Amazon", "/etc/pki/tls/certs/ca-bundle.crt"),
    ("openSUSE", "/etc/ssl/ca-bundle.pem"),
    ("Alpine", "/etc/ssl/cert.pem"),
];

#[test]
fn system_authorities_are_found_on_each_distribution() {
    let config = json!({"kafka": without(tls(mutual()), &["ssl.ca.location"])});
    let (output, log) = run_look_command(&config, &[]);
    assert!(output.contains("kafka.ssl.ca.location"), "this system trusts the authority of the tests: {output}{log}");
    let (output, log) = run_look_command(&config, &[("SSL_CERT_FILE", AUTHORITY.file())]);
    assert_eq!(output, "LOOKED false\n", "with SSL_CERT_FILE: {log}");

    for (system, file) in SYSTEM_AUTHORITIES {
        let (output, log) = wait_for_output(job_on_a_system(AUTHORITY.file(), file, &config).spawn().unwrap());
        assert_eq!(output, "LOOKED false\n", "{system}: {log}");
    }
}

/// A job on a system that has `authorities` in `file` and trusts no others.
fn job_on_a_system(authorities: &str, file: &str, config: &Value) -> Command {
    let inner = job(config, &["look"], &[]);
    let script = format!(
        "mkdir -p /etc/ssl /etc/pki && mount -t tmpfs none /etc/ssl && mount -t tmpfs none /etc/pki && \
         mkdir -p \"$(dirname {file})\" && cp {authorities} {file} && exec \"$@\""
    );
    let mut command = Command::new("unshare");
    // The mounts are private; a user other than root can mount in a user namespace.
    command
        .args(["--mount", "--map-root-user", "sh", "-c", &script, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("OCTOPUS_LIBRARY", octopus().path());
    command.env("HOME", folder("empty-home")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
