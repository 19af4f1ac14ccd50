//! `backupfs mount`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::args::Repositories;
use super::exit::Code;
use crate::config::{Config, Level, Typed};
use crate::daemon;
use crate::error::{Error, Kind, Result};
use crate::observe::logging::{self, LogTarget};

/// Mounts the backups; returns when the tree is ready
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An existing directory; may be left out when the configuration names one
    mountpoint: Option<PathBuf>,
    /// Stay in the foreground, with the log on stderr; Ctrl-C unmounts
    #[arg(short, long)]
    foreground: bool,
    /// What to mount, as mount(8) calls it: all, a profile, a source, or a repository
    #[arg(long, value_name = "SPEC", conflicts_with = "repo")]
    spec: Option<OsString>,
    /// Check everything on this machine, and mount nothing
    #[arg(long)]
    fake: bool,
    #[command(flatten)]
    repositories: Repositories,
}

impl Args {
    /// Checks everything, then hands over to the process that serves the mount. Whoever calls mount(8) often sees
    /// nothing of stderr, so what fails there goes to the system's log too.
    pub fn run(self, level: Level) -> Result<Code> {
        let is_by_mount = self.spec.is_some();
        let ran = self.mount(level);
        if let Err(error) = &ran
            && is_by_mount
        {
            logging::start(LogTarget::System, level.into())?;
            tracing::error!("{}", super::one_line(error));
        }
        ran
    }

    fn mount(self, level: Level) -> Result<Code> {
        if self.spec.is_some() || self.fake {
            daemon::ask_nothing()?;
        }
        let here = std::env::current_dir().map_err(|e| Error::io("the working directory", e))?;
        let typed = Typed { spec: self.spec, ..self.repositories.typed() };
        let mut config = crate::config::resolve(&typed)?;
        config.mount.log.level = config.mount.log.level.max(level);
        let mountpoint = self
            .mountpoint
            .or_else(|| config.mount.mountpoint.clone())
            .ok_or_else(|| Error::new(Kind::Usage, "no mountpoint given (backupfs mount MOUNTPOINT …)"))?;
        let notes = if self.fake {
            let shown = shown(&config);
            let mut notes = daemon::rehearse(config, &mountpoint)?;
            if level > Level::Warn {
                notes.push(format!("{shown} would be mounted at {}", mountpoint.display()));
            }
            notes
        } else {
            let typed = config.is_from_files.then(|| typed.anchored(&here));
            daemon::mount(config, typed, &mountpoint, self.foreground)?
        };
        for note in notes {
            eprintln!("backupfs: {note}");
        }
        Ok(Code::Ok)
    }
}

/// What a configuration shows, in a few words.
fn shown(config: &Config) -> String {
    let titles = config.sources.iter().map(|s| &s.title).chain(config.groups.iter().map(|g| &g.title));
    titles.cloned().collect::<Vec<_>>().join(", ")
}
