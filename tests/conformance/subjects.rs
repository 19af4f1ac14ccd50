//! What the suites of `store.rs` are run on.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use backupfs::cache::{Cached, Disk, Drawer, Folder};
use backupfs::store::s3::{S3, Service};
use backupfs::store::{Local, Memory, ObjectStore};

use crate::harness::s3::S3Server;
use crate::s3::options;
use crate::s3s::{Fault, Rule, S3s};

/// A store with a way to change what lies in it.
pub trait Subject {
    fn put(&self, key: &str, bytes: &[u8]);
    fn remove(&self, key: &str);
    fn store(&self) -> Arc<dyn ObjectStore>;

    /// Whether this machine has what it takes; who says no has said why.
    fn is_there(&self) -> bool {
        true
    }
}

pub struct InMemory(pub Arc<Memory>);

impl InMemory {
    pub fn empty() -> Self {
        InMemory(Arc::new(Memory::new()))
    }
}

impl Subject for InMemory {
    fn put(&self, key: &str, bytes: &[u8]) {
        self.0.insert(key, bytes.to_vec()).unwrap();
    }

    fn remove(&self, key: &str) {
        self.0.remove(key).unwrap();
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        self.0.clone()
    }
}

pub struct InDirectory(pub tempfile::TempDir);

impl InDirectory {
    pub fn empty() -> Self {
        InDirectory(tempfile::tempdir().unwrap())
    }
}

impl Subject for InDirectory {
    fn put(&self, key: &str, bytes: &[u8]) {
        let path = self.0.path().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn remove(&self, key: &str) {
        fs::remove_file(self.0.path().join(key)).unwrap();
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(Local::new(self.0.path()).unwrap())
    }
}

/// A store around a store in memory.
pub struct Wrapped(pub InMemory, pub fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>);

impl Subject for Wrapped {
    fn put(&self, key: &str, bytes: &[u8]) {
        self.0.put(key, bytes);
    }

    fn remove(&self, key: &str) {
        self.0.remove(key);
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        self.1(self.0.store())
    }
}

/// A bucket of a real server, of which the store shows what lies below a prefix.
pub struct InBucket {
    server: Option<Arc<S3Server>>,
    bucket: String,
    prefix: &'static str,
}

impl InBucket {
    pub fn empty(prefix: &'static str) -> Self {
        let server = S3Server::shared();
        let bucket = server.as_ref().map(|server| server.fresh_bucket()).unwrap_or_default();
        InBucket { server, bucket, prefix }
    }

    fn server(&self) -> &S3Server {
        self.server.as_deref().unwrap()
    }

    fn path(&self, key: &str) -> PathBuf {
        self.server().root().join(&self.bucket).join(self.prefix).join(key)
    }
}

impl Subject for InBucket {
    fn put(&self, key: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(key).parent().unwrap()).unwrap();
        fs::write(self.path(key), bytes).unwrap();
    }

    fn remove(&self, key: &str) {
        fs::remove_file(self.path(key)).unwrap();
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        let service = Arc::new(Service::new(options(&self.server().endpoint())).unwrap());
        Arc::new(S3::new(service, "s3", &self.bucket, self.prefix))
    }

    fn is_there(&self) -> bool {
        self.server.is_some()
    }
}

/// A bucket of a server in this process.
pub struct InS3s {
    server: S3s,
    prefix: &'static str,
}

impl InS3s {
    pub fn empty(prefix: &'static str) -> Self {
        let server = S3s::start();
        server.create("bucket");
        InS3s { server, prefix }
    }

    /// Of one that tells of two entries at a time.
    pub fn in_small_pages() -> Self {
        let subject = Self::empty("some where/below");
        subject.server.set_page(2);
        subject
    }

    /// Of one that does so in the first version of listings, and knows no other.
    pub fn in_the_first_version() -> Self {
        let subject = Self::in_small_pages();
        subject.server.add(Rule::new(Fault::OldListings));
        subject
    }

    fn key(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }
}

impl Subject for InS3s {
    fn put(&self, key: &str, bytes: &[u8]) {
        self.server.put("bucket", &self.key(key), bytes);
    }

    fn remove(&self, key: &str) {
        self.server.remove("bucket", &self.key(key));
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        let service = Arc::new(Service::new(options(&self.server.endpoint())).unwrap());
        Arc::new(S3::new(service, "s3", "bucket", self.prefix))
    }
}

/// A store in memory behind a disk cache.
pub struct InCache {
    inner: InMemory,
    drawer: Drawer,
    _dir: tempfile::TempDir,
}

impl InCache {
    pub fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(&Folder::open(dir.path()).unwrap(), 64 << 20).unwrap();
        InCache { inner: InMemory::empty(), drawer: Drawer::new(disk, "memory", "memory"), _dir: dir }
    }
}

impl Subject for InCache {
    fn put(&self, key: &str, bytes: &[u8]) {
        self.inner.put(key, bytes);
    }

    fn remove(&self, key: &str) {
        self.inner.remove(key);
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(Cached::new(self.inner.store(), self.drawer.clone(), None))
    }
}
