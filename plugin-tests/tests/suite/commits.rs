//! Commits that a group coordinator rejects temporarily.

use octopus_loader::NewEvent;
use serde_json::json;

use crate::kafka::unique;
use crate::proxy::{ApiKey, ProxiedKafka};
use crate::support::{Log, TIMEOUT, driver_with, read, topic_of};

/// The group has a new generation that this member has not joined yet, so the coordinator rejects
/// the commit that the member sends as it leaves.
#[test]
fn commit_at_close_refused_by_rebalance_is_retried() {
    /// Three empty tag sections follow the error code of the last partition.
    const ERROR_FROM_END: usize = 2 + 3;
    const ILLEGAL_GENERATION: u8 = 22;
    let kafka = ProxiedKafka::start();
    let settings = json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "client.id": "rejected"}});
    let topic = topic_of(&driver_with(settings, &Log::default()), "rejected-commit", 1);
    topic.producer("").make().unwrap().push(&NewEvent::json(&0)).unwrap().wait(TIMEOUT).unwrap();
    let group = unique("group");
    let consumer = topic.consumer(&group).make().unwrap();
    let event = read(&consumer, 1).remove(0);
    let rejection = kafka.corrupt_responses("rejected", ApiKey::OffsetCommit, |response| {
        let error = response.len() - ERROR_FROM_END;
        assert_eq!(response[error..], [0; ERROR_FROM_END], "the broker accepts the commit");
        response[error + 1] = ILLEGAL_GENERATION;
        true
    });
    event.acknowledge().unwrap();
    consumer.close(TIMEOUT).unwrap();
    assert!(rejection.is_done(), "a commit was rejected");
    assert_eq!(topic.consumer(&group).make().unwrap().committed(0).unwrap(), Some(1));
}
