//! Logs and counters: the set-up of tracing, and metric names.

mod log;

pub use log::{Sink, start};
