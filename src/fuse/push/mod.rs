//! Pushing small files: their contents go to the kernel before anybody asks.
//!
//! A small file costs a round trip to read, which is most of the time that copying it takes. Once a directory is seen
//! to be read in an order ([`walk`]), a thread of its own fetches what comes next and stores it in the kernel's page
//! cache ([`store`]). Never on a request's path: the kernel may wait for that very request before it takes a store.

mod ahead;
mod store;
mod survey;
mod walk;
mod walks;

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::debug;

use self::ahead::Children;
use self::store::{Stored, store};
use self::survey::{Candidate, Order, Survey};
use self::walk::{Job, Push};
use self::walks::Walks;
use super::answer::within;
use super::directory::directory;
use super::inodes::{Lineage, Origin, resolve};
use super::readers::OpenFile;
use super::state::State;
use crate::error::{Error, Kind, Result};
use crate::observe::metrics;
use crate::tree::{BEGINNING, Entry, FileType, Listing, Step, Validity};

/// Files up to this size are pushed. Larger ones are only fetched, at most their [`BEGINNING`].
const PUSHED: u32 = 128 << 10;

/// Files, or directories, that are looked at in one directory.
const SURVEYED: usize = 200_000;

/// Contents are fetched in portions of about so many bytes at least.
const PORTION: u64 = 1 << 20;

/// The kernel links the inodes of a listing when whoever lists takes the reply; so long a store waits for that.
const LINKING: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(4),
    Duration::from_millis(8),
    Duration::from_millis(16),
];

enum Message {
    Job(Job),
    End,
}

/// Watches who reads and lists. Cheap to clone.
#[derive(Clone)]
pub(super) struct Watcher {
    walks: Arc<Mutex<Walks>>,
    queue: Sender<Message>,
}

