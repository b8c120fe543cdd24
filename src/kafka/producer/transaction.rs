//! The transactions of a producer: its events, and the positions of the consumers whose events
//! these were made from, are stored together or not at all. [Decision
//! 29](../../../docs/decisions/0029-transactions.md) has the reasons.

mod properties;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rdkafka::types::RDKafkaErrorCode;

use super::KafkaProducer;
use super::shared_client::member::Member;
use crate::delivery::future::Future;
use crate::kafka::Connection;
use crate::kafka::consumer::{ConsumerInTransaction, KafkaConsumer, PositionsOfGroup};
use crate::kafka::librdkafka::codes::Code;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::threads::spawn;
pub use properties::add_transactional_id;

/// How long the transaction of a producer that is released is tried to be aborted. After that, the
/// coordinator aborts it when its timeout passes.
const BACKGROUND_ABORT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a producer with a transactional id has beside the others.
pub struct Transactions {
    member: Arc<Member>,
    /// The driver's `timeout_ms`.
    timeout: Duration,
    /// The open transaction. Locked during a call.
    open: Mutex<Option<Transaction>>,
}

struct Transaction {
    consumers: Vec<ConsumerInTransaction>,
    stage: Stage,
}

/// How far a transaction is. A call that times out is repeated, and continues there.
enum Stage {
    Open,
    /// No event can be pushed any more, and the positions to commit are known.
    Flushing(Vec<PositionsOfGroup>, Arc<Future>),
    /// The events are delivered. The positions that the coordinator does not have yet.
    SendingPositions(Vec<PositionsOfGroup>),
    /// The coordinator may have committed.
    Committing,
    /// It can only be aborted.
    Failed,
    /// The coordinator has aborted it.
    Aborted(Arc<Future>),
}

impl Transactions {
    /// Fences older producers with the same id, and ends their transactions.
    pub fn start(connection: &Connection, member: Arc<Member>) -> Result<Self> {
        member.in_flight.pause(no_transaction());
        requests::init(member.client(), Deadline::after(connection.timeout))?;
        Ok(Transactions { member, timeout: connection.timeout, open: Mutex::default() })
    }

    fn begin(&self, consumers: &[&KafkaConsumer]) -> Result<()> {
        let mut open = self.lock()?;
        if open.is_some() {
            return Err(Error::invalid("the transaction before is still open; commit or abort it"));
        }
        let consumers = consumers.iter().map(|consumer| consumer.join_transaction()).collect::<Result<_>>()?;
        requests::begin(self.member.client())?;
        *open = Some(Transaction { consumers, stage: Stage::Open });
        self.member.in_flight.resume();
        Ok(())
    }

    fn commit(&self, flush: impl FnOnce() -> Arc<Future>, deadline: Deadline) -> Result<()> {
        let mut open = self.lock()?;
        let transaction = open.as_mut().ok_or_else(|| self.no_open_transaction())?;
        let deadline = deadline.sooner(Deadline::after(self.timeout));
        match self.advance_commit(transaction, flush, deadline) {
            Ok(()) => {
                self.member.in_flight.pause(no_transaction());
                transaction.consumers.iter().for_each(ConsumerInTransaction::end_commit);
                *open = None;
                Ok(())
            }
            Err(error) => {
                let error = self.member.client().query_fatal_error().unwrap_or(error);
                if matches!(error.kind(), Kind::MustAbort | Kind::Fenced) {
                    self.member.in_flight.pause(error.clone());
                    transaction.stage = Stage::Failed;
                }
                Err(error)
            }
        }
    }

    fn advance_commit(
        &self,
        transaction: &mut Transaction,
        flush: impl FnOnce() -> Arc<Future>,
        deadline: Deadline,
    ) -> Result<()> {
        let Transaction { consumers, stage } = transaction;
        if let Stage::Open = stage {
            self.member.in_flight.pause(ending("committed"));
            let positions = consumers.iter().map(ConsumerInTransaction::begin_commit).collect::<Result<Vec<_>>>();
            let positions = positions.map_err(Error::requiring_abort)?;
            *stage = Stage::Flushing(positions.into_iter().flatten().collect(), flush());
        }
        if let Stage::Flushing(positions, flush) = stage {
            await_flush(flush, deadline)?;
            if let Some(failure) = self.member.in_flight.failure_since_resumed() {
                return Err(failure.requiring_abort());
            }
            *stage = Stage::SendingPositions(std::mem::take(positions));
        }
        if let Stage::SendingPositions(positions) = stage {
            while let Some(of_consumer) = positions.last() {
                requests::add_positions(self.member.client(), of_consumer, deadline)?;
                positions.pop();
            }
            *stage = Stage::Committing;
        }
        match stage {
            Stage::Committing => requests::commit(self.member.client(), deadline),
            Stage::Aborted(_) => Err(ending("aborted")),
            _ => Err(self.member.in_flight.closed_with().unwrap_or_else(no_transaction).requiring_abort()),
        }
    }

