//! Switches that turn off single protections of the library. Tests use them to show that the fault
//! matrix fails without the protection (docs/reliability.md, "Taking out a protection").
//!
//! A build with debug assertions reads the names of disabled protections from
//! `OCTOPUS_TEST_WITHOUT`, once. Any other build has all protections and no switch.

#[cfg(debug_assertions)]
use once_cell::sync::OnceCell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Delivers the events of producers when the process exits.
    ExitFlush,
    /// Loads a copy of the library in a forked child.
    ForkedChild,
    /// Delivers the events of a producer when a forked child releases it.
    ForkedChildFlush,
    /// Closes the sockets that a forked child has inherited.
    InheritedSockets,
    /// Fails calls of clients that have not reached a broker within `connect_timeout_ms`.
    FirstContact,
    /// Reports a resource limit that prevents connections to brokers.
    ResourceLimit,
    /// Reserves a thread that destroys clients.
    ReservedTeardown,
    /// Clears the failure of a commit after a later commit has succeeded.
    SupersededFailure,
    /// Reports damaged batches.
    DamagedData,
    /// Reports intact data that is larger than a limit of the consumer.
    TooLarge,
    /// Counts offsets without records as read.
    PassedOffsets,
    /// Ignores a committed position of a topic that was deleted.
    TopicOfPosition,
    /// Looks AWS credentials up again after a broker has rejected them.
    #[cfg_attr(not(feature = "msk"), allow(dead_code, reason = "only tokens for Amazon MSK need it"))]
    RejectedCredentials,
    /// Gets another authorization after the topic service has rejected one.
    #[cfg_attr(not(feature = "topic-service"), allow(dead_code, reason = "nothing else needs it"))]
    RejectedAuthorization,
}

impl Protection {
    #[cfg(debug_assertions)]
    fn name(self) -> &'static str {
        match self {
            Protection::ExitFlush => "exit-flush",
            Protection::ForkedChild => "forked-child",
            Protection::ForkedChildFlush => "forked-child-flush",
            Protection::InheritedSockets => "inherited-sockets",
            Protection::FirstContact => "first-contact",
            Protection::ResourceLimit => "resource-limit",
            Protection::ReservedTeardown => "reserved-teardown",
            Protection::SupersededFailure => "superseded-failure",
            Protection::DamagedData => "damaged-data",
            Protection::TooLarge => "too-large",
            Protection::PassedOffsets => "passed-offsets",
            Protection::TopicOfPosition => "topic-of-position",
            Protection::RejectedCredentials => "refused-credentials",
            Protection::RejectedAuthorization => "refused-authorization",
        }
    }

    /// Always true, except in tests that turn the protection off.
    #[inline]
    pub fn is_on(self) -> bool {
        #[cfg(debug_assertions)]
        {
            static OFF: OnceCell<String> = OnceCell::new();
            let off = OFF.get_or_init(|| std::env::var("OCTOPUS_TEST_WITHOUT").unwrap_or_default());
            off.split(',').all(|name| name != self.name())
        }
        #[cfg(not(debug_assertions))]
        true
    }
}
