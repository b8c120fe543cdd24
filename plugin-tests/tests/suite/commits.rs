//! Commits that the group refuses for the moment.

use octopus_loader::NewEvent;
use serde_json::json;

use crate::kafka::unique;
use crate::proxy::{ProxiedKafka, Request};
use crate::support::{Log, PATIENCE, driver_with, read, topic_of};

/// The group has a new generation that this member has not joined yet. The commit that it sends as it leaves is refused.
#[test]
fn commit_at_close_that_a_rebalance_refuses_is_repeated() {
    /// The error of the last partition is followed by three empty lists of tags.
    const ERROR_FROM_END: usize = 2 + 3;
    const ILLEGAL_GENERATION: u8 = 22;
    let kafka = ProxiedKafka::start();
    let settings = json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "client.id": "refused"}});
    let topic = topic_of(&driver_with(settings, &Log::default()), "refused-commit", 1);
    topic.producer("").make().unwrap().push(&NewEvent::json(&0)).unwrap().wait(PATIENCE).unwrap();
    let group = unique("group");
    let consumer = topic.consumer(&group).make().unwrap();
    let event = read(&consumer, 1).remove(0);
    let refusal = kafka.spoil("refused", Request::OffsetCommit, |response| {
        let error = response.len() - ERROR_FROM_END;
        assert_eq!(response[error..], [0; ERROR_FROM_END], "the broker takes the commit");
        response[error + 1] = ILLEGAL_GENERATION;
        true
    });
    event.acknowledge().unwrap();
    consumer.close(PATIENCE).unwrap();
    assert!(refusal.is_done(), "a commit was refused");
    assert_eq!(topic.consumer(&group).make().unwrap().committed(0).unwrap(), Some(1));
}
