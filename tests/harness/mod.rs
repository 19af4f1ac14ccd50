//! What several test targets need. A target takes it in with `#[path = "../harness/mod.rs"] mod harness;`.

#![allow(dead_code, reason = "each target uses its part")]

pub mod child;
pub mod counting;
pub mod directory;
pub mod fake_source;
pub mod faulty;
pub mod rclone;
pub mod s3;
pub mod scripted;
pub mod sshd;
pub mod verbatim;
pub mod walk;
