//! A driver: one configured way to a Kafka, which makes, finds and opens topics.

use octopus::abi::*;
use serde::Serialize;
use serde_json::Value;

use crate::component::{self, Selector, Serializer, Validator};
use crate::error::{Error, Result, Status};
use crate::options::TopicOptions;
use crate::raw::{Handle, Tables, call, read_text, text};
use crate::services::{LogLevel, Rebalance, Services, Token, is_overheard};
use crate::thread_pool::ThreadPool;
use crate::topic::Topic;

/// One configured way to a Kafka. Its calls take at most the configured `timeout_ms` (60 s by default); then they
/// fail with [`Status::Unreachable`] and say who did not answer.
#[derive(Debug)]
pub struct Driver {
    handle: Handle<octopus_driver>,
}

impl Driver {
    /// Makes a topic, and waits until it can be opened.
    ///
    /// [`Status::TopicExists`], [`Status::Component`], [`Status::InvalidConfiguration`], [`Status::Unreachable`],
    /// [`Status::Kafka`].
    pub fn create_topic(&self, name: &str, options: &TopicOptions) -> Result<()> {
        // SAFETY: a live handle; texts and struct outlive the call.
        options.lend(|args| unsafe { call!(self.handle, driver.create_topic(text(name), args)) })
    }

    /// Opens an existing topic; an unknown one is looked for during the configured `open_retry_ms` (5 s by default).
    ///
    /// [`Status::UnknownTopic`], [`Status::Component`], [`Status::Unreachable`], [`Status::Kafka`].
    pub fn open_topic(&self, name: &str) -> Result<Topic> {
        // SAFETY: a live handle; the text outlives the call, which gives us the topic.
        let made = unsafe {
            Handle::made(self.handle.tables(), |topic| call!(self.handle, driver.open_topic(text(name), topic)))
        };
        made.and_then(Topic::new)
    }

    /// Removes all records of a topic; its components stay. [`Status::UnknownTopic`], [`Status::Unreachable`],
    /// [`Status::Kafka`].
    pub fn empty_topic(&self, name: &str) -> Result<()> {
        // SAFETY: a live handle; the text outlives the call.
        unsafe { call!(self.handle, driver.empty_topic(text(name))) }
    }

    /// Deletes a topic and its info topic. [`Status::UnknownTopic`], [`Status::Unreachable`], [`Status::Kafka`].
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        // SAFETY: a live handle; the text outlives the call.
        unsafe { call!(self.handle, driver.delete_topic(text(name))) }
    }

    /// Whether there is such a topic. [`Status::Unreachable`], [`Status::Kafka`].
    pub fn topic_exists(&self, name: &str) -> Result<bool> {
        let mut exists = 0;
        // SAFETY: a live handle; text and output outlive the call.
        unsafe { call!(self.handle, driver.topic_exists(text(name), &mut exists)) }?;
        Ok(exists != 0)
    }

    /// Every topic of the namespace that has an info topic, with its components and its number of partitions:
    /// `{name: {"validator":…, "selector":…, "serializer":…, "num_partitions":n}}`.
    pub fn list_topics(&self) -> Result<Value> {
        // SAFETY: a live handle; the call gives us the string.
        let made = unsafe { Handle::made(self.handle.tables(), |json| call!(self.handle, driver.list_topics(json))) };
        parse(made?)
    }

    /// The pool of 0 threads that the driver's topics share by default.
    pub fn default_thread_pool(&self) -> Result<ThreadPool> {
        // SAFETY: a live handle; the call gives us the pool.
        let made =
            unsafe { Handle::made(self.handle.tables(), |pool| call!(self.handle, driver.default_thread_pool(pool))) };
        made.map(|handle| ThreadPool { handle })
    }

    /// Lets this program provide the validators of one type; `make` makes one from the component's JSON.
    /// [`Status::InvalidArgument`] for a type that is built in, or registered already.
    pub fn register_validator<V: Validator>(
        &self,
        type_name: &str,
        make: impl Fn(&str) -> std::result::Result<V, String> + Send + Sync + 'static,
    ) -> Result<()> {
        self.register(OCTOPUS_ROLE_VALIDATOR, type_name, || component::validators(make))
    }

    /// As [`register_validator`](Self::register_validator), for partition selectors; each producer has one of its own.
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
        // SAFETY: a live handle; text and struct outlive the call, which takes the component over.
        unsafe { call!(self.handle, driver.register_component(kind, text(type_name), &component())) }
    }

    /// What is in effect, with every secret masked.
    pub fn describe(&self) -> Result<Value> {
        // SAFETY: a live handle; the call gives us the string.
        let made = unsafe { Handle::made(self.handle.tables(), |json| call!(self.handle, driver.describe(json))) };
        parse(made?)
    }
}

