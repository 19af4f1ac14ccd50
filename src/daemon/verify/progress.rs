//! How far a run has come, in a file of the cache directory: a run that was interrupted, on whatever day, is gone on
//! with by the next one that reads the same share.
//!
//! The first line tells the day, each other one a directory whose files were read, or damage. A line that was cut off
//! by a crash is one that is not there: what it tells of is read again.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};

use super::{Damaged, Share};
use crate::cache::Folder;
use crate::error::{Error, Kind, Result};

/// So many lines may be lost with the process.
const UNWRITTEN: usize = 64;

/// The progress of one run.
pub(super) struct Progress {
    day: u64,
    is_resumed: bool,
    done: HashSet<u128>,
    damaged: Vec<Damaged>,
    file: Option<BufWriter<File>>,
    unwritten: usize,
}

impl Progress {
    /// That of `repository`, when `share` of it is read: of a run that was interrupted, else a new one of `today`.
    /// Errors: `Unavailable` while another process is at it.
    pub(super) fn open(cache: Option<&Folder>, repository: &str, share: Share, today: u64) -> Result<Self> {
        let mut progress = Progress {
            day: today,
            is_resumed: false,
            done: HashSet::new(),
            damaged: Vec::new(),
            file: None,
            unwritten: 0,
        };
        // An id is as its writer likes; only one in the usual form becomes a name.
        let is_name = !repository.is_empty() && repository.bytes().all(|byte| byte.is_ascii_hexdigit());
        let Some(cache) = cache.filter(|_| is_name) else { return Ok(progress) };
        let name = format!("{repository}-{}-of-{}", share.part, share.of);
        let mut file = match cache.open_for_writing(&name) {
            Err(error) if error.kind() == Kind::NotFound => cache.create(&name)?,
            opened => opened?,
        };
        if !cache.claim(&name, &file)? {
            let says = "another `backupfs verify` is reading this repository";
            return Err(Error::new(Kind::Unavailable, says));
        }
        let mut text = String::new();
        let read = file.read_to_string(&mut text);
        let whole = if read.is_ok() { progress.take(&text) } else { 0 };
        let said = |e| Error::io(format!("progress in {name}"), e);
        file.set_len(whole).and_then(|()| file.seek(std::io::SeekFrom::End(0))).map_err(said)?;
        progress.file = Some(BufWriter::new(file));
        if !progress.is_resumed {
            progress.write(&format!("day {today}"));
        }
        progress.flush();
        Ok(progress)
    }

    /// Takes in what an earlier run wrote; answers how many bytes of it are whole lines.
    fn take(&mut self, text: &str) -> u64 {
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text.get(..whole).unwrap_or_default().lines();
        let Some(day) = lines.next().and_then(|line| line.strip_prefix("day ")?.parse().ok()) else {
            return 0;
        };
        (self.day, self.is_resumed) = (day, true);
        for line in lines {
            match line.strip_prefix("damage ") {
                Some(json) => self.damaged.extend(serde_json::from_str::<Damaged>(json)),
                None => self.done.extend(u128::from_str_radix(line, 16)),
            }
        }
        whole as u64
    }

    /// The day whose part is read.
    pub(super) fn day(&self) -> u64 {
        self.day
    }

    /// Whether it goes on with an earlier run.
    pub(super) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// What earlier runs found.
    pub(super) fn damaged(&self) -> &[Damaged] {
        &self.damaged
    }

    /// Whether the files of this directory were read already.
    pub(super) fn is_done(&self, directory: u128) -> bool {
        self.done.contains(&directory)
    }

    /// The files of this directory were read.
    pub(super) fn finish(&mut self, directory: u128) {
        self.write(&format!("{directory:x}"));
    }

    /// Something is damaged.
    pub(super) fn damage(&mut self, damaged: &Damaged) {
        if let Ok(json) = serde_json::to_string(damaged) {
            self.write(&format!("damage {json}"));
        }
    }

