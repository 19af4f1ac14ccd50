//! The directory of a demo: made private, recognised again, and removed without touching what others put there.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::sample;
use crate::daemon;
use crate::error::{Error, Kind, Result};

/// The directory of a demo.
pub struct Place {
    /// Absolute, without links.
    pub dir: PathBuf,
}

/// Tells whoever finds the directory what it is, and the demo that the directory is its own.
const README: &str = "README";
const SAYS: &str = "A sample repository, unpacked by `backupfs demo` and mounted at backups/. The password is \"demo\".\n\
                    `backupfs demo --end` with this directory's path unmounts it and removes all of this.\n";

impl Place {
    /// At a directory that was typed; it need not exist.
    pub fn at(dir: &Path) -> Result<Place> {
        let failed = |e| Error::io(dir.display().to_string(), e);
        let dir = match fs::canonicalize(dir) {
            Ok(dir) => dir,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let name = dir.file_name().ok_or_else(|| failed(e))?;
                let above = dir.parent().filter(|above| *above != Path::new("")).unwrap_or(Path::new("."));
                fs::canonicalize(above).map_err(failed)?.join(name)
            }
            Err(e) => return Err(failed(e)),
        };
        Ok(Place { dir })
    }

    /// At `name` in the user's cache directory, which is made if it is not there.
    pub fn usual(name: &str) -> Result<Place> {
        let set = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = if rustix::process::geteuid().is_root() {
            Some(PathBuf::from("/var/cache"))
        } else {
            set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))
        };
        let none = || {
            Error::new(Kind::Usage, "neither XDG_CACHE_HOME nor HOME is set: say where (backupfs demo DIR)")
        };
        let cache = cache.ok_or_else(none)?.join("backupfs");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&cache).map_err(|e| {
            Error::io(format!("{} (backupfs demo DIR takes another place)", cache.display()), e)
        })?;
        Place::at(&cache.join(name))
    }

    /// The repository.
    pub fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }

    /// The file with its password.
    pub fn password(&self) -> PathBuf {
        self.dir.join("password")
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> PathBuf {
        self.dir.join("backups")
    }

    /// Where restored files go.
    pub fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// Whether a demo was unpacked here.
    pub fn exists(&self) -> bool {
        let first_words = SAYS.split(',').next().unwrap_or(SAYS);
        fs::read(self.dir.join(README)).is_ok_and(|says| says.starts_with(first_words.as_bytes()))
    }

    /// Whether a mount of ours lies here, alive or not.
    pub fn is_mounted(&self) -> Result<bool> {
        let mountpoint = self.mountpoint();
        Ok(daemon::mounts()?.iter().any(|mount| mount.mountpoint == mountpoint))
    }

    /// Whether the tree of a demo can be looked at here.
    pub fn is_alive(&self) -> Result<bool> {
        Ok(self.is_mounted()? && fs::read_dir(self.mountpoint()).is_ok())
    }

    /// Makes the directory, readable by its owner alone, and unpacks everything that is not mounted. Errors: the
    /// directory is somebody else's or holds something else.
    pub fn prepare(&self) -> Result<()> {
        self.take()?;
        // Another release may have left another repository: two mixed would be none.
        remove_tree(&self.repository())?;
        sample::write(&self.dir.join(README), SAYS.as_bytes())?;
        sample::write(&self.password(), sample::PASSWORD)?;
        for (path, content) in sample::files()? {
            sample::write(&self.repository().join(path), &content)?;
        }
        make(&self.home())?;
        make(&self.mountpoint())
    }

    /// Makes sure that the directory exists, is ours alone, and holds nothing but a demo.
    fn take(&self) -> Result<()> {
        make(&self.dir)?;
        let refused = |why: &str| Err(Error::new(Kind::Usage, format!("{}: {why}", self.dir.display())));
        let failed = |e| Error::io(self.dir.display().to_string(), e);
        let meta = fs::metadata(&self.dir).map_err(failed)?;
        if !meta.is_dir() {
            return refused("not a directory");
        }
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return refused("belongs to somebody else; the demo needs a directory of its own");
        }
        if !self.exists() && fs::read_dir(&self.dir).map_err(failed)?.next().is_some() {
            return refused("holds other files; the demo needs a new or an empty directory");
        }
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700)).map_err(failed)
    }

    /// Removes what the demo made. The answer names what stays because somebody else put it there.
    pub fn remove(&self) -> Result<Vec<PathBuf>> {
        tolerant(fs::remove_dir(self.mountpoint())).map_err(|e| stays(&self.mountpoint(), e))?;
        remove_tree(&self.repository())?;
        let files =
            [self.home().join("thesis.tex"), self.home().join("thesis.restored.tex"), self.password()];
        for file in files {
            tolerant(fs::remove_file(&file)).map_err(|e| stays(&file, e))?;
        }
        if let Err(e) = tolerant(fs::remove_dir(self.home()))
            && e.kind() != ErrorKind::DirectoryNotEmpty
        {
            return Err(stays(&self.home(), e));
        }
        let left = fs::read_dir(&self.dir).map_err(|e| stays(&self.dir, e))?;
        let left = left.flatten().map(|entry| entry.path()).filter(|path| !path.ends_with(README));
        let kept: Vec<PathBuf> = left.collect();
        // As long as something is kept, the directory remains known as a demo's.
        if kept.is_empty() {
            fs::remove_file(self.dir.join(README)).map_err(|e| stays(&self.dir, e))?;
            fs::remove_dir(&self.dir).map_err(|e| stays(&self.dir, e))?;
        }
        Ok(kept)
    }
}

