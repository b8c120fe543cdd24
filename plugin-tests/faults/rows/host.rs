//! What the rows that bring their own Kafka share: a driver that is listened to, time limits that are kept, and work for
//! several threads.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use octopus_loader::{Driver, Library};
use serde_json::Value;

use crate::run::{Failure, OrFail, Result, Run, check};

/// What a call may take beyond the time that it was given.
pub const GRACE: Duration = Duration::from_millis(250);

pub fn octopus() -> Result<Library> {
    static OCTOPUS: OnceLock<std::result::Result<Library, octopus_loader::Error>> = OnceLock::new();
    OCTOPUS.get_or_init(plugin_tests::open_library).clone().or_fail("loading Octopus")
}

/// What a driver told its host, outside of calls.
#[derive(Clone, Default)]
pub struct Heard {
    lines: Arc<Mutex<Vec<String>>>,
    fatal: Arc<Mutex<Vec<(String, i32)>>>,
}

impl Heard {
    /// A driver of this configuration, whose log is kept here.
    pub fn driver(&self, config: Value) -> Result<Driver> {
        let (lines, fatal) = (self.lines.clone(), self.fatal.clone());
        octopus()?
            .driver_builder(config)
            .log(move |level, source, text| held(&lines).push(format!("{level:?} {source}: {text}")))
            .fatal(move |client, code, _| held(&fatal).push((client.to_owned(), code)))
            .create()
            .or_fail("making a driver")
    }

    /// The codes that ended this client; more than one is a defect.
    pub fn ends_of(&self, client: &str) -> Vec<i32> {
        held(&self.fatal).iter().filter(|(name, _)| name.contains(client)).map(|(_, code)| *code).collect()
    }

    /// Whether this client's log says so.
    pub fn of(&self, client: &str, said: &str) -> bool {
        held(&self.lines).iter().any(|line| line.contains(client) && line.contains(said))
    }

    /// Puts the log into the run's.
    pub fn keep(&self, run: &Run) {
        let lines = std::mem::take(&mut *held(&self.lines));
        lines.into_iter().for_each(|line| run.keep(line));
    }
}

pub fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a call that has so long, and fails if it took longer.
pub fn within<T>(limit: Duration, what: impl Display, call: impl FnOnce() -> T) -> Result<T> {
    let limit = Limit::begin(limit);
    let result = call();
    limit.is_kept().or_fail(what)?;
    Ok(result)
}

/// A time limit that begins now.
pub struct Limit {
    limit: Duration,
    began: Instant,
    stood: Duration,
}

impl Limit {
    pub fn begin(limit: Duration) -> Self {
        Limit { limit, stood: machine_stood(), began: Instant::now() }
    }

    /// Fails once it is over, with the grace, and with as long as no thread of this process would have been woken in time
    /// either: on a machine that does other things too, that is not the call's doing.
    pub fn is_kept(&self) -> Result<()> {
        let (took, limit) = (self.began.elapsed(), self.limit);
        if took <= limit + GRACE {
            return Ok(());
        }
        // A watch that is late itself has not said so yet.
        std::thread::sleep(GRACE);
        let stood = machine_stood() - self.stood;
        check(
            took <= limit + GRACE + stood,
            format_args!("had {limit:?} and took {took:?}; the machine stood for {stood:?}"),
        )
    }
}

/// For how long in all a thread that sleeps and wakes was woken too late, as a measure of what every thread suffers.
fn machine_stood() -> Duration {
    const NAP: Duration = Duration::from_millis(5);
    /// What is usual.
    const SLACK: Duration = Duration::from_millis(10);
    static STOOD_MICROS: AtomicU64 = AtomicU64::new(0);
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        std::thread::spawn(|| {
            loop {
                let began = Instant::now();
                std::thread::sleep(NAP);
                let late = began.elapsed().saturating_sub(NAP + SLACK);
                STOOD_MICROS.fetch_add(late.as_micros() as u64, Ordering::Relaxed);
            }
        });
    });
    Duration::from_micros(STOOD_MICROS.load(Ordering::Relaxed))
}

/// Does each job once, on so many threads, each of which has something of its own to do it with. The first failure
/// ends it.
pub fn share_out<J: Sync, S>(
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
                        if held(failure).is_some() {
                            break;
                        }
                        work(&mut own, job)?;
                    }
                    Ok(())
                });
                if let Err(why) = done {
                    held(failure).get_or_insert(why);
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
