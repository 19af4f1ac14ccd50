//! The one mount of this process: made once, ended once, never confused with another at the same place.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ours;
use crate::error::{Error, Kind, Result};
use crate::fuse;

/// What the threads that may end the mount share.
pub struct Life {
    mountpoint: PathBuf,
    state: Mutex<State>,
    ready: AtomicBool,
}

enum State {
    /// Sources are being opened.
    Opening,
    /// Mounted, under this id; `None` when it was gone again before it could be looked up.
    Mounted(Option<u64>),
    /// Not to be mounted (any more).
    Ended,
}

/// How far it had come when it was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was mounted yet.
    Opening,
    /// It was mounted.
    Mounted,
    /// It had ended before.
    Ended,
}

impl Life {
    /// Of a mount that is to be made at `mountpoint`.
    pub fn new(mountpoint: PathBuf) -> Self {
        Life { mountpoint, state: Mutex::new(State::Opening), ready: AtomicBool::new(false) }
    }

    /// Mounts, unless the end has come already.
    pub fn mount(&self, spec: &fuse::MountSpec) -> Result<fuse::Device> {
        let mut state = self.state();
        if !matches!(*state, State::Opening) {
            return Err(interrupted());
        }
        let fd = fuse::mount(&self.mountpoint, spec)?;
        *state = State::Mounted(self.topmost());
        Ok(fd)
    }

    /// Declares that the tree can be walked, unless the end has come already.
    pub fn set_ready(&self) -> Result<()> {
        let state = self.state();
        if !matches!(*state, State::Mounted(_)) {
            return Err(interrupted());
        }
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether the tree could ever be walked.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Detaches the mount if it is there and is ours; it is never mounted again. Answers how far it had come.
    pub fn end(&self) -> Stage {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Ended) {
            State::Opening => Stage::Opening,
            State::Ended => Stage::Ended,
            State::Mounted(id) => {
                // Whoever unmounted it may have mounted something else there.
                let is_there = id.is_some() && self.topmost() == id;
                if is_there && let Err(error) = fuse::unmount(&self.mountpoint, true) {
                    tracing::error!(%error, "cannot unmount");
                }
                Stage::Mounted
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the mount of ours that is seen at the mountpoint.
    fn topmost(&self) -> Option<u64> {
        ours::seen_at(&self.mountpoint).ok()?.map(|mount| mount.id)
    }
}

fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "not mounted: interrupted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_never_mounted() {
        let life = Life::new("/nowhere".into());
        assert_eq!(life.end(), Stage::Opening);
        assert_eq!(life.end(), Stage::Ended);
        let spec = fuse::MountSpec { source: "x".into(), allow_other: false, noexec: false };
        assert_eq!(life.mount(&spec).unwrap_err().kind(), Kind::Interrupted);
        assert_eq!(life.set_ready().unwrap_err().kind(), Kind::Interrupted);
        assert!(!life.is_ready());
    }
}
