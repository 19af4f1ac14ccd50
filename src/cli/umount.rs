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
    /// Take it away only if its server has died; otherwise do nothing
    #[arg(long, conflicts_with = "lazy")]
    dead: bool,
}

impl Args {
    /// Unmounts and waits until the daemon has let go.
    pub fn run(self) -> Result<Code> {
        if self.dead {
            daemon::remove_dead(&self.mountpoint)?;
        } else {
            daemon::unmount(&self.mountpoint, self.lazy)?;
        }
        Ok(Code::Ok)
    }
}
