//! `backupfs warden`: what a broker executes itself as for the snapshots of ZFS; nobody types it.

use super::exit::Code;
use crate::daemon;
use crate::error::Result;

/// Makes, mounts and destroys clones for a source of ZFS (started by `backupfs broker`)
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    /// Answers until nobody asks any more, and clears up.
    pub fn run(self) -> Result<Code> {
        daemon::warden_handed_over().map(|()| Code::Ok)
    }
}
