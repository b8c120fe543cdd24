//! SASL and access control on a real broker: valid users, and for each wrong setting, removed user
//! or missing permission the error that a user reads.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use octopus_loader::{NewEvent, Persisted};
use serde_json::{Value, json};

use crate::job::run_job;
use crate::kafka::{Kafka, acls, remove_user, set_user, unique};
use crate::secured::{AUTHORITY, BROKERS, MAX_REPORT_TIME, check_reported, driver_of, keystore, listener, start, with};
use crate::support::{Log, SHORT_WAIT, TIMEOUT, eventually, one_replica, read, topic_of};

pub const PASSWORD: &str = "octopus-test-secret-password";
const WRONG_PASSWORD: &str = "octopus-test-secret-but-wrong";

/// A broker with SASL over TLS. Operations without an ACL are allowed; clients must reauthenticate
/// every five seconds.
pub fn sasl() -> &'static Kafka {
    static BROKER: LazyLock<Kafka> = LazyLock::new(|| {
        let plain =
            format!("org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"{PASSWORD}\";");
        let settings = [
            keystore(&BROKERS),
            listener(&[
                ("plain.sasl.jaas.config", &plain),
                ("scram-sha-512.sasl.jaas.config", "org.apache.kafka.common.security.scram.ScramLoginModule required;"),
                ("plain.connections.max.reauth.ms", "5000"),
                ("scram-sha-512.connections.max.reauth.ms", "5000"),
            ]),
        ];
        let authorizer = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer";
        let other_args = [
            "--set",
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
            "--set",
            authorizer,
            "--set",
            "allow.everyone.if.no.acl.found=true",
            "--set",
            "super.users=User:ANONYMOUS",
        ];
        let kafka = start("SASL_SSL", settings.concat(), &other_args);
        set_user(kafka.internal(), "alice", PASSWORD);
        kafka
    });
    &BROKER
}

fn scram(user: &str, password: &str) -> Value {
    json!({
        "bootstrap.servers": sasl().bootstrap(), "security.protocol": "SASL_SSL", "ssl.ca.location": AUTHORITY.file(),
        "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": user, "sasl.password": password,
    })
}

#[test]
fn job_runs_with_scram() {
    run_job(&json!({"kafka": scram("alice", PASSWORD)}), &[]);
}

#[test]
fn job_runs_with_plain_over_tls() {
    run_job(&json!({"kafka": with(scram("alice", PASSWORD), json!({"sasl.mechanism": "PLAIN"}))}), &[]);
}

#[test]
fn wrong_password_is_reported_with_each_mechanism() {
    check_reported(scram("alice", WRONG_PASSWORD), &["uthentication failed", "kafka.sasl.password"]);
    check_reported(scram("nobody", PASSWORD), &["uthentication failed", "kafka.sasl.username"]);
    let plain = with(scram("alice", WRONG_PASSWORD), json!({"sasl.mechanism": "PLAIN"}));
    check_reported(plain, &["uthentication failed", "kafka.sasl.password"]);
}

#[test]
fn unsupported_mechanism_is_reported_with_the_supported_ones() {
    let kafka = with(scram("alice", PASSWORD), json!({"sasl.mechanism": "SCRAM-SHA-256"}));
    check_reported(kafka, &["kafka.sasl.mechanism", "SCRAM-SHA-512"]);
}

