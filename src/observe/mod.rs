//! What the program tells about itself: log lines, and counters for `status`.
//!
//! Rooms log through `tracing` (`warn!(pack = %id, "damaged")`) and count through the statics of [`metrics`];
//! [`logging`] decides where lines go. Whatever a line says, it is one line of printable text: names inside a backup
//! are written by strangers, and logs are read on terminals.

pub mod access;
mod line;
pub mod links;
pub mod logging;
pub mod metrics;
pub mod openmetrics;
mod printable;
mod sink;
pub mod waiting;

use printable::is_unfit;
pub use printable::{json_name, printable};
