//! A driver: one configuration of a Kafka cluster, and the topics that are reached by it.

use serde::Serialize;
use serde_json::Value;

use crate::abi::*;
use crate::component::{self, Selector, Serializer, Validator};
use crate::error::{Error, Result, Status};
use crate::handle::Handle;
use crate::options::TopicOptions;
use crate::raw::{Tables, call, read_text, text};
use crate::services::{LogLevel, Rebalance, Services, Token, observe_text};
use crate::stats::Stats;
use crate::thread_pool::ThreadPool;
use crate::topic::Topic;

/// One configuration of a Kafka cluster. Its calls take at most the configured `timeout_ms` (60 s
/// by default); then they fail with [`Status::Unreachable`] and name the server that did not
/// respond.
#[derive(Debug)]
pub struct Driver {
    handle: Handle<octopus_driver>,
}

impl Driver {
    /// Creates a topic and waits until it can be opened.
    ///
    /// [`Status::TopicExists`], [`Status::Component`], [`Status::InvalidConfiguration`],
    /// [`Status::Unreachable`], [`Status::Kafka`].
    pub fn create_topic(&self, name: &str, options: &TopicOptions) -> Result<()> {
        // SAFETY: the handle is live (owned); `name`, `args` and its texts outlive the call.
        options.with_args(|args| unsafe { call!(self.handle, driver.create_topic(text(name), args)) })
    }

    /// Opens an existing topic. A topic that is not found is looked up again during the configured
    /// `open_retry_ms` (5 s by default).
    ///
    /// [`Status::UnknownTopic`], [`Status::Component`], [`Status::Unreachable`], [`Status::Kafka`].
    pub fn open_topic(&self, name: &str) -> Result<Topic> {
        // SAFETY: the handle is live (owned), and `name` outlives the call. On success the library
        // writes a new handle to `topic`, which is ours.
        let open = |topic| unsafe { call!(self.handle, driver.open_topic(text(name), topic)) };
        Handle::from_call(self.handle.tables(), open).and_then(Topic::new)
    }

    /// Removes all records of a topic; its components stay. [`Status::UnknownTopic`],
    /// [`Status::Unreachable`], [`Status::Kafka`].
    pub fn empty_topic(&self, name: &str) -> Result<()> {
        // SAFETY: the handle is live (owned), and `name` outlives the call.
        unsafe { call!(self.handle, driver.empty_topic(text(name))) }
    }

