//! Repositories whose cryptography is valid and whose content is hostile: every good entry stays readable, what is
//! damaged is an honest error, memory stays bounded, nothing panics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may stop where it fails"
)]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../harness/machine.rs"]
mod machine;
#[path = "../harness/hostile/mod.rs"]
mod writer;

mod attributes;
mod damage;
mod frames;
mod keys;
mod memory;
mod mounted;
mod names;
mod scene;
mod shapes;
mod sizes;
mod snapshots;
mod trees;
mod whole;
