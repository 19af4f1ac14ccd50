//! `backupfs serve`: what `backupfs mount` re-executes itself as; nobody types it.

use std::path::PathBuf;

use super::exit::Code;
use crate::daemon::{self, LeftOpen};
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
    /// It is mounted already, and its device was left open
    #[arg(long, conflicts_with = "brokered")]
    given: bool,
}

impl Args {
    /// Serves until the mount is gone.
    pub fn run(self) -> Result<Code> {
        let left = match self {
            Args { brokered: true, .. } => LeftOpen::Line,
            Args { given: true, .. } => LeftOpen::Device,
            _ => LeftOpen::Nothing,
        };
        daemon::serve_handed_over(left)?;
        Ok(Code::Ok)
    }
}
