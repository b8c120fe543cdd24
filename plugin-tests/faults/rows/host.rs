//! What the rows that start their own Kafka share: a driver whose callbacks are recorded, checks of
//! time limits, and a pool of threads for jobs.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use octopus_loader::{Driver, Library};
use serde_json::Value;

use crate::run::{Failure, OrFail, Result, Run, check};

/// How much longer than its limit a call may take.
pub const GRACE: Duration = Duration::from_millis(250);

pub fn octopus() -> Result<Library> {
    static OCTOPUS: OnceLock<std::result::Result<Library, octopus_loader::Error>> = OnceLock::new();
    OCTOPUS.get_or_init(plugin_tests::open_library).clone().or_fail("loading Octopus")
}

/// What a driver has passed to the host's callbacks.
#[derive(Clone, Default)]
pub struct CallbackLog {
    lines: Arc<Mutex<Vec<String>>>,
    fatal: Arc<Mutex<Vec<(String, i32)>>>,
}

impl CallbackLog {
    /// Creates a driver whose log lines and fatal errors are recorded here.
    pub fn driver(&self, config: Value) -> Result<Driver> {
        let (lines, fatal) = (self.lines.clone(), self.fatal.clone());
        octopus()?
            .driver_builder(config)
            .log(move |level, source, text| lock(&lines).push(format!("{level:?} {source}: {text}")))
            .fatal(move |client, code, _| lock(&fatal).push((client.to_owned(), code)))
            .create()
            .or_fail("creating a driver")
    }

    /// The codes of this client's fatal errors; more than one is a defect.
    pub fn fatal_codes(&self, client: &str) -> Vec<i32> {
        lock(&self.fatal).iter().filter(|(name, _)| name.contains(client)).map(|(_, code)| *code).collect()
    }

    /// Whether a log line of this client contains `text`.
    pub fn has_line(&self, client: &str, text: &str) -> bool {
        lock(&self.lines).iter().any(|line| line.contains(client) && line.contains(text))
    }

    /// Moves the recorded log lines to the run's log.
    pub fn write_to(&self, run: &Run) {
        let lines = std::mem::take(&mut *lock(&self.lines));
        lines.into_iter().for_each(|line| run.log(line));
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a call that must return within the limit.
pub fn within<T>(limit: Duration, what: impl Display, call: impl FnOnce() -> T) -> Result<T> {
    let limit = TimeLimit::begin(limit);
    let result = call();
    limit.check().or_fail(what)?;
    Ok(result)
}

/// A time limit that starts now.
pub struct TimeLimit {
    limit: Duration,
    began: Instant,
    stall: Duration,
}

impl TimeLimit {
    pub fn begin(limit: Duration) -> Self {
        TimeLimit { limit, stall: machine_stall(), began: Instant::now() }
    }

    /// Fails if the limit, the grace and the machine's stall have passed. A stall delays every
    /// thread of this process, so it is not the call's fault.
    pub fn check(&self) -> Result<()> {
        let (took, limit) = (self.began.elapsed(), self.limit);
        if took <= limit + GRACE {
            return Ok(());
        }
        // The watching thread may itself be late; it gets time to record its delay.
        std::thread::sleep(GRACE);
        let stall = machine_stall() - self.stall;
        check(
            took <= limit + GRACE + stall,
            format_args!("had {limit:?} and took {took:?}; the machine stalled for {stall:?}"),
        )
    }
}

/// The sum of the delays with which a thread that sleeps was woken. It measures how much the
/// machine delays every thread.
fn machine_stall() -> Duration {
    const NAP: Duration = Duration::from_millis(5);
    /// The usual delay of a wake-up.
    const SLACK: Duration = Duration::from_millis(10);
    static STALL_MICROS: AtomicU64 = AtomicU64::new(0);
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        std::thread::spawn(|| {
            loop {
                let began = Instant::now();
                std::thread::sleep(NAP);
                let late = began.elapsed().saturating_sub(NAP + SLACK);
                STALL_MICROS.fetch_add(late.as_micros() as u64, Ordering::Relaxed);
            }
        });
    });
    Duration::from_micros(STALL_MICROS.load(Ordering::Relaxed))
}

/// Runs each job once on this many threads, each with a value of its own. Stops at the first
/// failure.
pub fn run_in_parallel<J: Sync, S>(
    threads: usize,
    jobs: &[J],
    make: impl Fn(usize) -> Result<S> + Sync,
    work: impl Fn(&mut S, &J) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (next, failure, make, work) = (&next, &failure, &make, &work);
            scope.spawn(move || {
                let done = make(thread).and_then(|mut own| {
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if lock(failure).is_some() {
                            break;
                        }
                        work(&mut own, job)?;
                    }
                    Ok(())
                });
                if let Err(why) = done {
                    lock(failure).get_or_insert(why);
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
