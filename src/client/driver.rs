//! A driver creates, lists, opens and deletes the topics of one Kafka cluster. Its topics,
//! producers and consumers share its settings, its services and its clients.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::client::context::DriverContext;
use crate::client::topic::Topic;
use crate::components::{ComponentFactory, ComponentInstances, Components, Registry, Role};
use crate::config::{DriverSettings, Properties, ProxySettings, ServiceSettings, TopicSettings, check_topic_name};
use crate::kafka::{self, Connection, EmbeddedAdmin, KafkaAdmin, KafkaInfoTopics, Resources, Stats};
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::poison::Poison;
use crate::support::services::{Services, enable_all_log_levels};
use crate::support::thread_pool::ThreadPool;
use crate::support::threads::ensure_not_plugin_thread;
use crate::topics::{self, Admin, Creation, Deletion, InfoTopic, InfoTopics};

const LOG_TARGET: &str = "driver";

pub struct Driver {
    pub poison: Poison,
    settings: DriverSettings,
    context: Arc<DriverContext>,
    admin: Box<dyn Admin>,
    info_topics: KafkaInfoTopics,
    /// The topics and the warnings about their components that are logged already: hosts often open
    /// a topic twice.
    logged_warnings: Mutex<HashSet<(String, String)>>,
    /// The topics whose info topic's retention is checked already: the check costs a request.
    retention_checked: Mutex<HashSet<String>>,
}

impl Driver {
    /// Creates a driver. Checks everything in `config` that can be checked without a broker, and
    /// contacts none.
    pub fn create(config: &str, services: Services) -> Result<Self> {
        enable_all_log_levels();
        let settings = DriverSettings::parse(config)?;
        let registry = Registry::new(services.has_components);
        let connection = Connection::new(&settings, services)?;
        let admin = make_admin(&settings, &connection)?;
        let info_topics = KafkaInfoTopics::new(&connection);
        let default_pool = Arc::new(ThreadPool::new(0)?);
        let (timeout, records) = (settings.timeout, settings.records);
        let context = DriverContext { connection, default_pool, timeout, records, registry };
        let driver = Driver {
            poison: Poison::default(),
            settings,
            context: Arc::new(context),
            admin,
            info_topics,
            logged_warnings: Mutex::default(),
            retention_checked: Mutex::default(),
        };
        for key in &driver.settings.unknown_keys {
            log::warn!(
                logger: driver.log(), target: LOG_TARGET,
                "configuration: the key {key:?} is unknown and ignored; check its spelling; librdkafka's properties \
                 belong to \"kafka\""
            );
        }
        Ok(driver)
    }

    /// Creates the topic and, unless disabled, its info topic; see [`topics::create`]. `components`
    /// are JSON texts in the order validator, selector, serializer.
    pub fn create_topic(&self, name: &str, options: Option<&str>, components: [Option<&str>; 3]) -> Result<()> {
        ensure_not_plugin_thread("creating a topic")?;
        let context = |error: Error| error.context(format_args!("creating topic {name:?}"));
        let components = Components::parse(components).map_err(context)?;
        let instances = self.context.registry.check_new(&components).map_err(context)?;
        self.warn_about_missing_components("creating", name, &instances);
        let settings = TopicSettings::parse(options, &self.settings).map_err(context)?;
        self.warn_about_ignored_options(name, &settings);
        let creation = Creation::plan(name, settings, components, &self.settings)?;
        topics::create(&creation, &*self.admin, &self.info_topics, self.deadline())
    }

