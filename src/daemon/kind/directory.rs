//! Directories of snapshots.

use super::Opener;
use crate::config;
use crate::daemon::place;
use crate::error::{Context, Error, Kind, Result};

/// Looks whether what lies above the pattern's named parts is there.
pub(super) async fn looked_at(source: &config::Source) -> Result<()> {
    let Some(path) = source.local_place() else { return Ok(()) };
    let is_there = |path: &std::path::Path| match std::fs::read_dir(path) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::io(path.display().to_string(), e)),
    };
    place::look(&path, is_there).await.context(|| source.title.clone())
}

pub(super) fn opener(source: &config::Source) -> Result<Opener> {
    let says = format!("{}: directories are not read yet", source.title);
    Err(Error::new(Kind::Unsupported, says))
}

pub(super) fn parts(_: &config::Source) -> Vec<String> {
    Vec::new()
}
