//! Creates a topic of Octopus: first its info topic, then the three records in it, then the topic.
//! So a topic that exists has its components, and a crash on the way leaves an orphaned info topic,
//! which no host sees.
//!
//! The creation of the info topic is the lock: Kafka lets one of several creators succeed. The
//! winner holds the lock for a lease and acts only in the first half of it. The others wait for the
//! topic; if it does not exist at the end of the lease, they delete the orphaned info topic and
//! start again. Clocks differ and processes pause, so they can delete the info topic of a creator
//! that is still at work. Therefore a creator succeeds only after it has read back the topic and
//! its own three records.

mod lease;

use std::thread;
use std::time::Duration;

use super::{Admin, InfoRecord, InfoTopic, InfoTopics, NewTopic};
use crate::components::{Component, Components, Role};
use crate::config::{DriverSettings, Properties, TopicSettings, check_topic_name};
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use lease::{Hold, LEASE, WatchedLease};

/// A topic to be created, validated before anything is created.
pub struct Creation {
    name: String,
    topic: NewTopic,
    /// `None` with `disable_info_topic`.
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
            config: unlimited_retention(),
        };
        check_topic_name(if name.is_empty() { name } else { &topic.kafka_name })?;
        reject_info_topic_name(name, driver)?;
        driver.check_service_name(name)?;
        if settings.disable_info_topic {
            reject_lost_components(name, &components)?;
            return Ok(Creation { name: name.to_owned(), topic, info: None, components });
        }
        check_topic_name(&info.kafka_name)?;
        driver.check_service_name(&format!("{}{name}", driver.info_topic_prefix))?;
        Ok(Creation { name: name.to_owned(), topic, info: Some(info), components })
    }

    /// The JSON of the components, as the info topic holds it.
    pub fn records(&self) -> [&str; 3] {
        self.components.in_order().map(|(_, component)| Component::json(component))
    }
}

pub fn create(creation: &Creation, admin: &dyn Admin, info_topics: &dyn InfoTopics, deadline: Deadline) -> Result<()> {
    create_within(creation, admin, info_topics, LEASE, deadline)
}

fn create_within(
    creation: &Creation,
    admin: &dyn Admin,
    info_topics: &dyn InfoTopics,
    lease: Duration,
    deadline: Deadline,
) -> Result<()> {
    let creator = Creator { creation, admin, info_topics, lease, deadline };
    let created = match &creation.info {
        Some(info) => creator.create_with(info),
        None => creator.create_alone(),
    };
    created.map_err(|error| error.context(format_args!("creating topic {:?}", creation.name)))
}

/// One call of [`create`].
struct Creator<'a> {
    creation: &'a Creation,
    admin: &'a dyn Admin,
    info_topics: &'a dyn InfoTopics,
    lease: Duration,
    deadline: Deadline,
}

