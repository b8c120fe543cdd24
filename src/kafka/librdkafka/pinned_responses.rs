//! Fetch responses that stay in memory because the host has payloads in them, and the limit on
//! their bytes.
//!
//! A message keeps its whole fetch response in memory, which may hold a thousand others. The limit
//! therefore counts each pinned response once, not its messages.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::handle::Handle;
use super::message::FetchResponse;

/// The pinned fetch responses of a consumer.
pub struct PinnedResponses {
    registry: Arc<PinRegistry>,
    /// The response that was pinned last, in which the next record mostly is too: this avoids the
    /// look into the map. It counts as pinned until another one is.
    last: Mutex<Option<Arc<PinnedResponse>>>,
}

struct PinRegistry {
    /// The limit on the bytes of all pinned responses. A response is pinned while they are below
    /// it, so that the last one may exceed it.
    max_bytes: usize,
    state: Mutex<PinnedState>,
    /// The client of the responses, which is destroyed after them.
    _client: Arc<Handle>,
}

#[derive(Default)]
struct PinnedState {
    by_response: HashMap<FetchResponse, Weak<PinnedResponse>>,
    bytes: usize,
}

/// A response that stays pinned while there is a reference to this.
struct PinnedResponse {
    response: FetchResponse,
    registry: Arc<PinRegistry>,
}

/// Keeps a fetch response pinned: its messages may be kept while there is a pin.
///
/// Between the drop of the last message of a response and its pin, librdkafka may put another
/// response of the same size at the same address. That one then counts as the first, which takes no
/// more memory.
pub struct Pin(Arc<PinnedResponse>);

impl PinnedResponses {
    pub fn new(max_bytes: usize, client: &Arc<Handle>) -> Self {
        let registry = PinRegistry { max_bytes, state: Mutex::default(), _client: client.clone() };
        PinnedResponses { registry: Arc::new(registry), last: Mutex::default() }
    }

    /// Pins a response. `None` if the limit is reached.
    pub fn pin(&self, response: FetchResponse) -> Option<Pin> {
        let mut last = self.last.lock();
        if let Some(pinned) = last.as_ref().filter(|it| it.response == response) {
            return Some(Pin(pinned.clone()));
        }
        // Released before the limit is checked: it may be the last reference to that response.
        *last = None;
        *last = self.registry.pin(response, self.registry.max_bytes);
        last.clone().map(Pin)
    }

    /// Pins a response also beyond the limit.
    pub fn pin_beyond_limit(&self, response: FetchResponse) -> Option<Pin> {
        self.registry.pin(response, usize::MAX).map(Pin)
    }
}

impl Pin {
    pub fn is_of(&self, responses: &PinnedResponses) -> bool {
        Arc::ptr_eq(&self.0.registry, &responses.registry)
    }
}

impl PinRegistry {
    /// `None` if the pinned responses have `max_bytes` or more.
    fn pin(self: &Arc<Self>, response: FetchResponse, max_bytes: usize) -> Option<Arc<PinnedResponse>> {
        let state = &mut *self.state.lock();
        // Returned, not dropped: dropping the last reference here would lock the mutex again.
        if let Some(pinned) = state.by_response.get(&response).and_then(Weak::upgrade) {
            return Some(pinned);
        }
        if state.bytes >= max_bytes {
            return None;
        }
        let pinned = Arc::new(PinnedResponse { response, registry: self.clone() });
        state.by_response.insert(response, Arc::downgrade(&pinned));
        state.bytes += response.bytes;
        Some(pinned)
    }
}

impl Drop for PinnedResponse {
    fn drop(&mut self) {
        let state = &mut *self.registry.state.lock();
        state.bytes -= self.response.bytes;
        // The map keeps a response that was pinned again before this lock was taken.
        if state.by_response.get(&self.response).is_some_and(|it| std::ptr::eq(it.as_ptr(), self)) {
            state.by_response.remove(&self.response);
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::bindings::rd_kafka_type_t;

    use super::*;

    fn pinned_responses(max_bytes: usize) -> PinnedResponses {
        let config = ClientConfig::new().create_native_config().expect("no property is wrong");
        let client = Handle::create(rd_kafka_type_t::RD_KAFKA_CONSUMER, &config, Default::default(), |_| ())
            .expect("a client without brokers");
        PinnedResponses::new(max_bytes, &Arc::new(client))
    }

    fn response(address: usize, bytes: usize) -> FetchResponse {
        FetchResponse { address, bytes }
    }

    #[test]
    fn response_with_several_pins_is_counted_once() {
        let responses = pinned_responses(100);
        let mut first: Vec<_> = (0..3).map(|_| responses.pin(response(1, 60))).collect();
        let _second = responses.pin(response(2, 60)).expect("the first is below the limit");
        assert!(responses.pin(response(3, 1)).is_none(), "both together are above it");
        first.push(responses.pin(response(1, 60)));
        assert!(first.iter().all(Option::is_some), "another pin of a pinned response takes no bytes");
        for one in first {
            assert!(responses.pin(response(3, 1)).is_none());
            drop(one);
        }
        assert!(responses.pin(response(3, 1)).is_some());
    }

    #[test]
    fn response_without_pins_frees_its_bytes() {
        let responses = pinned_responses(100);
        for address in [1, 2, 1, 1, 3] {
            assert!(responses.pin(response(address, 100)).is_some(), "the previous one is released");
        }
        *responses.last.lock() = None;
        let state = responses.registry.state.lock();
        assert_eq!((state.bytes, state.by_response.len()), (0, 0));
    }
}