/// The driver has the right password; the producer and the consumer override it with a wrong one.
#[test]
fn wrong_password_of_a_client_fails_each_push_and_pull() {
    let driver = driver_of(&scram("alice", PASSWORD), &Log::default());
    let name = unique("own-password");
    driver.create_topic(&name, &one_replica()).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let producer = topic.producer("p").kafka("sasl.password", WRONG_PASSWORD).make().unwrap();
    let consumer = topic.consumer(&unique("group")).kafka("sasl.password", WRONG_PASSWORD).make().unwrap();

    let started = Instant::now();
    let check = |error: octopus_loader::Error| {
        assert!(error.message.contains("uthentication failed") && error.message.contains(&name), "{error}");
        assert!(!error.message.contains(WRONG_PASSWORD), "a secret was shown");
        error
    };
    // The event was queued before the authentication failed. The client never authenticated, so
    // that the event cannot be persisted.
    let pushed = producer.push(&NewEvent::json(&0)).unwrap();
    assert_eq!(check(pushed.wait(MAX_REPORT_TIME).unwrap_err()).persisted, Persisted::No);
    assert!(started.elapsed() < MAX_REPORT_TIME, "{:?}", started.elapsed());
    for _ in 0..2 {
        check(producer.push(&NewEvent::json(&1)).map(drop).unwrap_err());
    }
    let first = std::iter::repeat_with(|| consumer.next(SHORT_WAIT)).find_map(|pulled| pulled.map(drop).err());
    check(first.unwrap());
    assert!(started.elapsed() < 2 * MAX_REPORT_TIME, "{:?}", started.elapsed());
    for _ in 0..2 {
        check(consumer.next(SHORT_WAIT).map(drop).unwrap_err());
        check(consumer.pull_many(10, SHORT_WAIT).map(drop).unwrap_err());
    }
    // A client that cannot authenticate does not delay its release.
    let started = Instant::now();
    let _ = consumer.close(Duration::from_secs(5));
    drop((producer, consumer));
    assert!(started.elapsed() < MAX_REPORT_TIME);
}

/// The user is removed while a producer and consumers are open.
#[test]
fn removed_user_fails_pushes_and_pulls_until_restored() {
    let user = unique("guest");
    set_user(sasl().internal(), &user, PASSWORD);
    let driver = driver_of(&scram(&user, PASSWORD), &Log::default());
    eventually("the user is known", || driver.topic_exists("x").is_ok());
    let name = unique("removed-user");
    driver.create_topic(&name, &one_replica()).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let (producer, consumer) = (topic.producer("p").make().unwrap(), topic.consumer(&unique("group")).make().unwrap());
    producer.push(&NewEvent::json(&0)).unwrap().wait(TIMEOUT).unwrap();
    read(&consumer, 1)[0].acknowledge().unwrap();
    // A consumer without events: none of its own requests shows that it can authenticate again.
    let quiet = topic_of(&driver, "quiet", 1).consumer(&unique("group")).make().unwrap();
    assert!(quiet.next(SHORT_WAIT).unwrap().is_none());

    // The removal takes effect at the next reauthentication, within five seconds.
    remove_user(sasl().internal(), &user);
    let is_auth_error = |error: &octopus_loader::Error| error.message.contains("uthentication failed");
    let push_error = || producer.push(&NewEvent::json(&1)).and_then(|push| push.wait(SHORT_WAIT)).err();
    eventually("a push fails", || push_error().is_some_and(|error| is_auth_error(&error)));
    eventually("a pull fails", || consumer.next(SHORT_WAIT).err().is_some_and(|error| is_auth_error(&error)));
    eventually("a pull without events fails", || quiet.next(SHORT_WAIT).is_err_and(|error| is_auth_error(&error)));
    for _ in 0..2 {
        assert!(is_auth_error(&producer.push(&NewEvent::json(&1)).map(drop).unwrap_err()));
        assert!(is_auth_error(&consumer.next(SHORT_WAIT).map(drop).unwrap_err()));
        assert!(is_auth_error(&driver.topic_exists(&name).map(drop).unwrap_err()));
    }

    set_user(sasl().internal(), &user, PASSWORD);
    eventually("a push succeeds again", || {
        producer.push(&NewEvent::json(&2)).and_then(|push| push.wait(TIMEOUT)).is_ok()
    });
    eventually("a pull without events succeeds again", || quiet.next(SHORT_WAIT).is_ok_and(|event| event.is_none()));
    let next = || consumer.next(SHORT_WAIT).ok().flatten();
    // Events that were pushed and not rejected meanwhile are delivered too.
    eventually("a pull succeeds again", || next().is_some_and(|event| event.json().unwrap() == json!(2)));
}

