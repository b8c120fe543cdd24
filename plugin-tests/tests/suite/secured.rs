//! TLS, SASL and access control at real brokers, with certificates that the test makes: right settings, and each wrong one,
//! whose error is read as a user would read it.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use octopus_loader::{Driver, NewEvent, Persisted};
use serde_json::{Value, json};

use crate::certificates::{Authority, KEY_PASSWORD, Pair};
use crate::job::{ended, folder, job, look, run_job};
use crate::kafka::{Kafka, acls, remove_user, set_user, unique};
use crate::support::{A_MOMENT, Log, PATIENCE, eventually, merge, octopus, one_replica, read, topic_of};

const PASSWORD: &str = "octopus-test-secret-password";
const WRONG: &str = "octopus-test-secret-but-wrong";

/// What a wrong setting may take to be told.
const SOON: Duration = Duration::from_secs(10);

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("octopus tests"));
static STRANGERS: LazyLock<Authority> = LazyLock::new(|| Authority::new("somebody else"));
static BROKERS: LazyLock<Pair> = LazyLock::new(|| AUTHORITY.certificate("broker", "127.0.0.1"));
static CLIENTS: LazyLock<Pair> = LazyLock::new(|| AUTHORITY.certificate("client", "octopus-client").with_guarded_key());

/// What is set of the clients' listener.
fn listener(settings: &[(&str, &str)]) -> Vec<String> {
    settings
        .iter()
        .flat_map(|(name, value)| ["--set".to_owned(), format!("listener.name.client.{name}={value}")])
        .collect()
}

fn start(protocol: &str, listeners: Vec<String>, further: &[&str]) -> Kafka {
    let mut args = vec!["--protocol", protocol];
    args.extend(listeners.iter().map(String::as_str));
    args.extend(further);
    Kafka::start(&args)
}

fn keystore(pair: &Pair) -> Vec<String> {
    listener(&[
        ("ssl.keystore.type", "PEM"),
        ("ssl.keystore.location", &pair.both()),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", AUTHORITY.file()),
    ])
}

/// TLS, and clients have to show a certificate.
pub fn mutual() -> &'static Kafka {
    static BROKER: LazyLock<Kafka> = LazyLock::new(|| {
        let settings = [keystore(&BROKERS), listener(&[("ssl.client.auth", "required")])].concat();
        start("SSL", settings, &[])
    });
    &BROKER
}

/// TLS with a certificate that has expired.
fn expired() -> &'static Kafka {
    static BROKER: LazyLock<Kafka> =
        LazyLock::new(|| start("SSL", keystore(&AUTHORITY.expired_certificate("expired", "127.0.0.1")), &[]));
    &BROKER
}

/// SASL over TLS. Everybody may do what nobody has said anything about; connections have to show again who they are
/// every five seconds.
fn sasl() -> &'static Kafka {
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
        let further = [
            "--set",
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
            "--set",
            authorizer,
            "--set",
            "allow.everyone.if.no.acl.found=true",
            "--set",
            "super.users=User:ANONYMOUS",
        ];
        let kafka = start("SASL_SSL", settings.concat(), &further);
        set_user(kafka.internal(), "alice", PASSWORD);
        kafka
    });
    &BROKER
}

fn tls(broker: &Kafka) -> Value {
    json!({
        "bootstrap.servers": broker.bootstrap(), "security.protocol": "SSL", "ssl.ca.location": AUTHORITY.file(),
        "ssl.certificate.location": CLIENTS.certificate, "ssl.key.location": CLIENTS.key,
        "ssl.key.password": KEY_PASSWORD,
    })
}

/// As [`tls`] at a broker that wants to see a certificate, with no secret in it: for programs whose arguments are shown.
pub fn mutual_tls() -> Value {
    static OPEN: LazyLock<Pair> = LazyLock::new(|| AUTHORITY.certificate("open-client", "octopus-client"));
    json!({
        "bootstrap.servers": mutual().bootstrap(), "security.protocol": "SSL", "ssl.ca.location": AUTHORITY.file(),
        "ssl.certificate.location": OPEN.certificate, "ssl.key.location": OPEN.key,
    })
}

