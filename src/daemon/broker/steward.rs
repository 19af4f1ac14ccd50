//! The steward: a process beside the broker for what takes rights and may have to wait for a disk. A broker has to be
//! there at once, to unmount.
//!
//! It reads attributes of `trusted.` ([`Rights`]) of what lies in a directory that its worker has open and hands it, and
//! knows no path. It keeps two capabilities, and Landlock keeps it from opening anything. It is started
//! when it is asked for first, and ends with its broker, or when nobody has the other end of its line.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::Signal;
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use super::client::{Broker, PATIENCE};
use super::line;
use crate::daemon::confine::{self, Limits};
use crate::daemon::process;
use crate::error::{Error, Kind, Result};
use crate::source::host::{Own, Rights};

/// What a steward is asked, about the descriptor that comes with it.
#[derive(Debug, Serialize, Deserialize)]
enum Question {
    Entries,
    Names(Vec<u8>),
    Value(Vec<u8>, Vec<u8>),
}

/// What it answers: any number of parts, and an end.
#[derive(Debug, Serialize, Deserialize)]
enum Part {
    /// The next bytes. Names are ended by NUL.
    More(Vec<u8>),
    /// That was all. False: there is none.
    End(bool),
    /// The kernel refused.
    Errno(i32),
}

/// So many bytes go at a time: as numbers in a message they are four times as long.
const PART: usize = 8 << 10;

/// Starts one for a worker; answers with the worker's end of its line.
pub(super) fn start() -> Result<(Child, OwnedFd)> {
    let failed = |e| Error::io("cannot start the process that reads attributes", e).with_kind(Kind::System);
    let (ours, theirs) = line::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("backupfs").arg("steward").kill_on_drop(true);
    // Whoever mounts waits for all who have its stdio.
    let null = || process::null().map(std::process::Stdio::from);
    command.stdin(null()?).stdout(null()?).stderr(null()?);
    let _line = process::leave_open(command.as_std_mut(), &theirs)?;
    Ok((command.spawn().map_err(failed)?, ours))
}

/// Answers what comes over the line that was left open until its other end is closed.
pub fn steward_handed_over() -> Result<()> {
    process::close_inherited(process::DESCRIPTOR + 1);
    process::take_name();
    process::keep_secrets()?;
    process::end_with_parent(Some(Signal::KILL))?;
    let line = process::take_left_open()?;
    let kept = CapabilitySet::SYS_ADMIN | CapabilitySet::DAC_READ_SEARCH;
    confine::confine_to(&Limits::default(), kept)?;
    answer_all(&line)
}

fn answer_all(line: &OwnedFd) -> Result<()> {
    while let Some((question, descriptors)) = line::receive::<Question>(line)? {
        let answer = match descriptors.first() {
            Some(came) => line::opened(came).and_then(|open| answer(&question, open)),
            None => Err(Errno::BADF),
        };
        let (bytes, last) = match answer {
            Ok(Some(bytes)) => (bytes, Part::End(true)),
            Ok(None) => (Vec::new(), Part::End(false)),
            Err(errno) => (Vec::new(), Part::Errno(errno.raw_os_error())),
        };
        for part in bytes.chunks(PART) {
            line::send(line, &Part::More(part.to_vec()), &[])?;
        }
        line::send(line, &last, &[])?;
    }
    Ok(())
}

fn answer(question: &Question, open: BorrowedFd<'_>) -> rustix::io::Result<Option<Vec<u8>>> {
    let joined = |names: Vec<Vec<u8>>| names.into_iter().flat_map(|name| [name, vec![0]]).flatten().collect();
    match question {
        Question::Entries => Own.entries(open).map(joined).map(Some),
        Question::Names(entry) => Own.names(open, entry).map(joined).map(Some),
        Question::Value(entry, name) => Own.value(open, entry, name),
    }
}

/// A steward, as a worker sees it: started anew when it is gone.
pub struct Steward {
    start: Box<dyn Fn() -> Result<OwnedFd> + Send + Sync>,
    line: Mutex<Option<OwnedFd>>,
}

impl Steward {
    /// The one that `broker` starts.
    pub fn of(broker: Arc<Broker>) -> Arc<Self> {
        Self::started_by(Box::new(move || broker.steward()))
    }

    fn started_by(start: Box<dyn Fn() -> Result<OwnedFd> + Send + Sync>) -> Arc<Self> {
        Arc::new(Steward { start, line: Mutex::default() })
    }

    fn ask(&self, question: &Question, open: BorrowedFd<'_>) -> rustix::io::Result<Option<Vec<u8>>> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let had = line.is_some();
        let asked = self.ask_on(&mut line, question, open);
        let asked = match asked {
            // One that was killed is started again; one that waits for a disk is not asked twice.
            Err(error) if had && error.kind() == Kind::Unavailable => {
                *line = None;
                self.ask_on(&mut line, question, open)
            }
            asked => asked,
        };
        asked.unwrap_or_else(|error| {
            tracing::warn!(%error, "nobody reads what takes rights");
            *line = None;
            Err(Errno::IO)
        })
    }