/// Pushes until it is dropped.
pub(super) struct Pusher {
    watcher: Watcher,
    ended: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Pusher {
    /// Pushes through `door`, a duplicate of the session's descriptor. What has to be waited for, is on `runtime`.
    pub fn start(state: Arc<State>, door: OwnedFd, runtime: Handle) -> Result<Self> {
        let (queue, jobs) = channel();
        let watcher = Watcher { walks: Arc::default(), queue };
        let (ended, end) = watch::channel(false);
        let worker =
            Worker { end, state, door, runtime, walks: watcher.walks.clone(), children: Children::default() };
        let thread = std::thread::Builder::new()
            .name("push".into())
            .spawn(move || worker.work(&jobs))
            .map_err(|e| Error::caused_by(Kind::System, "cannot start a thread", e))?;
        Ok(Pusher { watcher, ended, thread: Some(thread) })
    }

    /// To be told of reads and listings.
    pub fn watcher(&self) -> Watcher {
        self.watcher.clone()
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        // Whatever it waits for, and what is queued, is for nobody any more.
        self.ended.send_replace(true);
        let _ = self.watcher.queue.send(Message::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Watcher {
    /// Process `pid` reads the file `ino` from its beginning.
    pub fn read(&self, state: &State, pid: u32, ino: u64) {
        let Some(known) = state.inodes.get(ino) else { return };
        // What was only looked up is no part of a listing.
        if let Origin::Listed { parent, .. } = &*known.place.origin {
            let job = lock(&self.walks).read(pid, *parent, known.place.at, ino);
            self.pass_on(job);
        }
    }

    /// Process `pid` has listed the directory `ino` to its end.
    pub fn listed(&self, pid: u32, ino: u64) {
        let job = lock(&self.walks).listed(pid, ino);
        self.pass_on(job);
    }

    fn pass_on(&self, job: Option<Job>) {
        if let Some(job) = job {
            // Nobody works any more when the mount has gone.
            let _ = self.queue.send(Message::Job(job));
        }
    }
}

fn lock(walks: &Mutex<Walks>) -> MutexGuard<'_, Walks> {
    walks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What there is to walk through in a directory.
struct Looked {
    files: Survey,
    dirs: Survey,
}

struct Worker {
    end: watch::Receiver<bool>,
    state: Arc<State>,
    door: OwnedFd,
    runtime: Handle,
    walks: Arc<Mutex<Walks>>,
    children: Children,
}

impl Worker {
    fn work(&self, jobs: &Receiver<Message>) {
        while let Ok(Message::Job(job)) = jobs.recv() {
            let dir = job.dir();
            // What a node's bug leaves behind is dropped with its job.
            let done = catch_unwind(AssertUnwindSafe(|| self.work_on(job)));
            let failure = match done {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "a panic".into(),
            };
            debug!(dir, "pushing ends: {failure}");
            lock(&self.walks).end(dir);
        }
    }

    fn work_on(&self, job: Job) -> Result<()> {
        match job {
            Job::Survey(dir) => self.survey(dir),
            Job::Push(push) => self.push(&push, &*self.listing(push.dir)?.0),
        }
    }

    fn survey(&self, dir: u64) -> Result<()> {
        let (listing, lineage) = self.listing(dir)?;
        let Looked { files, dirs } = self.look(&*listing, lineage);
        let jobs = lock(&self.walks).surveyed(dir, Arc::new(files));
        for (number, job) in jobs.into_iter().enumerate() {
            let Job::Push(push) = job else { continue };
            self.push(&push, &*listing)?;
            if number == 0 {
                self.ahead(dir, &dirs, push.order, push.window)?;
            }
        }
        Ok(())
    }

    /// The files of a listing, and its directories: those that can never change and that the kernel knows.
    fn look(&self, listing: &dyn Listing, parent: Lineage) -> Looked {
        let (mut files, mut dirs) = (Vec::new(), Vec::new());
        listing.visit(0, &mut |entry: &Entry<'_>| {
            let found = if entry.kind == FileType::Dir { &mut dirs } else { &mut files };
            found.extend(self.known(entry, parent));
            if found.len() < SURVEYED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        Looked { files: Survey::new(files), dirs: Survey::new(dirs) }
    }

    fn known(&self, entry: &Entry<'_>, parent: Lineage) -> Option<Candidate> {
        let size = worth(entry)?;
        let ino = self.state.inodes.live(resolve(entry.identity, entry.kind, parent, entry.name))?;
        Some(Candidate { at: entry.at, ino, size })
    }

    fn push(&self, push: &Push, listing: &dyn Listing) -> Result<()> {
        let mut files: Vec<(usize, Candidate)> =
            push.ranks.clone().filter_map(|rank| Some((rank, push.survey.file(push.order, rank)?))).collect();
        // Content lies in packs in the order of the listing. A window of one portion comes as a whole anyway.
        let bytes: u64 = files.iter().map(|(_, file)| u64::from(file.size)).sum();
        if push.order == Order::Inode && bytes > PORTION {
            files.sort_unstable_by_key(|(_, file)| file.at);
        }
        let mut portions = portions(&files, listing.stride().max(PORTION)).peekable();
        if let Some(first) = portions.peek() {
            fetch(listing, first);
        }
        while let Some(portion) = portions.next() {
            if let Some(following) = portions.peek() {
                fetch(listing, following);
            }
            self.push_portion(push, listing, portion)?;
        }
        Ok(())
    }

    fn push_portion(&self, push: &Push, listing: &dyn Listing, files: &[(usize, Candidate)]) -> Result<()> {
        // Once the kernel knows one of them it knows all: later ones that it does not know have been forgotten.
        let mut patience = LINKING.into_iter();
        for (rank, file) in files {
            if *rank < push.next.load(Ordering::Relaxed) || file.size > PUSHED {
                continue;
            }
            let content = self.content(listing, *file)?;
            let mut stored = store(&self.door, file.ino, &content)?;
            while stored == Stored::Unknown
                && let Some(moment) = patience.next()
            {
                std::thread::sleep(moment);
                stored = store(&self.door, file.ino, &content)?;
            }
            if stored == Stored::Kept {
                metrics::FUSE_PUSHES.add(1);
                metrics::FUSE_PUSHED_BYTES.add(content.len() as u64);
            } else {
                metrics::FUSE_PUSHES_REFUSED.add(1);
            }
        }
        Ok(())
    }

    fn content(&self, listing: &dyn Listing, file: Candidate) -> Result<Bytes> {
        let gone = || Error::new(Kind::Stale, "an entry that is no longer listed");
        let node = listing.node(file.at).ok_or_else(gone)?;
        let content = self.wait(OpenFile::open(&node).then(move |open| open.read(0, file.size)))?;
        // Its size as the kernel knows it; anything else would change the file.
        if content.len() == file.size as usize { Ok(content) } else { Err(gone()) }
    }

    fn listing(&self, dir: u64) -> Result<(Arc<dyn Listing>, Lineage)> {
        let known = self.state.known(dir)?;
        let lineage = self.state.lineage(dir, &known);
        let node = self.wait(known.node())?;
        Ok((self.wait(directory(&node)?.listing())?, lineage))
    }

    fn wait<T>(&self, step: Step<T>) -> Result<T> {
        let limit = self.state.options.data_timeout;
        match step {
            Step::Ready(result) => result,
            Step::Wait(wait) => self.runtime.block_on(async {
                let mut end = self.end.clone();
                tokio::select! {
                    answer = within(limit, wait) => answer,
                    _ = end.wait_for(|ended| *ended) => Err(Error::new(Kind::Unavailable, "the mount ends")),
                }
            }),
        }
    }
}

/// How much of a file, or of a directory (0), that can never change is fetched before somebody asks.
fn worth(entry: &Entry<'_>) -> Option<u32> {
    let meta = entry.meta.filter(|meta| meta.validity == Validity::Forever)?;
    match meta.kind {
        FileType::Dir => Some(0),
        FileType::File if meta.size > 0 => u32::try_from(meta.size.min(BEGINNING)).ok(),
        _ => None,
    }
}

/// Asks for what the files of a listing hold, about `bytes` of it.
fn everything(listing: &dyn Listing, bytes: u64) {
    let (mut positions, mut total) = (Vec::new(), 0);
    listing.visit(0, &mut |entry: &Entry<'_>| {
        if let Some(size @ 1..) = worth(entry) {
            positions.push(entry.at);
            total += u64::from(size);
        }
        if total < bytes { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    listing.will_read(&positions);
}

fn fetch(listing: &dyn Listing, files: &[(usize, Candidate)]) {
    let positions: Vec<u64> = files.iter().map(|(_, file)| file.at).collect();
    listing.will_read(&positions);
}

/// Cuts after about `size` bytes each.
fn portions(files: &[(usize, Candidate)], size: u64) -> impl Iterator<Item = &[(usize, Candidate)]> {
    let mut rest = files;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let full = |(_, file): &(usize, Candidate)| {
            bytes += u64::from(file.size);
            bytes >= size
        };
        let end = rest.iter().position(full).map_or(rest.len(), |last| last + 1);
        let (portion, after) = rest.split_at_checked(end)?;
        rest = after;
        (!portion.is_empty()).then_some(portion)
    })
}
