//! A mount that this process makes and ends itself.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::life::{Mounter, Served};
use super::ours;
use crate::error::Result;
use crate::fuse::{self, MountSpec, OwnRights};

/// What it takes to make it.
pub struct OwnMount {
    mountpoint: PathBuf,
    spec: MountSpec,
    /// The number of the mount while it is there; `None` too when it was gone before it could be looked up.
    id: Mutex<Option<u64>>,
}

impl OwnMount {
    /// At `mountpoint`, which is absolute and was checked.
    pub fn new(mountpoint: PathBuf, spec: MountSpec) -> Self {
        OwnMount { mountpoint, spec, id: Mutex::new(None) }
    }

    /// The number of the mount of ours that is seen at the mountpoint.
    fn topmost(&self) -> Option<u64> {
        ours::seen_at(&self.mountpoint).ok()?.map(|mount| mount.id)
    }
}

impl Mounter for OwnMount {
    fn mount(&self) -> Result<Served> {
        let device = fuse::mount(&self.mountpoint, &self.spec)?;
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = self.topmost();
        let rights = Arc::new(OwnRights::of(&device)?);
        Ok(Served { device, rights })
    }

    fn unmount(&self) {
        let id = self.id.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever unmounted it may have mounted something else there.
        let is_there = id.is_some() && self.topmost() == id;
        if is_there && let Err(error) = fuse::unmount(&self.mountpoint, true) {
            tracing::error!(%error, "cannot unmount");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_mounted_is_not_unmounted() {
        let spec = MountSpec { source: "x".into(), allow_other: false, noexec: false };
        let mount = OwnMount::new("/proc".into(), spec);
        mount.unmount();
        assert!(std::fs::exists("/proc/self").unwrap());
    }
}
