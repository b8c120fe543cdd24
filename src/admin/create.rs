//! Makes a topic of Octopus: the info topic first, its three records next, the topic itself last. So a topic that
//! exists has its components, and a crash on the way leaves an info topic that nobody sees.
//!
//! Making the info topic is the lock: of several creators one succeeds. It holds the lock for a lease, and acts in
//! the first half of it only. The others wait for the topic, and when the lease is over without one, they take the
//! left-over away and start again. Clocks, networks and pauses being what they are, that can hit a creator which is
//! still at work; so success is what was read back: the topic, and this creator's records in its info topic.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Admin, InfoRecord, InfoTopic, InfoTopics, NewTopic};
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
        refuse_info_topic_name(name, driver)?;
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

/// How long an info topic without its topic belongs to whoever made it.
const LEASE: Duration = Duration::from_secs(30);

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
    let made = match &creation.info {
        Some(info) => creator.create_with(info),
        None => creator.create_alone(),
    };
    made.map_err(|error| error.context(format_args!("creating topic {:?}", creation.name)))
}

/// One call's way to a topic.
struct Creator<'a> {
    creation: &'a Creation,
    admin: &'a dyn Admin,
    info_topics: &'a dyn InfoTopics,
    lease: Duration,
    deadline: Deadline,
}

/// What a creator may do that made the info topic, and until when.
struct Hold {
    since: Instant,
    lease: Duration,
}

