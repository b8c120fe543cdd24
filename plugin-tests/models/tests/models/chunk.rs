use std::sync::Arc;

use loom::thread;
use octopus_models::event::SharedEvent;

use crate::events::{events, positions};

fn use_event(event: &SharedEvent, data: u8) {
    event.poison.check("event").unwrap();
    assert_eq!(event.data(), [data]);
}

/// The thread that releases the last event frees the chunk, after all uses by the other threads.
#[test]
fn chunk_is_freed_after_the_last_use_of_its_events() {
    loom::model(|| {
        let positions = positions();
        let mut held = events(&positions, 0, 2);
        let (second, first) = (held.pop().unwrap(), held.pop().unwrap());
        let shared = first.clone();
        let others = [thread::spawn(move || use_event(&second, 1)), thread::spawn(move || use_event(&shared, 0))];
        use_event(&first, 0);
        drop(first);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(Arc::strong_count(&positions), 1, "the chunk has released its reference");
    });
}
