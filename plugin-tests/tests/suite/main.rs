//! The tests of Octopus as a plugin: the built library, loaded by path, against a real Kafka.

mod authorization;
mod certificates;
mod component_edges;
mod components;
mod consuming;
mod header;
mod hosts;
mod job;
mod kafka;
mod loading;
mod msk;
mod pools;
mod positions;
mod preparations;
mod processing;
mod producing;
mod proxy;
mod records;
mod secured;
mod services;
mod stand_in;
mod support;
mod tokens;
mod topic_lifecycle;
mod topic_service;
mod topics;
