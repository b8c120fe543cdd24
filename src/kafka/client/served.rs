//! A client that has only its messages and errors to serve, with the thread that serves them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Client, IDLE};
use crate::support::error::Result;
use crate::support::threads::spawn;

/// A client and the thread that serves its messages and errors.
pub struct ServedClient {
    pub client: Arc<Client>,
    stop: Arc<AtomicBool>,
}

impl ServedClient {
    pub fn start(client: Client) -> Result<Self> {
        let client = Arc::new(client);
        let stop = Arc::new(AtomicBool::new(false));
        let (served, stopped) = (client.clone(), stop.clone());
        spawn("octopus-admin", move || {
            while !stopped.load(Ordering::Acquire) {
                let event = served.main.poll(IDLE);
                // A panic in the host's callback must not end the thread, which also logs.
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    if let Some(event) = &event {
                        served.serve(event);
                    }
                    served.warn_unless_reached();
                }));
            }
        })?;
        Ok(ServedClient { client, stop })
    }
}

impl Drop for ServedClient {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.client.main.wake();
    }
}