impl Creator<'_> {
    fn create_alone(&self) -> Result<()> {
        self.reject_existing()?;
        self.admin.create(&self.creation.topic, self.deadline).map_err(or_exists)?;
        loop {
            if self.is_topic_visible()? {
                return Ok(());
            }
            self.pause_or_else(PROPAGATION_PAUSE, || self.not_visible())?;
        }
    }

    fn create_with(&self, info: &NewTopic) -> Result<()> {
        let mut saw_orphan = false;
        loop {
            self.reject_existing()?;
            // The lease begins before the request: others may see the info topic before its creator
            // receives the response.
            let hold = Hold::begin(self.lease);
            match self.admin.create(info, self.deadline) {
                Ok(()) => match self.fill_and_create(info, &hold) {
                    // Another creator deleted the info topic as orphaned before it had records.
                    Err(error) if error.kind() == Kind::UnknownTopic && !self.deadline.has_passed() => {}
                    other if saw_orphan => return other.and_then(|()| self.read_back_repeatedly(info)),
                    other => return other.and_then(|()| self.read_back(info)),
                },
                Err(error) if error.kind() == Kind::TopicExists => {
                    self.wait_for_holder(info).map_err(|error| match error.kind() {
                        // A request timed out; what the call was waiting for matters more.
                        Kind::Unreachable if self.deadline.has_passed() => self.busy(info),
                        _ => error,
                    })?;
                    saw_orphan = true;
                }
                Err(error) => return Err(error),
            }
            self.pause_or_else(PROPAGATION_PAUSE, || self.busy(info))?;
        }
    }

    /// The steps of the creator that holds the info topic.
    fn fill_and_create(&self, info: &NewTopic, hold: &Hold) -> Result<()> {
        let topic = &self.creation.topic;
        let in_time = hold.end().sooner(self.deadline);
        let created = hold
            .check(&info.kafka_name)
            .and_then(|()| self.info_topics.write(&info.kafka_name, &self.creation.records(), in_time))
            .and_then(|()| hold.check(&info.kafka_name))
            .and_then(|()| self.admin.create(topic, in_time).map_err(or_exists))
            .or_else(|error| match error.kind() {
                // Another creator holds the info topic too; the records in it decide who created
                // the topic.
                Kind::TopicExists if !self.admin.distinguishes_creators() => Ok(()),
                _ => Err(error),
            });
        let Err(error) = created else { return Ok(()) };
        // The topic exists, or may exist soon, or the info topic is not ours: it must keep its
        // records.
        let keep = matches!(error.kind(), Kind::TopicExists | Kind::Unreachable | Kind::UnknownTopic);
        if keep || hold.check(&info.kafka_name).is_err() {
            return Err(error);
        }
        // No other creator relies on it. If the deletion fails too, the info topic is orphaned, as
        // after a crash.
        match self.admin.delete(&info.kafka_name, self.deadline) {
            Ok(()) => Err(error),
            Err(cause) => {
                Err(error.with_note(format_args!("the info topic {:?} was not deleted: {cause}", info.kafka_name)))
            }
        }
    }

    /// Returns when the info topic is deleted; fails when the topic exists.
    fn wait_for_holder(&self, info: &NewTopic) -> Result<()> {
        let mut lease = WatchedLease::first_seen(self.lease);
        loop {
            self.reject_existing()?;
            let Some(found) = self.info_topics.read(&info.kafka_name, self.deadline)? else { return Ok(()) };
            lease.observe(&found);
            // Creators that are not distinguished may each have written their records by now, so
            // more than three are an error only after the lease.
            if lease.is_over() || self.admin.distinguishes_creators() {
                self.reject_foreign_topic(info, &found)?;
            }
            if lease.is_over() {
                return self.delete_orphan(info, &found);
            }
            let pause = HOLDER_PAUSE.max(self.admin.pause()).min(lease.remaining());
            self.pause_or_else(pause, || self.busy(info))?;
        }
    }

    fn delete_orphan(&self, info: &NewTopic, found: &InfoTopic) -> Result<()> {
        match self.admin.delete(&info.kafka_name, self.deadline) {
            Ok(()) => {}
            // Another creator deleted it first. It restores what it deleted, which may differ from
            // `found`.
            Err(error) if error.kind() == Kind::UnknownTopic => return self.reject_existing(),
            Err(error) => return Err(error),
        }
        let late = self.reject_existing();
        if late.is_err()
            && let Some(records) = found.components()
            && !self.is_restored_by_creator(info)?
        {
            // The holder was slow, not gone: its topic now exists and needs the deleted records.
            self.restore(info, records)?;
        }
        late
    }

    /// Whether the creator of the topic restores the info topic by itself. Only that creator knows
    /// for sure which records belong there.
    fn is_restored_by_creator(&self, info: &NewTopic) -> Result<bool> {
        let end = Deadline::after(self.lease / 30).sooner(self.deadline);
        while !end.has_passed() {
            if self.info_topics.read(&info.kafka_name, self.deadline)?.is_some() {
                return Ok(true);
            }
            thread::sleep(end.remaining(PROPAGATION_PAUSE));
        }
        Ok(false)
    }

    /// Reads back for a fifteenth of the lease: other creators that saw the orphaned info topic may
    /// delete the new one, which has the same name.
    fn read_back_repeatedly(&self, info: &NewTopic) -> Result<()> {
        let end = Deadline::after(self.lease / 15).sooner(self.deadline);
        loop {
            self.read_back(info)?;
            if end.has_passed() {
                return Ok(());
            }
            thread::sleep(end.remaining(HOLDER_PAUSE));
        }
    }

    fn restore(&self, info: &NewTopic, records: &[InfoRecord]) -> Result<()> {
        let texts: Vec<_> = records.iter().map(|record| String::from_utf8_lossy(&record.payload)).collect();
        let texts: Vec<_> = texts.iter().map(|text| &**text).collect();
        match self.admin.create(info, self.deadline) {
            Ok(()) => self.info_topics.write(&info.kafka_name, &texts, self.deadline),
            // Its creator has restored it.
            Err(error) if error.kind() == Kind::TopicExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until brokers report the topic, and its info topic with our records, so that a client
    /// that opens the topic next finds both. If the info topic is gone, another creator has deleted
    /// it as orphaned, and it is written again.
    fn read_back(&self, info: &NewTopic) -> Result<()> {
        let mut lease = WatchedLease::first_seen(self.lease);
        loop {
            if self.is_topic_visible()? {
                let found = self.info_topics.read(&info.kafka_name, self.deadline)?;
                match found.as_ref().map(|found| (found, found.components())) {
                    Some((_, Some(records))) if self.are_ours(records) => return Ok(()),
                    Some((_, Some(_))) => return Err(self.lost()),
                    Some((found, None)) => {
                        // Another creator has created it and fills it. If it does not within the
                        // lease, this one does.
                        lease.observe(found);
                        if lease.is_over() && found.records.is_empty() {
                            self.write_again(info)?;
                        }
                    }
                    None if self.create_again(info)? => self.write_again(info)?,
                    None => {}
                }
            }
            self.pause_or_else(PROPAGATION_PAUSE, || self.not_visible())?;
        }
    }

    /// Returns whether this call created the info topic.
    fn create_again(&self, info: &NewTopic) -> Result<bool> {
        match self.admin.create(info, self.deadline) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == Kind::TopicExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write_again(&self, info: &NewTopic) -> Result<()> {
        match self.info_topics.write(&info.kafka_name, &self.creation.records(), self.deadline) {
            Err(error) if error.kind() == Kind::UnknownTopic => Ok(()),
            other => other,
        }
    }

    fn are_ours(&self, records: &[InfoRecord]) -> bool {
        records.iter().map(|record| record.payload.as_slice()).eq(self.creation.records().map(str::as_bytes))
    }

    fn reject_existing(&self) -> Result<()> {
        match self.admin.exists(&self.creation.topic.kafka_name, self.deadline)? {
            true => Err(exists()),
            false => Ok(()),
        }
    }

    /// Whether brokers report the topic. Fails if another creator has created it with another
    /// number of partitions.
    fn is_topic_visible(&self) -> Result<bool> {
        let topic = &self.creation.topic;
        match self.admin.partition_count(&topic.kafka_name, self.deadline)? {
            Some(partitions) if partitions == topic.partitions || !self.admin.honors_topic_options() => Ok(true),
            Some(_) => Err(self.lost()),
            None => Ok(false),
        }
    }

    fn pause_or_else(&self, pause: Duration, late: impl FnOnce() -> Error) -> Result<()> {
        if self.deadline.has_passed() {
            return Err(late());
        }
        thread::sleep(self.deadline.remaining(pause));
        Ok(())
    }

    /// Fails if the Kafka topic can't be an info topic: such a topic is never deleted, whatever its
    /// name.
    fn reject_foreign_topic(&self, info: &NewTopic, found: &InfoTopic) -> Result<()> {
        let difference = match found {
            InfoTopic { partitions, .. } if *partitions != 1 && self.admin.honors_topic_options() => {
                format!("it has {partitions} partitions")
            }
            InfoTopic { is_truncated: true, .. } => "its first records were removed".to_owned(),
            InfoTopic { records, .. } if records.len() > InfoTopic::RECORDS => {
                format!("it has more than {} records", InfoTopic::RECORDS)
            }
            _ => return Ok(()),
        };
        Err(Error::invalid(format!(
            "the Kafka topic {:?} has the name of its info topic, but is not an info topic ({difference}), so it is \
             kept; choose another name or \"info_topic_prefix\", or delete that topic",
            info.kafka_name
        )))
    }

    fn lost(&self) -> Error {
        Error::new(Kind::TopicExists, "another creator created it at the same time, with other options or components")
    }

    fn not_visible(&self) -> Error {
        let name = &self.creation.topic.kafka_name;
        let reason =
            format!("the Kafka topic {name:?} was created, but can't be read back in time; try whether it opens");
        Error::new(Kind::Unreachable, reason).retriable(true)
    }

    fn busy(&self, info: &NewTopic) -> Error {
        let reason = format!(
            "its info topic {:?} exists, but the topic does not: another creator is at work or was interrupted; try \
             again (an interrupted creation is taken over after {} s, if timeout_ms is larger than that)",
            info.kafka_name,
            self.lease.as_secs()
        );
        Error::new(Kind::Unreachable, reason).retriable(true)
    }
}

/// Between two requests for a change that brokers report within milliseconds.
const PROPAGATION_PAUSE: Duration = Duration::from_millis(10);
/// Between two checks of what another creator does.
const HOLDER_PAUSE: Duration = Duration::from_millis(100);

/// Rejects the names of info topics: such a topic would be read as the components of another one.
pub fn reject_info_topic_name(name: &str, driver: &DriverSettings) -> Result<()> {
    let prefix = &driver.info_topic_prefix;
    if !name.starts_with(prefix.as_str()) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "topic name {name:?}: names that begin with {prefix:?} belong to info topics (\"info_topic_prefix\"); \
         choose another name"
    )))
}

fn exists() -> Error {
    Error::new(Kind::TopicExists, "it exists already")
}

fn or_exists(error: Error) -> Error {
    if error.kind() == Kind::TopicExists { exists() } else { error }
}

fn unlimited_retention() -> Properties {
    let mut config = Properties::default();
    config.set("cleanup.policy", "delete");
    config.set("retention.ms", "-1");
    config.set("retention.bytes", "-1");
    config
}

fn reject_lost_components(name: &str, components: &Components) -> Result<()> {
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
mod tests;
