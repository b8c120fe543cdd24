//! Destroys clients on threads of the plugin, since destroying one waits for librdkafka's threads.
//!
//! One thread is created in advance, before the first client, so that clients can be destroyed when
//! no thread can be created. It gives each client a thread of its own if it can, since a client may
//! have to wait for a name server.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use once_cell::sync::OnceCell;
use rdkafka::bindings as rd;

use super::extensions::Extensions;
use super::sockets::Descriptors;
use crate::support::error::Result;
use crate::support::protection::Protection;
use crate::support::threads::is_plugin_thread;
use crate::support::threads::spawn;

/// A client that nothing refers to any more.
pub struct Teardown {
    pub client: NonNull<rd::rd_kafka_t>,
    /// The argument of its socket callbacks.
    pub descriptors: Arc<Descriptors>,
    pub extensions: Extensions,
}

// SAFETY: the value has no other owner and is moved to the one thread that destroys the client.
unsafe impl Send for Teardown {}

static RESERVED: OnceCell<Sender<Teardown>> = OnceCell::new();

/// Creates the thread that destroys clients, unless it exists. Later, a resource limit could
/// prevent it.
pub fn reserve() -> Result<()> {
    let start = || {
        let (sender, receiver) = channel();
        spawn("octopus-teardown", move || run_all(&receiver)).map(|()| sender)
    };
    RESERVED.get_or_try_init(start).map(drop)
}

impl Teardown {
    /// Destroys the client: on the calling thread if that is one of the plugin, otherwise on the
    /// reserved one.
    pub fn start(self) {
        match RESERVED.get() {
            _ if !Protection::ReservedTeardown.is_on() => drop(spawn("octopus-destroy", move || self.run())),
            Some(reserved) if !is_plugin_thread() => {
                // The receiver lives as long as the process.
                let _ = reserved.send(self);
            }
            _ => self.run(),
        }
    }

    fn run(self) {
        // SAFETY: `self` is the last owner of the client, and the objects that were created from it
        // are destroyed, as each holds an `Arc<Handle>`.
        unsafe { rd::rd_kafka_destroy(self.client.as_ptr()) };
    }
}

fn run_all(clients: &Receiver<Teardown>) {
    for teardown in clients {
        let Teardown { client, descriptors, extensions } = &teardown;
        let again = Teardown { client: *client, descriptors: descriptors.clone(), extensions: extensions.clone() };
        // If there is no thread, `spawn` drops its closure, which has no effect.
        if spawn("octopus-destroy", move || teardown.run()).is_err() {
            again.run();
        }
    }
}
