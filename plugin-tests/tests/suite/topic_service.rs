//! Topics that the topic service creates: a mock of the service (python/topic_service.py) on a real
//! broker, used by the plugin and by the client of diaspora-event-sdk.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use octopus_loader::{Driver, Error, NewEvent, Status};
use serde_json::{Value, json};

use crate::job::run_job;
use crate::kafka::{Kafka, kcat_read, unique, write_aged};
use crate::resource_limits::check_limits;
use crate::support::{Log, TIMEOUT, eventually, merge, octopus, one_replica, read, round_trip};

pub const SUBJECT: &str = "octopus-test-secret-subject";
pub const TOKEN: &str = "octopus-test-secret-token";
pub const AUTHORIZATION: &str = "Bearer octopus-test-secret-token";
const NAMESPACE: &str = "ns-octopus.tests";
pub const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");
/// The number of partitions with which the service creates each topic.
const PARTITIONS: u32 = 3;

/// A mock of the service that creates topics on the shared Kafka. Its process ends when this value
/// is dropped.
pub struct Service {
    pub url: String,
    process: Child,
}

impl Service {
    pub fn start() -> Service {
        Service::start_with(&[])
    }

    pub fn start_with(arguments: &[&str]) -> Service {
        Service::start_on(Kafka::shared().internal(), NAMESPACE, arguments)
    }

