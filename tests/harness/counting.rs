//! A store that remembers what it was asked.

use std::sync::{Arc, Mutex};

use backupfs::error::Result;
use backupfs::store::{Level, ObjectInfo, ObjectStore, Pace};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// One call, counted when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    List(String),
    Level(String),
    Stat(String),
    Get(String),
    Range { key: String, offset: u64, length: u64 },
}

/// Passes everything on and keeps a list of calls.
pub struct CountingStore {
    inner: Arc<dyn ObjectStore>,
    calls: Mutex<Vec<Call>>,
}

impl CountingStore {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(CountingStore { inner, calls: Mutex::default() })
    }

    /// The calls since the last time this was asked.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn count(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

impl ObjectStore for CountingStore {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn pace(&self) -> Pace {
        self.inner.pace()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>> {
        self.count(Call::List(prefix.into()));
        self.inner.list(prefix).boxed()
    }

    fn list_level<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Level>> {
        self.count(Call::Level(prefix.into()));
        self.inner.list_level(prefix)
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectInfo>> {
        self.count(Call::Stat(key.into()));
        self.inner.stat(key)
    }

    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.count(Call::Get(key.into()));
        self.inner.get(key, limit)
    }

    fn get_range<'a>(&'a self, key: &'a str, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.count(Call::Range { key: key.into(), offset, length });
        self.inner.get_range(key, offset, length)
    }
}