fn parse(string: Handle<octopus_string>) -> Result<Value> {
    let view = string.tables().string.view.ok_or_else(|| Error::not_built("string.view"))?;
    // SAFETY: a live handle, whose text lives as long.
    let json = unsafe { read_text(view(string.as_ptr())) };
    is_overheard(&json);
    parse_json(&json)
}

/// JSON that the plugin wrote.
pub(crate) fn parse_json(json: &str) -> Result<Value> {
    serde_json::from_str(json).map_err(|why| Error::bad_library(format!("the library wrote {json:?}: {why}")))
}

/// A driver in the making. Services are called on threads of the plugin and, but for the driver's own, must not
/// wait there; a panic in one is printed and otherwise ignored. They live as long as the driver and what came of it.
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

    /// Gets each message: its level, the part of Octopus that speaks, and the text; also on threads of the host that
    /// are inside a call, several at a time. Without it, warnings and errors go to the standard error stream.
    pub fn log(mut self, tell: impl Fn(LogLevel, &str, &str) + Send + Sync + 'static) -> Self {
        self.services.log = Some(Box::new(tell));
        self
    }

    /// Says that this program has its topics' components itself, and pushes with [`Producer::push_prepared`]: then none is
    /// made, or missed with a warning.
    ///
    /// [`Producer::push_prepared`]: crate::Producer::push_prepared
    pub fn has_components(mut self) -> Self {
        self.services.has_components = true;
        self
    }

    /// Gets librdkafka's statistics of a client, its name and JSON, every `kafka.statistics.interval.ms`
    /// milliseconds; none unless that is configured. While it runs, that client reports no deliveries.
    pub fn statistics(mut self, tell: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        self.services.statistics = Some(Box::new(tell));
        self
    }

    /// Called once for a client that met an error which it can't recover from: its name, Kafka's code, the message.
    pub fn fatal(mut self, tell: impl Fn(&str, i32, &str) + Send + Sync + 'static) -> Self {
        self.services.fatal = Some(Box::new(tell));
        self
    }

    /// Called after a group gave partitions to a consumer or took them away: its name, what happened, to which.
    pub fn rebalance(mut self, tell: impl Fn(&str, Rebalance, &[u32]) + Send + Sync + 'static) -> Self {
        self.services.rebalance = Some(Box::new(tell));
        self
    }

    /// Provides tokens for SASL OAUTHBEARER; `provide` gets `sasl.oauthbearer.config`, and may take its time.
    pub fn token(
        mut self,
        provide: impl Fn(&str) -> std::result::Result<Token, String> + Send + Sync + 'static,
    ) -> Self {
        self.services.token = Some(Box::new(provide));
        self
    }

    /// Provides the text of the header `authorization` for the topic service.
    pub fn authorization(
        mut self,
        provide: impl Fn() -> std::result::Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.services.authorization =
            Some(Box::new(move |_| provide().map(|value| Token { value, principal: String::new(), expires_ms: 0 })));
        self
    }

    /// Makes the driver; errors as of [`Octopus::driver`](crate::Octopus::driver).
    pub fn create(self) -> Result<Driver> {
        let config = self.config?;
        // SAFETY: text and struct outlive the call, which takes the services over and gives us the driver.
        let made = unsafe {
            Handle::made(
                self.tables,
                |driver| call!(in self.tables, driver.create(text(&config), &self.services.hand_over(), driver)),
            )
        };
        Ok(Driver { handle: made? })
    }
}
