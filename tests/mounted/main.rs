//! The fuse room against a real kernel: trees in memory, mounted in this process.
//!
//! Needs root and `/dev/fuse`; without them each test prints that it was skipped, and why.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a helper of a test may fail it"
)]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../harness/hostile/mod.rs"]
mod writer;

mod attributes;
mod changes;
mod faults;
mod guard;
mod host;
mod listing;
mod memory;
mod permissions;
mod pushing;
mod reading;
mod slow;
mod user;
mod writes;
mod xattrs;
