//! Makes a topic of Octopus: the info topic first, its three records next, the topic itself last. So a topic that
//! exists has its components, and a crash on the way leaves an info topic that nobody sees.

use std::thread;
use std::time::Duration;

use super::{Admin, NewTopic};
use crate::components::{Component, Components, Role};
use crate::config::{DriverSettings, Properties, TopicSettings, check_topic_name};
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};

/// What is to be made, checked before anything is.
pub struct Creation {
    name: String,
    topic: NewTopic,
    /// None when the topic shall have no info topic.
    info: Option<NewTopic>,
    components: Components,
}

impl Creation {
    pub fn plan(name: &str, settings: TopicSettings, components: Components, driver: &DriverSettings) -> Result<Self> {
        let topic = NewTopic {
            kafka_name: driver.kafka_name(name),
            partitions: settings.partitions,
            replication: settings.replication,
            config: settings.config,
        };
        let info = NewTopic {
            kafka_name: driver.info_topic_name(name),
            partitions: 1,
            replication: settings.replication,
            config: kept_for_ever(),
        };
        check_topic_name(if name.is_empty() { name } else { &topic.kafka_name })?;
        if settings.disable_info_topic {
            refuse_lost_components(name, &components)?;
            return Ok(Creation { name: name.to_owned(), topic, info: None, components });
        }
        check_topic_name(&info.kafka_name)?;
        Ok(Creation { name: name.to_owned(), topic, info: Some(info), components })
    }

    /// The components' JSON as it stands in the info topic.
    pub fn records(&self) -> [&str; 3] {
        self.components.in_order().map(|(_, component)| Component::json(component))
    }
}

/// `write` puts records into a topic of this name, in order, and returns when all are there.
pub fn create(
    creation: &Creation,
    admin: &dyn Admin,
    write: impl FnOnce(&str, &[&str]) -> Result<()>,
    deadline: Deadline,
) -> Result<()> {
    create_in_order(creation, admin, write, deadline).map_err(|error| match error.kind() {
        Kind::TopicExists => error,
        _ => error.during(format_args!("creating topic {:?}", creation.name)),
    })
}

fn create_in_order(
    creation: &Creation,
    admin: &dyn Admin,
    write: impl FnOnce(&str, &[&str]) -> Result<()>,
    deadline: Deadline,
) -> Result<()> {
    let Creation { name, topic, .. } = creation;
    if admin.partition_count(&topic.kafka_name, deadline)?.is_some() {
        return Err(exists(name));
    }
    let Some(info) = &creation.info else {
        admin.create(topic, deadline).map_err(|error| or_exists(error, name))?;
        return wait_until_visible(topic, admin, deadline);
    };
    match admin.create(info, deadline) {
        Err(error) if error.kind() == Kind::TopicExists => return Err(taken(creation, info, admin, deadline)),
        other => other?,
    }
    let made = write(&info.kafka_name, &creation.records())
        .and_then(|()| admin.create(topic, deadline).map_err(|error| or_exists(error, name)));
    if let Err(error) = made {
        if matches!(error.kind(), Kind::TopicExists | Kind::Unreachable) {
            // The topic is there, or may come to be there yet: it must not lose its components.
            return Err(error);
        }
        // Nobody can have seen it; if this fails too, it is what a crash would have left.
        let left = admin.delete(&info.kafka_name, deadline).err();
        return Err(match left {
            None => error,
            Some(why) => error.adding(format_args!("the info topic {:?} is left: {why}", info.kafka_name)),
        });
    }
    wait_until_visible(topic, admin, deadline)
}

/// The info topic is there without us: either the topic is too by now, or somebody is at it, or crashed.
fn taken(creation: &Creation, info: &NewTopic, admin: &dyn Admin, deadline: Deadline) -> Error {
    match admin.partition_count(&creation.topic.kafka_name, deadline) {
        Ok(Some(_)) => exists(&creation.name),
        Ok(None) => Error::new(
            Kind::TopicExists,
            format!(
                "creating topic {:?}: its info topic {:?} exists, but the topic does not: another creator is at \
                 work, or one ended half-way; try again, or delete that info topic",
                creation.name, info.kafka_name
            ),
        )
        .retriable(true),
        Err(error) => error,
    }
}

