//! Records that are kept where librdkafka put them, and how much that takes. A record keeps the whole answer of a broker that it
//! came in, which may hold a thousand others: so answers are counted, not records.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::kafka::handle::Handle;
use crate::kafka::native::FetchResponse;

/// The answers that are kept for records that the host has.
pub struct PinnedResponses {
    counted: Arc<Counted>,
    /// Where the next record mostly is as well, which saves it the look into the map; counted as kept until the next answer.
    last: Mutex<Option<Arc<Kept>>>,
}

struct Counted {
    /// Bytes that they may have together. One more is kept while they have less.
    most: usize,
    all: Mutex<All>,
    /// Whose answers they are: it goes after them.
    client: Arc<Handle>,
}

#[derive(Default)]
struct All {
    by_response: HashMap<FetchResponse, Weak<Kept>>,
    bytes: usize,
}

/// An answer that is kept, as long as there is a reference to this.
struct Kept {
    answer: FetchResponse,
    among: Arc<Counted>,
}

/// Messages of an answer may be kept as long as there is this. In the moment between the last of them and the pin another answer
/// may come to be in the same place: one of the same size is counted as that one, as which it takes no more.
pub struct Pin(Arc<Kept>);

impl PinnedResponses {
    pub fn new(most: usize, client: &Arc<Handle>) -> Self {
        let counted = Counted { most, all: Mutex::default(), client: client.clone() };
        PinnedResponses { counted: Arc::new(counted), last: Mutex::default() }
    }

    /// Nothing if it would be one too many.
    pub fn pin(&self, answer: FetchResponse) -> Option<Pin> {
        let mut last = self.last.lock();
        if let Some(kept) = last.as_ref().filter(|it| it.answer == answer) {
            return Some(Pin(kept.clone()));
        }
        // Before the next is looked at: no record may have it any more.
        *last = None;
        *last = self.counted.keep(answer, self.counted.most);
        last.clone().map(Pin)
    }

    pub fn pin_in_any_case(&self, answer: FetchResponse) -> Option<Pin> {
        // Never so many.
        self.counted.keep(answer, usize::MAX).map(Pin)
    }
}

impl Pin {
    pub fn is_of(&self, client: &Arc<Handle>) -> bool {
        Arc::ptr_eq(&self.0.among.client, client)
    }
}

impl Counted {
    /// `None` if those that are kept have `most` bytes or more.
    fn keep(self: &Arc<Self>, answer: FetchResponse, most: usize) -> Option<Arc<Kept>> {
        let all = &mut *self.all.lock();
        // Handed out: dropped here, the last of it would wait for the lock that is held.
        if let Some(kept) = all.by_response.get(&answer).and_then(Weak::upgrade) {
            return Some(kept);
        }
        if all.bytes >= most {
            return None;
        }
        let kept = Arc::new(Kept { answer, among: self.clone() });
        all.by_response.insert(answer, Arc::downgrade(&kept));
        all.bytes += answer.bytes;
        Some(kept)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let all = &mut *self.among.all.lock();
        all.bytes -= self.answer.bytes;
        // Unless it was kept anew before this had the lock.
        if all.by_response.get(&self.answer).is_some_and(|it| std::ptr::eq(it.as_ptr(), self)) {
            all.by_response.remove(&self.answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::bindings::rd_kafka_type_t;

    use super::*;

    fn answers(most: usize) -> PinnedResponses {
        let config = ClientConfig::new().create_native_config().expect("no property is a wrong one");
        let client = Handle::make(rd_kafka_type_t::RD_KAFKA_CONSUMER, &config, |_| ()).expect("a client of no broker");
        PinnedResponses::new(most, &Arc::new(client))
    }

    fn answer(address: usize, bytes: usize) -> FetchResponse {
        FetchResponse { address, bytes }
    }

    #[test]
    fn an_answer_is_counted_once_however_many_of_its_records_are_kept() {
        let answers = answers(100);
        let mut first: Vec<_> = (0..3).map(|_| answers.pin(answer(1, 60))).collect();
        let _second = answers.pin(answer(2, 60)).expect("the first is below the limit");
        assert!(answers.pin(answer(3, 1)).is_none(), "and both are above");
        first.push(answers.pin(answer(1, 60)));
        assert!(first.iter().all(Option::is_some), "more of what is kept anyway takes nothing more");
        for one in first {
            assert!(answers.pin(answer(3, 1)).is_none());
            drop(one);
        }
        assert!(answers.pin(answer(3, 1)).is_some());
    }

    #[test]
    fn an_answer_that_no_record_has_any_more_keeps_no_other_out() {
        let answers = answers(100);
        for address in [1, 2, 1, 1, 3] {
            assert!(answers.pin(answer(address, 100)).is_some(), "the one before went");
        }
        *answers.last.lock() = None;
        let all = answers.counted.all.lock();
        assert_eq!((all.bytes, all.by_response.len()), (0, 0));
    }
}
