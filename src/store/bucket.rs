//! A bucket as what it is, objects under keys of any form with versions and metadata: not the place of a repository, which
//! [`ObjectStore`](super::ObjectStore) is.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::error::Result;

/// One version of an object, or the mark of its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its key below the bucket's prefix: any text, with empty parts and slashes at either end too.
    pub key: String,
    /// What the bucket calls this version; `None` where it keeps none.
    pub id: Option<String>,
    /// When it was written, in milliseconds since 1970 by the server's clock.
    pub changed: i64,
    /// Whether it is what the key means now.
    pub is_latest: bool,
    /// Its bytes; `None` for the mark of a deletion.
    pub stored: Option<Stored>,
}

/// What a listing tells of an object's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// How many there are.
    pub size: u64,
    /// What they are known by, as the server spells it; empty where it does not tell.
    pub etag: String,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// In ascending order of keys, byte by byte; those of one key may come in any order, and more than once.
    pub versions: Vec<Version>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Mark>,
}

/// Behind what a listing goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The key, below the bucket's prefix.
    pub key: String,
    /// The version of that key; `None` behind all of them.
    pub version: Option<String>,
}

/// What a listing takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What there is now.
    Latest,
    /// What there was, too, with the marks of deletions.
    Versions,
}

/// Which bytes are meant. The server refuses when they are others by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The object.
    pub key: String,
    /// Its version.
    pub version: Option<String>,
    /// What its bytes are known by; not asked about when empty.
    pub etag: String,
}

/// What was saved with an object beside its bytes: metadata of its writer (`x-amz-meta-…`, without that), names in lower
/// case.
pub type Labels = BTreeMap<String, String>;

/// The objects of a bucket below a prefix. Nothing is retried and nothing is cached here; a wrapper does that.
pub trait Bucket: Send + Sync {
    /// Whether it keeps (or kept) versions.
    fn keeps_versions(&self) -> BoxFuture<'_, Result<bool>>;

    /// The objects behind `after`, as many as the server tells at once.
    fn page<'a>(&'a self, extent: Extent, after: Option<&'a Mark>) -> BoxFuture<'a, Result<VersionPage>>;

    /// The metadata of an object. Errors: `NotFound`; `Stale` when it is another by now.
    fn labels<'a>(&'a self, object: &'a Pinned) -> BoxFuture<'a, Result<Labels>>;

    /// Exactly `length` bytes from `offset`. Errors: `NotFound`; `Stale` when the object is another by now; `Corrupt` when
    /// it ends earlier.
    fn read<'a>(&'a self, object: &'a Pinned, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>>;
}