/// The user may create the info topic but not the topic.
#[test]
fn unauthorized_topic_creation_names_it_and_leaves_nothing() {
    let user = unique("visitor");
    set_user(sasl().internal(), &user, PASSWORD);
    let driver = driver_of(&scram(&user, PASSWORD), &Log::default());
    eventually("the user is known", || driver.topic_exists("x").is_ok());
    let (name, principal) = (unique("not-allowed"), format!("User:{user}"));
    // With an ACL that denies, everything else must be allowed explicitly.
    for resource in [&["--cluster"][..], &["--topic", &name]] {
        acls(sasl().internal(), &[&["--add", "--allow-principal", "User:*", "--operation", "All"], resource].concat());
    }
    let change_denial = |action, resource: &[&str]| {
        let denial = [action, "--deny-principal", &principal, "--operation", "Create"];
        acls(sasl().internal(), &[&denial, resource].concat());
    };
    change_denial("--add", &["--cluster"]);
    change_denial("--add", &["--topic", &name]);
    for _ in 0..2 {
        let started = Instant::now();
        let error = driver.create_topic(&name, &one_replica()).unwrap_err();
        assert!(error.message.contains(&name) && error.message.contains("uthorization failed"), "{error}");
        assert!(!error.retriable && started.elapsed() < MAX_REPORT_TIME, "{error}");
    }
    assert!(!driver.topic_exists(&name).unwrap());
    // The info topic was created and is deleted again, which a broker may learn a little later.
    eventually("the info topic is deleted", || !driver.topic_exists(&format!("__info_{name}")).unwrap());
    change_denial("--remove", &["--cluster"]);
    change_denial("--remove", &["--topic", &name]);
    eventually("the creation is allowed", || driver.create_topic(&name, &one_replica()).is_ok());
}

/// The permissions to write, to read and to join a group are revoked while clients are open.
#[test]
fn revoked_permission_fails_each_call_naming_topic_or_group() {
    let user = unique("reader");
    set_user(sasl().internal(), &user, PASSWORD);
    let driver = driver_of(&scram(&user, PASSWORD), &Log::default());
    eventually("the user is known", || driver.topic_exists("x").is_ok());
    let (name, group) = (unique("forbidden"), unique("group"));
    driver.create_topic(&name, &one_replica()).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let (producer, consumer) = (topic.producer("p").make().unwrap(), topic.consumer(&group).make().unwrap());
    producer.push(&NewEvent::json(&0)).unwrap().wait(TIMEOUT).unwrap();
    read(&consumer, 1);

    let principal = format!("User:{user}");
    let deny = |operation, resource, name| {
        acls(sasl().internal(), &["--add", "--deny-principal", &principal, "--operation", operation, resource, name]);
    };
    deny("Write", "--topic", &name);
    let push = || producer.push(&NewEvent::json(&1)).and_then(|push| push.wait(TIMEOUT));
    let check = |error: octopus_loader::Error, name: &str| {
        assert!(error.message.contains("uthorization failed") && error.message.contains(name), "{error}");
    };
    eventually("writing is forbidden", || push().is_err());
    (0..2).for_each(|_| check(push().unwrap_err(), &name));
    deny("Read", "--topic", &name);
    eventually("reading is forbidden", || consumer.next(SHORT_WAIT).is_err());
    (0..2).for_each(|_| check(consumer.next(SHORT_WAIT).map(drop).unwrap_err(), &name));
    deny("Read", "--group", &group);
    let member = topic.consumer(&group).make().unwrap();
    eventually("joining is forbidden", || member.next(SHORT_WAIT).is_err());
    (0..2).for_each(|_| check(member.next(SHORT_WAIT).map(drop).unwrap_err(), &group));
}

#[test]
fn debug_messages_of_librdkafka_show_no_secret() {
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let log = Log::default();
        let kafka = with(scram("alice", PASSWORD), json!({"sasl.mechanism": mechanism, "debug": "all"}));
        let driver = driver_of(&kafka, &log);
        assert!(!driver.topic_exists("x").unwrap());
        eventually("messages of the authentication", || log.count(|line| line.contains("SASL")) > 3);
        drop(driver);
        assert!(!log.text().contains(PASSWORD), "a secret was logged");
    }
}
