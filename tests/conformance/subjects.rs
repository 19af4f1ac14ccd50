//! What the suites of `store.rs` are run on.

use std::fs;
use std::sync::Arc;

use backupfs::cache::{Cached, Disk, Drawer, Folder};
use backupfs::store::{Local, Memory, ObjectStore};

/// A store with a way to change what lies in it.
pub trait Subject {
    fn put(&self, key: &str, bytes: &[u8]);
    fn remove(&self, key: &str);
    fn store(&self) -> Arc<dyn ObjectStore>;
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
