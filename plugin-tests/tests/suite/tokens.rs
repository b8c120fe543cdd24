//! Tokens of the host, and tokens that librdkafka fetches by OIDC. The broker accepts any unsigned
//! token that has a subject and an expiry.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use octopus_loader::{Library, NewEvent, Token};
use serde_json::{Value, json};

use crate::kafka::{Kafka, unique};
use crate::mock_service::MockService;
use crate::support::{Log, TIMEOUT, eventually, octopus, read, round_trip, topic_of};

/// A broker that disconnects clients that do not reauthenticate within five seconds.
fn broker() -> &'static Kafka {
    static BROKER: LazyLock<Kafka> = LazyLock::new(|| {
        let listener = |name: &str, value: &str| format!("listener.name.client.oauthbearer.{name}={value}");
        let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
                      unsecuredLoginStringClaim_sub=\"broker\";";
        Kafka::start(&[
            "--protocol",
            "SASL_PLAINTEXT",
            "--set",
            "sasl.enabled.mechanisms=OAUTHBEARER",
            "--set",
            &listener("sasl.jaas.config", module),
            "--set",
            &listener("connections.max.reauth.ms", "5000"),
        ])
        .unwrap()
    });
    &BROKER
}

fn config(kafka: Value) -> Value {
    let mut config = json!({
        "bootstrap.servers": broker().bootstrap(), "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER",
    });
    config.as_object_mut().unwrap().extend(kafka.as_object().unwrap().clone());
    json!({"kafka": config, "timeout_ms": 30_000})
}

/// An unsigned JSON Web Token that expires in `seconds`, and its expiry in milliseconds.
fn jwt(seconds: u64) -> (String, i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let part = |json: Value| base64url(json.to_string().as_bytes());
    let claims = json!({"sub": "octopus-test-secret", "iat": now, "exp": now + seconds});
    (format!("{}.{}.", part(json!({"alg": "none"})), part(claims)), (now + seconds) as i64 * 1000)
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let padded = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let number = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        let digit = |index: usize| DIGITS[(number >> (18 - 6 * index)) as usize & 63] as char;
        text.extend((0..=chunk.len()).map(digit));
    }
    text
}

fn logged(octopus: &Library, config: Value, log: &Log) -> octopus_loader::DriverBuilder {
    let log = log.clone();
    octopus.driver_builder(config).log(move |level, source, message| log.push(format!("{level:?} {source}: {message}")))
}

/// The tokens are renewed while the host makes no call, and appear in no log.
#[test]
fn host_tokens_authenticate_all_clients_and_are_renewed() {
    let (calls, log, tokens) = (Arc::new(AtomicUsize::new(0)), Log::default(), Arc::new(Mutex::new(Vec::new())));
    let (counter, sink) = (calls.clone(), tokens.clone());
    let driver = logged(octopus(), config(json!({"sasl.oauthbearer.config": "for=tests"})), &log)
        .token(move |config| {
            assert_eq!(config, "for=tests");
            counter.fetch_add(1, Ordering::SeqCst);
            let (value, expires_ms) = jwt(5);
            sink.lock().unwrap().push(value.clone());
            Ok(Token { value, principal: "octopus".to_owned(), expires_ms })
        })
        .create()
        .unwrap();
    let topic = topic_of(&driver, "host-tokens", 2);
    let consumer = topic.consumer(&unique("idle")).make().unwrap();
    round_trip(&topic, 1_000);
    let before = calls.load(Ordering::SeqCst);
    // Four clients (admin, reader and writer of info topics, consumer) renew at least twice each.
    eventually("tokens are renewed", || calls.load(Ordering::SeqCst) >= before + 8);
    assert_eq!(read(&consumer, 1_000).len(), 1_000, "the idle consumer is no longer authenticated");
    assert!(!driver.describe().unwrap().to_string().contains("for=tests"), "sasl.oauthbearer.config may be a secret");
    for token in tokens.lock().unwrap().iter() {
        assert!(!log.text().contains(token), "a token was logged");
    }
}

