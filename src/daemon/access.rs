//! The access log of a mount: opened before this process gives up its rights, and anew when it was rotated.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::broker::Broker;
use crate::config::Config;
use crate::error::Result;
use crate::observe::access::{self, AccessLog, Opener};

/// An access log that nothing is written to yet: that takes a thread.
pub struct Opened {
    path: PathBuf,
    file: File,
    open: Opener,
}

impl Opened {
    /// The access log that `config` asks for, if any. A broker opens it, now and when it was rotated; without one this
    /// process does, which may have lost the right to by then. Errors: as [`access::open`].
    pub fn of(config: &Config, broker: Option<&Arc<Broker>>) -> Result<Option<Self>> {
        let Some(path) = config.mount.access_log.clone() else { return Ok(None) };
        let open: Opener = match broker.cloned() {
            Some(broker) => Box::new(move || broker.access_log()),
            None => {
                let path = path.clone();
                Box::new(move || access::open(&path))
            }
        };
        Ok(Some(Opened { file: open()?, path, open }))
    }

    /// Begins to write what is opened below `mountpoint`.
    pub fn start(self, mountpoint: &Path) -> Result<Arc<AccessLog>> {
        AccessLog::start(self.path, self.file, self.open, mountpoint.to_owned())
    }
}
