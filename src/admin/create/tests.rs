use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::*;
use crate::config::Properties;

/// Short, but longer than any step here takes.
const SHORT_LEASE: Duration = Duration::from_millis(200);
const INFO: &str = "__info_t";

/// A Kafka of one's imagination: it does as told, and notes what it was asked to do.
#[derive(Default)]
struct Imagined {
    steps: Mutex<Vec<String>>,
    topics: Mutex<BTreeMap<String, InfoTopic>>,
    fails: Option<(&'static str, Kind)>,
    /// Happens once, just after this step.
    meanwhile: Mutex<Option<(&'static str, Meanwhile)>>,
    /// Topics are made by a service, which gives what it likes, and makes what is there again without a word.
    is_a_service: bool,
}

type Meanwhile = Box<dyn FnOnce(&Imagined) + Send>;

impl Imagined {
    fn that_fails(on: &'static str, how: Kind) -> Self {
        Imagined { fails: Some((on, how)), ..Imagined::default() }
    }

    fn where_after(step: &'static str, happens: impl FnOnce(&Imagined) + Send + 'static) -> Self {
        Imagined { meanwhile: Mutex::new(Some((step, Box::new(happens)))), ..Imagined::default() }
    }

    fn by_a_service(self) -> Self {
        Imagined { is_a_service: true, ..self }
    }

    fn has(&self, topic: &str) {
        self.has_with(topic, 1, &[], 0);
    }

    fn has_with(&self, topic: &str, partitions: u32, records: &[&str], timestamp: i64) {
        let record = |text: &&str| InfoRecord { payload: text.as_bytes().to_vec(), timestamp };
        let held = InfoTopic { partitions, records: records.iter().map(record).collect(), begins_later: false };
        self.topics.lock().insert(topic.to_owned(), held);
    }

    fn lacks(&self, topic: &str) {
        self.topics.lock().remove(topic);
    }

    fn records(&self, topic: &str) -> Vec<String> {
        let topics = self.topics.lock();
        let records = topics.get(topic).map_or(&[][..], |held| &held.records);
        records.iter().map(|record| String::from_utf8_lossy(&record.payload).into_owned()).collect()
    }

    fn step(&self, step: String) -> Result<()> {
        let failure = self.fails.filter(|(on, _)| *on == step);
        self.steps.lock().push(step);
        failure.map_or(Ok(()), |(on, how)| Err(Error::new(how, format!("{on} failed"))))
    }

    fn and_then(&self, step: &str) {
        let happens = self.meanwhile.lock().take_if(|(after, _)| *after == step);
        if let Some((_, happens)) = happens {
            happens(self);
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

impl Admin for Imagined {
    fn create(&self, topic: &NewTopic, _: Deadline) -> Result<()> {
        let step = format!("create {}", topic.kafka_name);
        self.step(step.clone())?;
        if self.topics.lock().contains_key(&topic.kafka_name) {
            return Err(Error::new(Kind::TopicExists, format!("{} is there", topic.kafka_name)));
        }
        self.has_with(&topic.kafka_name, topic.partitions, &[], 0);
        self.and_then(&step);
        Ok(())
    }

    fn delete(&self, kafka_name: &str, _: Deadline) -> Result<()> {
        let step = format!("delete {kafka_name}");
        let told = self.step(step.clone());
        if told.is_ok() {
            self.lacks(kafka_name);
        }
        self.and_then(&step);
        told
    }

    fn empty(&self, _: &str, _: u32, _: Deadline) -> Result<()> {
        Ok(())
    }

    fn partition_count(&self, kafka_name: &str, _: Deadline) -> Result<Option<u32>> {
        Ok(self.topics.lock().get(kafka_name).map(|held| held.partitions))
    }

    fn honors_topic_options(&self) -> bool {
        !self.is_a_service
    }

    fn distinguishes_creators(&self) -> bool {
        !self.is_a_service
    }

    fn settings(&self, _: &str, _: Deadline) -> Result<Properties> {
        Ok(Properties::default())
    }
}

impl InfoTopics for Imagined {
    fn read(&self, kafka_name: &str, _: Deadline) -> Result<Option<InfoTopic>> {
        let found = self.topics.lock().get(kafka_name).cloned();
        if self.topics.lock().contains_key("t") {
            self.and_then("read back");
        }
        Ok(found)
    }

    fn write(&self, kafka_name: &str, records: &[&str], _: Deadline) -> Result<()> {
        let step = format!("write {} to {kafka_name}", records.len());
        self.step(step.clone())?;
        let mut topics = self.topics.lock();
        let held = topics.get_mut(kafka_name).ok_or_else(|| Error::new(Kind::UnknownTopic, "it's gone"))?;
        let record = |text: &&str| InfoRecord { payload: text.as_bytes().to_vec(), timestamp: now() };
        held.records.extend(records.iter().map(record));
        drop(topics);
        self.and_then(&step);
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
fn the_info_topic_and_its_records_are_there_before_the_topic_is() {
    let kafka = Imagined::default();
    kafka.create("{}").unwrap();
    assert_eq!(kafka.steps(), IN_ORDER);
}

#[test]
fn without_an_info_topic_only_the_topic_is_made() {
    let kafka = Imagined::default();
    kafka.create(r#"{"disable_info_topic": true}"#).unwrap();
    assert_eq!(kafka.steps(), ["create t"]);
}

#[test]
fn a_topic_that_the_broker_refuses_leaves_no_info_topic() {
    let kafka = Imagined::that_fails("create t", Kind::Kafka);
    let error = kafka.create("{}").unwrap_err();
    assert_eq!(error.message(), "creating topic \"t\": create t failed");
    assert_eq!(kafka.steps().last().unwrap(), "delete __info_t");
}

#[test]
fn a_topic_that_may_be_there_after_all_keeps_its_components() {
    for lost_answer in [Kind::Unreachable, Kind::TopicExists] {
        let kafka = Imagined::that_fails("create t", lost_answer);
        assert_eq!(kafka.create("{}").unwrap_err().kind(), lost_answer);
        assert_eq!(kafka.steps().last().unwrap(), "create t", "nothing is deleted");
    }
}

#[test]
fn a_topic_that_exists_is_left_alone() {
    let kafka = Imagined::default();
    kafka.has("t");
    assert_eq!(kafka.create("{}").unwrap_err().kind(), Kind::TopicExists);
    assert!(kafka.steps().is_empty());
}

#[test]
fn a_name_like_an_info_topics_is_refused() {
    let driver = DriverSettings::parse(r#"{"kafka": {"bootstrap.servers": "x"}}"#).unwrap();
    let settings = TopicSettings::parse(None, &driver).unwrap();
    let error = Creation::plan(INFO, settings, Components::default(), &driver).map(drop).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.message().contains("info_topic_prefix"), "{error}");
}

#[test]
fn a_fresh_info_topic_without_its_topic_is_waited_for_and_then_taken_over() {
    for records in [&[][..], &OTHERS[..1], &OTHERS] {
        let kafka = Imagined::default();
        kafka.has_with(INFO, 1, records, now());
        let started = Instant::now();
        kafka.create("{}").unwrap();
        assert!(started.elapsed() >= SHORT_LEASE * 9 / 10, "{:?}", started.elapsed());
        assert_eq!(kafka.steps()[1], "delete __info_t");
        assert_eq!(kafka.records(INFO), OURS);
    }
}

#[test]
fn an_info_topic_whose_records_are_older_than_a_lease_is_taken_over_at_once() {
    let kafka = Imagined::default();
    kafka.has_with(INFO, 1, &OTHERS, now() - 2 * SHORT_LEASE.as_millis() as i64);
    let started = Instant::now();
    kafka.create("{}").unwrap();
    assert!(started.elapsed() < SHORT_LEASE / 2, "{:?}", started.elapsed());
    assert_eq!(kafka.records(INFO), OURS);
}

#[test]
fn a_topic_that_comes_while_it_is_waited_for_exists() {
    let kafka = Imagined::default();
    kafka.has_with(INFO, 1, &OTHERS, now());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| kafka.create("{}"));
        std::thread::sleep(SHORT_LEASE / 4);
        kafka.has("t");
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), Kind::TopicExists);
    });
    assert_eq!(kafka.records(INFO), OTHERS);
}

#[test]
fn a_creator_that_takes_longer_than_the_caller_has_time_is_an_error_that_names_the_info_topic() {
    let kafka = Imagined::default();
    kafka.has_with(INFO, 1, &OTHERS, now());
    let error = kafka.create_until("{}", SHORT_LEASE / 4).unwrap_err();
    assert!(error.kind() == Kind::Unreachable && error.is_retriable());
    assert!(error.message().contains(INFO), "{error}");
    assert_eq!(kafka.records(INFO), OTHERS);
}

#[test]
fn what_does_not_look_like_an_info_topic_is_never_deleted() {
    let others = InfoTopic { partitions: 1, records: Vec::new(), begins_later: true };
    let four: Vec<_> = (0..4).map(|_| InfoRecord::default()).collect();
    for foreign in [
        InfoTopic { partitions: 2, ..InfoTopic::default() },
        InfoTopic { partitions: 1, records: four, begins_later: false },
        others,
    ] {
        let kafka = Imagined::default();
        kafka.topics.lock().insert(INFO.to_owned(), foreign.clone());
        let error = kafka.create("{}").unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.message().contains(INFO), "{error}");
        assert_eq!(kafka.topics.lock().get(INFO), Some(&foreign));
    }
}

#[test]
fn a_creator_that_was_held_up_for_half_a_lease_gives_up_and_leaves_what_it_made() {
    for step in &IN_ORDER[..2] {
        let kafka = Imagined::where_after(step, |_| std::thread::sleep(SHORT_LEASE / 2));
        let error = kafka.create("{}").unwrap_err();
        assert!(error.is_retriable() && error.message().contains("given up"), "{error}");
        assert_eq!(kafka.steps().last().unwrap(), step, "nothing is done or deleted afterwards");
    }
}

#[test]
fn an_info_topic_that_is_taken_away_before_it_was_filled_is_made_again() {
    let kafka = Imagined::where_after("create __info_t", |kafka| kafka.lacks(INFO));
    kafka.create("{}").unwrap();
    assert_eq!(kafka.records(INFO), OURS);
}

#[test]
fn an_info_topic_that_is_taken_away_after_the_topic_came_is_written_again() {
    let kafka = Imagined::where_after("create t", |kafka| kafka.lacks(INFO));
    kafka.create("{}").unwrap();
    assert_eq!(kafka.records(INFO), OURS);
}

#[test]
fn an_empty_info_topic_in_place_of_ours_is_filled_when_nobody_else_does() {
    let kafka = Imagined::where_after("create t", |kafka| kafka.has(INFO));
    kafka.create("{}").unwrap();
    assert_eq!(kafka.records(INFO), OURS);
}

#[test]
fn whoever_finds_anothers_components_in_the_end_has_lost() {
    let kafka = Imagined::where_after("create t", |kafka| kafka.has_with(INFO, 1, &OTHERS, now()));
    let error = kafka.create("{}").unwrap_err();
    assert_eq!(error.kind(), Kind::TopicExists);
    assert_eq!(kafka.records(INFO), OTHERS, "they are what the topic has");
}

#[test]
fn a_topic_that_comes_while_its_info_topic_is_taken_away_gets_it_back() {
    let kafka = Imagined::where_after("delete __info_t", |kafka| kafka.has("t"));
    kafka.has_with(INFO, 1, &OTHERS, 0);
    assert_eq!(kafka.create("{}").unwrap_err().kind(), Kind::TopicExists);
    assert_eq!(kafka.records(INFO), OTHERS);
}

#[test]
fn what_came_in_a_left_overs_place_is_guarded_for_a_while() {
    // Somebody who read the left-over, too, deletes by name what is there now.
    let kafka = Imagined::where_after("read back", |kafka| kafka.lacks(INFO));
    kafka.has_with(INFO, 1, &["0", "1", "2"], 0);
    kafka.create("{}").unwrap();
    assert_eq!(kafka.records(INFO), OURS);
}

#[test]
fn whoever_comes_too_late_to_take_a_left_over_away_puts_nothing_back() {
    let meanwhile = |kafka: &Imagined| {
        kafka.lacks(INFO);
        kafka.has("t");
    };
    let fails = Some(("delete __info_t", Kind::UnknownTopic));
    let kafka = Imagined { fails, ..Imagined::where_after("delete __info_t", meanwhile) };
    kafka.has_with(INFO, 1, &["0", "1", "2"], 0);
    assert_eq!(kafka.create("{}").unwrap_err().kind(), Kind::TopicExists);
    // Whoever took it away has the right records, or knows who has.
    assert_eq!(kafka.records(INFO), [""; 0]);
}

#[test]
fn of_makers_that_are_not_told_apart_the_one_whose_records_are_first_has_made_the_topic() {
    let others_were_first = |kafka: &Imagined| kafka.has_with(INFO, 1, &OTHERS, now());
    let kafka = Imagined::where_after("create __info_t", others_were_first).by_a_service();
    assert_eq!(kafka.create("{}").unwrap_err().kind(), Kind::TopicExists);
    assert_eq!(kafka.records(INFO), [OTHERS, OURS].concat(), "nothing is taken away from the other");

    let another_made_it = |kafka: &Imagined| kafka.has("t");
    let kafka = Imagined::where_after("write 3 to __info_t", another_made_it).by_a_service();
    kafka.create("{}").expect("these records were first");
    assert_eq!(kafka.records(INFO), OURS);
}

#[test]
fn records_of_several_makers_that_are_not_told_apart_are_waited_behind_and_never_taken_away() {
    let both = [OTHERS, OTHERS].concat();
    let kafka = Imagined::default().by_a_service();
    kafka.has_with(INFO, 1, &both, now());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| kafka.create("{}"));
        std::thread::sleep(SHORT_LEASE / 4);
        kafka.has("t");
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), Kind::TopicExists);
    });
    let kafka = Imagined::default().by_a_service();
    kafka.has_with(INFO, 1, &both, 0);
    assert_eq!(kafka.create("{}").unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(kafka.records(INFO), both);
}

#[test]
fn info_topics_of_a_service_may_have_several_partitions() {
    let kafka = Imagined::default().by_a_service();
    kafka.has_with(INFO, 3, &OTHERS, 0);
    kafka.create(r#"{"num_partitions": 5}"#).unwrap();
    assert_eq!(kafka.records(INFO), OURS);
}
