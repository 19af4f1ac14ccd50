//! Which configuration files there are: the one that was named, else the machine's, else the user's, with what lies in
//! `conf.d` beside it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Typed;
use super::file;
use super::given::Entry;
use super::resolve::Surroundings;
use crate::error::{Error, Kind, Result};

/// Where the configuration of the machine is.
pub const SYSTEM_FILE: &str = "/etc/backupfs/config.toml";

/// A configuration file that was read.
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub entries: Vec<Entry>,
}

/// Every file that counts, in the order in which they count: later ones have the last word. None where there are
/// none. Errors: `Usage`, with the file and line.
pub fn read(typed: &Typed, around: &Surroundings) -> Result<Vec<ConfigFile>> {
    for candidate in candidates(typed, around) {
        // The machine's file may be for root alone; an ordinary user has one of his own.
        let may_lack = |e: &std::io::Error| match e.kind() {
            ErrorKind::NotFound => typed.file.is_none(),
            ErrorKind::PermissionDenied => candidate == around.system_file,
            _ => false,
        };
        let mut files = Vec::new();
        files.extend(read_file(&candidate, may_lack)?);
        for path in beside(&candidate, may_lack)? {
            files.extend(read_file(&path, may_lack)?);
        }
        if !files.is_empty() {
            return Ok(files);
        }
    }
    Ok(Vec::new())
}

/// Where the first file may be: the one that was named, else the machine's and the user's, in this order.
pub fn candidates(typed: &Typed, around: &Surroundings) -> Vec<PathBuf> {
    let home = around.environment.absolute("HOME");
    let user_file = home.map(|home| home.join(".config/backupfs/config.toml"));
    match &typed.file {
        Some(named) => vec![around.directory.join(named)],
        None => std::iter::once(around.system_file.clone()).chain(user_file).collect(),
    }
}

/// The files of `conf.d` beside `config.toml`, in the order of their names. A file of another name stands alone.
fn beside(file: &Path, may_lack: impl Fn(&std::io::Error) -> bool) -> Result<Vec<PathBuf>> {
    let Some(directory) = file.parent().filter(|_| file.ends_with("config.toml")) else {
        return Ok(Vec::new());
    };
    let directory = directory.join("conf.d");
    let failed =
        |e| Error::io(format!("configuration files {}", directory.display()), e).with_kind(Kind::Usage);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound || may_lack(&e) => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn read_file(path: &Path, may_lack: impl Fn(&std::io::Error) -> bool) -> Result<Option<ConfigFile>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(ConfigFile { path: path.to_owned(), entries: file::entries(path, &text)? })),
        Err(e) if may_lack(&e) => Ok(None),
        Err(e) => Err(Error::io(format!("configuration file {}", path.display()), e).with_kind(Kind::Usage)),
    }
}