fn remove_tree(dir: &Path) -> Result<()> {
    tolerant(fs::remove_dir_all(dir)).map_err(|e| stays(dir, e))
}

/// What is not there need not be removed.
fn tolerant(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

fn stays(path: &Path, error: io::Error) -> Error {
    Error::io(format!("{}: cannot be removed", path.display()), error)
}

/// Makes a directory that only its owner can enter, if it is not there.
fn make(dir: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(Error::io(dir.display().to_string(), e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_private_and_all_of_it_goes() {
        let above = tempfile::tempdir().unwrap();
        let place = Place::at(&above.path().join("demo")).unwrap();
        assert!(!place.exists());
        for _ in 0..2 {
            place.prepare().unwrap();
            assert!(!place.repository().join("keys/old").exists());
            assert!(place.exists());
            assert_eq!(fs::metadata(&place.dir).unwrap().mode() & 0o777, 0o700);
            assert_eq!(fs::metadata(place.password()).unwrap().mode() & 0o077, 0);
            assert!(place.repository().join("config").is_file());
            fs::write(place.repository().join("keys/old"), "of another release").unwrap();
        }
        assert!(place.remove().unwrap().is_empty());
        assert!(!place.dir.exists());
    }

    #[test]
    fn what_others_put_there_stays() {
        let above = tempfile::tempdir().unwrap();
        let place = Place::at(&above.path().join("demo")).unwrap();
        place.prepare().unwrap();
        fs::write(place.home().join("mine"), "x").unwrap();
        fs::write(place.home().join("thesis.restored.tex"), "x").unwrap();
        assert_eq!(place.remove().unwrap(), [place.home()]);
        let left: Vec<_> = fs::read_dir(place.home()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["mine"]);
        assert!(!place.repository().exists());
        place.prepare().unwrap();
        fs::remove_file(place.home().join("mine")).unwrap();
        assert!(place.remove().unwrap().is_empty());
        assert!(!place.dir.exists());
    }

    #[test]
    fn a_directory_with_other_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("important"), "x").unwrap();
        let error = Place::at(dir.path()).unwrap().prepare().unwrap_err();
        assert!(error.to_string().contains("holds other files"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
