//! `backupfs serve`: what `backupfs mount` re-executes itself as; nobody types it.

use std::path::PathBuf;

use super::exit::Code;
use crate::daemon;
use crate::error::Result;

/// Serves a mount whose configuration comes over stdin (started by `backupfs mount`)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it is mounted; only for the eyes of `ps`, the configuration decides
    #[arg(value_name = "MOUNTPOINT")]
    _title: PathBuf,
    /// A broker does what takes rights
    #[arg(long)]
    brokered: bool,
}

impl Args {
    /// Serves until the mount is gone.
    pub fn run(self) -> Result<Code> {
        daemon::serve_handed_over(self.brokered)?;
        Ok(Code::Ok)
    }
}
