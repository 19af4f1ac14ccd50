//! A mount being served: handshake, kernel threads, end.

use std::sync::Arc;

use fuser::{BackgroundSession, Config, SessionACL};
use tokio::runtime::Handle;

use super::Options;
use super::answer::Desk;
use super::failures::Failures;
use super::filesystem::Filesystem;
use super::mount::Device;
use super::notify::Invalidator;
use super::polling::{Governor, Pace};
use super::push::Pusher;
use super::rights::Rights;
use super::state::State;
use crate::error::{Error, Kind, Result};
use crate::tree::{ChangeSink, Node};

/// A mount being served. Dropping it stops nothing and unmounts nothing.
pub struct Session {
    background: BackgroundSession,
    invalidator: Invalidator,
    _governor: Governor,
    _pusher: Pusher,
}

/// Does the handshake with the kernel and serves `root` on a thread of its own until the mount is gone. Whatever has to
/// be waited for, is waited for on `runtime`; what takes rights is done by `rights`.
///
/// When it returns, the mount answers. When it fails, the mount is dead and has to be unmounted.
pub fn serve(
    device: Device,
    rights: Arc<dyn Rights>,
    root: Node,
    options: Options,
    runtime: Handle,
) -> Result<Session> {
    let system = |what: &str, e| Error::caused_by(Kind::System, what, e);
    let failures = Failures::default();
    let state = Arc::new(State::new(root, options, failures.clone(), Arc::clone(&rights)));
    let pace = Pace::new();
    let desk = Desk::new(runtime.clone(), failures, pace.clone());
    let door = || device.fd.try_clone().map_err(|e| system("cannot duplicate a descriptor", e));
    let (polled, pushed) = (door()?, door()?);
    let pusher = Pusher::start(state.clone(), pushed, runtime.clone())?;
    let filesystem = Filesystem::new(state.clone(), desk, pusher.watcher());
    // Who is let in is the kernel's decision alone, made by the options of the mount.
    let session = fuser::Session::from_fd(filesystem, device.fd, SessionACL::All, Config::default())
        .map_err(|e| system("handshake with the kernel's FUSE", e))?;
    rights.raise_read_ahead();
    let invalidator = Invalidator::start(state, session.notifier(), runtime)?;
    let governor = Governor::start(polled, pace)?;
    // One kernel thread: it never waits for anything, and a second would be woken for every request that the first,
    // polling, has already taken (docs/decisions.md).
    let background = session.spawn().map_err(|e| system("cannot start kernel threads", e))?;
    Ok(Session { background, invalidator, _governor: governor, _pusher: pusher })
}

impl Session {
    /// Where changes of the tree go, to be told to the kernel.
    pub fn changes(&self) -> ChangeSink {
        self.invalidator.sink()
    }

    /// Returns when the kernel has let go of the mount: it is unmounted and nothing of it is in use.
    pub fn wait(self) -> Result<()> {
        self.background.join().map_err(|e| Error::caused_by(Kind::System, "kernel threads", e))
    }
}