/// Each call that needs a token reports the host's reason.
#[test]
fn host_without_a_token_fails_calls_until_it_has_one() {
    let (has_token, log) = (Arc::new(AtomicBool::new(false)), Log::default());
    let is_available = has_token.clone();
    let mut settings = config(json!({}));
    settings["timeout_ms"] = json!(3_000);
    let driver = logged(octopus(), settings, &log)
        .token(move |_| match is_available.load(Ordering::SeqCst) {
            false => Err("the vault is sealed".to_owned()),
            true => {
                let (value, expires_ms) = jwt(60);
                Ok(Token { value, principal: String::new(), expires_ms })
            }
        })
        .create()
        .unwrap();
    for _ in 0..2 {
        let error = driver.topic_exists("x").unwrap_err();
        assert!(error.message.contains("the vault is sealed") && error.message.contains("services.token"), "{error}");
    }
    assert!(log.count(|line| line.contains("the vault is sealed")) > 0, "{log:?}");
    has_token.store(true, Ordering::SeqCst);
    // librdkafka retries 10 s after a failure.
    eventually("the host has a token", || driver.topic_exists("x").is_ok());
}

#[test]
fn unusable_tokens_are_rejected_with_the_reason() {
    let expired = |seconds_ago: i64| {
        let (value, expires_ms) = jwt(0);
        Token { value, principal: String::new(), expires_ms: expires_ms - 1000 * seconds_ago }
    };
    let empty = Token { value: String::new(), principal: String::new(), expires_ms: i64::MAX };
    let before_1970 = Token { expires_ms: -1, ..expired(0) };
    let cases = [(expired(100), "clock is wrong"), (empty, "the token is empty"), (before_1970, "1970")];
    for (token, reason) in cases {
        let log = Log::default();
        let driver = logged(octopus(), config(json!({})), &log).token(move |_| Ok(token.clone())).create().unwrap();
        eventually(reason, || log.count(|line| line.contains(reason)) > 0);
        drop(driver);
    }
}

/// The driver is released while the callback of the host does not return.
#[test]
fn hanging_token_provider_does_not_block_release() {
    let (release, is_called) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (is_released, call_flag) = (release.clone(), is_called.clone());
    let mut settings = config(json!({}));
    settings["timeout_ms"] = json!(1_000);
    let driver = octopus()
        .driver_builder(settings)
        .token(move |_| {
            call_flag.store(true, Ordering::SeqCst);
            while !is_released.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err("too late".to_owned())
        })
        .create()
        .unwrap();
    eventually("the provider is called", || is_called.load(Ordering::SeqCst));
    driver.topic_exists("x").unwrap_err();
    drop(driver);
    release.store(true, Ordering::SeqCst);
}

#[test]
fn oidc_tokens_are_fetched_and_renewed_by_librdkafka() {
    let service = MockService::start(|request| match request.line.as_str() {
        "POST /token" => (200, json!({"access_token": jwt(5).0, "token_type": "bearer", "expires_in": 5}).to_string()),
        _ => (404, String::new()),
    });
    let kafka = json!({
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "octopus",
        "sasl.oauthbearer.client.secret": "octopus-test-secret-of-the-client",
        "sasl.oauthbearer.token.endpoint.url": service.url("/token"),
    });
    let log = Log::default();
    let driver = logged(octopus(), config(kafka), &log).create().unwrap();
    let topic = topic_of(&driver, "oidc", 1);
    let producer = topic.producer("writer").make().unwrap();
    producer.push(&NewEvent::json(&0)).unwrap().wait(TIMEOUT).unwrap();
    let before = service.requests().len();
    eventually("tokens are renewed", || service.requests().len() >= before + 4);
    producer.push(&NewEvent::json(&1)).unwrap().wait(TIMEOUT).unwrap();
    // Renewed after 4 of 5 seconds.
    let age = driver.stats().unwrap().token_age.expect("there is a token");
    assert!(age < Duration::from_secs(6), "{age:?}");
    eventually("the token is a second old", || {
        driver.stats().unwrap().token_age.is_some_and(|age| age > Duration::from_secs(1))
    });
    assert!(!log.text().contains("octopus-test-secret-of-the-client"));
    assert!(!driver.describe().unwrap().to_string().contains("octopus-test-secret-of-the-client"));
}