    fn abort(&self, flush: impl FnOnce() -> Arc<Future>, deadline: Deadline) -> Result<()> {
        let mut open = self.lock()?;
        let transaction = open.as_mut().ok_or_else(|| self.no_open_transaction())?;
        let deadline = deadline.sooner(Deadline::after(self.timeout));
        let aborted = self.advance_abort(transaction, flush, deadline);
        let is_fenced = aborted.as_ref().is_err_and(|_| self.member.client().query_fatal_error().is_some());
        if aborted.is_ok() || is_fenced {
            // The coordinator has aborted the transaction of a producer that is fenced.
            transaction.consumers.iter().try_for_each(|consumer| consumer.roll_back(deadline))?;
            self.member.in_flight.pause(no_transaction());
            *open = None;
        }
        aborted
    }

    fn advance_abort(
        &self,
        transaction: &mut Transaction,
        flush: impl FnOnce() -> Arc<Future>,
        deadline: Deadline,
    ) -> Result<()> {
        let stage = &mut transaction.stage;
        if let Stage::Committing = stage {
            return Err(Error::invalid(
                "the transaction may be committed already; repeat the commit until it succeeds or says that the \
                 transaction must be aborted",
            ));
        }
        if !matches!(stage, Stage::Aborted(_)) {
            self.member.in_flight.pause(ending("aborted"));
            requests::abort(self.member.client(), deadline)?;
            *stage = Stage::Aborted(flush());
        }
        match stage {
            // Events that a thread pool still prepares: they fail, and are not part of the next
            // transaction.
            Stage::Aborted(flush) => await_flush(flush, deadline),
            _ => Ok(()),
        }
    }

    /// The error of a call without an open transaction.
    fn no_open_transaction(&self) -> Error {
        self.member.client().query_fatal_error().unwrap_or_else(no_transaction)
    }

    /// The open transaction, for one call at a time.
    fn lock(&self) -> Result<MutexGuard<'_, Option<Transaction>>> {
        let in_use = || Error::invalid("another thread begins, commits or aborts a transaction of this producer");
        self.open.try_lock().ok_or_else(in_use)
    }
}

impl Drop for Transactions {
    /// Aborts an open transaction in the background, so that its events don't keep readers waiting.
    fn drop(&mut self) {
        let Some(transaction) = self.open.get_mut().take() else { return };
        if matches!(transaction.stage, Stage::Committing) || self.member.client().query_fatal_error().is_some() {
            return;
        }
        let client = self.member.client();
        log::warn!(
            logger: client.log(), target: &client.name(),
            "the producer was released with an open transaction, which is aborted"
        );
        let member = self.member.clone();
        // Without a thread the coordinator aborts it later.
        let _ = spawn("octopus-abort", move || {
            let deadline = Deadline::after(BACKGROUND_ABORT_TIMEOUT);
            let _ = requests::abort(member.client(), deadline);
            let _ = transaction.consumers.iter().try_for_each(|consumer| consumer.roll_back(deadline));
        });
    }
}

impl KafkaProducer {
    /// Begins a transaction, which contains the acknowledged positions of these consumers.
    pub fn begin_transaction(&self, consumers: &[&KafkaConsumer]) -> Result<()> {
        self.transactions()?.begin(consumers)
    }

    /// Waits for the deliveries and commits the events and the positions. After `TimedOut` the call
    /// is repeated.
    pub fn commit_transaction(&self, deadline: Deadline) -> Result<()> {
        self.transactions()?.commit(|| self.flush(), deadline)
    }

    /// Discards the events, and makes the consumers continue at their last committed positions.
    /// After `TimedOut` the call is repeated.
    pub fn abort_transaction(&self, deadline: Deadline) -> Result<()> {
        self.transactions()?.abort(|| self.flush(), deadline)
    }

    /// Whether there is a transaction that is neither committed nor aborted.
    pub fn has_open_transaction(&self) -> bool {
        let is_open = |transactions: &Transactions| transactions.open.try_lock().is_none_or(|open| open.is_some());
        self.transactions.as_ref().is_some_and(is_open)
    }

    fn transactions(&self) -> Result<&Transactions> {
        self.transactions.as_ref().ok_or_else(|| {
            Error::invalid("the producer has no transactions; make it with the option \"transactional_id\"")
        })
    }
}

/// Waits until each event is delivered or has failed. Failures are not the result: `InFlight` has
/// those of the transaction.
fn await_flush(flush: &Future, deadline: Deadline) -> Result<()> {
    match flush.wait(deadline) {
        Err(error) if !flush.is_settled() => Err(error),
        _ => Ok(()),
    }
}

/// The error of a record that librdkafka does not take, as the transaction has failed or ended.
pub fn failed_transaction_error(code: Code) -> Option<Error> {
    let reason = "an event or a request of it failed; the error of the commit has the reason";
    (RDKafkaErrorCode::from(code) == RDKafkaErrorCode::State).then(|| Error::new(Kind::Kafka, reason).requiring_abort())
}

fn no_transaction() -> Error {
    Error::invalid("no transaction is open; begin one")
}

fn ending(how: &str) -> Error {
    Error::invalid(format!("the transaction is being {how}"))
}
