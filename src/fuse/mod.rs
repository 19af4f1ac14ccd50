//! Kernel requests to node calls and back.

mod options;

pub use options::{IdMap, IdRange, MountSpec, Options, Owner, XattrPolicy};

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::error::Result;
use crate::tree::{ChangeSink, Node};

/// Mounts with mount(2) as root, through fusermount3 otherwise; the returned descriptor is `/dev/fuse`, not yet
/// initialised. Nothing is mounted when it fails.
pub fn mount(_mountpoint: &Path, _spec: &MountSpec) -> Result<OwnedFd> {
    todo!()
}

/// Unmounts what [`mount`] mounted; `lazy` detaches a busy one.
pub fn unmount(_mountpoint: &Path, _lazy: bool) -> Result<()> {
    todo!()
}

/// Does the handshake and serves `root` on threads of its own until the mount is gone.
pub fn serve(
    _fd: OwnedFd,
    _root: Node,
    _options: Options,
    _runtime: tokio::runtime::Handle,
) -> Result<Session> {
    todo!()
}

/// A mount being served.
pub struct Session {}

impl Session {
    /// Where changes of the tree go, to be told to the kernel.
    pub fn changes(&self) -> ChangeSink {
        todo!()
    }

    /// Returns when the kernel has let go of the mount.
    pub fn wait(self) -> Result<()> {
        todo!()
    }
}
