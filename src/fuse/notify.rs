//! Telling the kernel what to forget.
//!
//! A thread of its own does it: a notification may wait for a request that is being answered, so it must never be sent
//! on a request's path.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{INodeNo, Notifier};
use tokio::runtime::Handle;
use tracing::{debug, warn};

use super::answer::within;
use super::directory::directory;
use super::inodes::{Lineage, ROOT, chain, resolve};
use super::state::State;
use crate::error::{Error, Kind, Result};
use crate::tree::{Change, ChangeSink, Node, Step, Time};

enum Message {
    Changed(Change),
    End,
}

/// Passes changes on to the kernel until it is dropped.
pub(super) struct Invalidator {
    queue: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Invalidator {
    /// Starts the thread. What it has to ask the tree, it asks on `runtime`.
    pub fn start(state: Arc<State>, notifier: Notifier, runtime: Handle) -> Result<Self> {
        let (queue, changes) = channel();
        let kernel = Kernel { state, notifier, runtime };
        let thread = std::thread::Builder::new()
            .name("invalidate".into())
            .spawn(move || kernel.follow(&changes))
            .map_err(|e| Error::caused_by(Kind::System, "cannot start a thread", e))?;
        Ok(Invalidator { queue, thread: Some(thread) })
    }

    /// A sink that queues and returns.
    pub fn sink(&self) -> ChangeSink {
        let queue = self.queue.clone();
        Box::new(move |change| {
            // Nobody listens any more when the mount has gone.
            let _ = queue.send(Message::Changed(change));
        })
    }
}

impl Drop for Invalidator {
    fn drop(&mut self) {
        let _ = self.queue.send(Message::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Kernel {
    state: Arc<State>,
    notifier: Notifier,
    runtime: Handle,
}

impl Kernel {
    fn follow(&self, changes: &Receiver<Message>) {
        while let Ok(Message::Changed(change)) = changes.recv() {
            if let Err(error) = self.invalidate(&change) {
                let path = change.dir.iter().map(|name| String::from_utf8_lossy(name)).collect::<Vec<_>>();
                warn!(path = path.join("/"), "the kernel could not be told of a change: {error}");
            }
        }
    }

    fn invalidate(&self, change: &Change) -> Result<()> {
        // A directory that is gone is an entry of another change.
        let Some((ino, identity)) = self.find(&change.dir)? else { return Ok(()) };
        for name in &change.names {
            self.tell(self.notifier.inval_entry(INodeNo(ino), OsStr::from_bytes(name)));
            // A link that now leads elsewhere is the same inode with a cached target.
            if let Some(child) = self.state.inodes.live(chain(identity, name)) {
                self.tell(self.notifier.inval_inode(INodeNo(child), 0, 0));
            }
        }
        self.tell(self.notifier.inval_inode(INodeNo(ino), 0, 0));
        Ok(())
    }

    /// The inode and identity of the directory at `path`, its attributes brought up to date, if the kernel knows it.
    fn find(&self, path: &[Vec<u8>]) -> Result<Option<(u64, u128)>> {
        let root = self.state.known(ROOT)?;
        let mut node = self.wait(root.node())?;
        let mut identity = root.identity;
        for name in path {
            let Some(child) = self.wait(directory(&node)?.lookup(name))? else { return Ok(None) };
            // A change is of directories: no file is on the way.
            let parent = Lineage { identity, apart: None };
            identity = resolve(child.meta.identity, child.meta.kind, parent, name);
            node = child;
        }
        let ino = match path {
            [] => Some(ROOT),
            _ => self.state.inodes.live(identity),
        };
        if let Some(ino) = ino {
            self.state.inodes.renew(ino, if ino == ROOT { touched(node) } else { node });
        }
        Ok(ino.map(|ino| (ino, identity)))
    }

    fn wait<T>(&self, step: Step<T>) -> Result<T> {
        let limit = self.state.options.metadata_timeout;
        match step {
            Step::Ready(result) => result,
            Step::Wait(wait) => self.runtime.block_on(within(limit, wait)),
        }
    }

    fn tell(&self, told: std::io::Result<()>) {
        if let Err(error) = told {
            debug!("the kernel refused a notification: {error}");
        }
    }
}

/// The root is given once for the life of a mount, so nobody else can advance its times.
fn touched(mut root: Node) -> Node {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Time { secs: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nanos: now.subsec_nanos() };
    root.meta.mtime = now;
    root.meta.ctime = now;
    root
}