    fn ask_on(
        &self,
        line: &mut Option<OwnedFd>,
        question: &Question,
        open: BorrowedFd<'_>,
    ) -> Result<rustix::io::Result<Option<Vec<u8>>>> {
        let line = match line {
            Some(line) => line,
            None => {
                let new = (self.start)()?;
                sockopt::set_socket_timeout(&new, sockopt::Timeout::Recv, Some(PATIENCE))
                    .map_err(|e| Error::caused_by(Kind::System, "the line to the steward", e))?;
                line.insert(new)
            }
        };
        line::send(&*line, question, &[open])?;
        let mut bytes = Vec::new();
        loop {
            match line::receive::<Part>(&*line)? {
                Some((Part::More(more), _)) => bytes.extend(more),
                Some((Part::End(true), _)) => return Ok(Ok(Some(bytes))),
                Some((Part::End(false), _)) => return Ok(Ok(None)),
                Some((Part::Errno(errno), _)) => return Ok(Err(Errno::from_raw_os_error(errno))),
                None => return Err(Error::new(Kind::Unavailable, "the steward is gone")),
            }
        }
    }
}

impl Rights for Steward {
    fn entries(&self, dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
        self.ask(&Question::Entries, dir).map(split)
    }

    fn names(&self, dir: BorrowedFd<'_>, entry: &[u8]) -> rustix::io::Result<Vec<Vec<u8>>> {
        self.ask(&Question::Names(entry.to_vec()), dir).map(split)
    }

    fn value(&self, dir: BorrowedFd<'_>, entry: &[u8], name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
        self.ask(&Question::Value(entry.to_vec(), name.to_vec()), dir)
    }
}

fn split(names: Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let names = names.unwrap_or_default();
    names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::fs::{Mode, OFlags, XattrFlags, lsetxattr};

    use super::*;

    /// One that runs in a thread, with the rights of this process, and how often it was started.
    fn steward(dies_after: Option<usize>) -> (Arc<Steward>, Arc<AtomicUsize>) {
        let started = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&started);
        let start = move || {
            let (ours, theirs) = line::pair()?;
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || match dies_after {
                Some(questions) => {
                    for _ in 0..questions {
                        let Ok(Some((question, open))) = line::receive::<Question>(&theirs) else { return };
                        assert!(matches!(question, Question::Value(..)) && open.len() == 1);
                        line::send(&theirs, &Part::End(false), &[]).unwrap();
                    }
                }
                None => answer_all(&theirs).unwrap(),
            });
            Ok(ours)
        };
        (Steward::started_by(Box::new(start)), started)
    }

    #[test]
    fn what_it_tells_is_what_the_kernel_tells() {
        let dir = tempfile::tempdir().unwrap();
        let (names, long) = ((0..2000).map(|n| format!("file-{n}-with-a-longer-name")), vec![9; 3000]);
        let mut all: Vec<_> = names.map(String::into_bytes).collect();
        for name in &all {
            fs::write(dir.path().join(std::str::from_utf8(name).unwrap()), "").unwrap();
        }
        fs::write(dir.path().join("plain"), "").unwrap();
        let open = File::open(dir.path()).unwrap();
        let (steward, started) = steward(None);
        assert_eq!(steward.names(open.as_fd(), b"../x"), Err(Errno::INVAL));
        assert_eq!(steward.value(open.as_fd(), b"gone", b"trusted.x"), Err(Errno::NOENT));
        assert_eq!(steward.value(open.as_fd(), b"plain", b"trusted.x"), Ok(None));
        for name in &all {
            let path = dir.path().join(std::str::from_utf8(name).unwrap());
            if lsetxattr(path, "trusted.long", &long, XattrFlags::empty()).is_err() {
                eprintln!("skipped: no attributes of trusted. can be made here");
                return;
            }
        }
        let mut found = steward.entries(open.as_fd()).unwrap();
        found.sort();
        all.sort();
        assert_eq!(found, all, "in several parts");
        assert_eq!(steward.names(open.as_fd(), &all[0]).unwrap(), [b"trusted.long"]);
        assert_eq!(steward.value(open.as_fd(), &all[0], b"trusted.long").unwrap().unwrap(), long);
        assert_eq!(started.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_was_not_opened_is_not_told_about() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("plain"), "").unwrap();
        let (steward, _) = steward(None);
        for (flags, told) in [(OFlags::RDONLY, Ok(None)), (OFlags::PATH, Err(Errno::BADF))] {
            let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let open = rustix::fs::open(dir.path(), flags, Mode::empty()).unwrap();
            assert_eq!(steward.value(open.as_fd(), b"plain", b"trusted.x"), told, "{flags:?}");
            assert_eq!(steward.names(open.as_fd(), b"plain").err(), told.err(), "{flags:?}");
        }
    }

    #[test]
    fn one_that_died_is_started_again_and_without_one_it_is_an_error() {
        let open = tempfile::tempfile().unwrap();
        let (mortal, started) = steward(Some(1));
        for _ in 0..3 {
            assert_eq!(mortal.value(open.as_fd(), b"x", b"trusted.x"), Ok(None));
        }
        assert_eq!(started.load(Ordering::Relaxed), 3);
        let (dead, _) = steward(Some(0));
        assert_eq!(dead.value(open.as_fd(), b"x", b"trusted.x"), Err(Errno::IO));
        let none = Steward::started_by(Box::new(|| Err(Error::new(Kind::Unavailable, "no broker"))));
        assert_eq!(none.entries(open.as_fd()), Err(Errno::IO));
    }
}
