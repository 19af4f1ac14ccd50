//! A store around a store that does the same for every call.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::error::Result;
use crate::store::bucket::{Bucket, Extent, Labels, Mark, Pinned, VersionPage};
use crate::store::{Level, ObjectInfo, ObjectStore, Pace};

/// A call of a store, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A listing or a whole object: nobody knows beforehand how much comes.
    Open,
    /// A range or the size of an object: its end can be foreseen.
    Short,
}

/// What an answer weighs: its bytes.
pub(super) trait Weight {
    fn weight(&self) -> u64;
}

impl Weight for Bytes {
    fn weight(&self) -> u64 {
        self.len() as u64
    }
}

impl Weight for ObjectInfo {
    fn weight(&self) -> u64 {
        0
    }
}

impl Weight for Option<SystemTime> {
    fn weight(&self) -> u64 {
        0
    }
}

impl Weight for Vec<ObjectInfo> {
    /// As JSON or XML would bring it, roughly.
    fn weight(&self) -> u64 {
        self.iter().map(|info| info.key.len() as u64 + 100).sum()
    }
}

impl Weight for Level {
    fn weight(&self) -> u64 {
        self.objects.weight() + self.below.iter().map(|prefix| prefix.len() as u64 + 50).sum::<u64>()
    }
}

impl Weight for VersionPage {
    fn weight(&self) -> u64 {
        self.versions.iter().map(|version| version.key.len() as u64 + 300).sum()
    }
}

impl Weight for Labels {
    fn weight(&self) -> u64 {
        self.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
    }
}

impl Weight for bool {
    fn weight(&self) -> u64 {
        0
    }
}

/// What happens around a call. `attempt` makes the call, anew each time.
pub(super) trait Around: Send + Sync {
    fn around<'a, T, F>(&'a self, call: Call, attempt: F) -> impl Future<Output = Result<T>> + Send + 'a
    where
        T: Weight + Send + 'a,
        F: Fn() -> BoxFuture<'a, Result<T>> + Send + Sync + 'a;
}

/// A store, or a bucket, with something around its calls.
pub(super) struct Wrapped<A, S: ?Sized> {
    inner: Arc<S>,
    around: A,
}

impl<A: Around, S: ?Sized> Wrapped<A, S> {
    pub(super) fn new(inner: Arc<S>, around: A) -> Self {
        Wrapped { inner, around }
    }
}

impl<A: Around> ObjectStore for Wrapped<A, dyn ObjectStore> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn pace(&self) -> Pace {
        self.inner.pace()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>> {
        self.around.around(Call::Open, move || self.inner.list(prefix)).boxed()
    }

    fn list_level<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Level>> {
        self.around.around(Call::Open, move || self.inner.list_level(prefix)).boxed()
    }

    fn newest<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<SystemTime>>> {
        self.around.around(Call::Open, move || self.inner.newest(prefix)).boxed()
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectInfo>> {
        self.around.around(Call::Short, move || self.inner.stat(key)).boxed()
    }

    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.around.around(Call::Open, move || self.inner.get(key, limit)).boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.around.around(Call::Short, move || self.inner.get_range(key, offset, length)).boxed()
    }
}

impl<A: Around> Bucket for Wrapped<A, dyn Bucket> {
    fn keeps_versions(&self) -> BoxFuture<'_, Result<bool>> {
        self.around.around(Call::Short, move || self.inner.keeps_versions()).boxed()
    }

    fn page<'a>(&'a self, extent: Extent, after: Option<&'a Mark>) -> BoxFuture<'a, Result<VersionPage>> {
        self.around.around(Call::Open, move || self.inner.page(extent, after)).boxed()
    }

    fn labels<'a>(&'a self, object: &'a Pinned) -> BoxFuture<'a, Result<Labels>> {
        self.around.around(Call::Short, move || self.inner.labels(object)).boxed()
    }

    fn read<'a>(&'a self, object: &'a Pinned, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.around.around(Call::Short, move || self.inner.read(object, offset, length)).boxed()
    }
}