    /// Deletes the topic and its info topic; see [`topics::delete`].
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let kafka_name = self.to_kafka_name(name)?;
        topics::reject_info_topic_name(name, &self.settings)?;
        let info_topic = self.settings.info_topic_name(name);
        let deleted = topics::delete(&kafka_name, &info_topic, &*self.admin, self.deadline())
            .map_err(|error| error.context(format_args!("deleting topic {name:?}")))?;
        if deleted == Deletion::ForeignTopicKept {
            log::warn!(
                logger: self.log(), target: LOG_TARGET,
                "deleting topic {name:?}: {info_topic:?} has several partitions, so it is not an info topic and is kept"
            );
        }
        // A new topic of this name gets its own warnings and check.
        self.logged_warnings.lock().retain(|(topic, _)| topic != name);
        self.retention_checked.lock().remove(name);
        Ok(())
    }

    /// Removes all records of the topic. Its info topic stays, and so do its components.
    pub fn empty_topic(&self, name: &str) -> Result<()> {
        let kafka_name = self.to_kafka_name(name)?;
        topics::reject_info_topic_name(name, &self.settings)?;
        let deadline = self.deadline();
        let context = |error: Error| error.context(format_args!("emptying topic {name:?}"));
        match self.admin.find(&kafka_name, deadline).map_err(context)? {
            Some(partitions) => self.admin.empty(&kafka_name, partitions, deadline).map_err(context),
            None => Err(context(Error::new(Kind::UnknownTopic, format!("there is no Kafka topic {kafka_name:?}")))),
        }
    }

    /// Opens a topic with its components. Retries for a while if the topic is unknown, since a
    /// broker may not have heard yet of a topic that another broker has just created.
    pub fn open_topic(&self, name: &str) -> Result<Topic> {
        let kafka_name = self.to_kafka_name(name)?;
        let deadline = self.deadline();
        let partitions = self.find_partitions(name, &kafka_name, deadline)?;
        let components = self.read_components(name, deadline)?;
        let context = |error: Error| error.context(format_args!("opening topic {name:?}"));
        let parts = self.context.registry.instantiate(&components).map_err(context)?;
        self.warn_about_missing_components("opening", name, &parts);
        Ok(Topic::new(self.context.clone(), name.to_owned(), kafka_name, partitions, &components, parts))
    }

    /// Makes the host create the components of this type from now on.
    pub fn register_component(&self, type_name: &str, maker: ComponentFactory) -> Result<()> {
        self.context.registry.register(type_name, maker)
    }

    pub fn topic_exists(&self, name: &str) -> Result<bool> {
        let kafka_name = self.to_kafka_name(name)?;
        self.admin.exists(&kafka_name, self.deadline())
    }

    /// The figures of this driver's producers, consumers and connections.
    pub fn stats(&self) -> Stats {
        self.context.connection.stats()
    }

    /// The same as JSON.
    pub fn stats_json(&self) -> String {
        serde_json::to_string(&self.stats()).unwrap_or_default()
    }

    /// The topics of the namespace that have an info topic, with their components and numbers of
    /// partitions, as JSON.
    pub fn list_topics(&self) -> Result<String> {
        #[derive(Serialize)]
        struct Listed {
            #[serde(flatten)]
            components: Components,
            num_partitions: u32,
        }
        let context = |error: Error| error.context("listing topics");
        let deadline = self.deadline();
        let reader = self.info_topics.reader()?;
        let all = reader.topics(deadline).map_err(context)?;
        let known = self.admin.listing(deadline).map_err(context)?;
        let known = known.as_ref().map_or_else(|| all.keys().collect::<Vec<_>>(), |names| names.iter().collect());
        let names = known.into_iter().filter_map(|kafka_name| self.settings.name_of(kafka_name));
        let with_info: Vec<_> = names
            .map(|name| (name, self.settings.info_topic_name(name)))
            .filter_map(|(name, info_topic)| Some((name, all.get_key_value(&info_topic)?)))
            .collect();
        let info_topics: Vec<_> =
            with_info.iter().map(|(_, (info, partitions))| (info.as_str(), **partitions)).collect();
        let found = reader.read_all(&info_topics, InfoTopic::RECORDS, deadline).map_err(context)?;
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
        serde_json::to_string(&listed).map_err(|error| Error::new(Kind::Kafka, format!("listing topics: {error}")))
    }

    /// The driver's settings, with defaults filled in and secrets masked, and its versions and
    /// resources, as JSON.
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
            instance: &self.context.connection.instance,
            settings: &self.settings,
            embedded_bootstrap_servers: self
                .context
                .connection
                .embedded
                .as_ref()
                .map(|cluster| cluster.bootstrap_servers()),
            resources: self.context.connection.clients.resources(),
        };
        serde_json::to_string(&description).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    pub fn log(&self) -> &dyn log::Log {
        &*self.context.connection.services.log
    }

    /// The thread pool of producers and consumers without one of their own. It has no threads:
    /// tasks run in the caller.
    pub fn default_pool(&self) -> &Arc<ThreadPool> {
        &self.context.default_pool
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.settings.timeout)
    }

    fn to_kafka_name(&self, name: &str) -> Result<String> {
        let kafka_name = self.settings.kafka_name(name);
        check_topic_name(if name.is_empty() { name } else { &kafka_name })?;
        Ok(kafka_name)
    }

    /// Warns only, since a host may use such a topic as long as it doesn't need the missing
    /// components.
    fn warn_about_missing_components(&self, operation: &str, name: &str, parts: &ComponentInstances) {
        for missing in self.context.registry.missing(parts) {
            if self.is_new_warning(name, format!("{operation}: {missing}")) {
                log::warn!(logger: self.log(), target: LOG_TARGET, "{operation} topic {name:?}: {missing}");
            }
        }
    }

    fn is_new_warning(&self, name: &str, warning: String) -> bool {
        self.logged_warnings.lock().insert((name.to_owned(), warning))
    }

    fn warn_about_ignored_options(&self, name: &str, settings: &TopicSettings) {
        for key in &settings.unknown_keys {
            log::warn!(
                logger: self.log(), target: LOG_TARGET,
                "creating topic {name:?}: the option {key:?} is unknown and ignored; check its spelling"
            );
        }
        if self.context.connection.embedded.is_some() && settings.config.iter().next().is_some() {
            log::warn!(
                logger: self.log(), target: LOG_TARGET,
                "creating topic {name:?}: the embedded Kafka supports no topic settings; \"config\" is ignored"
            );
        }
        if !self.admin.honors_topic_options() && !settings.creator_options.is_empty() {
            log::warn!(
                logger: self.log(), target: LOG_TARGET,
                "creating topic {name:?}: the topic service decides on partitions, replicas and settings; ignored: {}",
                settings.creator_options.join(", ")
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
        let context = |error: Error| error.context(format_args!("opening topic {name:?}"));
        let Some(found) = self.info_topics.read(&info_topic, deadline).map_err(context)? else {
            return Ok(self.default_components(name, &info_topic, "does not exist"));
        };
        self.warn_about_retention(name, &info_topic, deadline);
        match components_of(&found).map_err(context)? {
            Some(components) => Ok(components),
            None => Ok(self.default_components(name, &info_topic, "lacks records")),
        }
    }

    /// The components of a topic whose info topic has none. Warns once per topic.
    fn default_components(&self, name: &str, info_topic: &str, lacking: &str) -> Components {
        if !self.settings.disable_info_topic && self.is_new_warning(name, lacking.to_owned()) {
            log::warn!(
                logger: self.log(), target: LOG_TARGET,
                "topic {name:?}: the info topic {info_topic:?} {lacking}; using default components"
            );
        }
        Components::default()
    }

    /// Warns if the broker will delete the records of the info topic. C++ Octopus creates info
    /// topics with the broker's defaults, under which their records expire after a week. Since this
    /// only warns, it doesn't fail and doesn't wait long.
    fn warn_about_retention(&self, name: &str, info_topic: &str, deadline: Deadline) {
        const MAX_WAIT: Duration = Duration::from_secs(5);
        if self.context.connection.embedded.is_some() || !self.retention_checked.lock().insert(name.to_owned()) {
            return;
        }
        match self.admin.settings(info_topic, Deadline::after(MAX_WAIT).sooner(deadline)) {
            Ok(settings) => {
                let losing = record_losing_settings(&settings);
                if !losing.is_empty() {
                    log::warn!(
                        logger: self.log(), target: LOG_TARGET,
                        "opening topic {name:?}: its info topic {info_topic:?} has the settings {}, under which the \
                         broker will delete the topic's components; set retention.ms=-1, retention.bytes=-1 and \
                         cleanup.policy=delete",
                        losing.join(", ")
                    );
                }
            }
            Err(error) => log::debug!(
                logger: self.log(), target: LOG_TARGET,
                "opening topic {name:?}: checking the retention of its info topic {info_topic:?} failed: {error}"
            ),
        }
    }
}

/// Creates the admin client that the configuration asks for: of the embedded Kafka, of the topic
/// service, or of Kafka.
fn make_admin(settings: &DriverSettings, connection: &Connection) -> Result<Box<dyn Admin>> {
    if let Some(cluster) = &connection.embedded {
        return Ok(Box::new(EmbeddedAdmin::new(connection, cluster.clone())?));
    }
    let kafka = Box::new(KafkaAdmin::new(connection)?);
    match (&settings.service, &settings.namespace) {
        (Some(service), Some(namespace)) => {
            make_service_admin(service, namespace, (settings.proxy.as_ref(), &connection.services), kafka)
        }
        _ => Ok(kafka),
    }
}

#[cfg(feature = "topic-service")]
fn make_service_admin(
    settings: &ServiceSettings,
    namespace: &str,
    (proxy, services): (Option<&ProxySettings>, &Services),
    kafka: Box<KafkaAdmin>,
) -> Result<Box<dyn Admin>> {
    let authorization = topics::Authorization::new(settings.authorization.clone(), services.authorization.clone())?;
    let service = topics::WebService::new(settings, authorization, proxy, services.log.clone());
    Ok(Box::new(topics::ServiceAdmin::new(service, namespace, kafka)))
}

#[cfg(not(feature = "topic-service"))]
fn make_service_admin(
    _: &ServiceSettings,
    _: &str,
    _: (Option<&ProxySettings>, &Services),
    _: Box<KafkaAdmin>,
) -> Result<Box<dyn Admin>> {
    Err(Error::missing_feature("octopus", "the topic service", "topic-service"))
}

/// The settings of an info topic under which the broker deletes its records, as `name=value`.
fn record_losing_settings(settings: &Properties) -> Vec<String> {
    [("retention.ms", "-1"), ("retention.bytes", "-1"), ("cleanup.policy", "delete")]
        .into_iter()
        .filter_map(|(name, required)| {
            let value = settings.get(name).filter(|value| *value != required)?;
            Some(format!("{name}={value}"))
        })
        .collect()
}

/// The components that the records of an info topic describe; `None` if one of the three is
/// missing.
fn components_of(info: &InfoTopic) -> Result<Option<Components>> {
    let Some(records) = info.components() else { return Ok(None) };
    let mut texts = [None; 3];
    for ((text, role), record) in texts.iter_mut().zip(Role::ALL).zip(records) {
        *text = Some(std::str::from_utf8(&record.payload).map_err(|error| {
            Error::new(Kind::Component, format!("the {} in the info topic is not UTF-8: {error}", role.name()))
        })?);
    }
    Components::parse(texts).map(Some)
}

#[cfg(all(test, not(feature = "topic-service")))]
mod tests {
    use super::*;

    #[test]
    fn topic_service_needs_its_feature() {
        let config = r#"{"kafka": {"bootstrap.servers": "127.0.0.1:1"}, "namespace": "ns",
            "octopus": {"subject": "me", "authorization": "Bearer 1"}}"#;
        let error = Driver::create(config, Services::default()).err().unwrap();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.message().contains("octopus: ") && error.message().contains("\"topic-service\""), "{error}");
    }
}