    /// Deletes a topic and its info topic. [`Status::UnknownTopic`], [`Status::Unreachable`],
    /// [`Status::Kafka`]; [`Status::Unsupported`] with the embedded Kafka.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        // SAFETY: the handle is live (owned), and `name` outlives the call.
        unsafe { call!(self.handle, driver.delete_topic(text(name))) }
    }

    /// Whether the topic exists. [`Status::Unreachable`], [`Status::Kafka`].
    pub fn topic_exists(&self, name: &str) -> Result<bool> {
        let mut exists = 0;
        // SAFETY: the handle is live (owned), `name` outlives the call, and the output is a local
        // variable.
        unsafe { call!(self.handle, driver.topic_exists(text(name), &mut exists)) }?;
        Ok(exists != 0)
    }

    /// Every topic of the namespace that has an info topic, with its components and its number of
    /// partitions: `{name: {"validator":…, "selector":…, "serializer":…, "num_partitions":n}}`.
    ///
    /// [`Status::Unreachable`], [`Status::Kafka`].
    pub fn list_topics(&self) -> Result<Value> {
        // SAFETY: the handle is live (owned). On success the library writes a new string to `json`,
        // which is ours.
        let list = |json| unsafe { call!(self.handle, driver.list_topics(json)) };
        parse(Handle::from_call(self.handle.tables(), list)?)
    }

    /// The pool of 0 threads that the driver's topics share by default.
    pub fn default_thread_pool(&self) -> Result<ThreadPool> {
        // SAFETY: the handle is live (owned). On success the library writes a new handle to `pool`,
        // which is ours.
        let find = |pool| unsafe { call!(self.handle, driver.default_thread_pool(pool)) };
        Handle::from_call(self.handle.tables(), find).map(ThreadPool::new)
    }

    /// Registers a type of validator that this program implements. `make` makes a validator from
    /// the component's JSON. [`Status::InvalidArgument`] for a type that is built in or registered
    /// already.
    pub fn register_validator<V: Validator>(
        &self,
        type_name: &str,
        make: impl Fn(&str) -> std::result::Result<V, String> + Send + Sync + 'static,
    ) -> Result<()> {
        self.register(OCTOPUS_ROLE_VALIDATOR, type_name, || component::validators(make))
    }

    /// As [`register_validator`](Self::register_validator), for partition selectors. Each producer
    /// has an instance of its own.
    pub fn register_selector<S: Selector>(
        &self,
        type_name: &str,
        make: impl Fn(&str) -> std::result::Result<S, String> + Send + Sync + 'static,
    ) -> Result<()> {
        self.register(OCTOPUS_ROLE_SELECTOR, type_name, || component::selectors(make))
    }

    /// As [`register_validator`](Self::register_validator), for serializers.
    pub fn register_serializer<S: Serializer>(
        &self,
        type_name: &str,
        make: impl Fn(&str) -> std::result::Result<S, String> + Send + Sync + 'static,
    ) -> Result<()> {
        self.register(OCTOPUS_ROLE_SERIALIZER, type_name, || component::serializers(make))
    }

    fn register(&self, kind: i32, type_name: &str, component: impl FnOnce() -> octopus_component) -> Result<()> {
        // SAFETY: the handle is live (owned). Text and struct outlive the call, which takes
        // ownership of the component.
        unsafe { call!(self.handle, driver.register_component(kind, text(type_name), &component())) }
    }

    /// The configuration in effect, with defaults filled in and secrets masked.
    pub fn describe(&self) -> Result<Value> {
        // SAFETY: the handle is live (owned). On success the library writes a new string to `json`,
        // which is ours.
        let describe = |json| unsafe { call!(self.handle, driver.describe(json)) };
        parse(Handle::from_call(self.handle.tables(), describe)?)
    }

    /// The figures of this driver as of now. They are always counted, and reading them contacts no
    /// broker.
    pub fn stats(&self) -> Result<Stats> {
        // SAFETY: the struct consists of numbers.
        let mut stats: octopus_stats = unsafe { std::mem::zeroed() };
        stats.size = size_of::<octopus_stats>() as u64;
        // SAFETY: the handle is live (owned), and `stats` is writable for the `size` that it names.
        unsafe { call!(self.handle, driver.stats(&mut stats)) }?;
        Ok(Stats::new(&stats))
    }

    /// The same, and the figures of each producer, consumer and partition.
    pub fn stats_json(&self) -> Result<Value> {
        // SAFETY: the handle is live (owned). On success the library writes a new string to `json`,
        // which is ours.
        let stats = |json| unsafe { call!(self.handle, driver.stats_json(json)) };
        parse(Handle::from_call(self.handle.tables(), stats)?)
    }
}

fn parse(string: Handle<octopus_string>) -> Result<Value> {
    let view = string.tables().string.view.ok_or_else(|| Error::missing_slot("string.view"))?;
    // SAFETY: `string` is live (owned).
    let json = unsafe { view(string.as_ptr()) };
    // SAFETY: the text is valid until `string` is dropped at the end (include/octopus.h).
    let json = unsafe { read_text(json) };
    observe_text(&json);
    parse_json(&json)
}

/// Parses JSON that the library wrote.
pub(crate) fn parse_json(json: &str) -> Result<Value> {
    serde_json::from_str(json).map_err(|why| Error::bad_library(format!("the library wrote {json:?}: {why}")))
}

