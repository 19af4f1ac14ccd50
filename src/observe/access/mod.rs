//! The access log: which user opened which file of which snapshot, a line of JSON for the first time.
//!
//! Whoever opens a file never waits for it and never fails because of it: a thread of its own writes, from a queue of
//! bounded length. What could not be written is counted, and told in the log itself once it can be written again.

mod line;
mod seen;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::metrics;
use crate::error::{Error, Kind, Result};
use seen::Seen;
use writer::Writer;
pub use writer::open;

/// So many opens wait to be written at most.
const QUEUE: usize = 1024;

/// Whoever unmounts does not wait longer than this for what is still to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// While the queue is full it is tried again so long after.
const AGAIN: Duration = Duration::from_millis(5);

/// That the log is too slow is told no more often than this.
const QUIET: Duration = Duration::from_secs(60);

/// Opens the file anew, after it was rotated. May block.
pub type Opener = Box<dyn Fn() -> Result<File> + Send>;

/// A file that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Who opened it.
    pub uid: u32,
    /// The snapshot that it lies in, where that could be found out.
    pub snapshot: Option<Snapshot>,
    /// Where it lies below the mountpoint, with a slash at the beginning; from somewhere on, if `is_whole` is false.
    pub path: Vec<u8>,
    /// All of the path is known.
    pub is_whole: bool,
    /// How many names it has: `path` is one of them.
    pub links: u32,
}

/// What a snapshot is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The name of its source.
    pub source: String,
    /// Its own name, a date.
    pub name: String,
    /// Its id in the source.
    pub id: String,
}

/// An access log.
pub struct AccessLog {
    mountpoint: PathBuf,
    queue: SyncSender<Message>,
    seen: Arc<Mutex<Seen>>,
    lost: Arc<AtomicU64>,
    /// When it was told last that the log is too slow.
    told: Mutex<Option<Instant>>,
}

enum Message {
    /// With what stands for the file.
    Opened(Timestamp, u128, Opened),
    Reopen,
    Flush(Sender<()>),
}

