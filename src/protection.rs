//! Switches that turn off single protections of the library, so that tests can show that the fault matrix notices
//! (docs/reliability.md, "Taking out a protection").
//!
//! A build with debug assertions reads the names to turn off from `OCTOPUS_TEST_WITHOUT`, once. Any other build has all
//! protections, and no switch.

#[cfg(debug_assertions)]
use once_cell::sync::OnceCell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Delivers what producers hold when the process exits.
    ExitFlush,
    /// Loads a copy of the library in a forked child.
    ForkedChild,
    /// Delivers what a producer holds when a forked child releases it.
    ForkedChildFlush,
    /// Closes the sockets that a forked child has inherited.
    InheritedSockets,
    /// Reports brokers that were never reached, after `connect_timeout_ms`.
    FirstContact,
    /// Reports the limit that keeps a client from brokers.
    ResourceLimit,
    /// Has a thread in reserve that destroys clients.
    ReservedTeardown,
    /// Forgets a commit's failure once a later commit has made up for it.
    SupersededFailure,
    /// Reports damaged batches.
    DamagedData,
    /// Reports intact data that is larger than a limit of the consumer.
    TooLarge,
    /// Counts offsets without records as read.
    PassedOffsets,
    /// Ignores a committed position of a topic that was deleted.
    TopicOfPosition,
    /// Looks AWS credentials up again that a broker has refused.
    RefusedCredentials,
    /// Gets another authorization when the topic service has refused one.
    RefusedAuthorization,
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
            Protection::RefusedCredentials => "refused-credentials",
            Protection::RefusedAuthorization => "refused-authorization",
        }
    }

    /// Whether it works, as it always does but in a test of the tests.
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
