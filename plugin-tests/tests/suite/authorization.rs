//! What Kafka doesn't allow is said by each call that suffers, not only by the first, and over once it is allowed.

use octopus_loader::{NewEvent, Persisted, Status};
use serde_json::json;

use crate::kafka::{Kafka, acls, kcat_read, unique};
use crate::support::{A_MOMENT, PATIENCE, eventually, octopus, one_replica, read};

const TOPIC_AUTHORIZATION_FAILED: Option<i32> = Some(29);
const GROUP_AUTHORIZATION_FAILED: Option<i32> = Some(30);

/// A broker that allows whatever nobody has said anything about.
fn guarded() -> Kafka {
    let authorizer = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    Kafka::start(&["--set", authorizer, "--set", "allow.everyone.if.no.acl.found=true"])
}

#[test]
fn what_kafka_does_not_allow_is_said_each_time_and_is_over_once_it_is_allowed() {
    let kafka = guarded();
    let driver = octopus().driver(json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}})).unwrap();
    let name = unique("guarded");
    driver.create_topic(&name, &one_replica()).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let producer = topic.producer("writer").make().unwrap();
    producer.push(&NewEvent::json(&0)).unwrap().wait(PATIENCE).unwrap();

    let of_topic = |action, operation| {
        acls(
            kafka.internal(),
            &[action, "--deny-principal", "User:ANONYMOUS", "--operation", operation, "--topic", &name],
        );
    };
    // Beside a denial nothing is allowed that nobody allows.
    acls(kafka.internal(), &["--add", "--allow-principal", "User:*", "--operation", "All", "--topic", &name]);
    of_topic("--add", "Write");
    of_topic("--add", "Read");
    for number in 1..3 {
        // Refused by the broker, or, once the client knows, by itself.
        let pushed = producer.push(&NewEvent::json(&number)).and_then(|push| push.wait(PATIENCE));
        let error = pushed.unwrap_err();
        assert_eq!((error.kafka_code, error.persisted), (TOPIC_AUTHORIZATION_FAILED, Persisted::No), "{error}");
        assert!(error.message.contains(&name), "{error}");
    }
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    eventually("reading is refused", || consumer.next(A_MOMENT).is_err());
    for _ in 0..3 {
        let error = consumer.next(A_MOMENT).unwrap_err();
        assert_eq!((error.status, error.kafka_code), (Status::Kafka, TOPIC_AUTHORIZATION_FAILED), "{error}");
        assert!(error.message.contains(&name), "{error}");
    }
    let error = consumer.pull_many(10, A_MOMENT).unwrap_err();
    assert_eq!(error.kafka_code, TOPIC_AUTHORIZATION_FAILED, "{error}");

    of_topic("--remove", "Write");
    of_topic("--remove", "Read");
    eventually("reading is allowed", || consumer.next(A_MOMENT).is_ok_and(|event| event.is_some_and(|e| e.id() == 0)));
    let push = || producer.push(&NewEvent::json(&3)).and_then(|push| push.wait(PATIENCE));
    eventually("writing is allowed", || push().is_ok());
    assert_eq!(read(&consumer, 1)[0].json().unwrap(), json!(3), "what was refused is not in the topic");
}

#[test]
fn a_group_that_kafka_does_not_allow_is_named_each_time_by_members_and_by_readers_with_targets() {
    let kafka = guarded();
    let driver = octopus().driver(json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}})).unwrap();
    let (name, group) = (unique("guarded-group"), unique("group"));
    driver.create_topic(&name, &one_replica()).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    acls(kafka.internal(), &["--add", "--deny-principal", "User:ANONYMOUS", "--operation", "Read", "--group", &group]);
    let member = topic.consumer(&group).make().unwrap();
    eventually("joining is refused", || member.next(A_MOMENT).is_err());
    for _ in 0..3 {
        let error = member.next(A_MOMENT).unwrap_err();
        assert_eq!(error.kafka_code, GROUP_AUTHORIZATION_FAILED, "{error}");
        assert!(error.message.contains(&group), "{error}");
    }
    topic.producer("writer").make().unwrap().push(&NewEvent::json(&0)).unwrap().wait(PATIENCE).unwrap();
    let reader = topic.consumer(&group).targets(&[0]).make().unwrap();
    let acknowledged = reader.next(PATIENCE).and_then(|event| event.expect("an event").acknowledge());
    for _ in 0..2 {
        let refused = acknowledged.clone().and_then(|()| reader.commit(PATIENCE)).unwrap_err();
        assert_eq!(refused.kafka_code, GROUP_AUTHORIZATION_FAILED, "{refused}");
        assert!(refused.message.contains(&group), "{refused}");
    }
}

/// Permission to write is revoked and granted again while a producer pushes batch after batch: each event is stored once or has its
/// error, and the partition goes on.
#[test]
fn producer_goes_on_in_order_when_permission_comes_back_between_its_batches() {
    const ROUNDS: usize = 3;
    let kafka = guarded();
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
    // Pushes until the outcome is this one, several at a time; what was stored is noted.
    let mut push_until = |is_wanted: fn(&[bool]) -> bool| {
        eventually("the broker to change its mind", || {
            let pushes: Vec<_> = (0..20)
                .map(|_| {
                    number += 1;
                    (number, producer.push(&NewEvent::json(&number)))
                })
                .collect();
            let outcomes: Vec<bool> = pushes
                .into_iter()
                .map(|(number, pushed)| match pushed.and_then(|push| push.wait(PATIENCE)) {
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
