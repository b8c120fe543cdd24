//! Tests of patches whose faults are races inside librdkafka: they use librdkafka itself, with its mock cluster as the broker. Those
//! that a broker's responses provoke are in plugin-tests, `garbled`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ptr::{NonNull, null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::codes;
use super::native::text;
use super::sockets::rd_kafka_conf_set_resolve_cb;

const PATIENCE: Duration = Duration::from_secs(30);

/// A client of librdkafka's whose log lines go to a [`Gate`].
struct RawClient {
    client: NonNull<rd::rd_kafka_t>,
    gate: Box<Gate>,
}

// SAFETY: librdkafka's clients may be used from any thread at the same time (INTRODUCTION.md, "Threads").
unsafe impl Sync for RawClient {}
// SAFETY: as above.
unsafe impl Send for RawClient {}

/// Stops the thread that logs a certain text, so that a test can decide what happens meanwhile.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
enum GateState {
    #[default]
    Open,
    /// The next thread that logs this text stops.
    Closed(&'static str),
    /// A thread has stopped.
    Reached,
    /// A thread has stopped, and goes on when another one logs this text.
    ReachedUntil(&'static str),
}

impl Gate {
    fn close(&self, text: &'static str) {
        self.set(GateState::Closed(text));
    }

    fn wait_until_reached(&self) {
        let state = self.state.lock().unwrap();
        let (state, _) =
            self.changed.wait_timeout_while(state, PATIENCE, |state| *state != GateState::Reached).unwrap();
        assert_eq!(*state, GateState::Reached, "no thread has reached the gate");
    }

    fn open_at(&self, text: &'static str) {
        self.set(GateState::ReachedUntil(text));
    }

    fn open(&self) {
        self.set(GateState::Open);
    }

    fn set(&self, state: GateState) {
        *self.state.lock().unwrap() = state;
        self.changed.notify_all();
    }

    fn pass(&self, line: &str) {
        let mut state = self.state.lock().unwrap();
        match *state {
            GateState::Closed(text) if line.contains(text) => {
                *state = GateState::Reached;
                self.changed.notify_all();
                drop(self.changed.wait_timeout_while(state, PATIENCE, |state| *state != GateState::Open).unwrap());
            }
            GateState::ReachedUntil(text) if line.contains(text) => {
                *state = GateState::Open;
                self.changed.notify_all();
            }
            _ => {}
        }
    }
}

unsafe extern "C" fn log(client: *const rd::rd_kafka_t, _level: c_int, _facility: *const c_char, line: *const c_char) {
    // SAFETY: librdkafka calls this with its client, whose opaque pointer is set before any thread of it logs, and with a text.
    unsafe {
        if let Some(gate) = rd::rd_kafka_opaque(client).cast::<Gate>().as_ref() {
            gate.pass(&text(line));
        }
    }
}

impl RawClient {
    fn new(kind: rd::rd_kafka_type_t, properties: &[(&str, &str)]) -> Self {
        RawClient::with(kind, properties, |_| {})
    }

    fn with(
        kind: rd::rd_kafka_type_t,
        properties: &[(&str, &str)],
        adapt: impl FnOnce(*mut rd::rd_kafka_conf_t),
    ) -> Self {
        let gate = Box::<Gate>::default();
        let mut config = ClientConfig::new();
        for (name, value) in properties {
            config.set(*name, *value);
        }
        let config = config.create_native_config().expect("properties of librdkafka");
        let mut why = [0 as c_char; 512];
        // SAFETY: the configuration is alive and copied; the gate outlives the client; the buffer is as long as said.
        let client = unsafe {
            let copy = rd::rd_kafka_conf_dup(config.ptr());
            adapt(copy);
            rd::rd_kafka_conf_set_log_cb(copy, Some(log));
            rd::rd_kafka_conf_set_events(copy, rd::RD_KAFKA_EVENT_ERROR);
            rd::rd_kafka_conf_set_opaque(copy, (&raw const *gate).cast_mut().cast());
            rd::rd_kafka_new(kind, copy, why.as_mut_ptr(), why.len())
        };
        // SAFETY: terminated by librdkafka.
        let client = NonNull::new(client).unwrap_or_else(|| panic!("{}", unsafe { text(why.as_ptr()) }));
        RawClient { client, gate }
    }

    fn as_ptr(&self) -> *mut rd::rd_kafka_t {
        self.client.as_ptr()
    }

    /// Whether the cluster that the client is connected to has this topic; false if it cannot be asked in `at_most`.
    fn sees_topic(&self, topic: &str, at_most: Duration) -> bool {
        let mut metadata = null();
        // SAFETY: the client is alive; the metadata is ours until destroyed and has `topic_cnt` topics.
        unsafe {
            let code =
                codes::rd_kafka_metadata(self.as_ptr(), 1, null_mut(), &mut metadata, at_most.as_millis() as c_int);
            if code.is_error() {
                return false;
            }
            let count = (*metadata).topic_cnt as usize;
            let found = (0..count).any(|index| text((*(*metadata).topics.add(index)).topic) == topic);
            rd::rd_kafka_metadata_destroy(metadata);
            found
        }
    }

    fn subscribe(&self, topic: &CStr) {
        // SAFETY: the client is alive; the list is ours and copied.
        unsafe {
            rd::rd_kafka_poll_set_consumer(self.as_ptr());
            let topics = rd::rd_kafka_topic_partition_list_new(1);
            rd::rd_kafka_topic_partition_list_add(topics, topic.as_ptr(), -1);
            rd::rd_kafka_subscribe(self.as_ptr(), topics);
            rd::rd_kafka_topic_partition_list_destroy(topics);
        }
    }

    /// Polls until a record comes; false if none comes in `at_most`.
    fn receives_a_record(&self, at_most: Duration) -> bool {
        let end = Instant::now() + at_most;
        while Instant::now() < end {
            // SAFETY: the client is alive; the message is ours until destroyed.
            unsafe {
                let message = rd::rd_kafka_consumer_poll(self.as_ptr(), 100);
                if !message.is_null() {
                    let is_record = (*message).err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
                    rd::rd_kafka_message_destroy(message);
                    if is_record {
                        return true;
                    }
                }
            }
        }
        false
    }
}

impl Drop for RawClient {
    fn drop(&mut self) {
        // SAFETY: the last use of the client; nothing made from it is left.
        unsafe { rd::rd_kafka_destroy(self.as_ptr()) };
    }
}

fn produce(bootstrap: &str, topic: &str) {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    producer.send(BaseRecord::<(), str>::to(topic).payload("record")).unwrap();
    producer.flush(PATIENCE).unwrap();
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// 0004: as from a coordinator that has just moved; librdkafka did not repeat the request at all then.
#[test]
fn committed_offsets_are_requested_until_the_coordinator_has_loaded_them() {
    let cluster = MockCluster::new(1).unwrap();
    let (topic, group) = (c"loading", "loading-group");
    cluster.create_topic("loading", 1, 1).unwrap();
    produce(&cluster.bootstrap_servers(), "loading");
    let moving = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
    ];
    cluster.request_errors(RDKafkaApiKey::OffsetFetch, &[moving, moving].concat());
    let consumer = RawClient::new(
        rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
        &[("bootstrap.servers", &cluster.bootstrap_servers()), ("group.id", group), ("auto.offset.reset", "earliest")],
    );
    consumer.subscribe(topic);
    assert!(consumer.receives_a_record(PATIENCE), "the consumer never learned where its group stands");
}

/// 0003: the main thread has seen that the client is alive, and parses the response after `rd_kafka_destroy` has begun.
#[test]
fn describe_topics_response_during_destroy_is_discarded() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("described", 1, 1).unwrap();
    let client = RawClient::new(
        rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        &[("bootstrap.servers", &cluster.bootstrap_servers()), ("debug", "generic,admin")],
    );
    client.gate.close("waiting for response from broker: Success");
    // SAFETY: the client is alive; the name and the options are copied; the request has its own reference to the queue.
    unsafe {
        // The mock cluster has no controller, which would be asked by default.
        let options =
            rd::rd_kafka_AdminOptions_new(client.as_ptr(), rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let set = rd::rd_kafka_AdminOptions_set_broker(options, 1, null_mut(), 0);
        assert_eq!(set, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
        let queue = rd::rd_kafka_queue_new(client.as_ptr());
        let mut names = [c"described".as_ptr()];
        let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        rd::rd_kafka_DescribeTopics(client.as_ptr(), topics, options, queue);
        rd::rd_kafka_TopicCollection_destroy(topics);
        rd::rd_kafka_AdminOptions_destroy(options);
        rd::rd_kafka_queue_destroy(queue);
    }
    client.gate.wait_until_reached();
    client.gate.open_at("Interrupting timers");
    drop(client);
}

/// A port that stays while the cluster behind it is replaced by another one.
struct Forwarder {
    address: String,
    target: Arc<Mutex<String>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Forwarder {
    fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (target, open) = (Arc::new(Mutex::new(target)), Arc::new(Mutex::new(Vec::new())));
        let forwarder = Forwarder { address, target: target.clone(), open: open.clone() };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(target.lock().unwrap().as_str()) else { continue };
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server.try_clone().unwrap(), client.try_clone().unwrap()),
                ] {
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                open.lock().unwrap().extend([client, server]);
            }
        });
        forwarder
    }

    fn redirect(&self, target: String) {
        *self.target.lock().unwrap() = target;
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// 0013: all brokers go while the main thread is in the middle of a good Metadata response. The known broker stays away, so that only
/// the bootstrap server leads anywhere.
#[test]
fn bootstrap_servers_are_used_although_metadata_comes_as_the_last_broker_goes() {
    let (before, after) = (MockCluster::new(1).unwrap(), MockCluster::new(1).unwrap());
    before.create_topic("before", 1, 1).unwrap();
    after.create_topic("after", 1, 1).unwrap();
    let forwarder = Forwarder::start(before.bootstrap_servers());
    let client = RawClient::new(
        rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        &[
            ("bootstrap.servers", &forwarder.address),
            ("reconnect.backoff.max.ms", "200"),
            ("topic.metadata.refresh.interval.ms", "-1"),
            ("debug", "metadata"),
        ],
    );
    wait_until("the first cluster", || client.sees_topic("before", PATIENCE));

    client.gate.close("===== Received metadata");
    thread::scope(|scope| {
        // Which response is stopped doesn't matter: this one, or one to a request that the client makes when it has connected.
        scope.spawn(|| client.sees_topic("before", PATIENCE));
        client.gate.wait_until_reached();
        forwarder.redirect(after.bootstrap_servers());
        before.broker_down(-1).unwrap();
        wait_until("all brokers are down", || {
            // SAFETY: the client is alive, the event is ours until destroyed.
            unsafe {
                let queue = rd::rd_kafka_queue_get_main(client.as_ptr());
                let event = rd::rd_kafka_queue_poll(queue, 100);
                rd::rd_kafka_queue_destroy(queue);
                let is_down = !event.is_null()
                    && rd::rd_kafka_event_error(event) == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
                if !event.is_null() {
                    rd::rd_kafka_event_destroy(event);
                }
                is_down
            }
        });
        client.gate.open();
    });

    wait_until("the second cluster, by the bootstrap server", || client.sees_topic("after", Duration::from_secs(1)));
}

/// What the name `several` resolves to: addresses that refuse connections, and one that a cluster listens on.
static SEVERAL: AtomicPtr<libc::addrinfo> = AtomicPtr::new(null_mut());

unsafe extern "C" fn resolve(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    found: *mut *mut libc::addrinfo,
    _: *mut c_void,
) -> c_int {
    let several = SEVERAL.load(Ordering::Acquire);
    // SAFETY: librdkafka gives terminated texts and a place for the list; without a node it gives a list back.
    unsafe {
        if node.is_null() {
            if *found != several {
                libc::freeaddrinfo(*found);
            }
            0
        } else if CStr::from_ptr(node) == c"several" {
            *found = several;
            0
        } else {
            libc::getaddrinfo(node, service, hints, found)
        }
    }
}

fn addresses(ports: impl DoubleEndedIterator<Item = u16>) -> *mut libc::addrinfo {
    // SAFETY: zeros are valid in it. One kind of socket, so that there is one element for each address.
    let hints = libc::addrinfo { ai_socktype: libc::SOCK_STREAM, ..unsafe { std::mem::zeroed() } };
    ports.rev().fold(null_mut(), |next, port| {
        let mut address = null_mut();
        let service = std::ffi::CString::new(port.to_string()).unwrap();
        // SAFETY: terminated texts and a place for the list, which has one element.
        unsafe {
            assert_eq!(libc::getaddrinfo(c"127.0.0.1".as_ptr(), service.as_ptr(), &hints, &mut address), 0);
            (*address).ai_next = next;
        }
        address
    })
}

/// 0026: with backoffs of ten seconds, the address that works is the last of many.
#[test]
fn all_addresses_of_a_broker_are_tried_without_backoff() {
    const REFUSED: usize = 8;
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("reached", 1, 1).unwrap();
    let bootstrap = cluster.bootstrap_servers();
    let port = bootstrap.rsplit(':').next().unwrap().parse().unwrap();
    // librdkafka begins with the second address.
    let ports = std::iter::repeat_n(1, REFUSED + 1).chain([port]);
    let several = addresses(ports.collect::<Vec<_>>().into_iter());
    SEVERAL.store(several, Ordering::Release);
    let client = RawClient::with(
        rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        &[
            ("bootstrap.servers", "several:9092"),
            ("reconnect.backoff.ms", "10000"),
            ("reconnect.backoff.max.ms", "10000"),
        ],
        // SAFETY: the configuration is alive.
        |config| unsafe { rd_kafka_conf_set_resolve_cb(config, Some(resolve)) },
    );
    assert!(client.sees_topic("reached", PATIENCE), "the last address was not tried in time");
    // SAFETY: the client is alive, and the event is ours until destroyed.
    unsafe {
        let queue = rd::rd_kafka_queue_get_main(client.as_ptr());
        let event = rd::rd_kafka_queue_poll(queue, 0);
        rd::rd_kafka_queue_destroy(queue);
        assert!(event.is_null(), "a refused address is an error: {}", text(rd::rd_kafka_event_error_string(event)));
    }
    drop(client);
    // SAFETY: its elements are those of lists that getaddrinfo made, and the client that used them is gone.
    unsafe { libc::freeaddrinfo(several) };
}

/// 0034: librdkafka took the next producer epoch, and sent all partitions' batches again under it.
#[test]
fn refused_batch_leaves_the_producer_its_epoch() {
    use rdkafka::message::DeliveryResult;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
    /// The producer's epoch by the latest statistics.
    struct Epoch(Mutex<Option<i64>>);
    impl rdkafka::ClientContext for Epoch {
        fn stats(&self, statistics: rdkafka::Statistics) {
            *self.0.lock().unwrap() = statistics.eos.map(|eos| eos.producer_epoch);
        }
    }
    impl ProducerContext for Epoch {
        type DeliveryOpaque = ();
        fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
    }
    let cluster = MockCluster::new(1).unwrap();
    let producer: BaseProducer<Epoch> = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("statistics.interval.ms", "20")
        .create_with_context(Epoch(Mutex::new(None)))
        .unwrap();
    let push = || {
        producer.send(BaseRecord::<(), str>::to("refused").payload("record")).unwrap();
        producer.flush(PATIENCE).unwrap();
    };
    let epoch = || {
        let started = Instant::now();
        // The first statistics may have been made before.
        for _ in 0..2 {
            producer.context().0.lock().unwrap().take();
            while producer.context().0.lock().unwrap().is_none() {
                assert!(started.elapsed() < PATIENCE, "there are no statistics");
                producer.poll(Duration::from_millis(10));
            }
        }
        *producer.context().0.lock().unwrap()
    };
    push();
    let before = epoch();
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    (0..3).for_each(|_| push());
    assert_eq!((before, epoch()), (Some(0), Some(0)));
}

/// 0034: a partition that came back after its topic was refused took its next refused batch for one that others are before, and
/// sent it again until it was overdue.
#[test]
fn each_refused_batch_is_reported_at_once_whatever_is_learned_of_the_topic_between() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("refusing", 1, 1).unwrap();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .create()
        .unwrap();
    let push = || {
        let sent = producer.send(BaseRecord::<(), str>::to("refusing").payload("record"));
        sent.is_ok().then(|| producer.flush(Duration::from_secs(10)).expect("a delivery report"));
    };
    push();
    for _ in 0..3 {
        cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
        push();
        producer.client().fetch_metadata(Some("refusing"), PATIENCE).unwrap();
    }
    push();
}

