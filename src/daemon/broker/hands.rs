//! The hands of a worker for ZFS: it asks the wardens that its broker starts.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::client::Broker;
use super::line;
use super::warden::{Said, Taken};
use crate::config::{self, Clones, Config, SourceKind};
use crate::error::{Error, Kind, Result};
use crate::source::zfs::{Ask, Done, Hands};

/// A question is given up after so long: longer than two programs of the warden's may take, one after the other.
const PATIENCE: Duration = Duration::from_secs(60);

/// No listing is longer; the same as for the program that prints it.
const LONGEST: u64 = 256 << 20;

/// A warden that ended is gone from its broker's eyes a little later.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// The wardens of a mount: one for each source of ZFS that it was made for.
pub struct Wardens {
    broker: Arc<Broker>,
    /// Which of the sources that the broker knows, and what it was told of it.
    known: Vec<(usize, config::Source)>,
    asked: Mutex<HashMap<usize, Arc<Warden>>>,
}

impl Wardens {
    /// Of a mount of `config`, as its broker knows it.
    pub fn of(broker: Arc<Broker>, config: &Config) -> Arc<Self> {
        let of_zfs = |(_, source): &(usize, &config::Source)| source.kind == SourceKind::Zfs;
        let known = config.sources.iter().enumerate().filter(of_zfs);
        let known = known.map(|(number, source)| (number, source.clone())).collect();
        Arc::new(Wardens { broker, known, asked: Mutex::default() })
    }

    /// Those for `source`. Errors: `Usage` when the mount was not made for it.
    pub fn hands(&self, source: &config::Source) -> Result<Arc<dyn Hands>> {
        let Some(number) = number(&self.known, source) else {
            let says = "its ZFS lies outside of what may be used since it was mounted; mount anew for it";
            return Err(Error::new(Kind::Usage, format!("{}: {says}", source.title)));
        };
        let mut asked = lock(&self.asked);
        let warden = asked.entry(number).or_insert_with(|| {
            let broker = Arc::clone(&self.broker);
            Warden::started_by(Box::new(move || broker.warden(number)))
        });
        Ok(Arc::new(Asking(Arc::clone(warden))))
    }

    /// Whether the mount was made for `source`.
    pub fn know(&self, source: &config::Source) -> bool {
        number(&self.known, source).is_some()
    }
}

/// Which of `known` has the same datasets and clones as `source`; rather the one that is called the same.
fn number(known: &[(usize, config::Source)], source: &config::Source) -> Option<usize> {
    let alike = |clones: &Clones| Clones { idle: Duration::ZERO, ..clones.clone() };
    let is_same = |(_, other): &&(usize, config::Source)| {
        other.location == source.location && alike(&other.clones) == alike(&source.clones)
    };
    let called_so = known.iter().filter(is_same).find(|(_, other)| other.title == source.title);
    called_so.or_else(|| known.iter().find(is_same)).map(|(number, _)| *number)
}

/// A warden, as a worker sees it: started anew when it is gone.
struct Warden {
    start: Box<dyn Fn() -> Result<OwnedFd> + Send + Sync>,
    line: Mutex<Option<Arc<OwnedFd>>>,
}

/// Why there is no answer.
enum Silence {
    /// The warden is gone.
    Gone,
    /// Anything else, which another warden would not do better.
    Failed(Error),
}

impl Warden {
    fn started_by(start: Box<dyn Fn() -> Result<OwnedFd> + Send + Sync>) -> Arc<Self> {
        Arc::new(Warden { start, line: Mutex::default() })
    }

    /// Blocks.
    fn ask(&self, ask: &Ask) -> Result<Done> {
        let mut gone = None;
        // The second is new, or the first was.
        for _ in 0..2 {
            let line = self.line(gone.take())?;
            match ask_on(&line, ask) {
                Ok(done) => return Ok(done),
                Err(Silence::Failed(error)) => return Err(error),
                Err(Silence::Gone) => gone = Some(line),
            }
        }
        Err(Error::new(Kind::Unavailable, "the process that keeps ZFS is gone"))
    }

