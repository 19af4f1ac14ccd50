//! One suite per trait, run by every implementation of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may stop where it fails"
)]

mod faults;
#[path = "../harness/mod.rs"]
mod harness;
mod host;
mod objects;
mod s3;
#[path = "../harness/s3s/mod.rs"]
mod s3s;
mod served;
mod source;
mod store;
mod subjects;
mod zfs;
