//! A driver is one configured way to a Kafka: it makes, finds and opens topics, and everything that comes from it
//! shares its settings, its services and its admin client.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::admin::{self, Admin, Authorization, Creation, Deleted, InfoTopic, InfoTopics, ServiceAdmin, WebService};
use crate::components::{Components, Maker, Parts, Registry, Role};
use crate::config::{DriverSettings, Properties, TopicSettings, check_topic_name};
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::kafka::{self, Connection, EmbeddedAdmin, KafkaAdmin, KafkaInfoTopics, Resources};
use crate::poison::{Poison, ensure_not_plugin_thread};
use crate::services::{Services, enable_all_log_levels};
use crate::thread_pool::ThreadPool;
use crate::topic::Topic;

const LOG_TARGET: &str = "driver";

pub struct Driver {
    pub poison: Poison,
    settings: DriverSettings,
    connection: Connection,
    admin: Box<dyn Admin>,
    info_topics: KafkaInfoTopics,
    /// Topics whose missing components were warned of: opening is often called twice.
    warned_of: Mutex<HashSet<String>>,
    default_pool: Arc<ThreadPool>,
    registry: Registry,
    /// Topics whose info topics' retention was asked for: opening should cost a question less from then on.
    looked_at_retention_of: Mutex<HashSet<String>>,
}

impl Driver {
    /// Checks everything in `config` that can be checked without a broker; none is asked yet.
    pub fn create(config: &str, services: Services) -> Result<Self> {
        enable_all_log_levels();
        let settings = DriverSettings::parse(config)?;
        let registry = Registry::new(services.has_components);
        let connection = Connection::new(&settings, services)?;
        let admin = make_admin(&settings, &connection)?;
        let info_topics = KafkaInfoTopics::new(&connection);
        let driver = Driver {
            poison: Poison::default(),
            settings,
            connection,
            admin,
            info_topics,
            warned_of: Mutex::default(),
            default_pool: Arc::new(ThreadPool::new(0)?),
            registry,
            looked_at_retention_of: Mutex::default(),
        };
        for key in &driver.settings.unknown_keys {
            log::warn!(logger: driver.log(), target: LOG_TARGET, "configuration: nothing reads the key {key:?}");
        }
        Ok(driver)
    }

    /// Makes the topic and, unless disabled, its info topic; see [`admin::create`]. `components` are JSON texts, in
    /// the order validator, selector, serializer.
    pub fn create_topic(&self, name: &str, options: Option<&str>, components: [Option<&str>; 3]) -> Result<()> {
        ensure_not_plugin_thread("creating a topic")?;
        let doing = |error: Error| error.context(format_args!("creating topic {name:?}"));
        let components = Components::parse(components).map_err(doing)?;
        self.registry.check_new(&components).map_err(doing)?;
        let settings = TopicSettings::parse(options, &self.settings).map_err(doing)?;
        self.warn_of_ignored(name, &settings);
        let creation = Creation::plan(name, settings, components, &self.settings)?;
        admin::create(&creation, &*self.admin, &self.info_topics, self.deadline())
    }

