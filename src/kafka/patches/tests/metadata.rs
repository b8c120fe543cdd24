//! Metadata: responses that arrive while a client or its last broker goes away.

use std::thread;
use std::time::Duration;

use octopus_testkit::proxy::{NetworkFault, Proxy};
use rdkafka::bindings as rd;
use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaRespErr;

use super::{PATIENCE, RawClient, wait_until};

/// Patch 0003: the main thread has checked that the client is alive, and parses the response after
/// `rd_kafka_destroy` has begun.
#[test]
fn describe_topics_response_during_destroy_is_discarded() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("described", 1, 1).unwrap();
    let client = RawClient::new(
        rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        &[("bootstrap.servers", &cluster.bootstrap_servers()), ("debug", "generic,admin")],
    );
    client.gate.close("waiting for response from broker: Success");
    client.describe_topic(c"described");
    client.gate.wait_until_reached();
    client.gate.open_at("Interrupting timers");
    drop(client);
}

/// Patch 0013: all brokers go down while the main thread processes a successful metadata response.
/// The known broker stays down, so that only the bootstrap server can be reached.
#[test]
fn bootstrap_servers_are_used_if_brokers_go_down_during_metadata() {
    let (before, after) = (MockCluster::new(1).unwrap(), MockCluster::new(1).unwrap());
    before.create_topic("before", 1, 1).unwrap();
    after.create_topic("after", 1, 1).unwrap();
    let proxy = Proxy::start(1).unwrap();
    proxy.set_broker(&before.bootstrap_servers());
    let client = RawClient::new(
        rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        &[
            ("bootstrap.servers", proxy.address()),
            ("reconnect.backoff.max.ms", "200"),
            ("topic.metadata.refresh.interval.ms", "-1"),
            ("debug", "metadata"),
        ],
    );
    wait_until("the first cluster", || client.sees_topic("before", PATIENCE));

    client.gate.close("===== Received metadata");
    thread::scope(|scope| {
        // The blocked response may be this one or one to a request of the client itself.
        scope.spawn(|| client.sees_topic("before", PATIENCE));
        client.gate.wait_until_reached();
        proxy.set_broker(&after.bootstrap_servers());
        proxy.set_fault(NetworkFault::Disconnect);
        proxy.set_fault(NetworkFault::None);
        before.broker_down(-1).unwrap();
        wait_until("all brokers are down", || {
            // SAFETY: `client` is alive; queue and event are owned and destroyed here.
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

    wait_until("the second cluster, through the bootstrap server", || {
        client.sees_topic("after", Duration::from_secs(1))
    });
}