impl AccessLog {
    /// Starts to write to `file`, which lies at `path` and was opened by `open`, what is opened below `mountpoint`.
    pub fn start(path: PathBuf, file: File, open: Opener, mountpoint: PathBuf) -> Result<Arc<Self>> {
        let (seen, lost) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicU64>::default());
        let writer = Writer::new(path, file, open, lost.clone());
        let (queue, told) = sync_channel(QUEUE);
        let (mountpoint_of_lines, of_writer) = (mountpoint.clone(), seen.clone());
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(writer, &told, &of_writer, &mountpoint_of_lines))
            .map_err(|e| Error::caused_by(Kind::System, "cannot start a thread", e))?;
        Ok(Arc::new(AccessLog { mountpoint, queue, seen, lost, told: Mutex::default() }))
    }

    /// Whether it was told that `uid` opened what `identity` stands for.
    pub fn knows(&self, uid: u32, identity: u128) -> bool {
        lock(&self.seen).has((uid, identity))
    }

    /// Tells that a file was opened, which `identity` stands for; a second time that does nothing, if it was told.
    pub fn tell(&self, identity: u128, opened: Opened) {
        let open = (opened.uid, identity);
        // Held while it is sent, which does not wait: the writer may not forget it before it is known.
        let mut seen = lock(&self.seen);
        if seen.has(open) {
            return;
        }
        if self.queue.try_send(Message::Opened(Timestamp::now(), identity, opened)).is_ok() {
            seen.insert(open);
        } else {
            drop(seen);
            metrics::LOG_OPENS_LOST.add(1);
            self.lost.fetch_add(1, Ordering::Relaxed);
            if self.is_news(Instant::now()) {
                tracing::error!(mountpoint = %self.mountpoint.display(), "the access log is too slow; it lacks opens");
            }
        }
    }

    /// Whether it is to be told again that the log is too slow.
    fn is_news(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.is_none_or(|at| now.saturating_duration_since(at) >= QUIET);
        if is_news {
            *told = Some(now);
        }
        is_news
    }

    /// Opens the file anew, because it was rotated, and begins to tell all opens again.
    pub fn reopen(&self) {
        // A writer that is so far behind sees by itself that the file is another.
        let _ = self.queue.try_send(Message::Reopen);
    }

    /// Waits until all is written that was told, and how many opens are missing, but not for ever.
    pub fn flush(&self) {
        let until = Instant::now() + PATIENCE;
        let (tell, told) = channel();
        let mut message = Message::Flush(tell);
        while let Err(TrySendError::Full(again)) = self.queue.try_send(message) {
            if Instant::now() >= until {
                return;
            }
            message = again;
            std::thread::sleep(AGAIN);
        }
        let _ = told.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Writes what comes until nobody is there to tell anything.
fn write_all(mut writer: Writer, told: &Receiver<Message>, seen: &Mutex<Seen>, mountpoint: &Path) {
    while let Ok(message) = told.recv() {
        let is_new = match message {
            Message::Opened(time, identity, opened) => {
                let is_new = writer.write(&line::opened(time, mountpoint, &opened));
                if writer.is_failing() {
                    lock(seen).remove((opened.uid, identity));
                }
                is_new
            }
            Message::Reopen => {
                // Whatever is new from here on comes after this message.
                lock(seen).clear();
                writer.reopen();
                false
            }
            Message::Flush(tell) => {
                writer.end();
                // Who stopped waiting had enough.
                let _ = tell.send(());
                false
            }
        };
        if is_new {
            lock(seen).clear();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    // Nothing that can panic runs under the lock.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(uid: u32, path: &str) -> Opened {
        Opened { uid, snapshot: None, path: path.into(), is_whole: true, links: 1 }
    }

    fn log(path: &Path) -> Arc<AccessLog> {
        let again = path.to_owned();
        AccessLog::start(path.into(), open(path).unwrap(), Box::new(move || open(&again)), "/mnt".into())
            .unwrap()
    }

    fn told(path: &Path) -> Vec<(u64, String)> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| (line["uid"].as_u64().unwrap(), line["path"].as_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn each_user_and_file_is_told_once_until_the_log_is_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access");
        let log = log(&path);
        for (uid, identity, name) in [(0, 1, "/a"), (5, 1, "/a"), (0, 2, "/b"), (0, 1, "/a"), (5, 1, "/a")] {
            log.tell(identity, opened(uid, name));
        }
        log.flush();
        let all = [(0, "/mnt/a".to_owned()), (5, "/mnt/a".into()), (0, "/mnt/b".into())];
        assert_eq!(told(&path), all);
        std::fs::rename(&path, dir.path().join("access.1")).unwrap();
        log.reopen();
        log.flush();
        assert!(!log.knows(0, 1));
        log.tell(1, opened(0, "/a"));
        log.flush();
        assert_eq!(told(&path), all[..1]);
        assert_eq!(told(&dir.path().join("access.1")), all);
    }

    #[test]
    fn whoever_opens_does_not_wait_for_a_file_that_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access");
        let (enter, entered) = channel();
        let (leave, left) = channel::<()>();
        // The writer waits for a new file until it is let go on.
        let again = path.clone();
        let open = move || {
            enter.send(()).unwrap();
            let _ = left.recv();
            open(&again)
        };
        let stuck =
            AccessLog::start(path.clone(), super::open(&path).unwrap(), Box::new(open), "/mnt".into());
        let stuck = stuck.unwrap();
        stuck.reopen();
        entered.recv().unwrap();
        let more = 10;
        for file in 0..QUEUE + more {
            stuck.tell(file as u128, opened(7, "/a"));
        }
        assert!(
            stuck.knows(7, QUEUE as u128 - 1) && !stuck.knows(7, QUEUE as u128),
            "what is lost is not known"
        );
        drop(leave);
        let text = || std::fs::read_to_string(&path).unwrap();
        while text().lines().count() <= QUEUE {
            stuck.flush();
        }
        assert!(text().contains(&format!("\"lost\":{more}}}")), "{}", &text()[..200]);
        stuck.tell(QUEUE as u128, opened(7, "/a"));
        while stuck.lost.load(Ordering::Relaxed) > 0 || text().lines().count() < QUEUE + 2 {
            stuck.flush();
        }
    }

    #[test]
    fn what_could_not_be_written_is_told_when_it_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access");
        let confined = || Err(Error::new(Kind::Denied, "confined"));
        let file = super::open(&path).unwrap();
        let log = AccessLog::start(path.clone(), file, Box::new(confined), "/mnt".into()).unwrap();
        log.tell(1, opened(0, "/a"));
        while told(&path).is_empty() {
            log.flush();
        }
        // What is written now is nobody's.
        std::fs::remove_file(&path).unwrap();
        log.tell(2, opened(0, "/b"));
        while log.knows(0, 2) {
            log.flush();
        }
        assert!(log.knows(0, 1));
    }

    #[test]
    fn that_it_is_too_slow_is_told_once_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir.path().join("access"));
        let now = Instant::now();
        let told = [0, 1, 59, 60, 61, 119, 121].map(|after| log.is_news(now + Duration::from_secs(after)));
        assert_eq!(told, [true, false, false, true, false, false, true]);
    }
}
