//! A source's part in this machine, and the trees that it opens.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::ahead;
use super::beneath::{self, Waits};
use super::descriptor::{Descriptor, Slot};
use super::directory::HostDir;
use super::entries::Entries;
use super::place::Place;
use super::rights::Rights;
use super::stat::Stat;
use super::trusted::Allowance;
use super::xattrs::Way;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::{Damage, Flights, Key, Shared, hash};
use crate::store;
use crate::tree::{Ancestors, FileType, Node, Opened, SnapshotId, Step, Validity};

/// Blocking calls of one source at a time, as of a store.
const CALLS: usize = 16;

/// The top of a tree that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(5);

/// How the directory at the top of a snapshot is opened.
pub trait Root: Send + Sync {
    /// Opens it; more than once, because it is closed when idle. Called where blocking is allowed. Errors: `Stale` when
    /// the snapshot is gone.
    fn open(&self) -> Result<Descriptor>;
}

impl<F: Fn() -> Result<Descriptor> + Send + Sync> Root for F {
    fn open(&self) -> Result<Descriptor> {
        self()
    }
}

/// A directory to show as the content of a snapshot's path.
pub struct Tree {
    /// How it is opened.
    pub root: Arc<dyn Root>,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Which of its paths this is.
    pub path: usize,
    /// Its name, should it not be a directory.
    pub name: Arc<[u8]>,
    /// What is known of the directories above.
    pub ancestors: Ancestors,
    /// How long what is found in it may be kept: for ever in a snapshot.
    pub validity: Validity,
}

/// What the trees of one source share. Its futures must be awaited inside a tokio runtime.
pub struct Host {
    /// The identity of the source.
    id: Box<str>,
    /// How it is called in messages.
    name: Box<str>,
    calls: Arc<Semaphore>,
    place: Arc<store::Place>,
    pub(super) shared: Arc<Shared>,
    /// Of the source, in what is shared.
    pub(super) number: u32,
    damage: Damage,
    /// Who has the rights that this process has not.
    pub(super) rights: Option<Arc<dyn Rights>>,
    /// Directories that are being read.
    pub(super) reading: Arc<Flights<Key, Result<Arc<Entries>>>>,
    /// How many are read before anybody asks.
    pub(super) ahead: Arc<Semaphore>,
    /// How many directories those with rights are asked about at a time, before anybody wants to know.
    pub(super) asked_ahead: Arc<Semaphore>,
    /// The tops that are open, and some that were.
    tops: Mutex<Vec<Weak<Slot>>>,
}

impl Host {
    /// For the source `id`, called `name` in messages, whose snapshots lie on `place`. Directories are kept in `shared`.
    /// `rights` are those of somebody else where this process has given up its own.
    pub fn new(
        id: &str,
        name: &str,
        place: Arc<store::Place>,
        shared: Arc<Shared>,
        rights: Option<Arc<dyn Rights>>,
    ) -> Arc<Self> {
        let (id, name, number) = (id.into(), name.into(), shared.number());
        let calls = Arc::new(Semaphore::new(CALLS));
        Arc::new(Host {
            id,
            name,
            calls,
            place,
            shared,
            number,
            damage: Damage::default(),
            rights,
            reading: Flights::new(),
            ahead: ahead::limit(),
            // Whoever has the rights answers one after the other.
            asked_ahead: Arc::new(Semaphore::new(1)),
            tops: Mutex::default(),
        })
    }

    /// What `call` gives, which may block: a few of a source at a time, and of a file system as [`store::Place`] has it.
    /// It counts until it ends, also when nobody waits for it any more.
    pub async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (calls, place) = (Arc::clone(&self.calls), Arc::clone(&self.place));
        let closed = |e| Error::caused_by(Kind::Internal, "waiting for a call", e);
        let permit = calls.acquire_owned().await.map_err(closed)?;
        let run = move || {
            let result = call();
            drop(permit);
            result
        };
        place.run(run).await?
    }

    /// Closes the tops of all trees, each as soon as no call uses it: whoever asks next opens it again. For who needs
    /// what their descriptors keep.
    pub fn close(&self) {
        let tops = std::mem::take(&mut *self.tops.lock().unwrap_or_else(PoisonError::into_inner));
        tops.iter().filter_map(Weak::upgrade).for_each(|slot| slot.empty());
    }

    fn note(&self, top: &Arc<Slot>) {
        let mut tops = self.tops.lock().unwrap_or_else(PoisonError::into_inner);
        tops.retain(|slot| slot.upgrade().is_some_and(|slot| slot.get().is_some()));
        tops.push(Arc::downgrade(top));
    }

    /// How many entries could not be shown, each logged once.
    pub fn omitted(&self) -> u64 {
        self.damage.count()
    }

    /// The top of `tree` as a node. Errors, which name source and snapshot: `Stale` when it is gone, `Denied` when it may
    /// not be read.
    pub fn open(self: &Arc<Self>, tree: Tree) -> Step<Opened> {
        let host = Arc::clone(self);
        Step::wait(async move {
            let view = View::new(Arc::clone(&host), &tree, Handle::current());
            let found = Arc::clone(&view);
            let node = host.run(move || found.top()).await.map_err(|e| view.explain(b"", e))?;
            Ok(Opened { name: tree.name, node, ancestors: tree.ancestors })
        })
    }

    /// Notes an entry that cannot be shown.
    pub(super) fn omit(&self, view: &View, path: &[u8], error: &Error) {
        if self.damage.first((view.hash, path)) {
            let (about, path) = (view.about(), path.escape_ascii());
            tracing::warn!("{about}: /{path} is not shown: {error}");
        }
    }
}

