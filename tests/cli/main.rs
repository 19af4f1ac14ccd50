//! The built binary, run as a user runs it: exit codes, messages, what is mounted and what is left behind.
//!
//! Tests that mount need root or fusermount3, and `/dev/fuse`; where there is none they say so and pass.

// The lints' exemption of tests knows only functions marked #[test], not what these share.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod automap;
mod broker;
mod busy;
mod cache;
mod check;
mod completions;
mod demo;
mod doctor;
mod failures;
mod foreground;
mod groups;
mod ls;
#[path = "../harness/machine.rs"]
mod machine;
mod mounting;
mod readme;
mod reference;
mod reload;
#[allow(dead_code, reason = "each target uses its part")]
#[path = "../harness/s3.rs"]
mod s3;
mod sample;
mod secrets;
mod snapshots;
mod status;
mod usage;
mod verify;
mod versions;
