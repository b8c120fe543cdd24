//! Consumer groups: committed offsets.

use rdkafka::bindings as rd;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{PATIENCE, RawClient, produce};

/// Patch 0004: while a coordinator moves to another broker, it responds to requests for committed
/// offsets with retriable errors. librdkafka did not retry such requests.
#[test]
fn committed_offsets_request_is_retried_while_coordinator_moves() {
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
    assert!(consumer.receives_record(PATIENCE), "the consumer never received the committed offsets");
}