impl Creator<'_> {
    fn create_alone(&self) -> Result<()> {
        self.refuse_existing()?;
        self.admin.create(&self.creation.topic, self.deadline).map_err(or_exists)?;
        loop {
            if self.topic_is_as_made()? {
                return Ok(());
            }
            self.pause_or_else(PROPAGATION, || self.unseen())?;
        }
    }

    fn create_with(&self, info: &NewTopic) -> Result<()> {
        let mut saw_a_left_over = false;
        loop {
            self.refuse_existing()?;
            // From before the request on: others may see the info topic sooner than its maker hears of it.
            let hold = Hold { since: Instant::now(), lease: self.lease };
            match self.admin.create(info, self.deadline) {
                Ok(()) => match self.fill_and_create(info, &hold) {
                    // Somebody took the info topic for a left-over, before there was anything to lose.
                    Err(error) if error.kind() == Kind::UnknownTopic && !self.deadline.has_passed() => {}
                    other if saw_a_left_over => return other.and_then(|()| self.guard(info)),
                    other => return other.and_then(|()| self.read_back(info)),
                },
                Err(error) if error.kind() == Kind::TopicExists => {
                    self.wait_for_the_holder(info).map_err(|error| match error.kind() {
                        // The time ran out within a question: that matters less than what was waited for.
                        Kind::Unreachable if self.deadline.has_passed() => self.busy(info),
                        _ => error,
                    })?;
                    saw_a_left_over = true;
                }
                Err(error) => return Err(error),
            }
            self.pause_or_else(PROPAGATION, || self.busy(info))?;
        }
    }

    /// The steps of the one who holds the info topic.
    fn fill_and_create(&self, info: &NewTopic, hold: &Hold) -> Result<()> {
        let topic = &self.creation.topic;
        let in_time = hold.end().sooner(self.deadline);
        let made = hold
            .check(info)
            .and_then(|()| self.info_topics.write(&info.kafka_name, &self.creation.records(), in_time))
            .and_then(|()| hold.check(info))
            .and_then(|()| self.admin.create(topic, in_time).map_err(or_exists))
            .or_else(|error| match error.kind() {
                // Another holds the info topic too: whose records are in it decides who made the topic.
                Kind::TopicExists if !self.admin.distinguishes_creators() => Ok(()),
                _ => Err(error),
            });
        let Err(error) = made else { return Ok(()) };
        // The topic is there, or may come to be there yet, or the info topic isn't ours: it must not lose its records.
        let keep = matches!(error.kind(), Kind::TopicExists | Kind::Unreachable | Kind::UnknownTopic);
        if keep || hold.check(info).is_err() {
            return Err(error);
        }
        // Nobody can have seen it; if this fails too, it is what a crash would have left.
        match self.admin.delete(&info.kafka_name, self.deadline) {
            Ok(()) => Err(error),
            Err(why) => Err(error.with_note(format_args!("the info topic {:?} is left: {why}", info.kafka_name))),
        }
    }

    /// Returns when the info topic is gone; fails when the topic came.
    fn wait_for_the_holder(&self, info: &NewTopic) -> Result<()> {
        let mut lease = WatchedLease::first_seen(self.lease);
        loop {
            self.refuse_existing()?;
            let Some(found) = self.info_topics.read(&info.kafka_name, self.deadline)? else { return Ok(()) };
            lease.look(&found);
            // Makers that aren't told apart may each have put their records in, for now.
            if lease.is_over() || self.admin.distinguishes_creators() {
                self.refuse_other_peoples(info, &found)?;
            }
            if lease.is_over() {
                return self.take_away(info, &found);
            }
            let pause = WATCHING.max(self.admin.pause()).min(lease.remaining());
            self.pause_or_else(pause, || self.busy(info))?;
        }
    }

    fn take_away(&self, info: &NewTopic, found: &InfoTopic) -> Result<()> {
        match self.admin.delete(&info.kafka_name, self.deadline) {
            Ok(()) => {}
            // Another was first: what it took away is its to put back, and may not be what was found here.
            Err(error) if error.kind() == Kind::UnknownTopic => return self.refuse_existing(),
            Err(error) => return Err(error),
        }
        let late = self.refuse_existing();
        if late.is_err()
            && let Some(records) = found.components()
            && !self.comes_back(info)?
        {
            // The holder was only slow: the topic came at the last moment, and needs what was just deleted.
            self.give_back(info, records)?;
        }
        late
    }

    /// Whether the topic's maker notices by itself, who alone knows for sure what belongs there.
    fn comes_back(&self, info: &NewTopic) -> Result<bool> {
        let enough = Deadline::after(self.lease / 30).sooner(self.deadline);
        while !enough.has_passed() {
            if self.info_topics.read(&info.kafka_name, self.deadline)?.is_some() {
                return Ok(true);
            }
            thread::sleep(enough.remaining(PROPAGATION));
        }
        Ok(false)
    }

    /// Reads back for a while: others that saw the left-over, too, may take away what has come in its place.
    fn guard(&self, info: &NewTopic) -> Result<()> {
        let enough = Deadline::after(self.lease / 15).sooner(self.deadline);
        loop {
            self.read_back(info)?;
            if enough.has_passed() {
                return Ok(());
            }
            thread::sleep(enough.remaining(WATCHING));
        }
    }

    fn give_back(&self, info: &NewTopic, records: &[InfoRecord]) -> Result<()> {
        let texts: Vec<_> = records.iter().map(|record| String::from_utf8_lossy(&record.payload)).collect();
        let texts: Vec<_> = texts.iter().map(|text| &**text).collect();
        match self.admin.create(info, self.deadline) {
            Ok(()) => self.info_topics.write(&info.kafka_name, &texts, self.deadline),
            // The slow one has noticed.
            Err(error) if error.kind() == Kind::TopicExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until brokers show the topic, and its info topic with our records: whoever opens it next should find
    /// both. Missing records have been taken for a left-over's; they are written again.
    fn read_back(&self, info: &NewTopic) -> Result<()> {
        let mut lease = WatchedLease::first_seen(self.lease);
        loop {
            if self.topic_is_as_made()? {
                let found = self.info_topics.read(&info.kafka_name, self.deadline)?;
                match found.as_ref().map(|found| (found, found.components())) {
                    Some((_, Some(records))) if self.are_ours(records) => return Ok(()),
                    Some((_, Some(_))) => return Err(self.lost()),
                    Some((found, None)) => {
                        // Another creator made it and fills it; if that one is gone, it's for us to do.
                        lease.look(found);
                        if lease.is_over() && found.records.is_empty() {
                            self.write_again(info)?;
                        }
                    }
                    None if self.made_again(info)? => self.write_again(info)?,
                    None => {}
                }
            }
            self.pause_or_else(PROPAGATION, || self.unseen())?;
        }
    }

    fn made_again(&self, info: &NewTopic) -> Result<bool> {
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

    fn refuse_existing(&self) -> Result<()> {
        match self.admin.exists(&self.creation.topic.kafka_name, self.deadline)? {
            true => Err(exists()),
            false => Ok(()),
        }
    }

    /// Fails when another has made the topic in our place.
    fn topic_is_as_made(&self) -> Result<bool> {
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

    /// What doesn't look like an info topic isn't one, whatever its name, and is never deleted.
    fn refuse_other_peoples(&self, info: &NewTopic, found: &InfoTopic) -> Result<()> {
        let unlike = match found {
            InfoTopic { partitions, .. } if *partitions != 1 && self.admin.honors_topic_options() => {
                format!("it has {partitions} partitions")
            }
            InfoTopic { begins_later: true, .. } => "its first records are gone".to_owned(),
            InfoTopic { records, .. } if records.len() > InfoTopic::RECORDS => {
                format!("it has more than {} records", InfoTopic::RECORDS)
            }
            _ => return Ok(()),
        };
        Err(Error::invalid(format!(
            "the Kafka topic {:?} is in the place of its info topic and doesn't look like one ({unlike}), so it is left \
             alone; choose another name or \"info_topic_prefix\", or delete that topic",
            info.kafka_name
        )))
    }

    fn lost(&self) -> Error {
        Error::new(Kind::TopicExists, "another creator made it at the same time, with other options or components")
    }

    fn unseen(&self) -> Error {
        let name = &self.creation.topic.kafka_name;
        let why = format!("the Kafka topic {name:?} was made, but can't be read back in time; see whether it opens");
        Error::new(Kind::Unreachable, why).retriable(true)
    }

    fn busy(&self, info: &NewTopic) -> Error {
        let why = format!(
            "its info topic {:?} exists, but the topic does not: another creator is at work, or ended half-way; try \
             again, with a timeout_ms above {} s if it may have ended, since then its work is taken over",
            info.kafka_name,
            self.lease.as_secs()
        );
        Error::new(Kind::Unreachable, why).retriable(true)
    }
}

/// Between two looks for what brokers will soon have heard of.
const PROPAGATION: Duration = Duration::from_millis(10);
/// Between two looks for what another creator does.
const WATCHING: Duration = Duration::from_millis(100);

impl Hold {
    /// Fails in the second half of the lease: a step that begins there could end after it.
    fn check(&self, info: &NewTopic) -> Result<()> {
        let held = self.since.elapsed();
        if held < self.lease / 2 {
            return Ok(());
        }
        let why = format!(
            "its info topic {:?} was made {} ms ago, and others may take it for a left-over soon: given up; try again",
            info.kafka_name,
            held.as_millis()
        );
        Err(Error::new(Kind::Unreachable, why).retriable(true))
    }

    /// When a step ends at the latest: with time to spare before others act.
    fn end(&self) -> Deadline {
        Deadline::after((self.lease * 5 / 6).saturating_sub(self.since.elapsed()))
    }
}

/// Another creator's lease, as far as it can be told: from its newest record on, or since it was first seen.
struct WatchedLease {
    length: Duration,
    /// Each who waits goes on a little later than the others, and then sees what the first of them did. Otherwise
    /// they would delete each other's info topics.
    own_delay: Duration,
    end: Instant,
    /// How many records there were, and the newest one's time.
    seen: (usize, Option<i64>),
    /// How often in a row they were found so.
    looks: u32,
}

impl WatchedLease {
    fn first_seen(length: Duration) -> Self {
        let own_delay = length / 60 * (uuid::Uuid::new_v4().as_u128() % 100) as u32 / 100;
        WatchedLease { length, own_delay, end: Instant::now() + length + own_delay, seen: (0, None), looks: 0 }
    }

    fn look(&mut self, found: &InfoTopic) {
        let newest = found.records.last().map(|record| record.timestamp);
        self.looks += 1;
        if self.seen == (found.records.len(), newest) {
            return;
        }
        self.looks = 1;
        self.seen = (found.records.len(), newest);
        let age = newest.and_then(|millis| u64::try_from(millis).ok()).map_or(Duration::ZERO, |millis| {
            // A time in the future, by a clock that is ahead, is now.
            SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_millis(millis)).unwrap_or_default()
        });
        self.end = Instant::now() + self.length.saturating_sub(age) + self.own_delay;
    }

    fn remaining(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// What was found at one look alone may be gone by the time that the answer comes, the first of which takes a connection: another
    /// may have taken it away meanwhile, and have put its own in that place.
    fn is_over(&self) -> bool {
        self.looks > 1 && Instant::now() >= self.end
    }
}

/// A topic of such a name would be taken for another topic's components.
pub fn refuse_info_topic_name(name: &str, driver: &DriverSettings) -> Result<()> {
    let prefix = &driver.info_topic_prefix;
    if !name.starts_with(prefix.as_str()) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "topic name {name:?}: names that begin with {prefix:?} are those of info topics (\"info_topic_prefix\"); \
         choose another"
    )))
}

fn exists() -> Error {
    Error::new(Kind::TopicExists, "it exists already")
}

fn or_exists(error: Error) -> Error {
    if error.kind() == Kind::TopicExists { exists() } else { error }
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
mod tests;
