//! The composition root: the only place that names concrete types.
//!
//! [`open`] turns a configuration into a tree, for verbs that walk it without a mount; [`mount`] serves one, from a
//! process of its own; [`unmount`] ends it.

mod access;
mod broker;
mod cache;
mod confine;
mod discovery;
pub mod doctor;
mod ends;
mod found;
mod given;
mod handover;
mod holders;
mod keep;
mod kind;
mod late;
mod launch;
mod life;
mod metrics;
mod mountpoint;
mod notify;
mod open;
mod ours;
mod own;
mod place;
mod places;
mod probe;
mod process;
mod programs;
mod recognise;
mod reload;
mod s3;
mod serve;
mod signals;
mod stores;
mod together;
mod translate;
mod unmount;
mod verify;

pub use broker::{broker_handed_over, steward_handed_over, warden_handed_over};
pub use cache::{CacheReport, CachedStore, cache_clear, cache_limit, cache_purge, cache_report};
pub use confine::{Confined, Files, confine};
pub use ends::AtEnd;
pub use launch::{ask_nothing, mount, rehearse, sandbox_limits};
pub use open::{Tree, open, open_sources};
pub use ours::{Mounted, mounts};
pub use probe::{members, round_trips};
pub use serve::{LeftOpen, serve_handed_over};
pub use signals::on_interrupt;
pub use unmount::{remove_dead, unmount};
pub use verify::{Damaged, Share, Stop, Verified, Wish, verify};

use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Kind, Result};

/// A runtime for everything that waits.
pub fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(cores().clamp(2, 8))
        // What hangs on one file system is bounded (`store::Place`); several that do must leave some.
        .max_blocking_threads(512)
        .thread_name("backupfs")
        .enable_all()
        .build()
        .map_err(|e| Error::io("cannot start threads", e).with_kind(Kind::System))
}

/// How many threads can run at once.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
