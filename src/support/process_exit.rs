//! Delivery of the events that producers still hold when the process exits.
//!
//! The entry in `.fini_array` below runs after all handlers of `atexit` and all destructors of
//! static objects (`_dl_fini` is the first handler that libc registers, and the last that runs). So
//! a host can push in its own handlers and destructors. The entry only waits, for at most the
//! longest `exit_flush_ms`, for a thread that was started with the first producer. The exiting
//! thread itself can't deliver: it may have destroyed its thread-local values, may be inside a
//! callback of the host, or may hold a lock of the library if a signal handler called `exit`.
//!
//! A signal that would end the process ends the wait (`exit_signals`).
//!
//! From then on no callback of the host is called: the objects that it uses may be destroyed.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, TryLockError, Weak};
use std::time::{Duration, Instant};

use crate::support::error::{Error, Kind, Result};
use crate::support::exit_signals::{self, Watch};
use crate::support::fork::is_forked_child;
use crate::support::protection::Protection;
use crate::support::threads::spawn;

/// A producer that is flushed when the process exits.
pub trait ExitFlush: Send + Sync {
    /// Its name in messages.
    fn name(&self) -> String;
    /// Rejects further events.
    fn close(&self);
    /// Sends and receives for about a millisecond, without waiting for `linger.ms`.
    fn advance(&self);
    fn progress(&self) -> Progress;
    /// Why events are still pending.
    fn reason(&self) -> String;
}

/// The events of one producer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events whose result is unknown.
    pub pending: u64,
    /// Events whose delivery has failed since the exit began.
    pub failed: u64,
}

/// How much longer than `exit_flush_ms` the exiting thread waits for the report.
const REPORT_GRACE: Duration = Duration::from_millis(200);

static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
static MAX_LIMIT_MS: AtomicU64 = AtomicU64::new(0);
static STATE: Mutex<ExitState> =
    Mutex::new(ExitState { producers: Vec::new(), has_thread: false, phase: Phase::Running });
static PHASE_CHANGED: Condvar = Condvar::new();
/// The producers that were flushed.
static FLUSHED: OnceLock<Vec<Flushed>> = OnceLock::new();

struct ExitState {
    producers: Vec<Registered>,
    has_thread: bool,
    phase: Phase,
}

enum Phase {
    Running,
    Exiting,
    /// Contains the line for stderr, if some events were not delivered.
    Finished(Option<String>),
}

struct Registered {
    producer: Weak<dyn ExitFlush>,
    limit: Duration,
}

/// Whether the exit has begun: callbacks of the host must not be called any more.
#[inline]
pub fn has_begun() -> bool {
    HAS_BEGUN.load(Ordering::Relaxed)
}

/// Registers `producer`: when the process exits, its events are delivered for at most `limit`. A
/// limit of zero registers nothing.
pub fn register(producer: Weak<dyn ExitFlush>, limit: Duration) -> Result<()> {
    if limit.is_zero() {
        return Ok(());
    }
    let mut state = lock();
    if has_begun() || !matches!(state.phase, Phase::Running) {
        return Err(Error::from_kind(Kind::Closed));
    }
    if !state.has_thread {
        spawn("octopus-exit", deliver_at_exit)?;
        state.has_thread = true;
    }
    // Ended producers are removed whenever the list is full, so it is at most twice as long as
    // needed.
    if state.producers.len() == state.producers.capacity() {
        state.producers.retain(|registered| registered.producer.strong_count() > 0);
    }
    state.producers.push(Registered { producer, limit });
    MAX_LIMIT_MS.fetch_max(limit.as_millis() as u64, Ordering::Relaxed);
    Ok(())
}

fn lock() -> MutexGuard<'static, ExitState> {
    STATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = at_exit;

extern "C" fn at_exit() {
    let limit_ms = MAX_LIMIT_MS.load(Ordering::Relaxed);
    // The events of the parent process are delivered by the parent.
    if is_forked_child() || HAS_BEGUN.swap(true, Ordering::Relaxed) || limit_ms == 0 || !Protection::ExitFlush.is_on() {
        return;
    }
    let deadline = Instant::now() + Duration::from_millis(limit_ms) + REPORT_GRACE;
    let signals = Watch::begin();
    let report = report(deadline);
    // Before the report is written, which can block.
    let signal = signals.end();
    match report {
        Ok(None) => {}
        Ok(Some(line)) => write_to_stderr(&line),
        // A constant text, since formatting a count allocates memory, and this thread may hold the
        // lock of the allocator.
        Err(StillBusy) => write_to_stderr(
            "[octopus:error] process exit: whether all events were delivered within exit_flush_ms is unknown\n",
        ),
    }
    if let Some(signal) = signal {
        exit_signals::end_by(signal);
    }
}