    fn write(&mut self, line: &str) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = writeln!(file, "{line}") {
            tracing::warn!("an interruption will cost what was read: {error}");
            self.file = None;
        }
        self.unwritten += 1;
        if self.unwritten >= UNWRITTEN {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.unwritten = 0;
        if let Some(file) = &mut self.file
            && let Err(error) = file.flush()
        {
            tracing::warn!("an interruption will cost what was read: {error}");
        }
    }

    /// Everything was looked at: the next run begins anew.
    pub(super) fn complete(&mut self) {
        self.flush();
        if let Some(file) = self.file.take()
            && let Err(error) = file.get_ref().set_len(0)
        {
            tracing::warn!("the next run goes on with this one: {error}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Share = Share { part: 1, of: 30 };
    const ID: &str = "00ff0a19";

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("cache")).unwrap();
        (dir, folder)
    }

    fn damaged() -> Damaged {
        let (snapshot, path, error) = ("ab".into(), "/a\nb".into(), "gone".into());
        Damaged { snapshot, path, pack: None, blob: Some("cd".into()), error }
    }

    #[test]
    fn an_interrupted_run_is_gone_on_with_on_its_own_day() {
        let (_dir, cache) = folder();
        let mut first = Progress::open(Some(&cache), ID, SHARE, 100).unwrap();
        assert!(!first.is_resumed());
        first.finish(7);
        first.damage(&damaged());
        drop(first);
        let second = Progress::open(Some(&cache), ID, SHARE, 101).unwrap();
        assert_eq!((second.day(), second.is_resumed()), (100, true));
        assert!(second.is_done(7) && !second.is_done(8));
        assert_eq!(second.damaged(), [damaged()]);
        drop(second);
        let other = Progress::open(Some(&cache), ID, Share::ALL, 101).unwrap();
        assert_eq!((other.day(), other.is_resumed()), (101, false), "another share is another run");
    }

    #[test]
    fn a_complete_run_is_not_gone_on_with() {
        let (_dir, cache) = folder();
        let mut first = Progress::open(Some(&cache), ID, SHARE, 100).unwrap();
        first.finish(7);
        first.complete();
        drop(first);
        let second = Progress::open(Some(&cache), ID, SHARE, 100).unwrap();
        assert!(!second.is_resumed() && !second.is_done(7));
    }

    #[test]
    fn two_at_a_time_are_refused() {
        let (_dir, cache) = folder();
        let _first = Progress::open(Some(&cache), ID, SHARE, 100).unwrap();
        assert_eq!(Progress::open(Some(&cache), ID, SHARE, 100).err().unwrap().kind(), Kind::Unavailable);
    }

    #[test]
    fn what_a_crash_left_is_read_as_far_as_it_goes() {
        let (dir, cache) = folder();
        let path = dir.path().join(format!("cache/{ID}-1-of-30"));
        for (text, day, done) in [
            ("day 50\n7\n8", 50, true),
            ("day 50\nnonsense\n7\n", 50, true),
            ("nonsense\n7\n", 100, false),
            ("day 5", 100, false),
            ("", 100, false),
        ] {
            drop(Progress::open(Some(&cache), ID, SHARE, 100).unwrap());
            std::fs::write(&path, text).unwrap();
            let mut progress = Progress::open(Some(&cache), ID, SHARE, 100).unwrap();
            assert_eq!(
                (progress.day(), progress.is_done(7), progress.is_done(8)),
                (day, done, false),
                "{text:?}"
            );
            progress.finish(9);
            drop(progress);
            assert!(std::fs::read_to_string(&path).unwrap().ends_with("\n9\n"), "{text:?}");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn without_a_cache_every_run_is_a_new_one() {
        let mut progress = Progress::open(None, ID, SHARE, 100).unwrap();
        progress.finish(7);
        assert!(!progress.is_done(7) && !progress.is_resumed());
    }
}
