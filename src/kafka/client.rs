//! One librdkafka client: made from properties, named in every message, and what it says handed to the host's
//! services. Producers, consumers and the admin client differ in what else arrives on their queues.

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::bindings as rd;
use rdkafka::config::NativeClientConfig;
use rdkafka::types::RDKafkaErrorCode;

use super::codes::{self, Code};
use super::connection_health::ConnectionHealth;
use super::first_contact::FirstContact;
use super::handle::Handle;
use super::log_messages::{self, LogMessage};
use super::names::Names;
use super::native::{Queue, QueueEvent, TopicHandle, text};
use super::{Connection, EmbeddedCluster, certificate, conf, errors, token};
use crate::auth::{LatestRefusal, TokenSource};
use crate::completions::spawn;
use crate::config::Properties;
use crate::deadline::{Deadline, as_millis_rounded_up};
use crate::error::{Error, Kind, Result};
use crate::services::Services;

/// How long a thread of ours sleeps when nothing happens; whoever has news wakes it.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientRole {
    Admin,
    Producer,
    Consumer,
}

impl ClientRole {
    fn noun(self) -> &'static str {
        match self {
            ClientRole::Admin => "admin",
            ClientRole::Producer => "producer",
            ClientRole::Consumer => "consumer",
        }
    }

    /// Role and name, as messages show them: `producer "detector"`.
    pub fn shown(self, name: &str) -> String {
        if name.is_empty() { self.noun().to_owned() } else { format!("{} {name:?}", self.noun()) }
    }

    fn librdkafka_type(self) -> rd::rd_kafka_type_t {
        match self {
            ClientRole::Producer => rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            // It reads info topics, too.
            ClientRole::Admin | ClientRole::Consumer => rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
        }
    }
}

pub struct Client {
    names: Names,
    bootstrap_servers: String,
    services: Services,
    /// What the brokers, or the way to them, last did wrong.
    pub(super) health: ConnectionHealth,
    pub(super) first_contact: FirstContact,
    pub(super) created: Instant,
    fatal: Mutex<Option<Error>>,
    /// Whether the user wants librdkafka's messages for debugging.
    tells_all: bool,
    /// Who makes the tokens that this client shows to brokers.
    pub(super) tokens: Option<Arc<dyn TokenSource>>,
    /// `sasl.oauthbearer.config`, for whoever makes them.
    token_config: String,
    token_refusal: LatestRefusal,
    pub main: Queue,
    pub handle: Arc<Handle>,
    _embedded: Option<Arc<EmbeddedCluster>>,
}

impl Client {
    /// Makes the client; `properties` are the driver's, with the client's own laid over them.
    pub fn new(connection: &Connection, role: ClientRole, name: &str, mut properties: Properties) -> Result<Self> {
        // Neither looking a topic up nor producing may ever create one.
        properties.set("allow.auto.create.topics", "false");
        // With librdkafka's 10 s between attempts to connect, everything would wait so much longer than its brokers are away.
        if properties.get("reconnect.backoff.ms").is_none() {
            properties.set_default("reconnect.backoff.max.ms", "1000");
        }
        // Messages come through the queue that our thread serves, so a host's log never runs on librdkafka's.
        properties.set("log.queue", "true");
        properties.set_default("client.id", format!("octopus-{}", &connection.instance[..8]));
        if connection.embedded.is_some()
            && properties.get("bootstrap.servers") != connection.properties.get("bootstrap.servers")
        {
            let why = "\"embedded\" brings its own brokers; leave it out of the client's options";
            return Err(Error::configuration("kafka.bootstrap.servers", why));
        }
        if let Some(msk) = &connection.msk {
            msk.secure(&mut properties)?;
        }
        conf::trust_the_system(&mut properties);
        let tokens = connection.tokens.clone();
        conf::check_supported(&properties, tokens.is_some())?;
        let tells_all = properties.get("debug").is_some_and(|contexts| !contexts.trim().is_empty());
        if role == ClientRole::Producer {
            enable_refusal_messages(&mut properties);
        }
        let config = conf::native(&properties)?;
        let shown = role.shown(name);
        let bootstrap_servers = conf::effective(&config, "bootstrap.servers")?;
        let handle = Arc::new(make_handle(&config, role, &shown)?);
        connection.clients.add(&handle);
        let main = Queue::main(&handle)?;
        // SAFETY: the client is alive; NULL means its main queue.
        unsafe { rd::rd_kafka_set_log_queue(handle.as_ptr(), std::ptr::null_mut()) };
        Ok(Client {
            names: match role {
                // Each producer that shares it adds its own.
                ClientRole::Producer => Names::new(&shown),
                ClientRole::Admin | ClientRole::Consumer => Names::of_one(&shown),
            },
            services: connection.services.clone(),
            health: ConnectionHealth::default(),
            first_contact: FirstContact::new(&bootstrap_servers, connection.connect_timeout),
            bootstrap_servers,
            created: Instant::now(),
            fatal: Mutex::new(None),
            tells_all,
            tokens,
            token_config: properties.get("sasl.oauthbearer.config").unwrap_or_default().to_owned(),
            token_refusal: LatestRefusal::default(),
            main,
            handle,
            _embedded: connection.embedded.clone(),
        })
    }