    pub fn start_on(kafka: &str, namespace: &str, arguments: &[&str]) -> Service {
        let mut process = Command::new(python())
            .arg(format!("{PYTHON}/topic_service.py"))
            .args(["--kafka", kafka, "--subject", SUBJECT, "--authorization", AUTHORIZATION])
            .args(["--namespace", namespace, "--partitions", &PARTITIONS.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("READY ").expect("the URL of the mock").to_owned();
        Service { url, process }
    }

    pub fn config(&self) -> Value {
        json!({
            "kafka": {"bootstrap.servers": Kafka::shared().bootstrap()},
            "namespace": NAMESPACE,
            "octopus": {"url": self.url, "subject": SUBJECT, "authorization": AUTHORIZATION},
        })
    }

    pub fn driver_with(&self, changes: Value, log: &Log) -> Driver {
        let mut config = self.config();
        merge(&mut config, changes);
        let log = log.clone();
        octopus()
            .driver_builder(config)
            .log(move |level, source, message| log.push(format!("{level:?} {source}: {message}")))
            .create()
            .unwrap()
    }

    pub fn driver(&self) -> Driver {
        self.driver_with(json!({}), &Log::default())
    }

    /// Makes the next `times` requests fail as `failure` describes.
    fn inject_failure(&self, times: u32, failure: Value) {
        let mut request = json!({"times": times});
        merge(&mut request, failure);
        ureq::post(format!("{}/failures", self.url)).send_json(request).unwrap();
    }

    /// Replaces the valid authorization; the previous one has expired.
    pub fn rotate(&self, authorization: &str) {
        ureq::post(format!("{}/rotation", self.url)).send_json(json!({"authorization": authorization})).unwrap();
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Value> {
        ureq::get(format!("{}/requests", self.url)).call().unwrap().body_mut().read_json().unwrap()
    }

    fn count(&self, method: &str) -> usize {
        self.requests().iter().filter(|request| request["method"] == method).count()
    }

    /// Runs one call of the SDK's client and returns its output.
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

/// The Python interpreter that has the SDK.
pub fn python() -> &'static str {
    static FOUND: LazyLock<String> = LazyLock::new(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/python.sh");
        // A build with a sanitizer does not install the packages again.
        let mut install = Command::new(script);
        install.env("CARGO_TARGET_DIR", octopus_testkit::target_folder().unwrap());
        let output = install.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{script} failed, see its output");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    });
    &FOUND
}

pub fn check_no_secret(error: &Error) {
    assert!(!error.message.contains("octopus-test-secret"), "a secret was shown");
}

#[test]
fn job_runs_with_topics_of_the_service() {
    let service = Service::start();
    let mut config = service.config();
    config["octopus"] = json!({
        "url": service.url, "subject_env": "THE_SUBJECT", "authorization_env": "THE_AUTHORIZATION",
        "subject": "overridden by the variable", "authorization": "overridden too",
    });
    run_job(&config, &[("THE_SUBJECT", SUBJECT), ("THE_AUTHORIZATION", AUTHORIZATION)]);
    assert!(service.count("POST") >= 2 && service.count("DELETE") >= 2, "{:?}", service.requests());
    assert!(service.requests().iter().all(|request| request["status"] == 200), "{:?}", service.requests());
    let agent = service.requests()[0]["headers"]["user-agent"].clone();
    assert!(agent.as_str().unwrap().starts_with("octopus/"), "{agent}");
}

#[test]
fn changes_by_sdk_and_plugin_are_visible_to_each_other() {
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
    producer.push(&NewEvent::json(&"first of the new")).unwrap().wait(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    assert_eq!(read(&consumer, 1)[0].json().unwrap(), json!("first of the new"));
    consumer.close(TIMEOUT).unwrap();
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
fn emptied_topic_is_recreated_and_keeps_its_components() {
    let (service, name) = (Service::start(), unique("emptied"));
    let driver = service.driver();
    driver.create_topic(&name, &one_replica().selector(json!({"note": 1}))).unwrap();
    round_trip(&driver.open_topic(&name).unwrap(), 30);
    driver.empty_topic(&name).unwrap();
    let path = format!("/api/v3/{NAMESPACE}/{name}/recreate");
    assert!(service.requests().iter().any(|request| request["method"] == "PUT" && request["path"] == path.as_str()));
    let topic = driver.open_topic(&name).unwrap();
    assert_eq!(topic.components()["selector"], json!({"note": 1}));
    // The recreated topic starts at offset 0.
    let push = topic.producer("p").make().unwrap().push(&NewEvent::json(&0).partition(0)).unwrap();
    assert_eq!(push.wait(TIMEOUT).unwrap().id, Some(0));
    assert_eq!(driver.empty_topic(&unique("never-created")).unwrap_err().status, Status::UnknownTopic);
}

/// The service itself reports success for a topic that exists, so that Octopus checks first.
#[test]
fn creating_an_existing_topic_is_an_error() {
    let service = Service::start();
    let (driver, name) = (service.driver(), unique("twice"));
    driver.create_topic(&name, &one_replica().selector(json!({"note": 1}))).unwrap();
    let posts = service.count("POST");
    let error = driver.create_topic(&name, &one_replica()).unwrap_err();
    assert_eq!(error.status, Status::TopicExists, "{error}");
    assert_eq!(service.count("POST"), posts, "the service was requested to create the topic");
    assert_eq!(driver.open_topic(&name).unwrap().components()["selector"], json!({"note": 1}));
    let theirs = unique("theirs");
    service.sdk("create", &[NAMESPACE, &theirs]);
    // The service lists the topics in Kafka's metadata, which has the new one a moment later.
    eventually("the service lists the topic", || service.sdk_lists(&theirs));
    assert_eq!(driver.create_topic(&theirs, &one_replica()).unwrap_err().status, Status::TopicExists);
}

/// Octopus writes the three components to it through Kafka.
#[test]
fn info_topic_is_created_by_the_service_with_three_records() {
    let (service, name) = (Service::start(), unique("info"));
    let serializer = json!({"schema": {}, "type": "schema"});
    service.driver().create_topic(&name, &one_replica().serializer(serializer.clone())).unwrap();
    let default = json!({"type": "default"}).to_string();
    let records = kcat_read(Kafka::shared().bootstrap(), &format!("{NAMESPACE}.info_{name}"));
    let found: Vec<_> = records.iter().filter(|record| record.partition == 0).map(|record| &record.value[..]).collect();
    assert_eq!(found, [default.as_bytes(), default.as_bytes(), serializer.to_string().as_bytes()]);
    // The option info_topic_prefix selects the prefix of C++ Octopus here too.
    let (other, driver) =
        (unique("other"), service.driver_with(json!({"info_topic_prefix": "__info_"}), &Log::default()));
    driver.create_topic(&other, &one_replica()).unwrap();
    assert!(service.sdk_lists(&format!("__info_{other}")));
}

/// The service chooses the number of partitions and replicas.
#[test]
fn options_decided_by_the_service_are_warned_of_once() {
    let (service, log, name) = (Service::start(), Log::default(), unique("options"));
    let driver = service.driver_with(json!({}), &log);
    driver.create_topic(&name, &one_replica().partitions(7)).unwrap();
    assert_eq!(driver.open_topic(&name).unwrap().partition_count(), PARTITIONS);
    let is_warning = |line: &str| line.contains("Warning") && line.contains("num_partitions, replication_factor");
    assert_eq!(log.count(is_warning), 1, "{log:?}");
}

/// The failures are the statuses 429, 500 and 503, a closed connection and a lost response.
#[test]
fn temporary_failure_of_the_service_is_retried() {
    let (service, log) = (Service::start(), Log::default());
    let driver = service.driver_with(json!({}), &log);
    for failure in [
        json!({"how": "status", "status": 429, "headers": {"retry-after": "1"}}),
        json!({"how": "status", "status": 503}),
        json!({"how": "status", "status": 500}),
        json!({"how": "drop"}),
    ] {
        let before = service.requests().len();
        service.inject_failure(2, failure.clone());
        assert!(!driver.topic_exists("no-such-topic").unwrap());
        assert_eq!(service.requests().len() - before, 3, "{failure}");
    }
    // Two retries wait for 1 s and log the same line, of which the throttle drops one.
    assert_eq!(log.count(|line| line.contains("trying again")), 7, "{log:?}");
    assert!(!log.text().contains("octopus-test-secret"), "a secret was logged");

    // The service processes the request but its response is lost: the retry succeeds.
    let name = unique("lost-response");
    service.inject_failure(1, json!({"how": "drop after", "route": format!("POST /api/v3/{NAMESPACE}/{name}")}));
    driver.create_topic(&name, &one_replica()).unwrap();
    service.inject_failure(1, json!({"how": "drop after", "route": format!("DELETE /api/v3/{NAMESPACE}/{name}")}));
    driver.delete_topic(&name).unwrap();
    assert!(!service.sdk_lists(&name));
}

#[test]
fn retry_after_header_is_respected() {
    let service = Service::start();
    let (driver, started) = (service.driver(), Instant::now());
    service.inject_failure(1, json!({"how": "status", "status": 429, "headers": {"retry-after": "2"}}));
    driver.topic_exists("no-such-topic").unwrap();
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
}

/// The error arrives within `timeout_ms` and names the URL, the response and the number of
/// attempts.
#[test]
fn persistent_failure_names_service_and_response_in_time() {
    let service = Service::start();
    let driver = service.driver_with(json!({"timeout_ms": 20_000}), &Log::default());
    service.inject_failure(5, json!({"how": "status", "status": 503}));
    let started = Instant::now();
    let error = driver.topic_exists("x").unwrap_err();
    assert!(error.retriable && error.status == Status::Unreachable, "{error}");
    for word in [&service.url, "503", "as was ordered", "tried 5 times", NAMESPACE] {
        assert!(error.message.contains(word), "{word}: {error}");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());

    service.inject_failure(10, json!({"how": "hang"}));
    let driver = service.driver_with(json!({"timeout_ms": 2_000}), &Log::default());
    let started = Instant::now();
    let error = driver.topic_exists("x").unwrap_err();
    assert!(error.message.contains(&service.url) && error.message.contains("timed out"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());

    let unreachable = service.driver_with(json!({"octopus": {"url": "http://127.0.0.1:1"}}), &Log::default());
    let error = unreachable.topic_exists("x").unwrap_err();
    assert!(error.message.contains("127.0.0.1:1") && error.message.contains("refused"), "{error}");
}

/// The URL may belong to another web service; the error names the option `octopus.url`.
#[test]
fn response_of_another_service_is_an_error_despite_status_200() {
    let service = Service::start();
    let driver = service.driver();
    let name = unique("rejected");
    let post = format!("POST /api/v3/{NAMESPACE}/info_{name}");
    service.inject_failure(1, json!({"how": "word", "route": post}));
    let error = driver.create_topic(&name, &one_replica()).unwrap_err();
    assert!(error.message.contains("\"failure\"") && error.message.contains("as was ordered"), "{error}");
    assert!(!driver.topic_exists(&name).unwrap());
    service.inject_failure(1, json!({"how": "text"}));
    let error = driver.topic_exists("x").unwrap_err();
    assert!(error.message.contains("octopus.url") && error.message.contains("<html>"), "{error}");
    let elsewhere =
        service.driver_with(json!({"octopus": {"url": format!("{}/nowhere", service.url)}}), &Log::default());
    for error in [elsewhere.topic_exists("x").map(drop), elsewhere.create_topic("x", &one_replica())] {
        let error = error.unwrap_err();
        assert!(error.message.contains("404") && error.message.contains("octopus.url"), "{error}");
        assert_eq!(error.status, Status::Kafka, "{error}");
    }
    service.inject_failure(1, json!({"how": "status", "status": 302, "headers": {"location": "http://127.0.0.1:1/"}}));
    let error = driver.topic_exists("x").unwrap_err();
    assert!(error.message.contains("302") && error.message.contains("octopus.url"), "{error}");
}

#[test]
fn one_of_several_creators_wins_at_the_service() {
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

/// Its creator failed before it wrote all records.
#[test]
fn incomplete_info_topic_is_taken_over() {
    let (service, name) = (Service::start_with(&["--partitions", "1"]), unique("incomplete"));
    let info = format!("info_{name}");
    service.sdk("create", &[NAMESPACE, &info]);
    let kafka_name = format!("{NAMESPACE}.{info}");
    write_aged(Kafka::shared().internal(), &kafka_name, 2, Duration::from_mins(5));
    service.driver().create_topic(&name, &one_replica()).unwrap();
    assert_eq!(kcat_read(Kafka::shared().bootstrap(), &kafka_name).len(), 3);
}

/// Octopus rejects a name that would change the path of the URL before it sends a request.
#[test]
fn topic_names_unsafe_in_a_url_are_rejected_locally() {
    let service = Service::start();
    let driver = service.driver();
    for name in ["..", ".", "a/b", "a?b", "a#b", "a%2Fb", "é"] {
        let error = driver.create_topic(name, &one_replica()).unwrap_err();
        assert_eq!(error.status, Status::InvalidArgument, "{name}: {error}");
        assert_eq!(driver.delete_topic(name).unwrap_err().status, Status::InvalidArgument, "{name}");
    }
    assert_eq!(service.count("POST") + service.count("DELETE"), 0, "{:?}", service.requests());
}

/// Each lookup of the service's host name needs a thread.
#[test]
fn missing_thread_for_a_name_lookup_is_an_error() {
    let service = Service::start();
    let mut config = service.config();
    config["octopus"]["url"] = service.url.replace("127.0.0.1", "localhost").into();
    let met = check_limits("thread", 1, 1, &config);
    assert!(met > 12, "{met}");
}
