//! The arguments by which every verb that opens backups is told which.

use std::path::PathBuf;

use crate::config::{self, Config};
use crate::error::Result;

/// Which backups to open, and how.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Backups")]
pub struct Repositories {
    /// A repository, in restic's spelling (repeatable) [env: RESTIC_REPOSITORY]
    #[arg(short, long = "repo", value_name = "REPO", conflicts_with = "config")]
    pub repo: Vec<std::ffi::OsString>,
    /// The hot part of a rustic hot/cold pair whose cold part is -r
    #[arg(long, value_name = "REPO")]
    pub repo_hot: Option<std::ffi::OsString>,
    /// A configuration file [default: /etc/backupfs/config.toml, else ~/.config/backupfs/config.toml]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File that holds the password [env: RESTIC_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "password_command")]
    pub password_file: Option<PathBuf>,
    /// Command whose output is the password, run without a shell [env: RESTIC_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND")]
    pub password_command: Option<String>,
    /// Key to try first
    #[arg(long, value_name = "ID")]
    pub key_hint: Option<String>,
    /// Show only snapshots of hosts that match (repeatable; * and ?)
    #[arg(long, value_name = "PATTERN")]
    pub host: Vec<String>,
    /// Show only snapshots with these tags (repeatable; a,b needs both)
    #[arg(long, value_name = "TAGS")]
    pub tag: Vec<String>,
    /// Show only snapshots of paths that match (repeatable; * and ?)
    #[arg(long, value_name = "PATTERN")]
    pub path: Vec<String>,
    /// Options as in docs/options.md, separated by commas (repeatable)
    #[arg(short, value_name = "KEY[=VALUE],…")]
    pub options: Vec<String>,
}

impl Repositories {
    /// What these arguments, the configuration file and the environment mean together. Errors: `Usage`.
    pub fn config(&self) -> Result<Config> {
        config::resolve(&self.typed())
    }

    /// What was typed.
    pub fn typed(&self) -> config::Typed {
        config::Typed {
            spec: None,
            repos: self.repo.clone(),
            hot: self.repo_hot.clone(),
            file: self.config.clone(),
            password_file: self.password_file.clone(),
            password_command: self.password_command.clone(),
            key_hint: self.key_hint.clone(),
            hosts: self.host.clone(),
            tags: self.tag.clone(),
            paths: self.path.clone(),
            options: self.options.clone(),
        }
    }
}
