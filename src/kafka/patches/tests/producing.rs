//! Producers: batches that a broker rejects.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::PATIENCE;

/// Patch 0034: librdkafka took the next producer epoch and sent the batches of all partitions again
/// under it.
#[test]
fn rejected_batch_keeps_producer_epoch() {
    use rdkafka::message::DeliveryResult;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
    /// The producer's epoch in the latest statistics.
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
        // The first statistics may be older than the call.
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

/// Patch 0034: after metadata of a topic whose batch was rejected, librdkafka assumed that others
/// precede the next rejected batch, and sent it again until it was overdue.
#[test]
fn each_rejected_batch_is_reported_despite_new_metadata() {
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

/// Patch 0038: librdkafka took the second batch's acknowledgement for that of both.
#[test]
fn first_batch_with_retriable_error_is_stored() {
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