    /// Deletes the topic and its info topic; see [`admin::delete`].
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let kafka_name = self.checked_name(name)?;
        admin::refuse_info_topic_name(name, &self.settings)?;
        let info_topic = self.settings.info_topic_name(name);
        let deleted = admin::delete(&kafka_name, &info_topic, &*self.admin, self.deadline())
            .map_err(|error| error.context(format_args!("deleting topic {name:?}")))?;
        if deleted == Deleted::LeftOtherPeoples {
            log::warn!(
                logger: self.log(), target: LOG_TARGET,
                "deleting topic {name:?}: {info_topic:?} has several partitions, so it's no info topic and stays"
            );
        }
        // What was said of it says nothing of the next one of this name.
        self.warned_of.lock().remove(name);
        self.looked_at_retention_of.lock().remove(name);
        Ok(())
    }

    /// Removes all records of the topic; its info topic stays, and with it its components.
    pub fn empty_topic(&self, name: &str) -> Result<()> {
        let kafka_name = self.checked_name(name)?;
        admin::refuse_info_topic_name(name, &self.settings)?;
        let deadline = self.deadline();
        let doing = |error: Error| error.context(format_args!("emptying topic {name:?}"));
        match self.admin.find(&kafka_name, deadline).map_err(doing)? {
            Some(partitions) => self.admin.empty(&kafka_name, partitions, deadline).map_err(doing),
            None => Err(doing(Error::new(Kind::UnknownTopic, format!("there is no Kafka topic {kafka_name:?}")))),
        }
    }

    /// Finds the topic and its components. An unknown one is looked for a little longer, since a broker may not
    /// have heard yet of a topic that another has just made.
    pub fn open_topic(self: &Arc<Self>, name: &str) -> Result<Topic> {
        let kafka_name = self.checked_name(name)?;
        let deadline = self.deadline();
        let partitions = self.find_partitions(name, &kafka_name, deadline)?;
        let components = self.read_components(name, deadline)?;
        let doing = |error: Error| error.context(format_args!("opening topic {name:?}"));
        let parts = self.registry.make_parts(&components).map_err(doing)?;
        self.report_missing(name, &parts);
        Ok(Topic::new(self.clone(), name.to_owned(), kafka_name, partitions, &components, parts))
    }

    /// Has components of one type made by the host from now on.
    pub fn register_component(&self, type_name: &str, maker: Maker) -> Result<()> {
        self.registry.register(type_name, maker)
    }

    pub fn topic_exists(&self, name: &str) -> Result<bool> {
        let kafka_name = self.checked_name(name)?;
        self.admin.exists(&kafka_name, self.deadline())
    }

    /// Every topic of the namespace that has an info topic, with its components and its number of partitions, as JSON.
    pub fn list_topics(&self) -> Result<String> {
        #[derive(Serialize)]
        struct Listed {
            #[serde(flatten)]
            components: Components,
            num_partitions: u32,
        }
        let doing = |error: Error| error.context("listing topics");
        let deadline = self.deadline();
        let reader = self.info_topics.reader()?;
        let all = reader.topics(deadline).map_err(doing)?;
        let known = self.admin.listing(deadline).map_err(doing)?;
        let known = known.as_ref().map_or_else(|| all.keys().collect::<Vec<_>>(), |names| names.iter().collect());
        let names = known.into_iter().filter_map(|kafka_name| self.settings.name_of(kafka_name));
        let with_info: Vec<_> = names
            .map(|name| (name, self.settings.info_topic_name(name)))
            .filter_map(|(name, info_topic)| Some((name, all.get_key_value(&info_topic)?)))
            .collect();
        let info_topics: Vec<_> =
            with_info.iter().map(|(_, (info, partitions))| (info.as_str(), **partitions)).collect();
        let found = reader.read_all(&info_topics, InfoTopic::RECORDS, deadline).map_err(doing)?;
        let mut listed = BTreeMap::new();
        for ((name, (info_topic, _)), found) in with_info.into_iter().zip(found) {
            let components = match found.and_then(|info| components_of(&info)) {
                Ok(Some(components)) => components,
                Ok(None) => self.default_components(name, info_topic, "lacks records"),
                Err(error) => self.default_components(name, info_topic, &format!("can't be read: {error}")),
            };
            let num_partitions = all.get(&self.settings.kafka_name(name)).copied().unwrap_or(0);
            listed.insert(name, Listed { components, num_partitions });
        }
        serde_json::to_string(&listed).map_err(|why| Error::new(Kind::Kafka, format!("listing topics: {why}")))
    }

    /// What the driver was configured with, defaults filled in, and what it is made of, as JSON; secrets are masked.
    pub fn describe(&self) -> String {
        #[derive(Serialize)]
        struct Description<'a> {
            version: &'a str,
            librdkafka: String,
            built_in: String,
            instance: &'a str,
            #[serde(flatten)]
            settings: &'a DriverSettings,
            #[serde(skip_serializing_if = "Option::is_none")]
            embedded_bootstrap_servers: Option<String>,
            #[serde(flatten)]
            resources: Resources,
        }
        let description = Description {
            version: env!("CARGO_PKG_VERSION"),
            librdkafka: kafka::librdkafka_version(),
            built_in: kafka::built_in_features(),
            instance: &self.connection.instance,
            settings: &self.settings,
            embedded_bootstrap_servers: self.connection.embedded.as_ref().map(|cluster| cluster.bootstrap_servers()),
            resources: self.connection.clients.resources(),
        };
        serde_json::to_string(&description).unwrap_or_else(|why| format!("{{\"error\":\"{why}\"}}"))
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    pub fn log(&self) -> &dyn log::Log {
        &*self.connection.services.log
    }

    /// The pool that work is done on where no other is given: without threads, so in the caller.
    pub fn default_pool(&self) -> &Arc<ThreadPool> {
        &self.default_pool
    }

    /// How long a call of this driver may take that nobody answers.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.settings.timeout)
    }

    fn checked_name(&self, name: &str) -> Result<String> {
        let kafka_name = self.settings.kafka_name(name);
        check_topic_name(if name.is_empty() { name } else { &kafka_name })?;
        Ok(kafka_name)
    }

    /// Such a topic can be used as far as its missing components are not needed.
    fn report_missing(&self, name: &str, parts: &Parts) {
        for missing in self.registry.missed(parts) {
            if self.warned_of.lock().insert(format!("{name}: {missing}")) {
                log::warn!(logger: self.log(), target: LOG_TARGET, "opening topic {name:?}: {missing}");
            }
        }
    }

    fn warn_of_ignored(&self, name: &str, settings: &TopicSettings) {
        for key in &settings.unknown_keys {
            log::warn!(logger: self.log(), target: LOG_TARGET, "creating topic {name:?}: nothing reads the option {key:?}");
        }
        if self.connection.embedded.is_some() && settings.config.iter().next().is_some() {
            log::warn!(
                logger: self.log(), target: LOG_TARGET,
                "creating topic {name:?}: the embedded Kafka has no settings of topics, \"config\" is ignored"
            );
        }
        if !self.admin.honors_topic_options() && !settings.asked.is_empty() {
            log::warn!(
                logger: self.log(), target: LOG_TARGET,
                "creating topic {name:?}: the topic service decides on partitions, replicas and settings; ignored: {}",
                settings.asked.join(", ")
            );
        }
    }

    fn find_partitions(&self, name: &str, kafka_name: &str, deadline: Deadline) -> Result<u32> {
        let give_up = Deadline::after(self.settings.open_retry).sooner(deadline);
        loop {
            if let Some(partitions) = self.admin.find(kafka_name, deadline)? {
                return Ok(partitions);
            }
            if give_up.has_passed() {
                return Err(Error::new(
                    Kind::UnknownTopic,
                    format!("opening topic {name:?}: Kafka has no topic {kafka_name:?}; create it first"),
                ));
            }
            thread::sleep(self.admin.pause());
        }
    }

    fn read_components(&self, name: &str, deadline: Deadline) -> Result<Components> {
        let info_topic = self.settings.info_topic_name(name);
        let doing = |error: Error| error.context(format_args!("opening topic {name:?}"));
        let Some(found) = self.info_topics.read(&info_topic, deadline).map_err(doing)? else {
            return Ok(self.default_components(name, &info_topic, "does not exist"));
        };
        self.warn_of_retention(name, &info_topic, deadline);
        match components_of(&found).map_err(doing)? {
            Some(components) => Ok(components),
            None => Ok(self.default_components(name, &info_topic, "lacks records")),
        }
    }

    /// What stands in for components that aren't there, said once for each topic.
    fn default_components(&self, name: &str, info_topic: &str, lacking: &str) -> Components {
        if !self.settings.disable_info_topic && self.warned_of.lock().insert(name.to_owned()) {
            log::warn!(
                logger: self.log(), target: LOG_TARGET,
                "topic {name:?}: the info topic {info_topic:?} {lacking}; using default components"
            );
        }
        Components::default()
    }

    /// C++ Octopus makes info topics with the broker's defaults, under which their records go after a week. It's only
    /// a warning, so nothing is worth failing for, nor waiting long.
    fn warn_of_retention(&self, name: &str, info_topic: &str, deadline: Deadline) {
        const PATIENCE: Duration = Duration::from_secs(5);
        if self.connection.embedded.is_some() || !self.looked_at_retention_of.lock().insert(name.to_owned()) {
            return;
        }
        match self.admin.settings(info_topic, Deadline::after(PATIENCE).sooner(deadline)) {
            Ok(settings) => {
                let losing = what_loses_records(&settings);
                if !losing.is_empty() {
                    log::warn!(
                        logger: self.log(), target: LOG_TARGET,
                        "opening topic {name:?}: its info topic {info_topic:?} will lose the components, as it has {}; \
                         set retention.ms=-1, retention.bytes=-1 and cleanup.policy=delete on it",
                        losing.join(", ")
                    );
                }
            }
            Err(error) => log::debug!(
                logger: self.log(), target: LOG_TARGET,
                "opening topic {name:?}: whether its info topic keeps the components is not known: {error}"
            ),
        }
    }
}

