//! The transactions of a producer: its events, and the positions of the consumers whose events
//! these were made from, are stored together or not at all. [Decision
//! 29](../../../docs/decisions/0029-transactions.md) has the reasons.

mod properties;
mod requests;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
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

/// How a transaction has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    Committed,
    Aborted,
}

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
    /// Whether the coordinator was asked to commit.
    may_be_committed: bool,
}

/// How far a transaction is. A call that times out is repeated, and continues there.
enum Stage {
    Open,
    /// No event can be pushed any more, and the positions to commit are known.
    Flushing(Vec<PositionsOfGroup>, Arc<Future>),
    /// The events are delivered. The positions that the coordinator does not have yet.
    Flushed(Vec<PositionsOfGroup>),
    /// A thread sends the positions.
    SendingPositions(Receiver<SentPositions>),
    /// The coordinator has all positions, and is asked to commit.
    Committing,
    /// It can only be aborted.
    Failed,
    /// The coordinator has aborted it. Events may still be on their way to librdkafka.
    Aborted(Arc<Future>),
}

/// The positions that are left after an error.
type SentPositions = std::result::Result<(), (Error, Vec<PositionsOfGroup>)>;

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
        let consumers = consumers.iter().map(|consumer| consumer.join_transaction()).collect::<Result<Vec<_>>>()?;
        requests::begin(self.member.client())?;
        consumers.iter().for_each(ConsumerInTransaction::enter);
        *open = Some(Transaction { consumers, stage: Stage::Open, may_be_committed: false });
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
                let fatal = self.member.client().query_fatal_error();
                let has_failed = fatal.is_some() || error.kind() == Kind::MustAbort;
                let error = fatal.unwrap_or(error);
                if has_failed {
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
        let Transaction { consumers, stage, may_be_committed } = transaction;
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
            *stage = Stage::Flushed(std::mem::take(positions));
        }
        if let Stage::Flushed(positions) = stage {
            *stage = match std::mem::take(positions) {
                positions if positions.is_empty() => Stage::Committing,
                positions => Stage::SendingPositions(self.send(positions)?),
            };
        }
        if let Stage::SendingPositions(sent) = stage {
            match receive(sent, deadline)? {
                Ok(()) => *stage = Stage::Committing,
                Err((error, unsent)) => {
                    *stage = Stage::Flushed(unsent);
                    return Err(error);
                }
            }
        }
        match stage {
            Stage::Committing => {
                *may_be_committed = true;
                requests::commit(self.member.client(), deadline)
            }
            Stage::Aborted(_) => Err(ending("aborted")),
            _ => Err(self.member.in_flight.closed_with().unwrap_or_else(no_transaction).requiring_abort()),
        }
    }

    /// Sends positions on a thread of its own: librdkafka waits for a response without a limit.
    fn send(&self, positions: Vec<PositionsOfGroup>) -> Result<Receiver<SentPositions>> {
        let (sender, sent) = mpsc::channel();
        let (member, deadline) = (self.member.clone(), Deadline::after(self.timeout));
        let send = move || {
            let mut positions = positions;
            while let Some(of_consumer) = positions.last() {
                if let Err(error) = requests::add_positions(member.client(), of_consumer, deadline) {
                    return Err((error, positions));
                }
                positions.pop();
            }
            Ok(())
        };
        spawn("octopus-commit", move || drop(sender.send(send()))).map_err(Error::requiring_abort)?;
        Ok(sent)
    }

    fn abort(&self, flush: impl FnOnce() -> Arc<Future>, deadline: Deadline) -> Result<()> {
        let mut open = self.lock()?;
        let transaction = open.as_mut().ok_or_else(|| self.no_open_transaction())?;
        let deadline = deadline.sooner(Deadline::after(self.timeout));
        if let Stage::Committing = transaction.stage {
            return Err(Error::invalid(
                "the transaction may be committed already; repeat the commit until it succeeds or says that the \
                 transaction must be aborted",
            ));
        }
        let aborted = self.advance_abort(transaction, flush, deadline);
        // The coordinator aborts the transaction of a producer that is fenced.
        let fatal = aborted.as_ref().err().and_then(|_| self.member.client().query_fatal_error());
        if aborted.is_ok() || fatal.is_some() {
            transaction.roll_back(deadline)?;
            self.member.in_flight.pause(no_transaction());
            *open = None;
        }
        fatal.map_or(aborted, Err)
    }

    fn advance_abort(
        &self,
        transaction: &mut Transaction,
        flush: impl FnOnce() -> Arc<Future>,
        deadline: Deadline,
    ) -> Result<()> {
        let stage = &mut transaction.stage;
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

    /// Ends an open transaction for the end of the producer: continues a commit that may have
    /// succeeded already, else aborts.
    fn end(&self, flush: impl FnOnce() -> Arc<Future>, deadline: Deadline) -> Result<TransactionEnd> {
        let is_committing = matches!(self.lock()?.as_ref().map(|open| &open.stage), Some(Stage::Committing));
        match is_committing {
            true => self.commit(flush, deadline).map(|()| TransactionEnd::Committed),
            false => self.abort(flush, deadline).map(|()| TransactionEnd::Aborted),
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
    /// If that is not known to succeed, its consumers' positions stay in an unknown transaction.
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
            let _ = requests::abort(member.client(), deadline).and_then(|()| transaction.roll_back(deadline));
        });
    }
}

impl Transaction {
    /// Makes all consumers continue at their last committed positions; returns the first error.
    fn roll_back(&self, deadline: Deadline) -> Result<()> {
        let roll_back = |consumer: &ConsumerInTransaction| consumer.roll_back(self.may_be_committed, deadline);
        self.consumers.iter().map(roll_back).fold(Ok(()), Result::and)
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

    /// Ends an open transaction before the producer ends.
    pub fn end_transaction(&self, deadline: Deadline) -> Result<TransactionEnd> {
        self.transactions()?.end(|| self.flush(), deadline)
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

/// What a thread sends, or `TimedOut` at the deadline.
fn receive(sent: &Receiver<SentPositions>, deadline: Deadline) -> Result<SentPositions> {
    const SLICE: Duration = Duration::from_secs(1);
    loop {
        match sent.recv_timeout(deadline.remaining(SLICE)) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) if deadline.has_passed() => return Err(Error::from_kind(Kind::TimedOut)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(
                    Error::new(Kind::Panicked, "the thread that sends positions has panicked").requiring_abort()
                );
            }
        }
    }
}

fn no_transaction() -> Error {
    Error::invalid("no transaction is open; begin one")
}

fn ending(how: &str) -> Error {
    Error::invalid(format!("the transaction is being {how}"))
}
