//! Stores behind servers: odd answers, hostile servers, lost connections, and mounts of real repositories.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may stop where it fails"
)]

mod groups;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../harness/machine.rs"]
mod machine;
mod mounted;
mod offline;
mod privilege;
mod rclone;
mod rest;
mod sftp;
mod tls;

use backupfs::error::{Again, Kind, Result};

/// The class of an error, and whether it is worth another try.
fn seen<T>(result: Result<T>) -> (Kind, Again) {
    let error = result.err().expect("an error");
    (error.kind(), error.again())
}
