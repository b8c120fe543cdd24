//! Models that loom runs in all interleavings of their threads, one module for each module that
//! they check.

mod chunk;
mod connection_health;
mod events;
mod flagged;
mod promise;
mod pull;
mod returned_events;
mod sequencer;