fn scram(user: &str, password: &str) -> Value {
    json!({
        "bootstrap.servers": sasl().bootstrap(), "security.protocol": "SASL_SSL", "ssl.ca.location": AUTHORITY.file(),
        "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": user, "sasl.password": password,
    })
}

fn with(mut kafka: Value, changes: Value) -> Value {
    merge(&mut kafka, changes);
    kafka
}

fn without(mut kafka: Value, names: &[&str]) -> Value {
    names.iter().for_each(|name| drop(kafka.as_object_mut().unwrap().remove(*name)));
    kafka
}

fn driver_of(kafka: &Value, log: &Log) -> Driver {
    let log = log.clone();
    octopus()
        .driver_builder(json!({"kafka": kafka}))
        .log(move |level, source, message| log.push(format!("{level:?} {source}: {message}")))
        .create()
        .unwrap()
}

/// A wrong setting is told by each call, within ten seconds, in words that a user can act on; no secret is shown.
fn is_told(kafka: Value, words: &[&str]) {
    let log = Log::default();
    let driver = driver_of(&kafka, &log);
    let name = unique("told");
    let calls: [(&str, &dyn Fn() -> octopus_loader::Result<()>); 4] = [
        ("looking", &|| driver.topic_exists(&name).map(drop)),
        ("opening", &|| driver.open_topic(&name).map(drop)),
        ("making", &|| driver.create_topic(&name, &one_replica())),
        ("listing", &|| driver.list_topics().map(drop)),
    ];
    for (what, call) in calls {
        let began = Instant::now();
        let error = call().unwrap_err();
        assert!(began.elapsed() < SOON, "{what} took {:?}: {error}", began.elapsed());
        for word in words {
            assert!(error.message.contains(word), "{what}: {word:?} is not in: {error}");
        }
        assert!(!error.message.contains(PASSWORD) && !error.message.contains(KEY_PASSWORD), "a secret was shown");
    }
}

#[test]
fn the_main_job_runs_over_tls_with_client_certificates() {
    run_job(&json!({"kafka": tls(mutual())}), &[]);
}

#[test]
fn the_main_job_runs_with_scram() {
    run_job(&json!({"kafka": scram("alice", PASSWORD)}), &[]);
}

