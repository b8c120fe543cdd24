//! Identity at the topic service: its options, authorizations that expire and are renewed, requests
//! that the service forbids, and the verification of its certificate.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use octopus_loader::Status;
use octopus_testkit::certificates::Authority;
use serde_json::json;

use crate::job::run_look_command;
use crate::kafka::unique;
use crate::support::{Log, driver_with, octopus, one_replica, save_output};
use crate::topic_service::{AUTHORIZATION, SUBJECT, Service, check_no_secret};

/// The authorization that replaces the expired one.
const RENEWED: &str = "Bearer octopus-test-secret-renewed";

/// The service repeats the secrets in its response; the error of Octopus omits them.
#[test]
fn forbidden_request_names_settings_and_hides_secrets() {
    let service = Service::start();
    for (invalid, status) in [
        (json!({"octopus": {"authorization": "Bearer octopus-test-secret-but-wrong"}}), "403"),
        (json!({"octopus": {"subject": "octopus-test-secret-somebody-else"}}), "403"),
    ] {
        let driver = service.driver_with(invalid, &Log::default());
        for _ in 0..2 {
            let error = driver.topic_exists("x").unwrap_err();
            for word in [status, "octopus.authorization", "octopus.subject", "may not"] {
                assert!(error.message.contains(word), "{word}: {error}");
            }
            assert!(!error.retriable);
            check_no_secret(&error);
        }
    }
    let elsewhere = service.driver_with(json!({"namespace": "somebody-elses"}), &Log::default());
    let error = elsewhere.create_topic("x", &one_replica()).unwrap_err();
    assert!(error.message.contains("somebody-elses") && error.message.contains("403"), "{error}");
    let described = service.driver().describe().unwrap();
    assert_eq!(described["octopus"]["authorization"], "********");
    assert_eq!(described["octopus"]["url"], json!(service.url));
}

#[test]
fn expired_authorization_is_reread_from_its_file() {
    let service = Service::start();
    let file = std::env::temp_dir().join(unique("authorization"));
    fs::write(&file, format!("{AUTHORIZATION}\n")).unwrap();
    let mut config = service.config();
    config["octopus"] = json!({"url": service.url, "subject": SUBJECT, "authorization_file": file});
    let log = Log::default();
    let driver = driver_with(config, &log);
    assert!(!driver.topic_exists("x").unwrap());

    service.rotate(RENEWED);
    let error = driver.topic_exists("x").unwrap_err();
    for word in ["401", "octopus.authorization", file.to_str().unwrap(), "no other"] {
        assert!(error.message.contains(word), "{word}: {error}");
    }
    check_no_secret(&error);
    fs::write(&file, RENEWED).unwrap();
    assert!(!driver.topic_exists("x").unwrap());
    assert_eq!(log.count(|line| line.contains("has another one")), 1, "{log:?}");
    fs::remove_file(&file).unwrap();
    service.rotate(AUTHORIZATION);
    let error = driver.topic_exists("x").unwrap_err();
    assert!(error.message.contains("401") && error.message.contains("No such file"), "{error}");
    check_no_secret(&error);
    assert!(!log.text().contains("octopus-test-secret"), "a secret was logged");
}

#[test]
fn expired_authorization_is_reread_from_the_environment() {
    let service = Service::start();
    let mut config = service.config();
    config["octopus"] = json!({"url": service.url, "subject": SUBJECT, "authorization_env": "THE_AUTHORIZATION"});
    let mut host = Command::new(env!("CARGO_BIN_EXE_renewing"))
        .args([&config.to_string(), "THE_AUTHORIZATION"])
        .env(plugin_tests::LIBRARY_VARIABLE, octopus().path())
        .env("THE_AUTHORIZATION", AUTHORIZATION)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "false");
    service.rotate(RENEWED);
    writeln!(host.stdin.take().unwrap(), "{RENEWED}").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "false");
    assert!(host.wait().unwrap().success());
}

