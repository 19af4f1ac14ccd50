//! S3 objects as files, and versioned buckets as time machines.
//!
//! All of a bucket below its prefix is listed once ([`gather`]) into a [`table`]: keys in order with their versions, packed
//! in blocks, on disk where there is a cache directory ([`saved`]). Whatever is shown is worked out of that: the moments at
//! which something changed become snapshots ([`moments`]), and a directory at a moment ([`parsed`]) is a stretch of keys.
//! Looking round in a listed bucket therefore costs no request, but for metadata where the bucket's writer left some
//! ([`labels`]). Bytes come in pieces by ranged requests pinned to version and ETag ([`pieces`], [`file`]).
//!
//! A store is taken at its word: nothing here can be authenticated, and every answer is bounded and checked for sense.

mod archive;
mod directory;
mod file;
mod gather;
mod labels;
mod moments;
mod open;
mod parsed;
mod pieces;
mod rows;
mod saved;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::tz::TimeZone;

pub use open::open;

use crate::cache::Drawer;
use crate::store::bucket::Bucket;

/// A bucket, or a part of one, to open.
pub struct Spec {
    /// How it is called in messages; no secrets.
    pub name: String,
    /// What tells it apart from every other, whoever reaches it and how.
    pub identity: String,
    /// The objects.
    pub bucket: Arc<dyn Bucket>,
    /// The host that the snapshots are of: the bucket's name.
    pub host: String,
    /// The path that they are of: the prefix, with a slash before it.
    pub path: String,
    /// Where metadata is kept.
    pub drawer: Option<Drawer>,
    /// Which moments are listed; `None` for days where versions are kept.
    pub history: Option<History>,
    /// Where days and hours begin and end.
    pub zone: TimeZone,
    /// Whether every object is asked for its metadata.
    pub metadata: Metadata,
}

/// Which moments of a versioned bucket are listed as snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// What there is now, and nothing else.
    Off,
    /// The last change of each day on which something changed.
    Days,
    /// The same of each hour.
    Hours,
    /// Every change.
    Changes,
}

/// Whether objects are asked for the attributes that their writers left in their metadata: a request each, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metadata {
    /// When some of a handful of objects have any.
    #[default]
    Auto,
    /// Always.
    All,
    /// Never: sizes and times are those of the listing.
    Off,
}
