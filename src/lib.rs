//! backupfs: one read-only mount that shows every backup snapshot as ordinary directories.
//!
//! # Rooms, in the order in which a command and then a read pass through them
//!
//! | room | job |
//! |---|---|
//! | [`cli`] | what was typed: one file per verb |
//! | [`config`] | what it means: one validated `Config` |
//! | [`daemon`] | the composition root: opens sources, mounts, serves, refreshes, ends |
//! | [`fuse`] | kernel requests to node calls and back |
//! | [`namespace`] | sets, dates, `latest`, `current`, `at` as directories |
//! | [`tree`] | the vocabulary between rooms: nodes, directories, files, sources |
//! | [`source`] | kinds of backup: each yields snapshots and trees of nodes |
//! | [`cache`] | decoded blobs in memory |
//! | [`store`] | bytes by key, read-only |
//! | [`observe`] | logs and counters |
//! | [`locked`] | memory for keys and passwords |
//! | [`error`] | the one error type |
//!
//! `tests/layers.rs` holds which room may import which.

// The tests' harness is shared with unit tests, where this crate has no other name.
#[cfg(test)]
extern crate self as backupfs;

pub mod cache;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod error;
pub mod fuse;
pub mod locked;
pub mod namespace;
pub mod observe;
pub mod source;
pub mod store;
pub mod tree;