    /// Of those who use it, as messages show them.
    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn name(&self) -> Arc<str> {
        self.names.together()
    }

    pub fn services(&self) -> &Services {
        &self.services
    }

    pub fn log(&self) -> &dyn log::Log {
        &*self.services.log
    }

    /// The error that ended this client, if one did.
    pub fn fatal(&self) -> Option<Error> {
        self.fatal.lock().clone()
    }

    /// Hands messages, statistics and client-wide errors on. Returns the error's code if it was one.
    pub fn serve(&self, event: &QueueEvent) -> Option<RDKafkaErrorCode> {
        match event.kind() {
            rd::RD_KAFKA_EVENT_LOG => {
                self.hand_on_log(event);
                None
            }
            rd::RD_KAFKA_EVENT_STATS => {
                if let Some(statistics) = &self.services.statistics {
                    // SAFETY: the event is alive; its text is copied.
                    let json = unsafe { text(rd::rd_kafka_event_stats(event.as_ptr())) };
                    self.names.all().iter().for_each(|name| statistics(name, &json));
                }
                None
            }
            rd::RD_KAFKA_EVENT_ERROR => Some(self.note_error(event)),
            rd::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => {
                self.renew_token(token::Cause::Due);
                None
            }
            _ => None,
        }
    }

    fn hand_on_log(&self, event: &QueueEvent) {
        let (mut facility, mut message, mut level): (*const c_char, *const c_char, i32) =
            (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: the event is alive and the places are writable; the texts live as long as the event.
        let failed = unsafe { rd::rd_kafka_event_log(event.as_ptr(), &mut facility, &mut message, &mut level) };
        if failed != 0 {
            return;
        }
        // SAFETY: librdkafka's texts end with NUL.
        let (facility, message) = unsafe { (text(facility), text(message)) };
        let meaning = LogMessage::interpret(&facility, &message);
        let is_ignored_property = meaning == LogMessage::PropertyIgnored;
        let is_connection_failure = log_messages::is_connection_failure(&facility);
        self.note_failure(meaning);
        // librdkafka's levels are syslog's.
        let level = match level {
            // The driver's properties are for producers and consumers alike; each ignores the other's.
            _ if is_ignored_property => log::Level::Debug,
            // An event with the same text follows.
            3 if is_connection_failure => log::Level::Debug,
            ..=2 => log::Level::Error,
            // Whatever it is, librdkafka goes on.
            3 | 4 => log::Level::Warn,
            5 | 6 => log::Level::Info,
            _ if !self.tells_all => return,
            _ => log::Level::Debug,
        };
        log::log!(logger: self.log(), target: &self.name(), level, "{facility}: {message}");
    }

    /// What librdkafka tells only in its log, though it keeps the client from brokers.
    fn note_failure(&self, meaning: LogMessage<'_>) {
        use rd::rd_kafka_resp_err_t::{RD_KAFKA_RESP_ERR__FAIL, RD_KAFKA_RESP_ERR__SSL, RD_KAFKA_RESP_ERR__TRANSPORT};
        let (code, reason) = match meaning {
            LogMessage::CertificateRefused(reason) => (RD_KAFKA_RESP_ERR__SSL, reason),
            LogMessage::HungUp(reason) => (RD_KAFKA_RESP_ERR__TRANSPORT, reason.to_owned()),
            // Of a record that a broker doesn't take, librdkafka says no more in the end than that its time is over.
            LogMessage::ProducerRefused(reason) => (RD_KAFKA_RESP_ERR__FAIL, reason.to_owned()),
            LogMessage::PropertyIgnored | LogMessage::Other => return,
        };
        self.health.record_failure(code.into(), reason, Duration::ZERO);
    }

    fn renew_token(&self, cause: token::Cause) {
        if let Some(source) = &self.tokens {
            let (config, log) = (self.token_config.clone(), self.services.log.clone());
            token::renew(&self.handle, cause, &self.name(), source, config, log);
        }
    }

    fn note_error(&self, event: &QueueEvent) -> RDKafkaErrorCode {
        let code = event.error();
        let reason = event.error_text();
        // SAFETY: the event is alive.
        if unsafe { rd::rd_kafka_event_error_is_fatal(event.as_ptr()) } != 0 || is_fatal(code) {
            self.end_with(self.ended_by().unwrap_or_else(|| self.finished_by(code, &reason)));
        } else {
            self.first_contact.note_failure(&reason);
            let level = self.level_of(code);
            log::log!(logger: self.log(), target: &self.name(), level, "{}: {reason}", errors::describe(code));
            let mut patience = Duration::ZERO;
            if let Some(tokens) = &self.tokens
                && is_authentication(code)
                && log_messages::is_token_refused(&reason)
            {
                patience = tokens.patience();
                if self.token_refusal.note() {
                    self.renew_token(token::Cause::Refused);
                }
            }
            self.health.record_failure(code, reason, patience);
        }
        RDKafkaErrorCode::from(code)
    }

    fn level_of(&self, code: Code) -> log::Level {
        match RDKafkaErrorCode::from(code) {
            // What happened to the last of them has been logged.
            RDKafkaErrorCode::AllBrokersDown => log::Level::Info,
            // One line tells of all addresses: `warn_unless_reached`.
            RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve if !self.has_reached() => {
                log::Level::Info
            }
            _ => log::Level::Warn,
        }
    }

    /// The fatal error of librdkafka's client, which has it before it tells us, or even fails the event that it is about.
    pub fn ended_by(&self) -> Option<Error> {
        let mut buffer = [0 as c_char; 512];
        // SAFETY: the client is alive; the buffer is as long as said and is terminated by librdkafka.
        let (code, reason) = unsafe {
            let code = codes::rd_kafka_fatal_error(self.handle.as_ptr(), buffer.as_mut_ptr(), buffer.len());
            (code, text(buffer.as_ptr()))
        };
        code.is_error().then(|| self.finished_by(code, &reason))
    }

    fn finished_by(&self, code: Code, reason: &str) -> Error {
        errors::error(code, reason).context(format_args!("{} is finished, make a new one", self.name()))
    }

    fn end_with(&self, error: Error) {
        let first = self.fatal.lock().replace(error.clone()).is_none();
        if !first {
            return;
        }
        log::error!(logger: self.log(), target: &self.name(), "{error}");
        if let Some(fatal) = &self.services.fatal {
            let names = self.names.all();
            names.iter().for_each(|name| fatal(name, error.kafka_code().unwrap_or(0), error.message()));
        }
    }

    /// `None` when there is no such topic; asking never makes one. Brings what this client knows of it up to date.
    pub fn partition_count(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<u32>> {
        let doing = format!("looking up the Kafka topic {kafka_name:?}");
        let topic = TopicHandle::new(&self.handle, kafka_name)?;
        let found = self.metadata(Some(&topic), &doing, deadline)?;
        let Some((_, code, partitions)) = found.into_iter().next() else { return Ok(None) };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError | RDKafkaErrorCode::LeaderNotAvailable => Ok(partitions),
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => Ok(None),
            _ => Err(self.request_error(code, "", doing)),
        }
    }

    /// All topics that this client may see, with their numbers of partitions.
    pub fn topics(&self, deadline: Deadline) -> Result<BTreeMap<String, u32>> {
        let found = self.metadata(None, "listing Kafka's topics", deadline)?;
        Ok(found.into_iter().filter_map(|(name, _, partitions)| Some((name, partitions?))).collect())
    }

    /// Of one topic, or of all: name, error, and the number of partitions. A topic whose partitions have no leaders
    /// yet has none: for now it is as good as absent.
    fn metadata(
        &self,
        topic: Option<&TopicHandle>,
        doing: &str,
        deadline: Deadline,
    ) -> Result<Vec<(String, Code, Option<u32>)>> {
        let (all, topic) = topic.map_or((1, std::ptr::null_mut()), |topic| (0, topic.as_ptr()));
        let mut metadata = std::ptr::null();
        self.ask(deadline, doing, |at_most| {
            // SAFETY: client and topic are alive, the place is writable; the metadata is ours until destroyed.
            unsafe { codes::rd_kafka_metadata(self.handle.as_ptr(), all, topic, &mut metadata, at_most) }
        })?;
        // SAFETY: set on success; it has `topic_cnt` topics, whose names are copied before it is destroyed.
        unsafe {
            let count = usize::try_from((*metadata).topic_cnt).unwrap_or(0);
            let topics = (0..count).map(|index| &*(*metadata).topics.add(index));
            let partitions = |count: i32| u32::try_from(count).ok().filter(|count| *count > 0);
            let found = topics
                .map(|one| (text(one.topic), Code::read(&raw const one.err), partitions(one.partition_cnt)))
                .collect();
            rd::rd_kafka_metadata_destroy(metadata);
            Ok(found)
        }
    }

    /// Asks the brokers by a call of librdkafka's that waits for so many milliseconds, until it succeeds. It is made in
    /// slices, to see in between whether it waits in vain; ever longer ones, so that a broker that is slow gets its time.
    pub fn ask(
        &self,
        deadline: Deadline,
        doing: impl std::fmt::Display,
        mut call: impl FnMut(i32) -> Code,
    ) -> Result<()> {
        /// What comes up meanwhile is told so much later.
        const LONGEST: Duration = Duration::from_secs(10);
        const SHORTEST: Duration = Duration::from_millis(100);
        let began = Instant::now();
        let mut slice = Duration::from_secs(1);
        loop {
            let code = call(as_millis_rounded_up(deadline.remaining(slice)));
            if !code.is_error() {
                self.health.record_success();
                return Ok(());
            }
            self.check_wait(began, &doing)?;
            if deadline.has_passed() || !errors::is_unanswered(code.into()) {
                return Err(self.request_error(code, "", doing));
            }
            slice = (slice * 2).min(LONGEST);
            if let Some(remaining) = self.time_until_unreached(began) {
                slice = slice.min(remaining).max(SHORTEST);
            }
        }
    }

    pub fn last_failure(&self) -> Option<String> {
        self.handle.limited_by().map(|error| error.message().to_owned()).or_else(|| self.health.reason())
    }

    /// Of what was sent, or would have been, until its time was over: librdkafka has no words of its own for it.
    pub fn why_timed_out(&self) -> String {
        match self.last_failure() {
            Some(reason) => format!("the last error was: {reason}"),
            None => format!("no answer in time from {}", self.bootstrap_servers),
        }
    }

    /// Fails when something stands in the way of an answer that time doesn't heal.
    pub fn check_wait(&self, began: Instant, doing: impl std::fmt::Display) -> Result<()> {
        match self.limited_by(began).or_else(|| self.health.fail_fast_error(began)) {
            Some(error) => Err(error.context(format_args!("{doing}, asking {}", self.bootstrap_servers))),
            None => self.unreached(Some(began), doing).map_or(Ok(()), Err),
        }
    }

    /// The limit that keeps this client from brokers now. It is an error of a wait that it has lasted for some time, since
    /// a program that opens many files for a moment gets over it.
    fn limited_by(&self, began: Instant) -> Option<Error> {
        const PATIENCE: Duration = Duration::from_secs(2);
        if began.elapsed() >= PATIENCE { self.handle.limited_by() } else { None }
    }

    /// What has stood between this client and the brokers for a while, if it's something that time doesn't heal.
    pub fn persistent_error(&self) -> Option<Error> {
        self.handle.limited_by().or_else(|| self.health.persistent_error())
    }

    /// The same, if it is beyond doubt: nothing new should be begun.
    pub fn check_way(&self) -> Result<()> {
        self.health.rejection().map_or(Ok(()), Err)
    }

    /// A broker did what it was asked for.
    pub fn note_success(&self) {
        self.health.record_success();
    }

    /// What has kept this client out since it was made; for whoever has things wait for it to be let in.
    pub fn never_connected_error(&self) -> Option<Error> {
        self.health.never_connected_error()
    }

    /// For the thread that serves this client: while something stands in its way, asks now and then whether it is over.
    /// Without that, calls that are refused meanwhile would be refused for ever. Whether it did ask.
    pub fn look_again(&self) -> bool {
        let due = self.health.needs_probe();
        if due && self.is_answered() {
            self.health.record_success();
        }
        due
    }

    /// Whether a broker answers right now.
    pub fn is_answered(&self) -> bool {
        const AT_MOST_MS: i32 = 200;
        let mut metadata = std::ptr::null();
        let no_topic = std::ptr::null_mut();
        // SAFETY: the client is alive and the place writable; the metadata is ours until destroyed.
        unsafe {
            let code = codes::rd_kafka_metadata(self.handle.as_ptr(), 0, no_topic, &mut metadata, AT_MOST_MS);
            let answered = !code.is_error();
            if answered {
                rd::rd_kafka_metadata_destroy(metadata);
            }
            answered
        }
    }

    /// Nobody answered in time: says who was asked and what went wrong last.
    pub fn unreachable(&self, doing: impl std::fmt::Display) -> Error {
        let why = match self.last_failure() {
            Some(reason) => format!("; the last error was: {reason}"),
            None => String::new(),
        };
        Error::new(Kind::Unreachable, format!("{doing}: no answer in time from {}{why}", self.bootstrap_servers))
            .retriable(true)
    }

    /// An error of a request, or, if it says that nobody answered, who did not.
    pub fn request_error(&self, code: Code, reason: &str, doing: impl std::fmt::Display) -> Error {
        match errors::is_unanswered(code.into()) {
            true => self.unreachable(doing).with_kafka_code(code.number()),
            false => errors::error(code, reason).context(doing),
        }
    }
}

fn is_authentication(code: Code) -> bool {
    matches!(
        RDKafkaErrorCode::from(code),
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed
    )
}

fn is_fatal(code: Code) -> bool {
    RDKafkaErrorCode::from(code) == RDKafkaErrorCode::Fatal
}

/// What brokers answer to a producer is in librdkafka's messages for debugging alone. These are few: connections and
/// failures, nothing of each request.
fn enable_refusal_messages(properties: &mut Properties) {
    const TELLING: &str = "broker";
    let wanted = properties.get("debug").map(str::trim).filter(|contexts| !contexts.is_empty());
    let told = wanted.map_or(TELLING.to_owned(), |contexts| format!("{contexts},{TELLING}"));
    properties.set("debug", told);
}

fn make_handle(config: &NativeClientConfig, role: ClientRole, name: &str) -> Result<Handle> {
    const WANTED: i32 = rd::RD_KAFKA_EVENT_DR
        | rd::RD_KAFKA_EVENT_LOG
        | rd::RD_KAFKA_EVENT_ERROR
        | rd::RD_KAFKA_EVENT_REBALANCE
        | rd::RD_KAFKA_EVENT_OFFSET_COMMIT
        | rd::RD_KAFKA_EVENT_STATS
        | rd::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH;
    let adapt = |copy: *mut rd::rd_kafka_conf_t| {
        // SAFETY: the configuration is alive.
        unsafe { rd::rd_kafka_conf_set_events(copy, WANTED) };
        certificate::tell_refusals(copy);
    };
    let refused = |why| Error::configuration("kafka", format_args!("librdkafka can't make the {name}: {why}"));
    Handle::make(role.librdkafka_type(), config, adapt)
        .map_err(|why| why.into_error(format_args!("creating the {name}"), refused))
}

/// A client with nothing to serve but its messages and errors, and the thread that does.
pub struct ServedClient {
    pub client: Arc<Client>,
    stop: Arc<AtomicBool>,
}

impl ServedClient {
    pub fn start(client: Client) -> Result<Self> {
        let client = Arc::new(client);
        let stop = Arc::new(AtomicBool::new(false));
        let (served, stopped) = (client.clone(), stop.clone());
        spawn("octopus-admin", move || {
            while !stopped.load(Ordering::Acquire) {
                if let Some(event) = served.main.poll(IDLE) {
                    // A panic in a host's callback must not stop its log for good.
                    let _ = catch_unwind(AssertUnwindSafe(|| served.serve(&event)));
                }
            }
        })?;
        Ok(ServedClient { client, stop })
    }
}

impl Drop for ServedClient {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.client.main.wake();
    }
}
