//! `backupfs broker`: what `backupfs mount` re-executes itself as for root; nobody types it.

use std::path::PathBuf;

use super::exit::Code;
use crate::daemon;
use crate::error::Result;

/// Keeps what takes rights of a mount, and starts the process that serves it (started by `backupfs mount`)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it is mounted; only for the eyes of `ps`, the configuration decides
    #[arg(value_name = "MOUNTPOINT")]
    _title: PathBuf,
}

impl Args {
    /// Stays until the mount is gone, and ends as the process that served it did.
    pub fn run(self) -> Result<Code> {
        // Any code that a process can end with.
        std::process::exit(daemon::broker_handed_over()?.into());
    }
}
