//! Errors for threads, descriptors and memory that the system refuses. They name the limit.

use std::fmt::Display;
use std::io;

use crate::support::error::{Error, Kind};

/// The error for `attempt`, which failed with `cause`. It is retriable at a limit: the limit may be
/// raised, or other resources released.
pub fn error(attempt: impl Display, cause: &io::Error) -> Error {
    match cause.raw_os_error() {
        Some(errno) if is_limit(errno) => of_errno(attempt, errno),
        _ => Error::new(Kind::Kafka, format!("{attempt}: {cause}")),
    }
}

/// As [`error`], for an `errno` that is known to come from a limit.
pub fn of_errno(attempt: impl Display, errno: i32) -> Error {
    let cause = io::Error::from_raw_os_error(errno);
    Error::new(Kind::ResourceLimit, format!("{attempt}: {cause}: {}", limit(errno))).retriable(true)
}

/// Whether system calls fail with this `errno` at a limit.
pub fn is_limit(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)
}

/// The limit of the process behind an `errno`, with its value where the process can read it.
fn limit(errno: i32) -> String {
    match errno {
        libc::EMFILE => {
            format!("the process may have {} descriptors (RLIMIT_NOFILE, ulimit -n)", soft(libc::RLIMIT_NOFILE))
        }
        libc::ENFILE => "the system has no descriptor left (fs.file-max)".to_owned(),
        // pthread_create also returns EAGAIN if there is no memory for the stack.
        libc::EAGAIN => format!(
            "the user may have {} threads (RLIMIT_NPROC, ulimit -u), a container maybe fewer (pids.max), and their \
             stacks need memory (ulimit -v)",
            soft(libc::RLIMIT_NPROC)
        ),
        _ => format!("memory is short (RLIMIT_AS, ulimit -v, is {})", soft(libc::RLIMIT_AS)),
    }
}

fn soft(resource: libc::__rlimit_resource_t) -> String {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limits` is a writable local.
    match unsafe { libc::getrlimit(resource, &mut limits) } {
        0 if limits.rlim_cur == libc::RLIM_INFINITY => "unlimited".to_owned(),
        0 => limits.rlim_cur.to_string(),
        _ => "an unknown number of".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_the_limit_and_its_value() {
        let cause = io::Error::from_raw_os_error(libc::EMFILE);
        let error = error("opening a socket", &cause);
        assert_eq!((error.kind(), error.is_retriable()), (Kind::ResourceLimit, true));
        let value = soft(libc::RLIMIT_NOFILE);
        for part in ["opening a socket", "Too many open files", "RLIMIT_NOFILE", &value] {
            assert!(error.message().contains(part), "{error}");
        }
    }

    #[test]
    fn error_without_a_limit_keeps_its_cause() {
        let error = error("opening a socket", &io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!((error.kind(), error.is_retriable()), (Kind::Kafka, false));
        assert!(error.message().contains("Permission denied"), "{error}");
    }
}
