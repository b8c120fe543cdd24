//! Topics by way of the topic service: a stand-in on a real broker (python/topic_service.py), with the client of
//! diaspora-event-sdk beside the plugin.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use octopus_loader::{Driver, Error, NewEvent, Status};
use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::job::{look, run_job};
use crate::kafka::{Kafka, kcat_read, unique, write_aged};
use crate::resource_limits::check_limits;
use crate::support::{Log, PATIENCE, driver_with, eventually, keep, merge, octopus, one_replica, read, round_trip};

const SUBJECT: &str = "octopus-test-secret-subject";
const TOKEN: &str = "octopus-test-secret-token";
const AUTHORIZATION: &str = "Bearer octopus-test-secret-token";
const NAMESPACE: &str = "ns-octopus.tests";
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");
/// What the service makes of each topic.
const PARTITIONS: u32 = 3;

/// A stand-in that makes topics of the shared Kafka; it ends with this value.
struct Service {
    url: String,
    process: Child,
}

impl Service {
    fn start() -> Service {
        Service::start_with(&[])
    }

    fn start_with(arguments: &[&str]) -> Service {
        let mut process = Command::new(python())
            .arg(format!("{PYTHON}/topic_service.py"))
            .args(["--kafka", Kafka::shared().internal(), "--subject", SUBJECT, "--authorization", AUTHORIZATION])
            .args(["--namespace", NAMESPACE, "--partitions", &PARTITIONS.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("READY ").expect("the stand-in says where it is").to_owned();
        Service { url, process }
    }

    fn config(&self) -> Value {
        json!({
            "kafka": {"bootstrap.servers": Kafka::shared().bootstrap()},
            "namespace": NAMESPACE,
            "octopus": {"url": self.url, "subject": SUBJECT, "authorization": AUTHORIZATION},
        })
    }

    fn driver_with(&self, changes: Value, log: &Log) -> Driver {
        let mut config = self.config();
        merge(&mut config, changes);
        let log = log.clone();
        octopus()
            .driver_builder(config)
            .log(move |level, source, message| log.push(format!("{level:?} {source}: {message}")))
            .create()
            .unwrap()
    }

    fn driver(&self) -> Driver {
        self.driver_with(json!({}), &Log::default())
    }

    /// The next so many requests come to this.
    fn order(&self, times: u32, order: Value) {
        let mut failure = json!({"times": times});
        merge(&mut failure, order);
        ureq::post(format!("{}/failures", self.url)).send_json(failure).unwrap();
    }

    /// The authorization from now on; the one before has ended.
    fn rotate(&self, authorization: &str) {
        ureq::post(format!("{}/rotation", self.url)).send_json(json!({"authorization": authorization})).unwrap();
    }

    /// What was asked so far.
    fn requests(&self) -> Vec<Value> {
        ureq::get(format!("{}/requests", self.url)).call().unwrap().body_mut().read_json().unwrap()
    }

    fn count(&self, method: &str) -> usize {
        self.requests().iter().filter(|request| request["method"] == method).count()
    }

    /// One call of the SDK's client: what it printed.
    fn sdk(&self, verb: &str, names: &[&str]) -> Value {
        let output = Command::new(python())
            .arg(format!("{PYTHON}/service_client.py"))
            .args([&self.url, SUBJECT, TOKEN, verb])
            .args(names)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).expect("the SDK's client prints JSON")
    }

    fn sdk_lists(&self, topic: &str) -> bool {
        self.sdk("list", &[])["namespaces"][NAMESPACE].as_array().unwrap().contains(&json!(topic))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The Python that has the SDK.
fn python() -> &'static str {
    static FOUND: LazyLock<String> = LazyLock::new(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/python.sh");
        let output = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{script} failed; it said why");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    });
    &FOUND
}

fn is_clean(error: &Error) {
    assert!(!error.message.contains("octopus-test-secret"), "a secret was shown");
}

#[test]
fn the_main_job_runs_with_topics_that_the_service_makes() {
    let service = Service::start();
    let mut config = service.config();
    config["octopus"] = json!({
        "url": service.url, "subject_env": "THE_SUBJECT", "authorization_env": "THE_AUTHORIZATION",
        "subject": "the variable goes before this", "authorization": "and before this",
    });
    run_job(&config, &[("THE_SUBJECT", SUBJECT), ("THE_AUTHORIZATION", AUTHORIZATION)]);
    assert!(service.count("POST") >= 2 && service.count("DELETE") >= 2, "{:?}", service.requests());
    assert!(service.requests().iter().all(|request| request["status"] == 200), "{:?}", service.requests());
    let agent = service.requests()[0]["headers"]["user-agent"].clone();
    assert!(agent.as_str().unwrap().starts_with("octopus/"), "{agent}");
}

#[test]
fn what_the_sdk_makes_empties_and_deletes_the_plugin_sees_and_the_other_way_round() {
    let service = Service::start();
    let driver = service.driver();
    let (theirs, ours) = (unique("theirs"), unique("ours"));

    assert_eq!(service.sdk("create", &[NAMESPACE, &theirs])["status"], "success");
    assert!(driver.topic_exists(&theirs).unwrap());
    let topic = driver.open_topic(&theirs).unwrap();
    assert_eq!(topic.partition_count(), PARTITIONS);
    round_trip(&topic, 30);
    assert_eq!(service.sdk("recreate", &[NAMESPACE, &theirs])["status"], "success");
    let topic = driver.open_topic(&theirs).unwrap();
    let producer = topic.producer("p").make().unwrap();
    producer.push(&NewEvent::json(&"first of the new")).unwrap().wait(PATIENCE).unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    assert_eq!(read(&consumer, 1)[0].json().unwrap(), json!("first of the new"));
    consumer.close(PATIENCE).unwrap();
    assert_eq!(service.sdk("delete", &[NAMESPACE, &theirs])["status"], "success");
    assert!(!driver.topic_exists(&theirs).unwrap());

    let validator = json!({"type": "schema", "schema": {"type": "object"}});
    driver.create_topic(&ours, &one_replica().validator(validator.clone())).unwrap();
    assert!(service.sdk_lists(&ours) && service.sdk_lists(&format!("info_{ours}")));
    let listed = driver.list_topics().unwrap();
    assert_eq!((&listed[&ours]["validator"], &listed[&ours]["num_partitions"]), (&validator, &json!(PARTITIONS)));
    assert!(listed.get(format!("info_{ours}")).is_none(), "{listed}");
    driver.delete_topic(&ours).unwrap();
    assert!(!service.sdk_lists(&ours) && !service.sdk_lists(&format!("info_{ours}")));
    assert_eq!(driver.delete_topic(&ours).unwrap_err().status, Status::UnknownTopic);
    assert_eq!(driver.open_topic(&ours).map(drop).unwrap_err().status, Status::UnknownTopic);
}

#[test]
fn an_emptied_topic_is_made_anew_by_the_service_and_keeps_its_components() {
    let (service, name) = (Service::start(), unique("emptied"));
    let driver = service.driver();
    driver.create_topic(&name, &one_replica().selector(json!({"note": 1}))).unwrap();
    round_trip(&driver.open_topic(&name).unwrap(), 30);
    driver.empty_topic(&name).unwrap();
    let asked = format!("/api/v3/{NAMESPACE}/{name}/recreate");
    assert!(service.requests().iter().any(|one| one["method"] == "PUT" && one["path"] == asked.as_str()));
    let topic = driver.open_topic(&name).unwrap();
    assert_eq!(topic.components()["selector"], json!({"note": 1}));
    // Offsets begin at 0 again.
    let push = topic.producer("p").make().unwrap().push(&NewEvent::json(&0).partition(0)).unwrap();
    assert_eq!(push.wait(PATIENCE).unwrap().id, Some(0));
    assert_eq!(driver.empty_topic(&unique("never-made")).unwrap_err().status, Status::UnknownTopic);
}

#[test]
fn a_topic_that_exists_is_an_error_though_the_service_makes_it_again_without_a_word() {
    let service = Service::start();
    let (driver, name) = (service.driver(), unique("twice"));
    driver.create_topic(&name, &one_replica().selector(json!({"note": 1}))).unwrap();
    let posts = service.count("POST");
    let error = driver.create_topic(&name, &one_replica()).unwrap_err();
    assert_eq!(error.status, Status::TopicExists, "{error}");
    assert_eq!(service.count("POST"), posts, "the service was not asked to make it");
    assert_eq!(driver.open_topic(&name).unwrap().components()["selector"], json!({"note": 1}));
    let theirs = unique("theirs");
    service.sdk("create", &[NAMESPACE, &theirs]);
    // The service lists what Kafka's metadata has, which is a moment later.
    eventually("the service lists the topic", || service.sdk_lists(&theirs));
    assert_eq!(driver.create_topic(&theirs, &one_replica()).unwrap_err().status, Status::TopicExists);
}

#[test]
fn the_info_topic_is_the_services_too_and_has_the_three_components_in_kafka() {
    let (service, name) = (Service::start(), unique("info"));
    let serializer = json!({"schema": {}, "type": "schema"});
    service.driver().create_topic(&name, &one_replica().serializer(serializer.clone())).unwrap();
    let default = json!({"type": "default"}).to_string();
    let records = kcat_read(Kafka::shared().bootstrap(), &format!("{NAMESPACE}.info_{name}"));
    let found: Vec<_> = records.iter().filter(|record| record.partition == 0).map(|record| &record.value[..]).collect();
    assert_eq!(found, [default.as_bytes(), default.as_bytes(), serializer.to_string().as_bytes()]);
    // C++ Octopus has another prefix where Kafka makes the topics; whoever says so has it here too.
    let (other, driver) =
        (unique("other"), service.driver_with(json!({"info_topic_prefix": "__info_"}), &Log::default()));
    driver.create_topic(&other, &one_replica()).unwrap();
    assert!(service.sdk_lists(&format!("__info_{other}")));
}

#[test]
fn what_is_the_services_to_decide_is_said_when_something_else_is_asked_for() {
    let (service, log, name) = (Service::start(), Log::default(), unique("asked"));
    let driver = service.driver_with(json!({}), &log);
    driver.create_topic(&name, &one_replica().partitions(7)).unwrap();
    assert_eq!(driver.open_topic(&name).unwrap().partition_count(), PARTITIONS);
    let said = |line: &str| line.contains("Warning") && line.contains("num_partitions, replication_factor");
    assert_eq!(log.count(said), 1, "{log:?}");
}

#[test]
fn a_service_that_is_busy_broken_or_cut_off_for_a_moment_is_asked_again() {
    let (service, log) = (Service::start(), Log::default());
    let driver = service.driver_with(json!({}), &log);
    for order in [
        json!({"how": "status", "status": 429, "headers": {"retry-after": "1"}}),
        json!({"how": "status", "status": 503}),
        json!({"how": "status", "status": 500}),
        json!({"how": "drop"}),
    ] {
        let before = service.requests().len();
        service.order(2, order.clone());
        assert!(!driver.topic_exists("no-such-topic").unwrap());
        assert_eq!(service.requests().len() - before, 3, "{order}");
    }
    // The same line, of the two that wait for 1 s, is held back.
    assert_eq!(log.count(|line| line.contains("trying again")), 7, "{log:?}");
    assert!(!log.text().contains("octopus-test-secret"), "a secret was logged");

    // Done, but nobody heard of it: asked again, it is what was asked for.
    let name = unique("unheard");
    service.order(1, json!({"how": "drop after", "route": format!("POST /api/v3/{NAMESPACE}/{name}")}));
    driver.create_topic(&name, &one_replica()).unwrap();
    service.order(1, json!({"how": "drop after", "route": format!("DELETE /api/v3/{NAMESPACE}/{name}")}));
    driver.delete_topic(&name).unwrap();
    assert!(!service.sdk_lists(&name));
}

#[test]
fn a_service_that_asks_for_patience_gets_it() {
    let service = Service::start();
    let (driver, began) = (service.driver(), Instant::now());
    service.order(1, json!({"how": "status", "status": 429, "headers": {"retry-after": "2"}}));
    driver.topic_exists("no-such-topic").unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_service_that_stays_broken_or_silent_is_named_with_what_it_said_within_the_time_limit() {
    let service = Service::start();
    let driver = service.driver_with(json!({"timeout_ms": 20_000}), &Log::default());
    service.order(5, json!({"how": "status", "status": 503}));
    let began = Instant::now();
    let error = driver.topic_exists("x").unwrap_err();
    assert!(error.retriable && error.status == Status::Unreachable, "{error}");
    for word in [&service.url, "503", "as was ordered", "tried 5 times", NAMESPACE] {
        assert!(error.message.contains(word), "{word}: {error}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    service.order(10, json!({"how": "hang"}));
    let driver = service.driver_with(json!({"timeout_ms": 2_000}), &Log::default());
    let began = Instant::now();
    let error = driver.topic_exists("x").unwrap_err();
    assert!(error.message.contains(&service.url) && error.message.contains("timeout"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());

    let nobody = service.driver_with(json!({"octopus": {"url": "http://127.0.0.1:1"}}), &Log::default());
    let error = nobody.topic_exists("x").unwrap_err();
    assert!(error.message.contains("127.0.0.1:1") && error.message.contains("refused"), "{error}");
}

#[test]
fn who_may_not_is_told_where_to_look_and_secrets_that_the_service_repeats_are_not() {
    let service = Service::start();
    for (wrong, status) in [
        (json!({"octopus": {"authorization": "Bearer octopus-test-secret-but-wrong"}}), "403"),
        (json!({"octopus": {"subject": "octopus-test-secret-somebody-else"}}), "403"),
    ] {
        let driver = service.driver_with(wrong, &Log::default());
        for _ in 0..2 {
            let error = driver.topic_exists("x").unwrap_err();
            for word in [status, "octopus.authorization", "octopus.subject", "may not"] {
                assert!(error.message.contains(word), "{word}: {error}");
            }
            assert!(!error.retriable);
            is_clean(&error);
        }
    }
    let elsewhere = service.driver_with(json!({"namespace": "somebody-elses"}), &Log::default());
    let error = elsewhere.create_topic("x", &one_replica()).unwrap_err();
    assert!(error.message.contains("somebody-elses") && error.message.contains("403"), "{error}");
    let described = service.driver().describe().unwrap();
    assert_eq!(described["octopus"]["authorization"], "********");
    assert_eq!(described["octopus"]["url"], json!(service.url));
}

const RENEWED: &str = "Bearer octopus-test-secret-renewed";

#[test]
fn ended_authorization_is_read_again_from_its_file() {
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
    is_clean(&error);
    fs::write(&file, RENEWED).unwrap();
    assert!(!driver.topic_exists("x").unwrap());
    assert_eq!(log.count(|line| line.contains("has another one")), 1, "{log:?}");
    fs::remove_file(&file).unwrap();
    service.rotate(AUTHORIZATION);
    let error = driver.topic_exists("x").unwrap_err();
    assert!(error.message.contains("401") && error.message.contains("No such file"), "{error}");
    is_clean(&error);
    assert!(!log.text().contains("octopus-test-secret"), "a secret was logged");
}

#[test]
fn ended_authorization_is_read_again_from_the_environment() {
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

#[test]
fn ended_authorization_is_asked_of_the_host() {
    let service = Service::start();
    let given = Arc::new(Mutex::new((0, Ok(AUTHORIZATION.to_owned()))));
    let of_host = given.clone();
    let mut config = service.config();
    config["octopus"] = json!({"url": service.url, "subject": SUBJECT});
    let error = octopus().driver(config.clone()).unwrap_err();
    assert!(error.message.contains("octopus.authorization") && error.message.contains("services"), "{error}");
    let driver = octopus().driver_builder(config).authorization(move || {
        let mut given = of_host.lock().unwrap();
        given.0 += 1;
        given.1.clone()
    });
    let driver = driver.create().unwrap();
    for _ in 0..3 {
        assert!(!driver.topic_exists("x").unwrap());
    }
    assert_eq!(given.lock().unwrap().0, 1);
    service.rotate(RENEWED);
    given.lock().unwrap().1 = Err("the vault is sealed".to_owned());
    let error = driver.topic_exists("x").unwrap_err();
    for word in ["401", "services.authorization", "the vault is sealed"] {
        assert!(error.message.contains(word), "{word}: {error}");
    }
    is_clean(&error);
    given.lock().unwrap().1 = Ok(RENEWED.to_owned());
    assert!(!driver.topic_exists("x").unwrap());
    assert!(!driver.topic_exists("x").unwrap());
    assert_eq!(given.lock().unwrap().0, 3);
}

#[test]
fn what_is_no_answer_of_a_topic_service_is_an_error_though_its_status_is_200() {
    let service = Service::start();
    let driver = service.driver();
    let name = unique("refused");
    let post = format!("POST /api/v3/{NAMESPACE}/info_{name}");
    service.order(1, json!({"how": "word", "route": post}));
    let error = driver.create_topic(&name, &one_replica()).unwrap_err();
    assert!(error.message.contains("\"failure\"") && error.message.contains("as was ordered"), "{error}");
    assert!(!driver.topic_exists(&name).unwrap());
    service.order(1, json!({"how": "text"}));
    let error = driver.topic_exists("x").unwrap_err();
    assert!(error.message.contains("octopus.url") && error.message.contains("<html>"), "{error}");
    let elsewhere =
        service.driver_with(json!({"octopus": {"url": format!("{}/nowhere", service.url)}}), &Log::default());
    for error in [elsewhere.topic_exists("x").map(drop), elsewhere.create_topic("x", &one_replica())] {
        let error = error.unwrap_err();
        assert!(error.message.contains("404") && error.message.contains("octopus.url"), "{error}");
        assert_eq!(error.status, Status::Kafka, "{error}");
    }
    service.order(1, json!({"how": "status", "status": 302, "headers": {"location": "http://127.0.0.1:1/"}}));
    let error = driver.topic_exists("x").unwrap_err();
    assert!(error.message.contains("302") && error.message.contains("octopus.url"), "{error}");
}

#[test]
fn of_several_creators_by_way_of_the_service_one_makes_the_topic_and_it_has_that_ones_components() {
    let (service, name) = (Service::start(), unique("race"));
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let creators: Vec<_> = (0..6)
            .map(|number| {
                let (service, name) = (&service, &name);
                let options = one_replica().selector(json!({"creator": number}));
                scope.spawn(move || service.driver().create_topic(name, &options))
            })
            .collect();
        creators.into_iter().map(|creator| creator.join().unwrap()).collect()
    });
    let winners: Vec<_> = (0..6).filter(|number| outcomes[*number].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(error.status, Status::TopicExists, "{error}");
    }
    assert_eq!(service.driver().open_topic(&name).unwrap().components()["selector"], json!({"creator": winners[0]}));
}

#[test]
fn an_info_topic_that_a_creator_left_half_way_is_taken_over() {
    let (service, name) = (Service::start_with(&["--partitions", "1"]), unique("left"));
    let info = format!("info_{name}");
    service.sdk("create", &[NAMESPACE, &info]);
    let kafka_name = format!("{NAMESPACE}.{info}");
    write_aged(Kafka::shared().internal(), &kafka_name, 2, Duration::from_mins(5));
    service.driver().create_topic(&name, &one_replica()).unwrap();
    assert_eq!(kcat_read(Kafka::shared().bootstrap(), &kafka_name).len(), 3);
}

#[test]
fn each_wrong_option_of_the_service_is_refused_by_its_name_and_no_secret_is_repeated() {
    let whole = json!({"url": "https://topics.example", "subject": SUBJECT, "authorization": AUTHORIZATION});
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
        (json!({"octopus": whole, "namespace": ""}), "namespace: missing"),
    ] {
        let mut config = json!({"kafka": {"bootstrap.servers": "x:1"}, "namespace": "ns"});
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = octopus().driver(&config).map(drop).unwrap_err();
        assert_eq!(error.status, Status::InvalidConfiguration, "{error}");
        assert!(error.message.contains(named), "{named}: {error}");
        is_clean(&error);
    }
    let both = octopus().driver(json!({"embedded": {}, "namespace": "ns", "octopus": whole}));
    assert!(both.map(drop).unwrap_err().message.contains("embedded"));
    let driver = octopus().driver(json!({"kafka": {"bootstrap.servers": "x:1"}, "namespace": "ns", "octopus": whole}));
    assert_eq!(driver.unwrap().describe().unwrap()["info_topic_prefix"], "info_");
}

#[test]
fn names_that_would_be_another_place_in_an_address_are_refused_before_the_service_is_asked() {
    let service = Service::start();
    let driver = service.driver();
    for name in ["..", ".", "a/b", "a?b", "a#b", "a%2Fb", "é"] {
        let error = driver.create_topic(name, &one_replica()).unwrap_err();
        assert_eq!(error.status, Status::InvalidArgument, "{name}: {error}");
        assert_eq!(driver.delete_topic(name).unwrap_err().status, Status::InvalidArgument, "{name}");
    }
    assert_eq!(service.count("POST") + service.count("DELETE"), 0, "{:?}", service.requests());
}

#[test]
fn a_service_whose_certificate_nobody_vouches_for_is_told_nothing() {
    let authority = Authority::new("topic service");
    let pair = authority.certificate("service", "127.0.0.1");
    let service = Service::start_with(&["--certificate", &pair.certificate, "--key", &pair.key]);
    let (refused, log) = look(&service.config(), &[]);
    for word in ["FAILED", "certificate", &service.url] {
        assert!(refused.contains(word), "{word}: {refused}{log}");
    }
    let (let_in, log) = look(&service.config(), &[("SSL_CERT_FILE", authority.file())]);
    assert_eq!(let_in, "LOOKED false\n", "{log}");
    keep(&log);
}

/// Each look-up of the service's name needs a thread.
#[test]
fn thread_that_a_name_lookup_cannot_have_is_an_error() {
    let service = Service::start();
    let mut config = service.config();
    config["octopus"]["url"] = service.url.replace("127.0.0.1", "localhost").into();
    let met = check_limits("thread", 1, 1, &config);
    assert!(met > 12, "{met}");
}
