//! The sample repository, and what else the demo unpacks. `sample/make-sample` made it.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

const ARCHIVE: &[u8] = include_bytes!("sample/repository.tar");

/// The password of the sample.
pub const PASSWORD: &[u8] = b"demo\n";

/// The files of the repository: path below it, and content.
pub fn files() -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let damaged = |e| Error::caused_by(Kind::Internal, "the embedded sample", e);
    let mut archive = tar::Archive::new(ARCHIVE);
    let mut files = Vec::new();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let mut content = Vec::new();
        std::io::copy(&mut entry, &mut content).map_err(damaged)?;
        files.push((entry.path().map_err(damaged)?.into_owned(), content));
    }
    Ok(files)
}

/// Writes a file that only its owner can read, with its directories; one that is there already is written anew.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let failed = |e| Error::io(path.display().to_string(), e);
    if let Some(above) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(above).map_err(failed)?;
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    std::io::Write::write_all(&mut file, content).map_err(failed)
}
