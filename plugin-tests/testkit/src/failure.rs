//! The error of this crate and of the fault rows: a text with the operation that failed.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Failure>;

/// An error with the operation that failed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Failure(pub String);

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Display) -> Self {
        Failure(text.to_string())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Prints the text as it is, so that `unwrap` keeps the line breaks of a tool's output.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds the operation that failed to an error.
pub trait OrFail<T> {
    /// Turns an error into a [`Failure`]: "{doing}: {error}".
    fn or_fail(self, doing: impl Display) -> Result<T>;
}

impl<T, E: Display> OrFail<T> for std::result::Result<T, E> {
    fn or_fail(self, doing: impl Display) -> Result<T> {
        self.map_err(|why| Failure(format!("{doing}: {why}")))
    }
}

/// Fails with `expected`, a statement of what should hold, if it doesn't.
pub fn check(holds: bool, expected: impl Display) -> Result<()> {
    if holds { Ok(()) } else { Err(Failure::new(expected)) }
}
