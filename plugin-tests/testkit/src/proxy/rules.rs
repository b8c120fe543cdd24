//! Faults at chosen messages: a request or a response that is held back, and responses that are
//! changed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::lock;
use super::messages::{RequestHeader, correlation_id_of};

/// The kinds of requests, by Kafka's API keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ApiKey {
    Produce = 0,
    Fetch = 1,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    JoinGroup = 11,
    CreateTopics = 19,
    EndTxn = 26,
}

/// The message that a fault injection holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldMessage {
    /// The request, so that the broker never sees it.
    Request,
    /// The response, so that the broker has processed the request.
    Response,
}

/// Holds back one client's `nth` request of a kind, or the response to it, and all messages of the
/// connection behind it.
pub struct FaultInjection {
    client_id: String,
    request: ApiKey,
    nth: usize,
    held: HeldMessage,
    state: Mutex<FaultState>,
    fired: Condvar,
}

#[derive(Default)]
struct FaultState {
    seen: usize,
    has_fired: bool,
}

/// Changes responses to one client's requests of a kind, or to those of all clients.
pub struct ResponseCorruption {
    client_id: String,
    request: ApiKey,
    change: Change,
    is_done: AtomicBool,
}

type Change = Box<dyn Fn(&mut Vec<u8>) -> bool + Send + Sync>;

impl FaultInjection {
    pub(super) fn new(client_id: &str, request: ApiKey, nth: usize, held: HeldMessage) -> Self {
        let client_id = client_id.to_owned();
        FaultInjection { client_id, request, nth, held, state: Mutex::default(), fired: Condvar::new() }
    }

    /// Waits until the message is held back; false after `timeout`.
    pub fn wait(&self, timeout: Duration) -> bool {
        let state = lock(&self.state);
        self.fired.wait_timeout_while(state, timeout, |state| !state.has_fired).unwrap().0.has_fired
    }

    fn applies_to(&self, header: &RequestHeader<'_>) -> bool {
        self.request as i16 == header.api_key && self.client_id.as_bytes() == header.client_id
    }

    /// True for the request that the fault applies to.
    fn count_request(&self) -> bool {
        let mut state = lock(&self.state);
        state.seen += 1;
        state.seen == self.nth
    }

    fn fire(&self) {
        lock(&self.state).has_fired = true;
        self.fired.notify_all();
    }
}

impl ResponseCorruption {
    pub(super) fn new(client_id: &str, request: ApiKey, change: Change) -> Self {
        ResponseCorruption { client_id: client_id.to_owned(), request, change, is_done: AtomicBool::new(false) }
    }

    /// Whether the corruption has ended.
    pub fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    /// Ends the corruption: later responses are not changed.
    pub fn end(&self) {
        self.is_done.store(true, Ordering::Release);
    }

    fn applies_to(&self, header: &RequestHeader<'_>) -> bool {
        let is_any = self.client_id.is_empty();
        self.request as i16 == header.api_key
            && (is_any || self.client_id.as_bytes() == header.client_id)
            && !self.is_done()
    }

    fn apply(&self, response: &mut Vec<u8>) {
        if !self.is_done() {
            let is_done = (self.change)(response);
            let length = response.len() as u32 - 4;
            response[..4].copy_from_slice(&length.to_be_bytes());
            if is_done {
                self.end();
            }
        }
    }
}

/// The rules of a proxy.
#[derive(Default)]
pub(super) struct Rules {
    faults: Mutex<Vec<Arc<FaultInjection>>>,
    corruptions: Mutex<Vec<Arc<ResponseCorruption>>>,
}

/// The responses of one connection that a rule applies to, by the correlation ids of their
/// requests.
#[derive(Default)]
pub(super) struct AwaitedResponses {
    held: Mutex<Vec<(i32, Arc<FaultInjection>)>>,
    corrupted: Mutex<Vec<(i32, Arc<ResponseCorruption>)>>,
}

impl Rules {
    pub(super) fn inject_fault(&self, fault: FaultInjection) -> Arc<FaultInjection> {
        let fault = Arc::new(fault);
        lock(&self.faults).push(fault.clone());
        fault
    }

    pub(super) fn corrupt_responses(&self, corruption: ResponseCorruption) -> Arc<ResponseCorruption> {
        let corruption = Arc::new(corruption);
        lock(&self.corruptions).push(corruption.clone());
        corruption
    }

    /// Whether there are none, so that messages need not be whole to be forwarded.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.faults).is_empty() && lock(&self.corruptions).iter().all(|corruption| corruption.is_done())
    }

    /// False if the request is held back.
    pub(super) fn process_request(&self, request: &[u8], awaited: &AwaitedResponses) -> bool {
        let Some(header) = RequestHeader::read(request) else { return true };
        for corruption in lock(&self.corruptions).iter().filter(|corruption| corruption.applies_to(&header)) {
            lock(&awaited.corrupted).push((header.correlation_id, corruption.clone()));
        }
        let fault = lock(&self.faults).iter().find(|fault| fault.applies_to(&header)).cloned();
        let Some(fault) = fault.filter(|fault| fault.count_request()) else { return true };
        if fault.held == HeldMessage::Response {
            lock(&awaited.held).push((header.correlation_id, fault));
            return true;
        }
        fault.fire();
        false
    }
}

impl AwaitedResponses {
    /// Changes the response if a corruption applies to it. False if it is held back.
    pub(super) fn process_response(&self, response: &mut Vec<u8>) -> bool {
        let correlation_id = correlation_id_of(response);
        lock(&self.corrupted).retain(|(awaited, corruption)| {
            let is_this = Some(*awaited) == correlation_id;
            if is_this {
                corruption.apply(response);
            }
            !is_this
        });
        match lock(&self.held).iter().find(|(held, _)| Some(*held) == correlation_id) {
            None => true,
            Some((_, fault)) => {
                fault.fire();
                false
            }
        }
    }
}
