//! What distant stores delivered, kept on a disk of this machine.
//!
//! Model: records ([`record`]) are appended to segments ([`segment`]), and one table ([`table`]) tells where the record of
//! a key may lie. Both are files that all processes of a user share without talking to each other; everything is
//! believed only after it was checked, so whatever a crash, a full disk or damage leaves is a miss. At the start two
//! headers are read and nothing is walked. [`files`] reads, [`writer`] writes on a thread of its own, [`room`] says what
//! goes when there is too much, [`heads`] holds the listings of stores, [`ledger`] the long ones, [`seal`] the cache's own
//! key, and [`inspect`] is for those who look after it.

mod files;
mod heads;
mod inspect;
mod key;
mod ledger;
mod record;
mod room;
mod seal;
mod segment;
mod share;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

pub use heads::Head;
pub use inspect::{Part, Purged, Summary, clear, limit, purge, summary};
pub use key::{Key, Owner};
pub use ledger::{Ledger, NewLedger};
pub use segment::Class;
pub use share::Share;

use self::files::Files;
use self::writer::{Entry, Order, Waiting, Writer};
use super::Folder;
use crate::error::{Error, Result};
use crate::store::{Level, ObjectInfo};

/// The directory of it in the cache directory.
const FOLDER: &str = "stored";

/// A read that takes longer is a miss: the store may be faster than this disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cache of one process.
pub struct Disk {
    files: Arc<Files>,
    orders: Sender<Order>,
    waiting: Arc<Waiting>,
    /// What the option allows, in bytes.
    size: u64,
}

impl Disk {
    /// The cache in the cache directory, of `bytes` at most. Errors: as [`Folder::open`].
    pub fn open(cache: &Folder, bytes: u64) -> Result<Arc<Self>> {
        let files = Arc::new(Files::open(cache.below(FOLDER)?, bytes)?);
        let waiting = Arc::<Waiting>::default();
        let (orders, taken) = channel();
        let writer = Writer::new(Arc::clone(&files), Arc::clone(&waiting), bytes);
        let work = move || {
            // Those who decode go first.
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
            writer.work(&taken);
        };
        let thread = std::thread::Builder::new().name("cache".into()).spawn(work);
        thread.map_err(|e| Error::io("cannot start a thread", e))?;
        Ok(Arc::new(Disk { files, orders, waiting, size: bytes }))
    }

    /// Waits until what was put is written, `patience` at most.
    pub fn flush(&self, patience: Duration) {
        self.wait_for(Order::Flush, patience);
    }

    fn wait_for(&self, order: fn(Sender<()>) -> Order, patience: Duration) {
        let (done, wait) = channel();
        if self.orders.send(order(done)).is_ok() {
            // Late or not: nobody can do anything about it.
            let _ = wait.recv_timeout(patience);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.wait_for(Order::End, Duration::from_secs(2));
    }
}

/// What the cache has of one store. Cheap to clone.
#[derive(Clone)]
pub struct Drawer {
    disk: Arc<Disk>,
    owner: Owner,
    name: Arc<str>,
    title: Arc<str>,
    share: Option<Share>,
}

impl Drawer {
    /// That of the store called `name`, which people call `title`.
    pub fn new(disk: Arc<Disk>, name: &str, title: &str) -> Self {
        Drawer { disk, owner: Owner::of(name), name: name.into(), title: title.into(), share: None }
    }

    /// The same for a store that others may have the name of: `identity` tells it apart from all of them.
    #[must_use]
    pub fn of(self, identity: &str) -> Self {
        Drawer { owner: Owner::of(identity), ..self }
    }

    /// The same within a share of the cache.
    #[must_use]
    pub fn within(self, share: Option<Share>) -> Self {
        Drawer { share, ..self }
    }

    /// The mark of what else is kept of the store, in directories of others: see [`Purged::marks`].
    pub fn mark(&self) -> String {
        self.owner.mark()
    }

    /// The key of `length` bytes at `offset` of `object`, which never changes.
    pub fn range(&self, object: &[u8], offset: u64, length: u64) -> Key {
        Key::range(self.owner, object, offset, length)
    }