/// 0038: the second batch's acknowledgement was taken for that of both.
#[test]
fn first_batch_that_is_refused_for_the_moment_is_stored() {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("first", 1, 1).unwrap();
    cluster.broker_round_trip_time(1, Duration::from_millis(100)).unwrap();
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS]);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("enable.idempotence", "true")
        .set("batch.num.messages", "1")
        .create()
        .unwrap();
    const BATCHES: usize = 3;
    (0..BATCHES).for_each(|_| producer.send(BaseRecord::<(), str>::to("first").payload("record")).unwrap());
    producer.flush(PATIENCE).unwrap();
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "g")
        .create()
        .unwrap();
    assert_eq!(reader.fetch_watermarks("first", 0, PATIENCE).unwrap(), (0, BATCHES as i64));
}

/// 0046.
#[test]
fn cjson_is_a_version_without_known_vulnerabilities() {
    unsafe extern "C" {
        fn cJSON_Version() -> *const c_char;
        fn cJSON_ParseWithLength(text: *const c_char, length: usize) -> *mut c_void;
        fn cJSON_Delete(item: *mut c_void);
    }
    // SAFETY: has no preconditions; the text is static.
    assert_eq!(unsafe { text(cJSON_Version()) }, "1.7.19");
    // What was read behind its end, which AddressSanitizer shows, as there is nothing behind it.
    for truncated in
        ["{\"1\":1,", "[1,", "\"\\", "{\"a\": true, \"b\": [ null,9999999999999999999999999999999999999999999999"]
    {
        let exact: Box<[u8]> = truncated.as_bytes().into();
        // SAFETY: the text has this length; what it gives is ours, and may be NULL.
        unsafe { cJSON_Delete(cJSON_ParseWithLength(exact.as_ptr().cast(), exact.len())) };
    }
}
