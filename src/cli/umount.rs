//! `backupfs umount`.

use std::path::PathBuf;

use super::exit::Code;
use crate::daemon;
use crate::error::Result;

/// Unmounts what `backupfs mount` mounted
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it is mounted
    mountpoint: PathBuf,
    /// Detach now even if it is busy; open files stay readable until they are closed
    #[arg(short, long)]
    lazy: bool,
}

impl Args {
    /// Unmounts and waits until the daemon has let go.
    pub fn run(self) -> Result<Code> {
        daemon::unmount(&self.mountpoint, self.lazy)?;
        Ok(Code::Ok)
    }
}