/// Collects the configuration and the callbacks of a driver.
///
/// Callbacks run on threads of the library, several at a time. They must not wait for the library
/// there: such calls fail with [`Status::WouldDeadlock`]. A panic in one is printed and otherwise
/// ignored. They live as long as the driver and everything that was made from it.
///
/// ```no_run
/// use octopus_loader::Library;
/// use serde_json::json;
///
/// # fn main() -> octopus_loader::Result<()> {
/// let driver = Library::find()?
///     .driver_builder(json!({"kafka": {"bootstrap.servers": "localhost:9092"}}))
///     .log(|level, source, message| eprintln!("{level:?} {source}: {message}"))
///     .rebalance(|consumer, what, partitions| eprintln!("{consumer}: {what:?} {partitions:?}"))
///     .create()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "no driver is made before `create`"]
pub struct DriverBuilder {
    tables: &'static Tables,
    config: Result<String>,
    services: Services,
}

impl DriverBuilder {
    pub(crate) fn new(tables: &'static Tables, config: impl Serialize) -> Self {
        let config = serde_json::to_string(&config).map_err(|why| {
            Error::new(Status::InvalidConfiguration, format!("the configuration can't be written as JSON: {why}"))
        });
        DriverBuilder { tables, config, services: Services::default() }
    }

    pub(crate) fn from_text(tables: &'static Tables, config: &str) -> Self {
        DriverBuilder { tables, config: Ok(config.to_owned()), services: Services::default() }
    }

    /// Receives each log message: its level, the part of Octopus that it comes from, and its text.
    /// It is called on threads of this program, too, while they are in a call. Without it, warnings
    /// and errors go to the standard error stream.
    pub fn log(mut self, callback: impl Fn(LogLevel, &str, &str) + Send + Sync + 'static) -> Self {
        self.services.log = Some(Box::new(callback));
        self
    }

    /// Declares that this program implements the components of its topics itself and pushes with
    /// [`Producer::push_prepared`]. The library makes none then, and does not warn of missing ones.
    ///
    /// [`Producer::push_prepared`]: crate::Producer::push_prepared
    pub fn has_components(mut self) -> Self {
        self.services.has_components = true;
        self
    }

    /// Receives librdkafka's statistics of a client, its name and JSON, every
    /// `kafka.statistics.interval.ms` milliseconds; never unless that is configured. While it runs,
    /// the client reports no deliveries.
    pub fn statistics(mut self, callback: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        self.services.statistics = Some(Box::new(callback));
        self
    }

    /// Receives a fatal error, once for each producer or consumer of the client that it ends: its
    /// name, Kafka's error code, the message.
    pub fn fatal(mut self, callback: impl Fn(&str, i32, &str) + Send + Sync + 'static) -> Self {
        self.services.fatal = Some(Box::new(callback));
        self
    }

    /// Receives each rebalance after it happened: the consumer's name, what happened, the
    /// partitions.
    pub fn rebalance(mut self, callback: impl Fn(&str, Rebalance, &[u32]) + Send + Sync + 'static) -> Self {
        self.services.rebalance = Some(Box::new(callback));
        self
    }

    /// Provides tokens for SASL OAUTHBEARER. `provide` gets `sasl.oauthbearer.config`, and may
    /// block.
    pub fn token(
        mut self,
        provide: impl Fn(&str) -> std::result::Result<Token, String> + Send + Sync + 'static,
    ) -> Self {
        self.services.token = Some(Box::new(provide));
        self
    }

    /// Provides the value of the header `authorization` for the topic service.
    pub fn authorization(
        mut self,
        provide: impl Fn() -> std::result::Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.services.authorization =
            Some(Box::new(move |_| provide().map(|value| Token { value, principal: String::new(), expires_ms: 0 })));
        self
    }

    /// Makes the driver. Errors are those of [`Library::driver`](crate::Library::driver).
    pub fn create(self) -> Result<Driver> {
        let config = self.config?;
        // SAFETY: text and struct outlive the call, which takes ownership of the services. On
        // success the library writes a new handle to `driver`, which is ours.
        let create =
            |driver| unsafe { call!(in self.tables, driver.create(text(&config), &self.services.into_raw(), driver)) };
        Ok(Driver { handle: Handle::from_call(self.tables, create)? })
    }
}
