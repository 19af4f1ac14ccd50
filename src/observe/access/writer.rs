//! The file of an access log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Opener, line};
use crate::error::{Error, Kind, Result};
use crate::observe::metrics;

/// A file that could not be opened anew is tried again so long after.
const AGAIN: Duration = Duration::from_secs(5);

/// Opens the log at `path`, and makes it, for its owner alone, where it is not there. Errors: `Usage`, naming it: it is
/// no file, a link, another user's, or others may write to it.
pub fn open(path: &Path) -> Result<File> {
    let named = |e: io::Error| Error::io(format!("access-log {}", path.display()), e).with_kind(Kind::Usage);
    let refused = |why: &str| Error::new(Kind::Usage, format!("access-log {}: {why}", path.display()));
    // Neither a link nor a pipe that somebody put there is followed or waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).custom_flags(flags).open(path).map_err(named)?;
    let found = file.metadata().map_err(named)?;
    if !found.is_file() {
        return Err(refused("must be a file"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(refused("belongs to another user"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(refused("others may write to it (chmod 600)"));
    }
    Ok(file)
}

/// Writes lines, follows the file when it is rotated, and keeps count of what it could not write.
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    open: Opener,
    /// Opens that are not in the log, and not yet said to be so there.
    lost: Arc<AtomicU64>,
    /// The last line was not written, and that was told.
    is_failing: bool,
    /// What the file ends with is no whole line.
    is_torn: bool,
    /// When it could not be opened anew.
    refused: Option<Instant>,
}

impl Writer {
    pub(super) fn new(path: PathBuf, file: File, open: Opener, lost: Arc<AtomicU64>) -> Self {
        Writer { path, file, open, lost, is_failing: false, is_torn: false, refused: None }
    }

    /// Writes a line. True when the file is another than it was before.
    pub(super) fn write(&mut self, line: &str) -> bool {
        let is_new =
            self.is_elsewhere() && self.refused.is_none_or(|at| at.elapsed() > AGAIN) && self.reopen();
        if self.put(line) {
            metrics::LOG_OPENS.add(1);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            metrics::LOG_OPENS_LOST.add(1);
        }
        is_new
    }

    /// Whether the last line could not be written.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Says what is missing: nothing may come after it.
    pub(super) fn end(&mut self) {
        if self.lost.load(Ordering::Relaxed) > 0 {
            self.put("");
        }
    }

    /// Writes a line after what is to be said of those before it; false when that cannot be.
    fn put(&mut self, line: &str) -> bool {
        let lost = self.lost.load(Ordering::Relaxed);
        let mut text = String::with_capacity(line.len() + 1);
        if self.is_torn {
            text.push('\n');
        }
        if lost > 0 {
            text.push_str(&line::gap(Timestamp::now(), lost));
        }
        text.push_str(line);
        match self.append(text.as_bytes()) {
            Ok(()) => {
                self.lost.fetch_sub(lost, Ordering::Relaxed);
                self.is_torn = false;
                if std::mem::take(&mut self.is_failing) {
                    tracing::warn!(
                        "access-log {}: written again; it lacks {lost} opens",
                        self.path.display()
                    );
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!("access-log {}: not written: {error}", self.path.display());
                }
                false
            }
        }
    }

    /// All in one call, so that lines of several mounts do not mix.
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        // What is in a file without a name is lost.
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        let written = loop {
            match self.file.write(text) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if written == text.len() {
            return Ok(());
        }
        self.is_torn |= written > 0;
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Opens the file anew. False when that cannot be: then lines go where they went before.
    pub(super) fn reopen(&mut self) -> bool {
        match (self.open)() {
            Ok(file) => {
                (self.file, self.is_torn, self.refused) = (file, false, None);
                true
            }
            Err(error) => {
                if self.refused.replace(Instant::now()).is_none() {
                    tracing::error!("cannot be opened anew after it was rotated: {error}");
                }
                false
            }
        }
    }

    /// Whether the name is another file's, or nobody's. Who may not look there leaves it at what is open.
    fn is_elsewhere(&self) -> bool {
        let of = |found: &std::fs::Metadata| (found.dev(), found.ino());
        let here = self.file.metadata().ok().as_ref().map(of);
        match self.path.symlink_metadata() {
            Ok(there) => here != Some(of(&there)),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn writer(path: &Path) -> Writer {
        let again = path.to_owned();
        Writer::new(path.to_owned(), open(path).unwrap(), Box::new(move || open(&again)), Arc::default())
    }

    fn dir() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access");
        (dir, path)
    }

    #[test]
    fn a_file_is_made_for_its_owner_and_appended_to() {
        let (_dir, path) = dir();
        assert!(!writer(&path).write("one\n") && !writer(&path).write("two\n"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_others_could_have_put_there_is_refused() {
        let (dir, path) = dir();
        let refused = |path: &Path| {
            let error = open(path).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().starts_with(&format!("access-log {}: ", path.display())), "{error}");
            error.to_string()
        };
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        refused(&path);
        assert!(!dir.path().join("elsewhere").exists());
        refused(dir.path());
        refused("/dev/null".as_ref());
        refused("/nowhere/access".as_ref());
        let open_to_all = dir.path().join("open");
        fs::write(&open_to_all, "").unwrap();
        fs::set_permissions(&open_to_all, PermissionsExt::from_mode(0o620)).unwrap();
        assert!(refused(&open_to_all).ends_with("others may write to it (chmod 600)"));
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        refused(&pipe);
    }

    #[test]
    fn a_rotated_file_is_left_for_the_new_one() {
        let (dir, path) = dir();
        let mut writer = writer(&path);
        assert!(!writer.write("one\n"));
        fs::rename(&path, dir.path().join("access.1")).unwrap();
        assert!(writer.write("two\n") && !writer.write("three\n"));
        fs::remove_file(&path).unwrap();
        assert!(writer.write("four\n"));
        assert_eq!(fs::read_to_string(dir.path().join("access.1")).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
        // As `copytruncate` of logrotate does it.
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert!(!writer.write("five\n") && writer.reopen() && !writer.write("six\n"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "five\nsix\n");
    }

    #[test]
    fn where_no_new_file_can_be_had_the_old_one_is_written_to() {
        let (dir, path) = dir();
        let mut writer = writer(&path);
        writer.open = Box::new(|| Err(Error::new(Kind::Denied, "confined")));
        fs::rename(&path, dir.path().join("access.1")).unwrap();
        assert!(!writer.write("one\n") && !writer.write("two\n") && !writer.reopen());
        assert_eq!(fs::read_to_string(dir.path().join("access.1")).unwrap(), "one\ntwo\n");
        fs::remove_file(dir.path().join("access.1")).unwrap();
        writer.write("nobody could read it\n");
        assert_eq!(writer.lost.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_said_once_there_is_room() {
        let (_dir, path) = dir();
        let mut writer = writer(&path);
        writer.write("one\n");
        let full = File::options().append(true).open("/dev/full").unwrap();
        let file = std::mem::replace(&mut writer.file, full);
        // A device is not at the name: what opens the file anew says that it is.
        writer.open = Box::new(|| Ok(File::options().append(true).open("/dev/full").unwrap()));
        writer.write("two\n");
        writer.write("three\n");
        assert!(writer.is_failing && writer.lost.load(Ordering::Relaxed) == 2);
        writer.file = file;
        writer.is_torn = true;
        writer.write("four\n");
        assert!(!writer.is_failing && !writer.is_torn && writer.lost.load(Ordering::Relaxed) == 0);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[1], lines[3]), (4, "one", "", "four"));
        assert!(lines[2].ends_with("\"lost\":2}"), "{text}");
        writer.end();
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "nothing is missing");
        writer.lost.store(3, Ordering::Relaxed);
        writer.end();
        assert!(fs::read_to_string(&path).unwrap().ends_with("\"lost\":3}\n"), "{text}");
        assert_eq!(writer.lost.load(Ordering::Relaxed), 0);
    }
}