/// A tree that was opened.
pub(super) struct View {
    pub host: Arc<Host>,
    /// For what nobody waits for.
    pub runtime: Handle,
    root: Arc<dyn Root>,
    snapshot: SnapshotId,
    pub validity: Validity,
    /// How many directories those with rights may be asked about ahead.
    pub allowance: Allowance,
    /// Of the source, the snapshot and the path: what identities and keys are made of.
    pub hash: u128,
    /// The top, while it is open.
    slot: Arc<Slot>,
    state: Mutex<State>,
}

/// What is known of the top since it was opened.
struct State {
    used: Instant,
    /// Its inode, which stays the same.
    ino: Option<u64>,
    is_near: bool,
}

/// An open directory at the top of a tree.
pub(super) struct Top {
    pub descriptor: Arc<Descriptor>,
    /// Its file system answers from memory or a disk of this machine.
    pub is_near: bool,
}

impl View {
    pub(super) fn new(host: Arc<Host>, tree: &Tree, runtime: Handle) -> Arc<Self> {
        let path = (tree.path as u64).to_le_bytes();
        let hash = hash(&[b"tree", host.id.as_bytes(), tree.snapshot.as_bytes(), &path]);
        Arc::new(View {
            host,
            runtime,
            root: Arc::clone(&tree.root),
            snapshot: Arc::clone(&tree.snapshot),
            validity: tree.validity,
            allowance: Allowance::default(),
            hash,
            slot: Arc::default(),
            state: Mutex::new(State { used: Instant::now(), ino: None, is_near: false }),
        })
    }

    /// The top, opened if it is not. Blocks.
    pub(super) fn opened(self: &Arc<Self>) -> Result<Top> {
        if let Some(top) = self.at_hand() {
            return Ok(top);
        }
        let descriptor = self.root.open()?;
        let says = |e: Errno| Error::io("the top of the snapshot", e.into());
        let (stat, _) = Stat::of(&descriptor).map_err(says)?;
        let is_near = is_near(&descriptor);
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if *state.ino.get_or_insert(stat.ino) != stat.ino {
                return Err(Error::new(Kind::Stale, "another directory stands at the top of the snapshot"));
            }
            (state.used, state.is_near) = (Instant::now(), is_near);
        }
        let descriptor = self.slot.fill(descriptor);
        self.host.note(&self.slot);
        self.close_when_idle();
        Ok(Top { descriptor, is_near })
    }

    /// The top, if it is open.
    pub(super) fn at_hand(&self) -> Option<Top> {
        let descriptor = self.slot.get()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.used = Instant::now();
        Some(Top { descriptor, is_near: state.is_near })
    }

    fn close_when_idle(self: &Arc<Self>) {
        let view: Weak<View> = Arc::downgrade(self);
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(IDLE).await;
                let Some(view) = view.upgrade() else { return };
                let used = view.state.lock().unwrap_or_else(PoisonError::into_inner).used;
                if used.elapsed() >= IDLE {
                    return view.slot.empty();
                }
            }
        });
    }

    /// The node at the top. Blocks.
    fn top(self: &Arc<Self>) -> Result<Node> {
        let top = self.opened()?;
        let says = |e: Errno| Error::io("the top of the snapshot", e.into());
        let (stat, _) = Stat::of(&*top.descriptor).map_err(says)?;
        if stat.kind() != FileType::Dir {
            return Err(Error::new(Kind::NotDirectory, "the snapshot is not a directory"));
        }
        let place = Arc::new(Place::top(Arc::clone(self)));
        let has = !top.is_near || Way::into(&*top.descriptor).has_any(b"");
        Ok(HostDir::at(place).node(&stat, has))
    }

    /// Opens `path` below the top. Blocks.
    pub(super) fn open(self: &Arc<Self>, path: &[u8], flags: OFlags) -> Result<Descriptor> {
        let top = self.opened()?;
        let opened = beneath::open(top.descriptor.as_fd(), path, flags, Waits::Allowed);
        Ok(top.descriptor.below(opened.map_err(gone)?))
    }

    /// The same, of what the kernel has in memory; nothing where that would have to wait.
    pub(super) fn open_at_once(&self, path: &[u8], flags: OFlags) -> Option<Result<Descriptor>> {
        let top = self.at_hand().filter(|top| top.is_near)?;
        match beneath::open(top.descriptor.as_fd(), path, flags, Waits::Refused) {
            Err(Errno::AGAIN) => None,
            opened => Some(opened.map(|fd| top.descriptor.below(fd)).map_err(gone)),
        }
    }

    /// Source and snapshot, for messages.
    fn about(&self) -> String {
        let short = self.snapshot.get(..8).unwrap_or(&self.snapshot);
        format!("{}: snapshot {short}", self.host.name)
    }

    /// Says where an error was met.
    pub(super) fn explain(&self, path: &[u8], error: Error) -> Error {
        let about = self.about();
        if path.is_empty() {
            error.context(about)
        } else {
            error.context(format!("{about}: /{}", path.escape_ascii()))
        }
    }
}

/// The error of opening what was there when it was listed.
pub(super) fn gone(error: Errno) -> Error {
    let stale = |says: &str| Error::caused_by(Kind::Stale, says, std::io::Error::from(error));
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => stale("no longer there"),
        Errno::XDEV => stale("another file system is mounted there now"),
        error => Error::io("opening", error.into()),
    }
}

/// File systems whose files are opened and stat'ed without asking anybody on a network.
const NEAR: &[rustix::fs::FsWord] = &[
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // btrfs
    0x2fc1_2fc1, // ZFS
    0x0102_1994, // tmpfs
    0xf2f5_2010, // F2FS
    0xca45_1a4e, // bcachefs
];

fn is_near(fd: impl AsFd) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|found| NEAR.contains(&found.f_type))
}