/// Octopus calls the host for the first authorization and after each rejection.
#[test]
fn expired_authorization_is_requested_from_the_host() {
    let service = Service::start();
    let state = Arc::new(Mutex::new((0, Ok(AUTHORIZATION.to_owned()))));
    let host_state = state.clone();
    let mut config = service.config();
    config["octopus"] = json!({"url": service.url, "subject": SUBJECT});
    let error = octopus().driver(config.clone()).unwrap_err();
    assert!(error.message.contains("octopus.authorization") && error.message.contains("services"), "{error}");
    let driver = octopus().driver_builder(config).authorization(move || {
        let mut state = host_state.lock().unwrap();
        state.0 += 1;
        state.1.clone()
    });
    let driver = driver.create().unwrap();
    for _ in 0..3 {
        assert!(!driver.topic_exists("x").unwrap());
    }
    assert_eq!(state.lock().unwrap().0, 1);
    service.rotate(RENEWED);
    state.lock().unwrap().1 = Err("the vault is sealed".to_owned());
    let error = driver.topic_exists("x").unwrap_err();
    for word in ["401", "services.authorization", "the vault is sealed"] {
        assert!(error.message.contains(word), "{word}: {error}");
    }
    check_no_secret(&error);
    state.lock().unwrap().1 = Ok(RENEWED.to_owned());
    assert!(!driver.topic_exists("x").unwrap());
    assert!(!driver.topic_exists("x").unwrap());
    assert_eq!(state.lock().unwrap().0, 3);
}

#[test]
fn invalid_service_option_is_rejected_without_secrets() {
    let complete = json!({"url": "https://topics.example", "subject": SUBJECT, "authorization": AUTHORIZATION});
    for (change, named) in [
        (json!({"octopus": 7}), "octopus: expected an object"),
        (json!({"octopus": {}}), "octopus.subject: missing"),
        (json!({"octopus": {"subject": SUBJECT}}), "octopus.authorization: missing"),
        (json!({"octopus": {"subject": SUBJECT, "authorization": ""}}), "octopus.authorization: is empty"),
        (json!({"octopus": {"subject": "octopus-test-secret\nx: y", "authorization": "x"}}), "octopus.subject: has"),
        (
            json!({"octopus": {"subject_env": "OCTOPUS_NO_SUCH", "subject": "x", "authorization": "x"}}),
            "\"OCTOPUS_NO_SUCH\" is not set",
        ),
        (json!({"octopus": {"token": "x"}}), "octopus.token: no such option"),
        (json!({"octopus": {"url": "topics.example", "subject": "x", "authorization": "x"}}), "octopus.url: expected"),
        (
            json!({"octopus": {"url": "ftp://topics.example", "subject": "x", "authorization": "x"}}),
            "octopus.url: expected",
        ),
        (
            json!({"octopus": {"url": "https://me:octopus-test-secret@topics.example", "subject": "x", "authorization": "x"}}),
            "octopus.url: names a user",
        ),
        (json!({"octopus": complete, "namespace": ""}), "namespace: missing"),
    ] {
        let mut config = json!({"kafka": {"bootstrap.servers": "x:1"}, "namespace": "ns"});
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = octopus().driver(&config).map(drop).unwrap_err();
        assert_eq!(error.status, Status::InvalidConfiguration, "{error}");
        assert!(error.message.contains(named), "{named}: {error}");
        check_no_secret(&error);
    }
    let both = octopus().driver(json!({"embedded": {}, "namespace": "ns", "octopus": complete}));
    assert!(both.map(drop).unwrap_err().message.contains("embedded"));
    let driver =
        octopus().driver(json!({"kafka": {"bootstrap.servers": "x:1"}, "namespace": "ns", "octopus": complete}));
    assert_eq!(driver.unwrap().describe().unwrap()["info_topic_prefix"], "info_");
}

/// The connection fails before the credentials are sent.
#[test]
fn service_with_untrusted_certificate_receives_nothing() {
    let authority = Authority::new("topic service");
    let pair = authority.certificate("service", "127.0.0.1");
    let service = Service::start_with(&["--certificate", &pair.certificate, "--key", &pair.key]);
    let (output, log) = run_look_command(&service.config(), &[]);
    for word in ["FAILED", "certificate", &service.url] {
        assert!(output.contains(word), "{word}: {output}{log}");
    }
    let (output, log) = run_look_command(&service.config(), &[("SSL_CERT_FILE", authority.file())]);
    assert_eq!(output, "LOOKED false\n", "{log}");
    save_output(&log);
}
