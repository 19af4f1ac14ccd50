//! `backupfs steward`: what a broker executes itself as for attributes of the privileged; nobody types it.

use super::exit::Code;
use crate::daemon;
use crate::error::Result;

/// Reads attributes that take rights (started by `backupfs broker`)
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    /// Answers until nobody asks any more.
    pub fn run(self) -> Result<Code> {
        daemon::steward_handed_over().map(|()| Code::Ok)
    }
}
