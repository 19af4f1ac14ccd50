//! What lies at a local path.

use std::fs;
use std::path::Path;

use crate::error::{Error, Kind, Result};

/// Checks that a restic repository lies at `path`, as far as its files' names tell. Errors say what is there instead,
/// and where a repository is if one is near.
pub fn restic_at(path: &Path) -> Result<()> {
    let meta = fs::metadata(path).map_err(|e| Error::io("cannot be opened", e))?;
    if !meta.is_dir() {
        return Err(Error::new(Kind::NotDirectory, "is a file, not a repository"));
    }
    fs::read_dir(path).map_err(|e| Error::io("cannot be opened", e))?;
    if is_restic(path) {
        return Ok(());
    }
    if path.join("kopia.repository.f").exists() || path.join("kopia.repository").exists() {
        return Err(Error::new(Kind::Unsupported, "is a Kopia repository, which this version does not read"));
    }
    let hint = match near(path) {
        Some(near) => format!("; {} is one", near.display()),
        None => ", which holds a file \"config\" and a directory \"keys\"".to_owned(),
    };
    Err(Error::new(Kind::Invalid, format!("is no restic repository{hint}")))
}

/// The config and the keys, in today's layout or the one that early restic used on S3.
fn is_restic(path: &Path) -> bool {
    path.join("config").is_file() && (path.join("keys").is_dir() || path.join("key").is_dir())
}

/// A repository just above or just below `path`.
fn near(path: &Path) -> Option<std::path::PathBuf> {
    if let Some(above) = path.parent().filter(|above| is_restic(above)) {
        return Some(above.to_owned());
    }
    // A directory of very many entries is not worth a hint.
    let mut below = fs::read_dir(path).ok()?.take(100).filter_map(|entry| Some(entry.ok()?.path()));
    below.find(|below| is_restic(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(path: &Path) -> String {
        restic_at(path).unwrap_err().to_string()
    }

    #[test]
    fn repositories_are_known_by_config_and_keys() {
        let dir = tempfile::tempdir().unwrap();
        for keys in ["keys", "key"] {
            let repository = dir.path().join(keys).join("repository");
            fs::create_dir_all(repository.join(keys)).unwrap();
            assert!(restic_at(&repository).is_err());
            fs::write(repository.join("config"), "x").unwrap();
            restic_at(&repository).unwrap();
        }
    }

    #[test]
    fn what_is_no_repository_says_so_and_where_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(error(root).starts_with("is no restic repository, which holds"), "{}", error(root));
        assert!(
            error(&root.join("absent")).ends_with("cannot be opened: No such file or directory (os error 2)")
        );
        let repository = root.join("inner");
        fs::create_dir_all(repository.join("keys")).unwrap();
        fs::write(repository.join("config"), "x").unwrap();
        let says = format!("is no restic repository; {} is one", repository.display());
        assert_eq!(error(root), says);
        assert_eq!(error(&repository.join("keys")), says);
        assert_eq!(error(&repository.join("config")), "is a file, not a repository");
    }

    #[test]
    fn a_kopia_repository_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("kopia.repository.f"), "x").unwrap();
        assert_eq!(restic_at(dir.path()).unwrap_err().kind(), Kind::Unsupported);
    }
}