    /// Its line; another than `gone`.
    fn line(&self, gone: Option<Arc<OwnedFd>>) -> Result<Arc<OwnedFd>> {
        let mut line = lock(&self.line);
        if let (Some(had), Some(gone)) = (&*line, &gone)
            && Arc::ptr_eq(had, gone)
        {
            tracing::warn!("the process that keeps ZFS ended, and is started again");
            *line = None;
        }
        if let Some(line) = &*line {
            return Ok(Arc::clone(line));
        }
        let mut started = (self.start)();
        for _ in 0..TRIES {
            if gone.is_none() || started.is_ok() {
                break;
            }
            std::thread::sleep(PAUSE);
            started = (self.start)();
        }
        let started = started?;
        set_socket_timeout(&started, Timeout::Send, Some(PATIENCE)).map_err(|e| lost(e.into()))?;
        Ok(Arc::clone(line.insert(Arc::new(started))))
    }
}

fn ask_on(line: &OwnedFd, ask: &Ask) -> std::result::Result<Done, Silence> {
    let failed = Silence::Failed;
    let (ours, theirs) = line::pair().map_err(failed)?;
    set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE)).map_err(|e| failed(lost(e.into())))?;
    let silence = |error: Error| match error.kind() {
        Kind::Unavailable => Silence::Gone,
        Kind::TimedOut => Silence::Failed(Error::new(Kind::TimedOut, "ZFS does not answer")),
        _ => Silence::Failed(error),
    };
    line::send(line, ask, &[theirs.as_fd()]).map_err(silence)?;
    drop(theirs);
    let (said, descriptors) = line::receive::<Said>(&ours).map_err(silence)?.ok_or(Silence::Gone)?;
    let done = understood(said, descriptors.into_iter().next()).map_err(failed)?;
    let is_good_alone = match &done {
        // In use until its top is closed; where the warden has ended it goes by its follower.
        Done::Made(..) => true,
        // The hold is not there any more.
        Done::Seen { is_held, .. } => !is_held,
        _ => return Ok(done),
    };
    // Else it takes back what it gave.
    match line::send(&ours, &Taken, &[]) {
        Err(_) if !is_good_alone => {
            Err(failed(Error::new(Kind::TimedOut, "the answer of ZFS came too late")))
        }
        _ => Ok(done),
    }
}

fn understood(said: Said, with: Option<OwnedFd>) -> Result<Done> {
    match (said, with) {
        (Said::Done, _) => Ok(Done::Done),
        (Said::Swept(count), _) => Ok(Done::Swept(count)),
        (Said::Failed(kind, message), _) => Err(Error::new(kind, message)),
        (Said::Printed, Some(file)) => {
            let mut text = String::new();
            File::from(file).take(LONGEST).read_to_string(&mut text).map_err(lost)?;
            Ok(Done::Printed(text))
        }
        (Said::Made(name), Some(top)) => Ok(Done::Made(name, top)),
        (Said::Seen(is_held), Some(top)) => Ok(Done::Seen { top, is_held }),
        (said, None) => Err(Error::new(Kind::Internal, format!("ZFS: no descriptor came with {said:?}"))),
    }
}

fn lost(error: std::io::Error) -> Error {
    Error::io("the line to the process that keeps ZFS", error).with_kind(Kind::System)
}

/// The hands of one source.
struct Asking(Arc<Warden>);