/// Whoever makes topics, as the configuration says.
fn make_admin(settings: &DriverSettings, connection: &Connection) -> Result<Box<dyn Admin>> {
    if let Some(cluster) = &connection.embedded {
        return Ok(Box::new(EmbeddedAdmin::new(connection, cluster.clone())?));
    }
    let kafka = Box::new(KafkaAdmin::new(connection)?);
    match (&settings.service, &settings.namespace) {
        (Some(service), Some(namespace)) => {
            let Services { log, authorization, .. } = &connection.services;
            let authorization = Authorization::new(service.authorization.clone(), authorization.clone())?;
            let service = WebService::new(service, authorization, log.clone());
            Ok(Box::new(ServiceAdmin::new(service, namespace, kafka)))
        }
        _ => Ok(kafka),
    }
}

/// The settings of an info topic under which its records go: `name=value`.
fn what_loses_records(settings: &Properties) -> Vec<String> {
    [("retention.ms", "-1"), ("retention.bytes", "-1"), ("cleanup.policy", "delete")]
        .into_iter()
        .filter_map(|(name, keeping)| {
            let value = settings.get(name).filter(|value| *value != keeping)?;
            Some(format!("{name}={value}"))
        })
        .collect()
}

/// `None` when not all three are there.
fn components_of(info: &InfoTopic) -> Result<Option<Components>> {
    let Some(records) = info.components() else { return Ok(None) };
    let mut texts = [None; 3];
    for ((text, role), record) in texts.iter_mut().zip(Role::ALL).zip(records) {
        *text = Some(std::str::from_utf8(&record.payload).map_err(|why| {
            Error::new(Kind::Component, format!("the {} in the info topic is not UTF-8: {why}", role.name()))
        })?);
    }
    Components::parse(texts).map(Some)
}
