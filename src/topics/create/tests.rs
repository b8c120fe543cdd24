use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::*;
use crate::config::Properties;

/// Longer than any step of these tests takes.
const SHORT_LEASE: Duration = Duration::from_millis(200);
const INFO: &str = "__info_t";

/// An in-memory Kafka that records its calls.
#[derive(Default)]
struct FakeKafka {
    steps: Mutex<Vec<String>>,
    topics: Mutex<BTreeMap<String, InfoTopic>>,
    /// The step that fails, and the kind of its error.
    fault: Option<(&'static str, Kind)>,
    /// Called once, right after the step.
    after_step: Mutex<Option<(&'static str, Action)>>,
    /// Behaves as the topic service: it ignores topic options and does not distinguish creators.
    is_service: bool,
}

type Action = Box<dyn FnOnce(&FakeKafka) + Send>;

impl FakeKafka {
    fn failing_at(step: &'static str, kind: Kind) -> Self {
        FakeKafka { fault: Some((step, kind)), ..FakeKafka::default() }
    }

    fn acting_after(step: &'static str, action: impl FnOnce(&FakeKafka) + Send + 'static) -> Self {
        FakeKafka { after_step: Mutex::new(Some((step, Box::new(action)))), ..FakeKafka::default() }
    }

    fn into_service(self) -> Self {
        FakeKafka { is_service: true, ..self }
    }

    fn add(&self, topic: &str) {
        self.add_with(topic, 1, &[], 0);
    }

    fn add_with(&self, topic: &str, partitions: u32, records: &[&str], timestamp: i64) {
        let record = |text: &&str| InfoRecord { payload: text.as_bytes().to_vec(), timestamp };
        let held = InfoTopic { partitions, records: records.iter().map(record).collect(), is_truncated: false };
        self.topics.lock().insert(topic.to_owned(), held);
    }

    fn remove(&self, topic: &str) {
        self.topics.lock().remove(topic);
    }

    fn records(&self, topic: &str) -> Vec<String> {
        let topics = self.topics.lock();
        let records = topics.get(topic).map_or(&[][..], |held| &held.records);
        records.iter().map(|record| String::from_utf8_lossy(&record.payload).into_owned()).collect()
    }

    fn step(&self, step: String) -> Result<()> {
        let fault = self.fault.filter(|(failing, _)| *failing == step);
        self.steps.lock().push(step);
        fault.map_or(Ok(()), |(failing, kind)| Err(Error::new(kind, format!("{failing} failed"))))
    }

    fn act_after(&self, step: &str) {
        let action = self.after_step.lock().take_if(|(after, _)| *after == step);
        if let Some((_, action)) = action {
            action(self);
        }
    }

    fn create(&self, options: &str) -> Result<()> {
        self.create_until(options, Duration::from_secs(10))
    }

    fn create_until(&self, options: &str, time: Duration) -> Result<()> {
        let driver = DriverSettings::parse(r#"{"kafka": {"bootstrap.servers": "x"}}"#).unwrap();
        let settings = TopicSettings::parse(Some(options), &driver).unwrap();
        let creation = Creation::plan("t", settings, Components::default(), &driver)?;
        create_within(&creation, self, self, SHORT_LEASE, Deadline::after(time))
    }

    fn steps(&self) -> Vec<String> {
        self.steps.lock().clone()
    }
}

impl Admin for FakeKafka {
    fn create(&self, topic: &NewTopic, _: Deadline) -> Result<()> {
        let step = format!("create {}", topic.kafka_name);
        self.step(step.clone())?;
        if self.topics.lock().contains_key(&topic.kafka_name) {
            return Err(Error::new(Kind::TopicExists, format!("{} exists", topic.kafka_name)));
        }
        self.add_with(&topic.kafka_name, topic.partitions, &[], 0);
        self.act_after(&step);
        Ok(())
    }

    fn delete(&self, kafka_name: &str, _: Deadline) -> Result<()> {
        let step = format!("delete {kafka_name}");
        let result = self.step(step.clone());
        if result.is_ok() {
            self.remove(kafka_name);
        }
        self.act_after(&step);
        result
    }

    fn empty(&self, _: &str, _: u32, _: Deadline) -> Result<()> {
        Ok(())
    }

    fn partition_count(&self, kafka_name: &str, _: Deadline) -> Result<Option<u32>> {
        Ok(self.topics.lock().get(kafka_name).map(|held| held.partitions))
    }

    fn honors_topic_options(&self) -> bool {
        !self.is_service
    }

    fn distinguishes_creators(&self) -> bool {
        !self.is_service
    }

    fn settings(&self, _: &str, _: Deadline) -> Result<Properties> {
        Ok(Properties::default())
    }
}

impl InfoTopics for FakeKafka {
    fn read(&self, kafka_name: &str, _: Deadline) -> Result<Option<InfoTopic>> {
        let found = self.topics.lock().get(kafka_name).cloned();
        if self.topics.lock().contains_key("t") {
            self.act_after("read back");
        }
        Ok(found)
    }

    fn write(&self, kafka_name: &str, records: &[&str], _: Deadline) -> Result<()> {
        let step = format!("write {} to {kafka_name}", records.len());
        self.step(step.clone())?;
        let mut topics = self.topics.lock();
        let held = topics.get_mut(kafka_name).ok_or_else(|| Error::new(Kind::UnknownTopic, "the topic is gone"))?;
        let record = |text: &&str| InfoRecord { payload: text.as_bytes().to_vec(), timestamp: now() };
        held.records.extend(records.iter().map(record));
        drop(topics);
        self.act_after(&step);
        Ok(())
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

const OURS: [&str; 3] = [r#"{"type":"default"}"#; 3];
const OTHERS: [&str; 3] = [r#"{"type":"schema"}"#, r#"{"type":"default"}"#, r#"{"type":"default"}"#];
const IN_ORDER: [&str; 3] = ["create __info_t", "write 3 to __info_t", "create t"];

#[test]
fn info_topic_is_filled_before_the_topic_is_created() {
    let kafka = FakeKafka::default();
    kafka.create("{}").unwrap();
    assert_eq!(kafka.steps(), IN_ORDER);
}

#[test]
fn disabled_info_topic_creates_only_the_topic() {
    let kafka = FakeKafka::default();
    kafka.create(r#"{"disable_info_topic": true}"#).unwrap();
    assert_eq!(kafka.steps(), ["create t"]);
}

#[test]
fn topic_rejected_by_the_broker_leaves_no_info_topic() {
    let kafka = FakeKafka::failing_at("create t", Kind::Kafka);
    let error = kafka.create("{}").unwrap_err();
    assert_eq!(error.message(), "creating topic \"t\": create t failed");
    assert_eq!(kafka.steps().last().unwrap(), "delete __info_t");
}

/// The response to the creation is lost, or reports that the topic exists.
#[test]
fn topic_that_may_exist_keeps_its_info_topic() {
    for kind in [Kind::Unreachable, Kind::TopicExists] {
        let kafka = FakeKafka::failing_at("create t", kind);
        assert_eq!(kafka.create("{}").unwrap_err().kind(), kind);
        assert_eq!(kafka.steps().last().unwrap(), "create t", "the info topic was deleted");
    }
}

#[test]
fn existing_topic_is_not_changed() {
    let kafka = FakeKafka::default();
    kafka.add("t");
    assert_eq!(kafka.create("{}").unwrap_err().kind(), Kind::TopicExists);
    assert!(kafka.steps().is_empty());
}

#[test]
fn name_with_the_info_topic_prefix_is_rejected() {
    let driver = DriverSettings::parse(r#"{"kafka": {"bootstrap.servers": "x"}}"#).unwrap();
    let settings = TopicSettings::parse(None, &driver).unwrap();
    let error = Creation::plan(INFO, settings, Components::default(), &driver).map(drop).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.message().contains("info_topic_prefix"), "{error}");
}

#[test]
fn fresh_orphaned_info_topic_is_replaced_after_the_lease() {
    for records in [&[][..], &OTHERS[..1], &OTHERS] {
        let kafka = FakeKafka::default();
        kafka.add_with(INFO, 1, records, now());
        let started = Instant::now();
        kafka.create("{}").unwrap();
        assert!(started.elapsed() >= SHORT_LEASE * 9 / 10, "{:?}", started.elapsed());
        assert_eq!(kafka.steps()[1], "delete __info_t");
        assert_eq!(kafka.records(INFO), OURS);
    }
}

#[test]
fn orphaned_info_topic_with_old_records_is_replaced_at_once() {
    let kafka = FakeKafka::default();
    kafka.add_with(INFO, 1, &OTHERS, now() - 2 * SHORT_LEASE.as_millis() as i64);
    let started = Instant::now();
    kafka.create("{}").unwrap();
    assert!(started.elapsed() < SHORT_LEASE / 2, "{:?}", started.elapsed());
    assert_eq!(kafka.records(INFO), OURS);
}

/// Creates the topic while another creator, which is slower, adds it.
fn assert_creation_reports_a_topic_added_meanwhile(kafka: &FakeKafka) {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| kafka.create("{}"));
        std::thread::sleep(SHORT_LEASE / 4);
        kafka.add("t");
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), Kind::TopicExists);
    });
}

#[test]
fn topic_created_during_the_wait_exists() {
    let kafka = FakeKafka::default();
    kafka.add_with(INFO, 1, &OTHERS, now());
    assert_creation_reports_a_topic_added_meanwhile(&kafka);
    assert_eq!(kafka.records(INFO), OTHERS);
}

#[test]
fn busy_creator_is_named_by_its_info_topic_at_the_timeout() {
    let kafka = FakeKafka::default();
    kafka.add_with(INFO, 1, &OTHERS, now());
    let error = kafka.create_until("{}", SHORT_LEASE / 4).unwrap_err();
    assert!(error.kind() == Kind::Unreachable && error.is_retriable());
    assert!(error.message().contains(INFO), "{error}");
    assert_eq!(kafka.records(INFO), OTHERS);
}

#[test]
fn foreign_topic_with_an_info_topic_name_is_kept() {
    let truncated = InfoTopic { partitions: 1, records: Vec::new(), is_truncated: true };
    let four: Vec<_> = (0..4).map(|_| InfoRecord::default()).collect();
    for foreign in [
        InfoTopic { partitions: 2, ..InfoTopic::default() },
        InfoTopic { partitions: 1, records: four, is_truncated: false },
        truncated,
    ] {
        let kafka = FakeKafka::default();
        kafka.topics.lock().insert(INFO.to_owned(), foreign.clone());
        let error = kafka.create("{}").unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.message().contains(INFO), "{error}");
        assert_eq!(kafka.topics.lock().get(INFO), Some(&foreign));
    }
}

/// It deletes nothing: another creator may already have replaced the info topic.
#[test]
fn creator_delayed_for_half_a_lease_gives_up() {
    for step in &IN_ORDER[..2] {
        let kafka = FakeKafka::acting_after(step, |_| std::thread::sleep(SHORT_LEASE / 2));
        let error = kafka.create("{}").unwrap_err();
        assert!(error.is_retriable() && error.message().contains("given up"), "{error}");
        assert_eq!(kafka.steps().last().unwrap(), step, "a step after the delay");
    }
}

#[test]
fn info_topic_deleted_before_it_has_records_is_recreated() {
    let kafka = FakeKafka::acting_after("create __info_t", |kafka| kafka.remove(INFO));
    kafka.create("{}").unwrap();
    assert_eq!(kafka.records(INFO), OURS);
}

#[test]
fn info_topic_deleted_after_the_topic_exists_is_rewritten() {
    let kafka = FakeKafka::acting_after("create t", |kafka| kafka.remove(INFO));
    kafka.create("{}").unwrap();
    assert_eq!(kafka.records(INFO), OURS);
}

#[test]
fn empty_info_topic_of_another_creator_is_filled_after_a_lease() {
    let kafka = FakeKafka::acting_after("create t", |kafka| kafka.add(INFO));
    kafka.create("{}").unwrap();
    assert_eq!(kafka.records(INFO), OURS);
}

#[test]
fn creator_that_reads_back_other_components_has_lost() {
    let kafka = FakeKafka::acting_after("create t", |kafka| kafka.add_with(INFO, 1, &OTHERS, now()));
    let error = kafka.create("{}").unwrap_err();
    assert_eq!(error.kind(), Kind::TopicExists);
    assert_eq!(kafka.records(INFO), OTHERS, "the components of the topic");
}

/// The topic appears while its info topic is deleted as orphaned.
#[test]
fn info_topic_of_a_topic_created_late_is_restored() {
    let kafka = FakeKafka::acting_after("delete __info_t", |kafka| kafka.add("t"));
    kafka.add_with(INFO, 1, &OTHERS, 0);
    assert_eq!(kafka.create("{}").unwrap_err().kind(), Kind::TopicExists);
    assert_eq!(kafka.records(INFO), OTHERS);
}

#[test]
fn replaced_info_topic_deleted_by_a_slow_creator_is_rewritten() {
    // Another creator, which saw the orphaned info topic too, deletes the new one by its name.
    let kafka = FakeKafka::acting_after("read back", |kafka| kafka.remove(INFO));
    kafka.add_with(INFO, 1, &["0", "1", "2"], 0);
    kafka.create("{}").unwrap();
    assert_eq!(kafka.records(INFO), OURS);
}

#[test]
fn creator_that_deleted_nothing_restores_nothing() {
    let other_acts = |kafka: &FakeKafka| {
        kafka.remove(INFO);
        kafka.add("t");
    };
    let fault = Some(("delete __info_t", Kind::UnknownTopic));
    let kafka = FakeKafka { fault, ..FakeKafka::acting_after("delete __info_t", other_acts) };
    kafka.add_with(INFO, 1, &["0", "1", "2"], 0);
    assert_eq!(kafka.create("{}").unwrap_err().kind(), Kind::TopicExists);
    // The creator that deleted it restores it, or knows that its holder does.
    assert_eq!(kafka.records(INFO), [""; 0]);
}

/// The service reports success to each of several creators, so the order of their records decides.
#[test]
fn creator_with_the_first_records_wins_at_the_service() {
    let other_was_first = |kafka: &FakeKafka| kafka.add_with(INFO, 1, &OTHERS, now());
    let kafka = FakeKafka::acting_after("create __info_t", other_was_first).into_service();
    assert_eq!(kafka.create("{}").unwrap_err().kind(), Kind::TopicExists);
    assert_eq!(kafka.records(INFO), [OTHERS, OURS].concat(), "the records of the other creator were lost");

    let other_created_it = |kafka: &FakeKafka| kafka.add("t");
    let kafka = FakeKafka::acting_after("write 3 to __info_t", other_created_it).into_service();
    kafka.create("{}").expect("its records are the first");
    assert_eq!(kafka.records(INFO), OURS);
}

#[test]
fn records_of_several_creators_at_the_service_are_kept() {
    let both = [OTHERS, OTHERS].concat();
    let kafka = FakeKafka::default().into_service();
    kafka.add_with(INFO, 1, &both, now());
    assert_creation_reports_a_topic_added_meanwhile(&kafka);
    let kafka = FakeKafka::default().into_service();
    kafka.add_with(INFO, 1, &both, 0);
    assert_eq!(kafka.create("{}").unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(kafka.records(INFO), both);
}

#[test]
fn info_topic_of_the_service_may_have_several_partitions() {
    let kafka = FakeKafka::default().into_service();
    kafka.add_with(INFO, 3, &OTHERS, 0);
    kafka.create(r#"{"num_partitions": 5}"#).unwrap();
    assert_eq!(kafka.records(INFO), OURS);
}
