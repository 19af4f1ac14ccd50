//! `backupfs mount`.

use std::path::PathBuf;

use super::args::Repositories;
use super::exit::Code;
use crate::config::Level;
use crate::daemon;
use crate::error::{Error, Kind, Result};

/// Mounts the backups; returns when the tree is ready
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An existing directory; may be left out when the configuration names one
    mountpoint: Option<PathBuf>,
    /// Stay in the foreground, with the log on stderr; Ctrl-C unmounts
    #[arg(short, long)]
    foreground: bool,
    #[command(flatten)]
    repositories: Repositories,
}

impl Args {
    /// Checks everything, then hands over to the process that serves the mount.
    pub fn run(self, level: Level) -> Result<Code> {
        let mut config = self.repositories.config()?;
        config.mount.log.level = config.mount.log.level.max(level);
        let mountpoint = self
            .mountpoint
            .or_else(|| config.mount.mountpoint.clone())
            .ok_or_else(|| Error::new(Kind::Usage, "no mountpoint given (backupfs mount MOUNTPOINT …)"))?;
        let here = std::env::current_dir().map_err(|e| Error::io("the working directory", e))?;
        let typed = config.is_from_files.then(|| self.repositories.typed().anchored(&here));
        for note in daemon::mount(config, typed, &mountpoint, self.foreground)? {
            eprintln!("backupfs: {note}");
        }
        Ok(Code::Ok)
    }
}