#[test]
fn the_main_job_runs_with_plain_passwords_over_tls() {
    run_job(&json!({"kafka": with(scram("alice", PASSWORD), json!({"sasl.mechanism": "PLAIN"}))}), &[]);
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
fn a_certificate_of_another_authority_is_told_with_the_setting_to_look_at() {
    let kafka = with(tls(mutual()), json!({"ssl.ca.location": STRANGERS.file()}));
    is_told(kafka, &["certificate", "kafka.ssl.ca.location", mutual().bootstrap()]);
}

#[test]
fn a_certificate_for_another_host_is_told_as_such() {
    // The certificate is for 127.0.0.1.
    let localhost = mutual().bootstrap().replace("127.0.0.1", "localhost");
    is_told(with(tls(mutual()), json!({"bootstrap.servers": localhost})), &["host name", "kafka.bootstrap.servers"]);
}

#[test]
fn a_certificate_that_has_expired_is_told_as_such() {
    is_told(tls(expired()), &["certificate has expired", "clock"]);
}

#[test]
fn a_broker_that_speaks_no_tls_is_told_to_who_speaks_it() {
    let plain = with(tls(mutual()), json!({"bootstrap.servers": mutual().internal()}));
    is_told(plain, &["doesn't speak TLS", "kafka.security.protocol"]);
}

#[test]
fn a_broker_that_wants_tls_is_told_to_who_does_not_speak_it() {
    is_told(json!({"bootstrap.servers": mutual().bootstrap()}), &["wants TLS or SASL", "kafka.security.protocol"]);
    is_told(json!({"bootstrap.servers": sasl().bootstrap()}), &["wants TLS or SASL", "kafka.security.protocol"]);
}

#[test]
fn a_broker_that_wants_sasl_is_told_to_who_speaks_only_tls() {
    let kafka = with(tls(mutual()), json!({"bootstrap.servers": sasl().bootstrap()}));
    is_told(kafka, &["SASL", "security.protocol"]);
}

#[test]
fn a_client_certificate_that_is_missing_or_another_authoritys_is_told_as_such() {
    let names = ["ssl.certificate.location", "ssl.key.location", "ssl.key.password"];
    is_told(without(tls(mutual()), &names), &["certificate", "kafka.ssl.certificate.location"]);
    let stranger = STRANGERS.certificate("stranger", "octopus-client");
    let kafka = json!({"ssl.certificate.location": stranger.certificate, "ssl.key.location": stranger.key});
    is_told(with(tls(mutual()), kafka), &["certificate", "kafka.ssl.certificate.location"]);
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

    // Whoever renews certificates replaces one file after the other.
    fs::rename(&new.certificate, &old.certificate).unwrap();
    eventually("a certificate without its key is told", || {
        log.text().contains("SSL files were replaced, but cannot be used")
    });
    assert!(driver.topic_exists("x").is_err());
    fs::rename(&new.key, &old.key).unwrap();
    eventually("the new certificate is used", || driver.topic_exists("x").is_ok());
}

#[test]
fn wrong_passwords_are_told_as_such_whatever_the_mechanism() {
    is_told(scram("alice", WRONG), &["uthentication failed", "kafka.sasl.password"]);
    is_told(scram("nobody", PASSWORD), &["uthentication failed", "kafka.sasl.username"]);
    let plain = with(scram("alice", WRONG), json!({"sasl.mechanism": "PLAIN"}));
    is_told(plain, &["uthentication failed", "kafka.sasl.password"]);
}

#[test]
fn a_mechanism_that_the_broker_does_not_offer_is_told_with_those_that_it_does() {
    let kafka = with(scram("alice", PASSWORD), json!({"sasl.mechanism": "SCRAM-SHA-256"}));
    is_told(kafka, &["kafka.sasl.mechanism", "SCRAM-SHA-512"]);
}

#[test]
fn a_producers_and_a_consumers_own_wrong_password_are_told_by_each_push_and_each_pull() {
    let driver = driver_of(&scram("alice", PASSWORD), &Log::default());
    let name = unique("own-password");
    driver.create_topic(&name, &one_replica()).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let producer = topic.producer("p").kafka("sasl.password", WRONG).make().unwrap();
    let consumer = topic.consumer(&unique("group")).kafka("sasl.password", WRONG).make().unwrap();

    let began = Instant::now();
    let told = |error: octopus_loader::Error| {
        assert!(error.message.contains("uthentication failed") && error.message.contains(&name), "{error}");
        assert!(!error.message.contains(WRONG), "a secret was shown");
        error
    };
    // It was queued before anybody knew; the client was never let in, so it is not there and never will be.
    let pushed = producer.push(&NewEvent::json(&0)).unwrap();
    assert_eq!(told(pushed.wait(SOON).unwrap_err()).persisted, Persisted::No);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    for _ in 0..2 {
        told(producer.push(&NewEvent::json(&1)).map(drop).unwrap_err());
    }
    let first = std::iter::repeat_with(|| consumer.next(A_MOMENT)).find_map(|pulled| pulled.map(drop).err());
    told(first.unwrap());
    assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
    for _ in 0..2 {
        told(consumer.next(A_MOMENT).map(drop).unwrap_err());
        told(consumer.pull_many(10, A_MOMENT).map(drop).unwrap_err());
    }
    // Released with its broker out of reach, it must not keep anybody.
    let began = Instant::now();
    let _ = consumer.close(Duration::from_secs(5));
    drop((producer, consumer));
    assert!(began.elapsed() < SOON);
}

#[test]
fn a_user_who_is_taken_away_while_running_is_told_by_push_and_pull_and_goes_on_when_given_back() {
    let user = unique("guest");
    set_user(sasl().internal(), &user, PASSWORD);
    let driver = driver_of(&scram(&user, PASSWORD), &Log::default());
    eventually("the user is known", || driver.topic_exists("x").is_ok());
    let name = unique("taken-away");
    driver.create_topic(&name, &one_replica()).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let (producer, consumer) = (topic.producer("p").make().unwrap(), topic.consumer(&unique("group")).make().unwrap());
    producer.push(&NewEvent::json(&0)).unwrap().wait(PATIENCE).unwrap();
    read(&consumer, 1)[0].acknowledge().unwrap();
    // One that nothing comes to: nothing it does by itself shows that brokers let it in again.
    let quiet = topic_of(&driver, "quiet", 1).consumer(&unique("group")).make().unwrap();
    assert!(quiet.next(A_MOMENT).unwrap().is_none());

    // Connections have to show their password again within five seconds; then the clock runs.
    remove_user(sasl().internal(), &user);
    let is_told = |error: &octopus_loader::Error| error.message.contains("uthentication failed");
    let refused = || producer.push(&NewEvent::json(&1)).and_then(|push| push.wait(A_MOMENT)).err();
    eventually("a push says it", || refused().is_some_and(|error| is_told(&error)));
    eventually("a pull says it", || consumer.next(A_MOMENT).err().is_some_and(|error| is_told(&error)));
    eventually("a pull from nothing says it", || quiet.next(A_MOMENT).is_err_and(|error| is_told(&error)));
    for _ in 0..2 {
        assert!(is_told(&producer.push(&NewEvent::json(&1)).map(drop).unwrap_err()));
        assert!(is_told(&consumer.next(A_MOMENT).map(drop).unwrap_err()));
        assert!(is_told(&driver.topic_exists(&name).map(drop).unwrap_err()));
    }

    set_user(sasl().internal(), &user, PASSWORD);
    eventually("pushing goes on", || producer.push(&NewEvent::json(&2)).and_then(|push| push.wait(PATIENCE)).is_ok());
    eventually("pulling from nothing goes on", || quiet.next(A_MOMENT).is_ok_and(|event| event.is_none()));
    let next = || consumer.next(A_MOMENT).ok().flatten();
    // What was pushed and not refused meanwhile is delivered too.
    eventually("reading goes on", || next().is_some_and(|event| event.json().unwrap() == json!(2)));
}

#[test]
fn making_a_topic_that_kafka_does_not_allow_is_told_by_its_name_each_time_and_leaves_nothing() {
    let user = unique("visitor");
    set_user(sasl().internal(), &user, PASSWORD);
    let driver = driver_of(&scram(&user, PASSWORD), &Log::default());
    eventually("the user is known", || driver.topic_exists("x").is_ok());
    let (name, principal) = (unique("not-allowed"), format!("User:{user}"));
    // Beside a denial nothing is allowed that nobody allows.
    for of in [&["--cluster"][..], &["--topic", &name]] {
        acls(sasl().internal(), &[&["--add", "--allow-principal", "User:*", "--operation", "All"], of].concat());
    }
    let denied = |action, of: &[&str]| {
        let denial = [action, "--deny-principal", &principal, "--operation", "Create"];
        acls(sasl().internal(), &[&denial, of].concat());
    };
    denied("--add", &["--cluster"]);
    denied("--add", &["--topic", &name]);
    for _ in 0..2 {
        let began = Instant::now();
        let error = driver.create_topic(&name, &one_replica()).unwrap_err();
        assert!(error.message.contains(&name) && error.message.contains("uthorization failed"), "{error}");
        assert!(!error.retriable && began.elapsed() < SOON, "{error}");
    }
    assert!(!driver.topic_exists(&name).unwrap());
    // It was made and is deleted again, which a broker may hear of a little later.
    eventually("nothing is left", || !driver.topic_exists(&format!("__info_{name}")).unwrap());
    denied("--remove", &["--cluster"]);
    denied("--remove", &["--topic", &name]);
    eventually("it is allowed", || driver.create_topic(&name, &one_replica()).is_ok());
}

#[test]
fn what_a_user_may_not_write_read_or_join_is_told_by_name_each_time_also_when_forbidden_while_running() {
    let user = unique("reader");
    set_user(sasl().internal(), &user, PASSWORD);
    let driver = driver_of(&scram(&user, PASSWORD), &Log::default());
    eventually("the user is known", || driver.topic_exists("x").is_ok());
    let (name, group) = (unique("forbidden"), unique("group"));
    driver.create_topic(&name, &one_replica()).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let (producer, consumer) = (topic.producer("p").make().unwrap(), topic.consumer(&group).make().unwrap());
    producer.push(&NewEvent::json(&0)).unwrap().wait(PATIENCE).unwrap();
    read(&consumer, 1);

    let principal = format!("User:{user}");
    let deny = |operation, of, which| {
        acls(sasl().internal(), &["--add", "--deny-principal", &principal, "--operation", operation, of, which]);
    };
    deny("Write", "--topic", &name);
    let pushed = || producer.push(&NewEvent::json(&1)).and_then(|push| push.wait(PATIENCE));
    let told = |error: octopus_loader::Error, what: &str| {
        assert!(error.message.contains("uthorization failed") && error.message.contains(what), "{error}");
    };
    eventually("writing is forbidden", || pushed().is_err());
    (0..2).for_each(|_| told(pushed().unwrap_err(), &name));
    deny("Read", "--topic", &name);
    eventually("reading is forbidden", || consumer.next(A_MOMENT).is_err());
    (0..2).for_each(|_| told(consumer.next(A_MOMENT).map(drop).unwrap_err(), &name));
    deny("Read", "--group", &group);
    let member = topic.consumer(&group).make().unwrap();
    eventually("joining is forbidden", || member.next(A_MOMENT).is_err());
    (0..2).for_each(|_| told(member.next(A_MOMENT).map(drop).unwrap_err(), &group));
}

/// Where distributions keep the CA certificates that they trust.
const SYSTEMS: [(&str, &str); 4] = [
    ("Debian, Ubuntu, Arch", "/etc/ssl/certs/ca-certificates.crt"),
    ("Fedora, Red Hat, Amazon", "/etc/pki/tls/certs/ca-bundle.crt"),
    ("openSUSE", "/etc/ssl/ca-bundle.pem"),
    ("Alpine", "/etc/ssl/cert.pem"),
];

#[test]
fn the_systems_authorities_are_found_where_each_distribution_keeps_them() {
    let config = json!({"kafka": without(tls(mutual()), &["ssl.ca.location"])});
    let (refused, log) = look(&config, &[]);
    assert!(refused.contains("kafka.ssl.ca.location"), "no system knows the tests' authority: {refused}{log}");
    let (let_in, log) = look(&config, &[("SSL_CERT_FILE", AUTHORITY.file())]);
    assert_eq!(let_in, "LOOKED false\n", "OpenSSL's own variable: {log}");

    for (system, place) in SYSTEMS {
        let (let_in, log) = ended(on_a_system_with(AUTHORITY.file(), place, &config).spawn().unwrap());
        assert_eq!(let_in, "LOOKED false\n", "{system}: {log}");
    }
}

/// A job that sees these authorities in that place, and no others of the system's.
fn on_a_system_with(authorities: &str, place: &str, config: &Value) -> Command {
    let inner = job(config, &["look"], &[]);
    let script = format!(
        "mkdir -p /etc/ssl /etc/pki && mount -t tmpfs none /etc/ssl && mount -t tmpfs none /etc/pki && \
         mkdir -p \"$(dirname {place})\" && cp {authorities} {place} && exec \"$@\""
    );
    let mut command = Command::new("unshare");
    // Mounts of its own; who isn't root may have them in a user namespace.
    command
        .args(["--mount", "--map-root-user", "sh", "-c", &script, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("OCTOPUS_LIBRARY", octopus().path());
    command.env("HOME", folder("nobodys-home")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn librdkafkas_messages_for_the_debugging_of_everything_show_no_secret() {
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
