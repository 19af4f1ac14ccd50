//! The one mount of this process: made once, ended once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Kind, Result};
use crate::fuse;

/// Makes and ends the mount: this process, or somebody who may.
pub trait Mounter: Send + Sync {
    /// Mounts. Nothing is mounted when it fails.
    fn mount(&self) -> Result<Served>;

    /// Detaches what [`Mounter::mount`] made if it is still there, and never anything else.
    fn unmount(&self);
}

/// A mount that was made.
pub struct Served {
    /// What to serve it by.
    pub device: fuse::Device,
    /// What may be done for it besides.
    pub rights: Arc<dyn fuse::Rights>,
}

/// What the threads that may end the mount share.
pub struct Life {
    mounter: Box<dyn Mounter>,
    state: Mutex<State>,
    ready: AtomicBool,
}

enum State {
    /// Sources are being opened.
    Opening,
    /// Mounted.
    Mounted,
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
    /// Of a mount that is to be made by `mounter`.
    pub fn new(mounter: Box<dyn Mounter>) -> Self {
        Life { mounter, state: Mutex::new(State::Opening), ready: AtomicBool::new(false) }
    }

    /// Mounts, unless the end has come already.
    pub fn mount(&self) -> Result<Served> {
        let mut state = self.state();
        if !matches!(*state, State::Opening) {
            return Err(interrupted());
        }
        let served = self.mounter.mount()?;
        *state = State::Mounted;
        Ok(served)
    }

    /// Declares that the tree can be walked, unless the end has come already.
    pub fn set_ready(&self) -> Result<()> {
        let state = self.state();
        if !matches!(*state, State::Mounted) {
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
            State::Mounted => {
                self.mounter.unmount();
                Stage::Mounted
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "not mounted: interrupted")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails at mounting.
    struct Refusing;

    impl Mounter for Refusing {
        fn mount(&self) -> Result<Served> {
            Err(Error::new(Kind::Denied, "no"))
        }
        fn unmount(&self) {
            panic!("nothing was mounted");
        }
    }

    #[test]
    fn what_has_ended_is_never_mounted() {
        let life = Life::new(Box::new(Refusing));
        assert_eq!(life.end(), Stage::Opening);
        assert_eq!(life.end(), Stage::Ended);
        assert_eq!(life.mount().err().unwrap().kind(), Kind::Interrupted);
        assert_eq!(life.set_ready().unwrap_err().kind(), Kind::Interrupted);
        assert!(!life.is_ready());
    }

    #[test]
    fn what_could_not_be_mounted_is_not_unmounted() {
        let life = Life::new(Box::new(Refusing));
        assert_eq!(life.mount().err().unwrap().kind(), Kind::Denied);
        assert_eq!(life.end(), Stage::Opening);
    }
}
