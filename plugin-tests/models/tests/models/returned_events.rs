use loom::sync::Arc;
use loom::thread;
use octopus_models::client::consumer::returned_events::ReturnedEvents;
use octopus_models::event::SharedEvent;
use octopus_models::sync::locks_taken_by;

use crate::events::{events, positions};

/// The flag that each pull reads says whether the queue has events: `first_of` reads the queue
/// itself. Without events, a pull takes no lock.
fn check_flag(returned: &ReturnedEvents) {
    let has_events = [0, 1].iter().any(|partition| returned.first_of(*partition).is_some());
    assert_eq!(returned.is_empty(), !has_events);
    assert_eq!(locks_taken_by(|| returned.take_events(0, &mut Vec::new())), usize::from(has_events));
}

/// The offsets of the events that are left, which must be all of the queue.
fn drain(returned: &ReturnedEvents) -> Vec<u64> {
    std::iter::from_fn(|| returned.take(|_| true)).map(|event| event.unwrap().offset()).collect()
}

/// Adds an event while two are taken. It is neither lost nor taken twice.
fn check_addition(add: fn(&ReturnedEvents, SharedEvent)) {
    loom::model(move || {
        let mut given = events(&positions(), 0, 2);
        let added = given.pop().unwrap();
        let returned = Arc::new(ReturnedEvents::default());
        returned.insert(given);
        let adding = returned.clone();
        let adder = thread::spawn(move || add(&adding, added));
        let taken = [returned.take(|_| true), returned.take(|_| true)];
        adder.join().unwrap();
        check_flag(&returned);
        let mut offsets: Vec<_> = taken.into_iter().flatten().map(|event| event.unwrap().offset()).collect();
        offsets.extend(drain(&returned));
        assert_eq!(offsets, [0, 1]);
        check_flag(&returned);
    });
}

#[test]
fn event_inserted_during_a_take_is_kept() {
    check_addition(|returned, event| returned.insert(vec![event]));
}

#[test]
fn event_appended_during_a_take_is_kept() {
    check_addition(|returned, event| returned.append(vec![Ok(event)]));
}

/// Events that two threads add while others are taken are neither lost nor taken twice.
#[test]
fn events_added_by_two_threads_are_kept() {
    loom::model(|| {
        let mut given = events(&positions(), 0, 3);
        let (third, second) = (given.pop().unwrap(), given.pop().unwrap());
        let returned = Arc::new(ReturnedEvents::default());
        returned.insert(given);
        let (inserting, appending) = (returned.clone(), returned.clone());
        let adders = [
            thread::spawn(move || inserting.insert(vec![second])),
            thread::spawn(move || appending.append(vec![Ok(third)])),
        ];
        let mut taken: Vec<_> = returned.take(|_| true).map(|event| event.unwrap().offset()).into_iter().collect();
        adders.into_iter().for_each(|adder| adder.join().unwrap());
        check_flag(&returned);
        taken.extend(drain(&returned));
        taken.sort();
        assert_eq!(taken, [0, 1, 2]);
    });
}

/// A removal that leaves no event clears the flag.
#[test]
fn flag_agrees_with_queue_after_a_removal() {
    loom::model(|| {
        let given = events(&positions(), 1, 1);
        let returned = Arc::new(ReturnedEvents::default());
        let adding = returned.clone();
        let adder = thread::spawn(move || adding.insert(given));
        returned.remove_partition(1);
        adder.join().unwrap();
        check_flag(&returned);
    });
}

/// Events that are added while those of another partition are removed are neither lost nor taken
/// twice.
#[test]
fn event_added_during_a_removal_is_kept() {
    loom::model(|| {
        let positions = positions();
        let (first, second) = (events(&positions, 0, 1), events(&positions, 0, 1));
        let returned = Arc::new(ReturnedEvents::default());
        returned.insert(events(&positions, 1, 1));
        let (adding, removing) = (returned.clone(), returned.clone());
        let others = [
            thread::spawn(move || {
                adding.insert(first);
                adding.append(second.into_iter().map(Ok).collect());
            }),
            thread::spawn(move || removing.remove_partition(1)),
        ];
        let mut taken = Vec::new();
        returned.take_events(1, &mut taken);
        others.into_iter().for_each(|other| other.join().unwrap());
        check_flag(&returned);
        let mut offsets: Vec<_> =
            taken.iter().filter(|event| event.partition() == 0).map(|event| event.offset()).collect();
        offsets.extend(drain(&returned));
        offsets.sort();
        assert_eq!(offsets, [0, 1]);
    });
}
