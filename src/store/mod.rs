//! Bytes by key: what a repository is kept in. Read-only by construction.

pub mod bucket;
mod direct;
pub mod distant;
#[cfg(test)]
#[path = "../../tests/harness/faulty.rs"]
#[allow(dead_code, reason = "each target uses its part")]
pub(crate) mod faulty;
pub mod http;
mod key;
mod local;
mod memory;
mod meter;
mod named;
mod place;
pub mod program;
mod rclone;
pub mod rest;
mod root;
pub mod s3;
pub mod sftp;
mod transfer;

pub use local::Local;
pub use memory::Memory;
pub use place::Place;
pub use rclone::rclone;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::error::{Error, Kind, Result};
use crate::observe::metrics;

/// Counts what an object or a range of it brought.
fn counted(bytes: Bytes) -> Bytes {
    metrics::STORE_READS.add(1);
    metrics::STORE_BYTES.add(bytes.len() as u64);
    bytes
}

/// An object as a listing or a stat tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key: components joined by `/`, no leading `/`.
    pub key: String,
    /// Its length in bytes.
    pub size: u64,
}

/// What lies directly below a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Its own objects.
    pub objects: Vec<ObjectInfo>,
    /// The prefixes one level deeper, whole and with a slash at the end: `a/`, `a/b/`.
    pub below: Vec<String>,
}

/// What a request to a store costs, roughly: how reads are put together follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From a request to the first byte of its answer.
    pub latency: Duration,
    /// Bytes a second that follow, over all requests together.
    pub bandwidth: u64,
}

impl Pace {
    /// A disk of this machine.
    pub const LOCAL: Pace = Pace { latency: Duration::from_micros(50), bandwidth: 1 << 30 };
}

/// Why a store answers from a cache alone.
#[derive(Clone, Debug)]
pub struct Outage {
    /// Why it cannot be reached.
    pub error: Error,
    /// When what it answers was true.
    pub as_of: SystemTime,
}

/// A read-only store of immutable objects.
///
/// Contract, checked by `tests/conformance/store.rs` for every implementation:
/// * Keys are UTF-8 paths with `/`; objects whose key is not are not listed. What could lead elsewhere (an empty
///   component, `.`, `..`, a NUL) is `Kind::Invalid`.
/// * Nothing is retried and nothing is cached here; a wrapper does that.
/// * A missing object is `Kind::NotFound`; every other failure is another kind, never an empty answer.
/// * Dropping a future abandons the call.
pub trait ObjectStore: Send + Sync {
    /// How the store is called in messages: a path or URL without secrets.
    fn name(&self) -> &str;

    /// What its requests cost.
    fn pace(&self) -> Pace;

    /// Every object whose key starts with `prefix` (which ends in `/`, or is empty for all), at any depth, in no
    /// particular order. A prefix that holds nothing, or does not exist, is an empty list; an unreachable store is an
    /// error.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>>;

    /// Every object below each of `prefixes`, one listed after the other: all of it as the store has it now, or all of it
    /// as a cache has.
    fn lists<'a>(&'a self, prefixes: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Vec<ObjectInfo>>>> {
        Box::pin(async move {
            let mut lists = Vec::with_capacity(prefixes.len());
            for prefix in prefixes {
                lists.push(self.list(prefix).await?);
            }
            Ok(lists)
        })
    }

    /// What lies directly below `prefix` (as in [`list`](ObjectStore::list)), in no particular order: one listing with a
    /// delimiter and whatever it takes to get all of it, but nothing of what lies deeper. Each object and each deeper
    /// prefix is named once. A prefix that holds nothing may be named where the store keeps directories. Of a store of
    /// all buckets the deeper prefixes of the empty one are the buckets. Errors: `Unsupported` from a store that has no
    /// such listing (a REST server), which is what this default says.
    fn list_level<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Level>> {
        let says = format!("{}: what lies at {prefix:?} cannot be listed one level at a time", self.name());
        Box::pin(std::future::ready(Err(Error::new(Kind::Unsupported, says))))
    }

    /// When the newest object directly or deeper below `prefix` was written, by the store's own clock; `None` where there
    /// is none. Errors: `Unsupported` from a store whose listings tell no times, which is what this default says.
    fn newest<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<SystemTime>>> {
        let says = format!("{}: its listings do not tell when {prefix:?} was written to", self.name());
        Box::pin(std::future::ready(Err(Error::new(Kind::Unsupported, says))))
    }

    /// The object at `key`.
    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectInfo>>;

    /// The whole object. One of more than `limit` bytes is `Kind::Unsupported`, and nothing of it is read.
    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Bytes>>;

    /// Exactly `length` bytes from `offset`. An object that ends earlier is `Kind::Corrupt`, never a shorter answer.
    fn get_range<'a>(&'a self, key: &'a str, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>>;

    /// Set while listings are answered from a cache because the store itself cannot be reached; never where there is no
    /// cache.
    fn outage(&self) -> Option<Outage> {
        None
    }
}