    /// What is here of `keys`, each in its place. Within a runtime.
    pub async fn read(&self, keys: Vec<Key>) -> Vec<Option<Bytes>> {
        let (files, count) = (Arc::clone(&self.disk.files), keys.len());
        let read = tokio::task::spawn_blocking(move || files.read(&keys));
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(found)) => found,
            _ => vec![None; count],
        }
    }

    /// Keeps `stored`, which is no plain text, if there is time for it.
    pub fn put(&self, key: Key, class: Class, stored: &[u8]) {
        self.keep(key, class, false, stored);
    }

    /// A whole object that was kept sealed.
    pub async fn object(&self, object: &str) -> Option<Bytes> {
        self.read(vec![Key::whole(self.owner, object)]).await.pop().flatten()
    }

    /// Keeps a whole object, sealed.
    pub fn put_object(&self, object: &str, class: Class, content: &[u8]) {
        self.keep(Key::whole(self.owner, object), class, true, content);
    }

    fn keep(&self, key: Key, class: Class, sealed: bool, payload: &[u8]) {
        if self.disk.waiting.take(payload.len()) {
            // A copy: a slice would hold all of what was read with it.
            let payload = Bytes::copy_from_slice(payload);
            let entry = Entry { key, owner: self.owner, class, share: self.share, sealed, payload };
            // Without its thread the cache keeps nothing.
            let _ = self.disk.orders.send(Order::Keep(entry));
        }
    }

    /// Lets go of what turned out to be of no use.
    pub fn forget(&self, key: &Key) {
        self.disk.files.table.remove(key);
    }

    /// Notes that the store was listed just now, whatever is kept of that.
    pub fn listed(&self) {
        self.put_head(|_| ());
    }

    /// Notes that what lies in the ledger `name` was found to be so at `when`.
    pub fn renewed(&self, name: &str, when: SystemTime) {
        self.put_head(|head| head.set_renewed(name, when));
    }

    /// When what lies in the ledger `name` was last found to be so, to the second. Blocks.
    pub fn renewal(&self, name: &str) -> Option<SystemTime> {
        self.disk.files.head(self.owner)?.0.renewed(name)
    }

    /// Keeps complete listings, each with its prefix: all of them or none.
    pub fn put_lists<'a>(&self, lists: impl IntoIterator<Item = (&'a str, &'a Vec<ObjectInfo>)>) {
        self.put_head(|head| lists.into_iter().for_each(|(prefix, objects)| head.set(prefix, objects)));
    }

    /// Keeps a complete listing of one level.
    pub fn put_level(&self, prefix: &str, level: &Level) {
        self.put_head(|head| head.set_level(prefix, level));
    }

    fn put_head(&self, set: impl FnOnce(&mut Head)) {
        let mut head = Head::new(&self.name, &self.title);
        set(&mut head);
        // Without its thread the cache keeps nothing.
        let _ = self.disk.orders.send(Order::Head(self.owner, head));
    }

    /// Lets go of all listings: they were another's, who is no longer here.
    pub fn forget_lists(&self) {
        let _ = self.disk.orders.send(Order::Forget(self.owner));
    }

    /// The last complete listings below `prefixes`, if there is one of each, and of when the newest of the store's listings
    /// is.
    pub async fn lists(&self, prefixes: &[&str]) -> Option<(Vec<Vec<ObjectInfo>>, SystemTime)> {
        let (head, when) = self.head().await?;
        Some((prefixes.iter().map(|prefix| head.get(prefix)).collect::<Option<_>>()?, when))
    }

    /// The same of one level.
    pub async fn level(&self, prefix: &str) -> Option<(Level, SystemTime)> {
        let (head, when) = self.head().await?;
        Some((head.get_level(prefix)?, when))
    }

    async fn head(&self) -> Option<(Head, SystemTime)> {
        let (files, owner) = (Arc::clone(&self.disk.files), self.owner);
        tokio::task::spawn_blocking(move || files.head(owner)).await.ok()?
    }
}