/// Brokers hear of a new topic one after the other; whoever opens it next should find it.
fn wait_until_visible(topic: &NewTopic, admin: &dyn Admin, deadline: Deadline) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    loop {
        if admin.partition_count(&topic.kafka_name, deadline)? == Some(topic.partitions) {
            return Ok(());
        }
        if deadline.has_passed() {
            return Err(Error::new(
                Kind::Unreachable,
                format!("creating the Kafka topic {:?}: made, but not visible in time", topic.kafka_name),
            )
            .retriable(true));
        }
        thread::sleep(PAUSE);
    }
}

fn exists(name: &str) -> Error {
    Error::new(Kind::TopicExists, format!("creating topic {name:?}: it exists already"))
}

fn or_exists(error: Error, name: &str) -> Error {
    if error.kind() == Kind::TopicExists { exists(name) } else { error }
}

fn kept_for_ever() -> Properties {
    let mut config = Properties::default();
    config.set("cleanup.policy", "delete");
    config.set("retention.ms", "-1");
    config.set("retention.bytes", "-1");
    config
}

fn refuse_lost_components(name: &str, components: &Components) -> Result<()> {
    let lost = components.in_order().into_iter().find(|(_, component)| !component.is_default());
    match lost {
        None => Ok(()),
        Some((role, component)) => Err(Error::new(
            Kind::Component,
            format!(
                "creating topic {name:?}: with \"disable_info_topic\" the {} {} would be lost; only \"default\" can be \
                 used without an info topic",
                Role::name(role),
                component.json()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// A Kafka of one's imagination: it does as told for one topic, and notes what it was asked to do.
    #[derive(Default)]
    struct Imagined {
        steps: Mutex<Vec<String>>,
        topics: Mutex<Vec<String>>,
        fails: Option<(&'static str, Kind)>,
    }

    impl Imagined {
        fn that_fails(on: &'static str, how: Kind) -> Self {
            Imagined { fails: Some((on, how)), ..Imagined::default() }
        }

        fn has(&self, topic: &str) {
            self.topics.lock().push(topic.to_owned());
        }

        fn step(&self, step: String) -> Result<()> {
            let failure = self.fails.filter(|(on, _)| *on == step);
            self.steps.lock().push(step);
            failure.map_or(Ok(()), |(on, how)| Err(Error::new(how, format!("{on} failed"))))
        }

        fn create(&self, options: &str) -> Result<()> {
            let driver = DriverSettings::parse(r#"{"kafka": {"bootstrap.servers": "x"}}"#).unwrap();
            let settings = TopicSettings::parse(Some(options), &driver).unwrap();
            let creation = Creation::plan("t", settings, Components::default(), &driver).unwrap();
            let write = |topic: &str, records: &[&str]| self.step(format!("write {} to {topic}", records.len()));
            create(&creation, self, write, Deadline::after(Duration::from_secs(10)))
        }

        fn steps(&self) -> Vec<String> {
            self.steps.lock().clone()
        }
    }

    impl Admin for Imagined {
        fn create(&self, topic: &NewTopic, _: Deadline) -> Result<()> {
            self.step(format!("create {}", topic.kafka_name))?;
            self.has(&topic.kafka_name);
            Ok(())
        }

        fn delete(&self, kafka_name: &str, _: Deadline) -> Result<()> {
            self.step(format!("delete {kafka_name}"))
        }

        fn partition_count(&self, kafka_name: &str, _: Deadline) -> Result<Option<u32>> {
            Ok(self.topics.lock().iter().any(|topic| topic == kafka_name).then_some(1))
        }
    }

    #[test]
    fn the_info_topic_and_its_records_are_there_before_the_topic_is() {
        let kafka = Imagined::default();
        kafka.create("{}").unwrap();
        assert_eq!(kafka.steps(), ["create __info_t", "write 3 to __info_t", "create t"]);
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
    fn an_info_topic_without_its_topic_is_another_creators_and_trying_again_may_help() {
        let kafka = Imagined::that_fails("create __info_t", Kind::TopicExists);
        let error = kafka.create("{}").unwrap_err();
        assert!(error.kind() == Kind::TopicExists && error.is_retriable());
        assert!(error.message().contains("__info_t"), "{error}");
        assert_eq!(kafka.steps(), ["create __info_t"]);
    }
}
