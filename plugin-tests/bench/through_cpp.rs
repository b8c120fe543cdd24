//! Compares the two Kafka backends of the C++ Diaspora API, C++ Octopus and this project. A program
//! in C++ (plugin-tests/diaspora/bench.cpp) measures each.

use std::path::PathBuf;
use std::process::Command;

use crate::scenarios::{FEW_PAIRS, PAIRS};
use baseline::job::Side;

/// The paths of the program and of the libraries.
#[derive(Debug, Clone)]
pub struct ThroughCpp {
    pub program: PathBuf,
    pub cpp_octopus: PathBuf,
    pub plugin: PathBuf,
}

impl ThroughCpp {
    pub fn command(&self, side: Side, bootstrap: &str, topic: &str, point: &CppPoint) -> Command {
        let library = if side == Side::CppOctopus { &self.cpp_octopus } else { &self.plugin };
        let mut command = Command::new(&self.program);
        command.arg(library).args([bootstrap, topic, point.task.name()]);
        command.args([point.events.to_string(), point.data.to_string()]);
        command
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Push,
    Pull,
    /// Creates and opens a topic.
    Open,
    FirstPush,
    FirstEvent,
}

impl Task {
    /// The argument of the program.
    fn name(self) -> &'static str {
        match self {
            Task::Push => "push",
            Task::Pull => "pull",
            Task::Open => "open",
            Task::FirstPush => "first-push",
            Task::FirstEvent => "first-event",
        }
    }
}

#[derive(Debug, Clone)]
pub struct CppPoint {
    pub scenario: &'static str,
    pub at: &'static str,
    pub task: Task,
    pub events: u64,
    /// Bytes of data in an event.
    pub data: usize,
    pub pairs: usize,
}

impl CppPoint {
    /// A and B of the pairs.
    pub const SIDES: [Side; 2] = [Side::CppOctopus, Side::ThroughCpp];

    /// The number of events in a new topic after the run.
    pub fn events_after_run(&self) -> Option<u64> {
        match self.task {
            // One event is the warm-up.
            Task::Push => Some(self.events + 1),
            Task::FirstPush => Some(1),
            Task::Pull | Task::Open | Task::FirstEvent => None,
        }
    }
}

pub fn points(is_quick: bool) -> Vec<CppPoint> {
    let pairs = if is_quick { FEW_PAIRS } else { PAIRS };
    let point = |scenario, at, task, events, data| CppPoint { scenario, at, task, events, data, pairs };
    let mut points = Vec::new();
    for (data, at, events) in [(16, "16 B", 300_000), (128, "128 B", 250_000), (1_024, "1 KB", 100_000)] {
        points.push(point("C++ push", at, Task::Push, events, data));
        points.push(point("C++ pull", at, Task::Pull, events, data));
    }
    points.push(point("C++ open", "made and opened", Task::Open, 1, 0));
    points.push(point("C++ first push", "delivered", Task::FirstPush, 1, 16));
    points.push(point("C++ first event", "pulled", Task::FirstEvent, 1_000, 16));
    points
}