struct StillBusy;

fn report(mut deadline: Instant) -> std::result::Result<Option<String>, StillBusy> {
    const RETRY: Duration = Duration::from_millis(1);
    /// How soon a signal is noticed.
    const SLICE: Duration = Duration::from_millis(50);
    // If a signal handler called `exit`, this thread itself may hold the lock.
    let mut state = loop {
        match STATE.try_lock() {
            Ok(state) => break state,
            Err(TryLockError::Poisoned(state)) => break state.into_inner(),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline || exit_signals::received().is_some() => {
                return Err(StillBusy);
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(RETRY),
        }
    };
    if state.producers.iter().all(|registered| registered.producer.strong_count() == 0) {
        return Ok(None);
    }
    state.phase = Phase::Exiting;
    PHASE_CHANGED.notify_all();
    loop {
        if let Phase::Finished(line) = &mut state.phase {
            return Ok(line.take());
        }
        if exit_signals::received().is_some() {
            deadline = deadline.min(Instant::now() + REPORT_GRACE);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(StillBusy);
        }
        let waited = PHASE_CHANGED.wait_timeout(state, left.min(SLICE));
        state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
}

/// Makes one system call: the locks and buffers of stdio may be in any state.
fn write_to_stderr(line: &str) {
    // SAFETY: `line` is a live slice of `line.len()` bytes.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}

/// The body of the thread `octopus-exit`.
fn deliver_at_exit() {
    const SLICE: Duration = Duration::from_secs(3600);
    let mut state = lock();
    while !matches!(state.phase, Phase::Exiting) {
        state = PHASE_CHANGED.wait_timeout(state, SLICE).unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
    let registered = std::mem::take(&mut state.producers);
    drop(state);
    let (line, flushed) = deliver(registered, exit_signals::received);
    lock().phase = Phase::Finished(line);
    PHASE_CHANGED.notify_all();
    // Dropping the last reference would wait for librdkafka's threads, which end with the process.
    FLUSHED.get_or_init(|| flushed);
}

/// A producer during the exit.
struct Flushed {
    producer: Arc<dyn ExitFlush>,
    limit: Duration,
}

impl Flushed {
    fn undelivered(&self) -> u64 {
        let Progress { pending, failed } = self.producer.progress();
        pending + failed
    }
}

/// Delivers until no event is pending, the limits have passed, or `signal` returns the name of a
/// signal. Returns the line for stderr, if some events were not delivered, and the producers, which
/// the caller keeps until the process ends.
fn deliver(registered: Vec<Registered>, signal: impl Fn() -> Option<&'static str>) -> (Option<String>, Vec<Flushed>) {
    let began = Instant::now();
    let flushed: Vec<_> = registered
        .into_iter()
        .filter_map(|Registered { producer, limit }| {
            let producer = producer.upgrade()?;
            producer.close();
            Some(Flushed { producer, limit })
        })
        .collect();
    loop {
        let elapsed = began.elapsed();
        let mut is_pending = false;
        for Flushed { producer, limit, .. } in &flushed {
            if *limit > elapsed && producer.progress().pending > 0 {
                if let Some(signal) = signal() {
                    return (report_line(&flushed, Some(signal)), flushed);
                }
                is_pending = true;
                producer.advance();
            }
        }
        if !is_pending {
            break;
        }
    }
    (report_line(&flushed, None), flushed)
}

fn report_line(flushed: &[Flushed], signal: Option<&str>) -> Option<String> {
    let undelivered: Vec<_> =
        flushed.iter().map(|producer| (producer, producer.undelivered())).filter(|(_, events)| *events > 0).collect();
    let (first, events) = undelivered.first()?;
    let total: u64 = undelivered.iter().map(|(_, events)| events).sum();
    let mut line = format!("[octopus:error] process exit: {total} events were not delivered");
    let _ = match undelivered.len() {
        1 => write!(line, ": {}", first.producer.name()),
        others => write!(line, " by {others} producers; {events} of {}", first.producer.name()),
    };
    let _ = match signal {
        Some(signal) => write!(line, ", when {signal} ended the exit"),
        None => write!(line, ", within exit_flush_ms ({})", first.limit.as_millis()),
    };
    let _ = writeln!(line, ": {}", first.producer.reason().replace('\n', " "));
    Some(line)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// Delivers one event in each `advance`, `deliverable` in total, and has `failed` failed ones.
    struct Slow {
        pending: AtomicU64,
        deliverable: AtomicU64,
        failed: AtomicU64,
        is_closed: AtomicBool,
    }

    impl Slow {
        fn new(pending: u64, deliverable: u64, failed: u64) -> Arc<Self> {
            Arc::new(Slow {
                pending: pending.into(),
                deliverable: deliverable.into(),
                failed: failed.into(),
                is_closed: false.into(),
            })
        }
    }

    impl ExitFlush for Slow {
        fn name(&self) -> String {
            "producer \"slow\"".to_owned()
        }

        fn close(&self) {
            self.is_closed.store(true, Ordering::Relaxed);
        }

        fn advance(&self) {
            std::thread::sleep(Duration::from_millis(1));
            if self.deliverable.load(Ordering::Relaxed) > 0 {
                self.deliverable.fetch_sub(1, Ordering::Relaxed);
                self.pending.fetch_sub(1, Ordering::Relaxed);
            }
        }

        fn progress(&self) -> Progress {
            Progress { pending: self.pending.load(Ordering::Relaxed), failed: self.failed.load(Ordering::Relaxed) }
        }

        fn reason(&self) -> String {
            "no\nresponse".to_owned()
        }
    }

    fn registered(producers: &[&Arc<Slow>], limit: Duration) -> Vec<Registered> {
        producers
            .iter()
            .map(|producer| {
                let producer: Arc<dyn ExitFlush> = (*producer).clone();
                Registered { producer: Arc::downgrade(&producer), limit }
            })
            .collect()
    }

    fn no_signal() -> Option<&'static str> {
        None
    }

    #[test]
    fn delivery_that_succeeds_reports_nothing() {
        let (one, other) = (Slow::new(20, 20, 0), Slow::new(0, 0, 0));
        assert_eq!(deliver(registered(&[&one, &other], Duration::from_secs(60)), no_signal).0, None);
        assert!(one.is_closed.load(Ordering::Relaxed) && other.is_closed.load(Ordering::Relaxed));
    }

    #[test]
    fn pending_events_are_counted_at_the_limit() {
        let (stuck, done, other) = (Slow::new(9, 2, 0), Slow::new(1, 1, 0), Slow::new(5, 0, 0));
        let line = deliver(registered(&[&stuck], Duration::from_millis(50)), no_signal).0.unwrap();
        assert_eq!(
            line,
            "[octopus:error] process exit: 7 events were not delivered: producer \"slow\", within exit_flush_ms (50): \
             no response\n"
        );
        let line = deliver(registered(&[&stuck, &done, &other], Duration::from_millis(50)), no_signal).0.unwrap();
        assert!(
            line.starts_with("[octopus:error] process exit: 12 events were not delivered by 2 producers; 7 of"),
            "{line}"
        );
    }

    #[test]
    fn signal_ends_the_delivery() {
        let stuck = Slow::new(4, 1, 0);
        let line = deliver(registered(&[&stuck], Duration::from_secs(60)), || Some("SIGINT")).0.unwrap();
        let expected = "[octopus:error] process exit: 4 events were not delivered: producer \"slow\", when SIGINT ended the \
                        exit: no response\n";
        assert_eq!(line, expected);
        let done = Slow::new(0, 0, 0);
        assert_eq!(deliver(registered(&[&done], Duration::from_secs(60)), || Some("SIGINT")).0, None);
    }

    #[test]
    fn events_that_fail_are_counted() {
        let failing = Slow::new(2, 2, 3);
        let line = deliver(registered(&[&failing], Duration::from_secs(60)), no_signal).0.unwrap();
        assert!(line.starts_with("[octopus:error] process exit: 3 events were not delivered"), "{line}");
    }

    #[test]
    fn producers_that_ended_are_ignored() {
        let gone = registered(&[&Slow::new(7, 0, 0)], Duration::from_secs(60));
        assert_eq!(deliver(gone, no_signal).0, None);
    }
}
