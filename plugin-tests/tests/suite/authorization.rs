//! Operations without Kafka's permission: each affected call reports the error, not only the first,
//! and succeeds once the permission is granted.

use octopus_loader::{NewEvent, Persisted, Status};
use serde_json::json;

use crate::kafka::{Kafka, acls, kcat_read, unique};
use crate::support::{SHORT_WAIT, TIMEOUT, eventually, octopus, one_replica, read};

const TOPIC_AUTHORIZATION_FAILED: Option<i32> = Some(29);
const GROUP_AUTHORIZATION_FAILED: Option<i32> = Some(30);

/// A broker that allows every operation on resources without ACLs.
fn start_broker_with_acls() -> Kafka {
    let authorizer = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    Kafka::start(&["--set", authorizer, "--set", "allow.everyone.if.no.acl.found=true"]).unwrap()
}

#[test]
fn operation_without_permission_fails_until_it_is_granted() {
    let kafka = start_broker_with_acls();
    let driver = octopus().driver(json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}})).unwrap();
    let name = unique("guarded");
    driver.create_topic(&name, &one_replica()).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let producer = topic.producer("writer").make().unwrap();
    producer.push(&NewEvent::json(&0)).unwrap().wait(TIMEOUT).unwrap();

    let of_topic = |action, operation| {
        acls(
            kafka.internal(),
            &[action, "--deny-principal", "User:ANONYMOUS", "--operation", operation, "--topic", &name],
        );
    };
    // As soon as a topic has an ACL, Kafka denies everything that no ACL allows.
    acls(kafka.internal(), &["--add", "--allow-principal", "User:*", "--operation", "All", "--topic", &name]);
    of_topic("--add", "Write");
    of_topic("--add", "Read");
    for number in 1..3 {
        // The broker rejects the first push; the client itself rejects the later ones.
        let pushed = producer.push(&NewEvent::json(&number)).and_then(|push| push.wait(TIMEOUT));
        let error = pushed.unwrap_err();
        assert_eq!((error.kafka_code, error.persisted), (TOPIC_AUTHORIZATION_FAILED, Persisted::No), "{error}");
        assert!(error.message.contains(&name), "{error}");
    }
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    eventually("reading is denied", || consumer.next(SHORT_WAIT).is_err());
    for _ in 0..3 {
        let error = consumer.next(SHORT_WAIT).unwrap_err();
        assert_eq!((error.status, error.kafka_code), (Status::Kafka, TOPIC_AUTHORIZATION_FAILED), "{error}");
        assert!(error.message.contains(&name), "{error}");
    }
    let error = consumer.pull_many(10, SHORT_WAIT).unwrap_err();
    assert_eq!(error.kafka_code, TOPIC_AUTHORIZATION_FAILED, "{error}");

    of_topic("--remove", "Write");
    of_topic("--remove", "Read");
    eventually("reading is allowed", || {
        consumer.next(SHORT_WAIT).is_ok_and(|event| event.is_some_and(|e| e.id() == 0))
    });
    let push = || producer.push(&NewEvent::json(&3)).and_then(|push| push.wait(TIMEOUT));
    eventually("writing is allowed", || push().is_ok());
    assert_eq!(read(&consumer, 1)[0].json().unwrap(), json!(3), "rejected events are not in the topic");
}

/// Each pull of a group member and each commit of a consumer with targets names the group.
#[test]
fn group_without_permission_is_named_in_each_error() {
    let kafka = start_broker_with_acls();
    let driver = octopus().driver(json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}})).unwrap();
    let (name, group) = (unique("guarded-group"), unique("group"));
    driver.create_topic(&name, &one_replica()).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    acls(kafka.internal(), &["--add", "--deny-principal", "User:ANONYMOUS", "--operation", "Read", "--group", &group]);
    let member = topic.consumer(&group).make().unwrap();
    eventually("joining is denied", || member.next(SHORT_WAIT).is_err());
    for _ in 0..3 {
        let error = member.next(SHORT_WAIT).unwrap_err();
        assert_eq!(error.kafka_code, GROUP_AUTHORIZATION_FAILED, "{error}");
        assert!(error.message.contains(&group), "{error}");
    }
    topic.producer("writer").make().unwrap().push(&NewEvent::json(&0)).unwrap().wait(TIMEOUT).unwrap();
    let reader = topic.consumer(&group).targets(&[0]).make().unwrap();
    let acknowledged = reader.next(TIMEOUT).and_then(|event| event.expect("an event").acknowledge());
    for _ in 0..2 {
        let refused = acknowledged.clone().and_then(|()| reader.commit(TIMEOUT)).unwrap_err();
        assert_eq!(refused.kafka_code, GROUP_AUTHORIZATION_FAILED, "{refused}");
        assert!(refused.message.contains(&group), "{refused}");
    }
}

/// Permission to write is revoked and granted again while a producer pushes batch after batch. Each
/// event is stored once or fails with an error, and later events are stored in order.
#[test]
fn producer_keeps_order_when_permission_is_granted_again() {
    const ROUNDS: usize = 3;
    let kafka = start_broker_with_acls();
    let small = json!({"bootstrap.servers": kafka.bootstrap(), "batch.num.messages": 1, "linger.ms": 0});
    let driver = octopus().driver(json!({"kafka": small})).unwrap();
    let name = unique("revoked");
    driver.create_topic(&name, &one_replica()).unwrap();
    let producer = driver.open_topic(&name).unwrap().producer("writer").make().unwrap();
    let change = |action| {
        acls(
            kafka.internal(),
            &[action, "--deny-principal", "User:ANONYMOUS", "--operation", "Write", "--topic", &name],
        );
    };
    acls(kafka.internal(), &["--add", "--allow-principal", "User:*", "--operation", "All", "--topic", &name]);
    let mut number = 0;
    let mut stored = Vec::new();
    // Pushes several events at a time until their outcomes satisfy `is_wanted`; records the stored
    // ones.
    let mut push_until = |is_wanted: fn(&[bool]) -> bool| {
        eventually("the broker applies the new ACL", || {
            let pushes: Vec<_> = (0..20)
                .map(|_| {
                    number += 1;
                    (number, producer.push(&NewEvent::json(&number)))
                })
                .collect();
            let outcomes: Vec<bool> = pushes
                .into_iter()
                .map(|(number, pushed)| match pushed.and_then(|push| push.wait(TIMEOUT)) {
                    Ok(_) => {
                        stored.push(number);
                        true
                    }
                    Err(error) => {
                        assert_eq!(
                            (error.kafka_code, error.persisted),
                            (TOPIC_AUTHORIZATION_FAILED, Persisted::No),
                            "{error}"
                        );
                        false
                    }
                })
                .collect();
            is_wanted(&outcomes)
        });
    };
    for _ in 0..ROUNDS {
        push_until(|outcomes| outcomes.iter().all(|is_stored| *is_stored));
        change("--add");
        push_until(|outcomes| outcomes.iter().all(|is_stored| !is_stored));
        change("--remove");
    }
    push_until(|outcomes| outcomes.iter().all(|is_stored| *is_stored));
    let there: Vec<i32> = kcat_read(kafka.internal(), &name)
        .iter()
        .map(|record| {
            String::from_utf8_lossy(&record.value).trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
        })
        .collect();
    assert_eq!(there, stored);
}