impl Hands for Asking {
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Result<Done>> {
        let warden = Arc::clone(&self.0);
        Box::pin(async move {
            let asked = tokio::task::spawn_blocking(move || warden.ask(&ask)).await;
            asked.unwrap_or_else(|e| Err(Error::caused_by(Kind::Internal, "asking for ZFS ended", e)))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::JoinHandle;
    use std::time::Instant;

    use super::super::warden::tests::attending;
    use super::*;
    use crate::config::{Location, Typed};
    use crate::daemon::kind::zfs;

    /// Stands for `zfs`, `mount` and `umount`: a clone is a tmpfs with a file, mounted as zfs-fuse or as mount(8) does.
    const SCRIPT: &str = r#"
        echo "$0" "$@" >>"$LOG"
        for last; do :; done
        fill() { mount -t tmpfs none "$1" && echo data >"$1/a"; }
        case "$0 $1" in
        "zfs get") printf 'tank/b\ttype\tfilesystem\n' ;;
        "zfs clone") for word; do case "$word" in mountpoint=/*) fill "${word#mountpoint=}" ;; esac; done ;;
        "zfs destroy") : ;;
        mount*) fill "$last" ;;
        umount*) umount "$last" ;;
        esac
    "#;

    /// The line to a warden in a thread, with these programs, and a directory: `clones` in it has the clones, `log` what
    /// the programs were called with. `None` where nothing can be mounted.
    fn stage() -> Option<(OwnedFd, JoinHandle<()>, tempfile::TempDir)> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root mounts");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("clones")).unwrap();
        let script = format!("LOG={}/log\n{SCRIPT}", dir.path().display());
        let program = |name: &str| ["sh", "-c", &script, name].map(str::to_owned).into();
        let clones = Clones { zfs: program("zfs"), mount: program("mount"), ..Clones::default() };
        let place = Location::Zfs("tank/b".into());
        let folder = dir.path().join("clones");
        let (line, thread) = attending(move || zfs::own_in(&place, &clones, folder.clone()));
        Some((line, thread, dir))
    }

    fn clones(dir: &Path) -> usize {
        fs::read_dir(dir.join("clones")).unwrap().count()
    }

    #[test]
    fn a_clone_comes_over_and_goes_with_whoever_asked() {
        let Some((line, thread, dir)) = stage() else { return };
        let line = Mutex::new(Some(line));
        let taken = move || lock(&line).take().ok_or_else(|| Error::new(Kind::Unavailable, "started twice"));
        let warden = Warden::started_by(Box::new(taken));
        let listed = warden.ask(&Ask::List).unwrap();
        assert!(matches!(&listed, Done::Printed(text) if text == "tank/b\ttype\tfilesystem\n"), "{listed:?}");
        let made = |label: &str| match warden.ask(&Ask::Make(format!("tank/b@{label}"))).unwrap() {
            Done::Made(name, top) => (name, top),
            other => panic!("{other:?}"),
        };
        let (name, top) = made("s1");
        let file = rustix::fs::openat(&top, "a", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
        assert_eq!(std::io::read_to_string(File::from(file.unwrap())).unwrap(), "data\n");
        let busy = warden.ask(&Ask::Unmake(name.clone())).unwrap_err();
        assert_eq!(busy.kind(), Kind::Unavailable, "{busy}");
        drop(top);
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(!log.contains("zfs destroy"), "it is taken: {log}");
        warden.ask(&Ask::Unmake(name)).unwrap();
        assert_eq!(clones(dir.path()), 0);
        made("s2");
        made("s3");
        assert_eq!(clones(dir.path()), 2);
        drop(warden);
        thread.join().unwrap();
        assert_eq!(clones(dir.path()), 0, "nobody asks any more");
    }

    #[test]
    fn a_clone_that_nobody_waits_for_any_more_is_undone() {
        is_undone(drop);
    }

    #[test]
    fn a_clone_that_came_and_was_not_taken_is_undone() {
        is_undone(|ours| drop(line::receive::<Said>(&ours).unwrap()));
    }

    /// Has a clone made, of which the answer is given to `asker`.
    fn is_undone(asker: impl FnOnce(OwnedFd)) {
        let Some((line, thread, dir)) = stage() else { return };
        let (ours, theirs) = line::pair().unwrap();
        line::send(&line, &Ask::Make("tank/b@s".into()), &[theirs.as_fd()]).unwrap();
        drop(theirs);
        asker(ours);
        let deadline = Instant::now() + PATIENCE;
        let log = || fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        while !log().contains("zfs destroy") {
            assert!(Instant::now() < deadline, "{}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(line);
        thread.join().unwrap();
        assert_eq!((clones(dir.path()), log().matches("zfs clone").count()), (0, 1));
    }

    /// A warden in a thread that answers `answers` questions with what is given, each time it is started.
    fn warden(answers: usize, said: fn() -> (Said, Option<File>)) -> (Arc<Warden>, Arc<AtomicUsize>) {
        let started = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&started);
        let start = move || {
            let (ours, theirs) = line::pair()?;
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || {
                for _ in 0..answers {
                    let Ok(Some((_, reply))) = line::receive::<Ask>(&theirs) else { return };
                    let (said, with) = said();
                    let with: Vec<_> = with.iter().map(AsFd::as_fd).collect();
                    line::send(&reply[0], &said, &with).unwrap();
                }
            });
            Ok(ours)
        };
        (Warden::started_by(Box::new(start)), started)
    }

    fn null() -> Option<File> {
        File::open("/dev/null").ok()
    }

    #[test]
    fn what_it_answers_is_what_whoever_asks_is_told() {
        let (swept, _) = warden(1, || (Said::Swept(3), None));
        assert!(matches!(swept.ask(&Ask::SweepClones), Ok(Done::Swept(3))));
        let (made, _) = warden(1, || (Said::Made("backupfs-1".into()), null()));
        assert!(
            matches!(made.ask(&Ask::Make("a@b".into())), Ok(Done::Made(name, _)) if name == "backupfs-1")
        );
        let (without, _) = warden(1, || (Said::Seen(true), None));
        assert_eq!(without.ask(&Ask::Look("a@b".into())).unwrap_err().kind(), Kind::Internal);
        let (failed, _) = warden(1, || (Said::Failed(Kind::NotFound, "no such dataset".into()), None));
        let error = failed.ask(&Ask::List).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::NotFound, "no such dataset"));
        let (odd, _) = warden(1, || (Said::Printed, null()));
        assert!(matches!(odd.ask(&Ask::List), Ok(Done::Printed(text)) if text.is_empty()));
    }

    #[test]
    fn one_that_died_is_started_again_and_one_that_keeps_dying_is_an_error() {
        let (mortal, started) = warden(1, || (Said::Done, None));
        for _ in 0..3 {
            assert!(matches!(mortal.ask(&Ask::Unmake("x".into())), Ok(Done::Done)));
        }
        assert_eq!(started.load(Ordering::Relaxed), 3);
        let (dead, started) = warden(0, || (Said::Done, None));
        assert_eq!(dead.ask(&Ask::List).unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(started.load(Ordering::Relaxed), 2);
        let none = Warden::started_by(Box::new(|| Err(Error::new(Kind::Denied, "no broker"))));
        assert_eq!(none.ask(&Ask::List).unwrap_err().to_string(), "no broker");
    }

    #[test]
    fn a_source_is_known_by_its_datasets_and_clones_not_by_its_name() {
        let of = |repos: &[&str], options: &str| {
            let repos = repos.iter().map(|repo| (*repo).into()).collect();
            let options = vec![options.into()];
            config::resolve(&Typed { repos, options, ..Typed::default() }).unwrap().sources
        };
        let known: Vec<_> =
            of(&["/a", "zfs:tank/a", "zfs:tank/b"], "max-clones=3").into_iter().enumerate().skip(1).collect();
        let number = |repo: &str, options: &str| number(&known, &of(&[repo], options)[0]);
        assert_eq!(number("zfs:tank/a", "max-clones=3"), Some(1));
        assert_eq!(number("zfs:tank/b", "max-clones=3,clone-idle=1s"), Some(2), "that is the worker's own");
        for (repo, options) in [
            ("zfs:tank/c", "max-clones=3"),
            ("zfs:tank/a", "max-clones=4"),
            ("zfs:tank/a", "max-clones=3,clone-parent=x/y"),
        ] {
            assert_eq!(number(repo, options), None, "{repo} {options}");
        }
    }
}
