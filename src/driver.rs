//! A driver is one configured way to a Kafka: it makes, finds and opens topics, and everything that comes from it
//! shares its settings, its services and its admin client.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use serde::Serialize;

use crate::admin::{self, Admin, Creation};
use crate::components::{Components, Maker, Parts, Registry, Role};
use crate::config::{ClientSettings, DriverSettings, TopicSettings, check_topic_name};
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::health::{Health, refuse_to_wait_for_ourselves};
use crate::kafka::{self, Connection, EmbeddedAdmin, Info, InfoReader, KafkaAdmin, KafkaProducer};
use crate::record::Bare;
use crate::services::{Services, let_loggers_decide};
use crate::thread_pool::ThreadPool;
use crate::topic::Topic;

const LOG_TARGET: &str = "driver";

pub struct Driver {
    pub health: Health,
    settings: DriverSettings,
    connection: Connection,
    admin: Box<dyn Admin>,
    /// Made when the first topic is opened.
    info_reader: OnceCell<InfoReader>,
    /// Topics whose missing components were warned of: opening is often called twice.
    warned_of: Mutex<HashSet<String>>,
    default_pool: Arc<ThreadPool>,
    registry: Registry,
}

impl Driver {
    /// Checks everything in `config` that can be checked without a broker; none is asked yet.
    pub fn create(config: &str, services: Services) -> Result<Self> {
        let_loggers_decide();
        let settings = DriverSettings::parse(config)?;
        let connection = Connection::new(&settings, services)?;
        let admin: Box<dyn Admin> = match &connection.embedded {
            Some(cluster) => Box::new(EmbeddedAdmin::new(&connection, cluster.clone())?),
            None => Box::new(KafkaAdmin::new(&connection)?),
        };
        let driver = Driver {
            health: Health::default(),
            settings,
            connection,
            admin,
            info_reader: OnceCell::new(),
            warned_of: Mutex::default(),
            default_pool: Arc::new(ThreadPool::new(0)?),
            registry: Registry::default(),
        };
        for key in &driver.settings.unknown_keys {
            log::warn!(logger: driver.log(), target: LOG_TARGET, "configuration: nothing reads the key {key:?}");
        }
        Ok(driver)
    }

    /// Makes the topic and, unless disabled, its info topic; see [`admin::create`]. `components` are JSON texts, in
    /// the order validator, selector, serializer.
    pub fn create_topic(&self, name: &str, options: Option<&str>, components: [Option<&str>; 3]) -> Result<()> {
        refuse_to_wait_for_ourselves("creating a topic")?;
        let doing = |error: Error| error.during(format_args!("creating topic {name:?}"));
        let components = Components::parse(components).map_err(doing)?;
        self.registry.check_new(&components).map_err(doing)?;
        let settings = TopicSettings::parse(options, &self.settings).map_err(doing)?;
        self.warn_of_ignored(name, &settings);
        let creation = Creation::plan(name, settings, components, &self.settings)?;
        let deadline = self.deadline();
        let write = |info_topic: &str, records: &[&str]| self.write_records(info_topic, records, deadline);
        admin::create(&creation, &*self.admin, write, deadline)
    }

    /// Finds the topic and its components. An unknown one is looked for a little longer, since a broker may not
    /// have heard yet of a topic that another has just made.
    pub fn open_topic(self: &Arc<Self>, name: &str) -> Result<Topic> {
        let kafka_name = self.checked_name(name)?;
        let deadline = self.deadline();
        let partitions = self.find_partitions(name, &kafka_name, deadline)?;
        let components = self.read_components(name, deadline)?;
        let doing = |error: Error| error.during(format_args!("opening topic {name:?}"));
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
        Ok(self.admin.partition_count(&kafka_name, self.deadline())?.is_some())
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
        }
        let description = Description {
            version: env!("CARGO_PKG_VERSION"),
            librdkafka: kafka::librdkafka_version(),
            built_in: kafka::built_in_features(),
            instance: &self.connection.instance,
            settings: &self.settings,
            embedded_bootstrap_servers: self.connection.embedded.as_ref().map(|cluster| cluster.bootstrap_servers()),
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
        for missing in parts.missing() {
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
    }

    fn find_partitions(&self, name: &str, kafka_name: &str, deadline: Deadline) -> Result<u32> {
        const PAUSE: Duration = Duration::from_millis(50);
        let give_up = Deadline::after(self.settings.open_retry).sooner(deadline);
        loop {
            if let Some(partitions) = self.admin.partition_count(kafka_name, deadline)? {
                return Ok(partitions);
            }
            if give_up.has_passed() {
                return Err(Error::new(
                    Kind::UnknownTopic,
                    format!("opening topic {name:?}: Kafka has no topic {kafka_name:?}; create it first"),
                ));
            }
            thread::sleep(PAUSE);
        }
    }

    fn read_components(&self, name: &str, deadline: Deadline) -> Result<Components> {
        let info_topic = self.settings.info_topic_name(name);
        let reader = self.info_reader.get_or_try_init(|| InfoReader::new(&self.connection))?;
        let doing = |error: Error| error.during(format_args!("opening topic {name:?}"));
        let lacking = match reader.read(&info_topic, Role::ALL.len() as u64, deadline).map_err(doing)? {
            Info::Records(records) => return components_from(&records).map_err(doing),
            Info::Missing => "does not exist",
            Info::Short => "lacks records",
        };
        if !self.settings.disable_info_topic && self.warned_of.lock().insert(name.to_owned()) {
            log::warn!(
                logger: self.log(), target: LOG_TARGET,
                "opening topic {name:?}: the info topic {info_topic:?} {lacking}; using default components"
            );
        }
        Ok(Components::default())
    }

    /// Puts records into partition 0 of a topic, in one go and in order, and waits until all are stored.
    fn write_records(&self, kafka_name: &str, records: &[&str], deadline: Deadline) -> Result<()> {
        let producer = KafkaProducer::new(&self.connection, kafka_name, &ClientSettings::default())?;
        let mut stored = Vec::with_capacity(records.len());
        for record in records {
            let place = producer.in_flight().take(record.len() as u64, deadline)?;
            stored.push(producer.send(0, &Bare(record.as_bytes()), place)?);
        }
        for future in stored {
            future.wait(deadline).map_err(|error| error.during(format_args!("writing to {kafka_name:?}")))?;
        }
        Ok(())
    }
}

fn components_from(records: &[Vec<u8>]) -> Result<Components> {
    let mut texts = [None; 3];
    for ((text, role), record) in texts.iter_mut().zip(Role::ALL).zip(records) {
        *text = Some(std::str::from_utf8(record).map_err(|why| {
            Error::new(Kind::Component, format!("the {} in the info topic is not UTF-8: {why}", role.name()))
        })?);
    }
    Components::parse(texts)
}
