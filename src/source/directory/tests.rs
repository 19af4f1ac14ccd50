//! Sources of real directories: what is found, what a refresh makes of changes, and what is read.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::cache::Budget;
use crate::error::{Kind, Result};
use crate::source::chunked::Shared;
use crate::store::Place;
use crate::tree::{Content, Node, Source, Validity};

/// A directory for one test.
struct Bed {
    dir: tempfile::TempDir,
}

impl Bed {
    fn new(directories: &[&str]) -> Self {
        let bed = Bed { dir: tempfile::tempdir().unwrap() };
        directories.iter().for_each(|name| bed.make(name));
        bed
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a snapshot that holds its own name.
    fn make(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
        fs::write(self.path(name).join("name"), name).unwrap();
    }

    async fn open(&self, pattern: &str) -> Result<Arc<dyn Source>> {
        let spec = Spec {
            name: "backups".into(),
            pattern: self.path(pattern),
            time_format: None,
            zone: jiff::tz::TimeZone::UTC,
            machine: Some("nas".into()),
            refresh: Duration::from_secs(60),
            place: Place::alone(),
            under_way: Arc::new(super::under_way),
            rights: None,
        };
        open(spec, Shared::new(Budget::of(8 << 20))).await
    }
}

/// What is told of each snapshot, in order: host, path, and label or seconds.
fn told(source: &dyn Source) -> Vec<String> {
    let mut told: Vec<String> = source
        .snapshots()
        .iter()
        .map(|s| {
            let name = s.given.label.as_deref().map_or(s.time.instant.secs.to_string(), str::to_owned);
            format!("{} {} {name}", s.host.as_deref().unwrap(), s.paths[0].escape_ascii())
        })
        .collect();
    told.sort();
    told
}

async fn dir_of(source: &dyn Source, id: &Arc<str>) -> Result<Node> {
    Ok(source.open(id, 0).resolve().await?.node)
}

/// What the file `name` of a snapshot holds.
async fn read(node: &Node) -> Result<String> {
    let Content::Dir(dir) = &node.content else { panic!("no directory") };
    let file = dir.lookup(b"name").resolve().await?.expect("the file is there");
    let Content::File(content) = &file.content else { panic!("no file") };
    let reader = content.open().resolve().await?;
    let size = usize::try_from(file.meta.size).unwrap();
    Ok(String::from_utf8(reader.read_at(0, size).resolve().await?.to_vec()).unwrap())
}

/// The only snapshot's id.
fn only(source: &dyn Source) -> Arc<str> {
    let list = source.snapshots();
    assert_eq!(list.len(), 1);
    Arc::clone(&list[0].id)
}

#[tokio::test]
async fn snapshots_are_found_by_the_pattern_and_read() {
    let bed = Bed::new(&["web/20260301_000007", "web/before", "db/2026-03-02", "db/x.partial"]);
    let source = bed.open("{host}/{time}").await.unwrap();
    assert_eq!(told(&*source), ["db / 1772409600", "web / 1772323207", "web / before"]);
    for snapshot in source.snapshots().iter() {
        let node = dir_of(&*source, &snapshot.id).await.unwrap();
        let name = read(&node).await.unwrap();
        assert!(name.starts_with(&format!("{}/", snapshot.host.as_deref().unwrap())), "{name}");
        assert_eq!(node.meta.validity, Validity::Forever);
    }
    let health = source.health();
    assert!(health.error.is_none() && health.listed.is_some() && health.left_out.is_empty());
}

#[tokio::test]
async fn a_refresh_sees_what_comes_and_goes_and_what_is_there_stays_the_same() {
    let bed = Bed::new(&["a/20260301", "a/20260302"]);
    let source = bed.open("{host}/{time}").await.unwrap();
    let first = source.snapshots();
    assert!(!source.refresh().await.unwrap());
    assert!(Arc::ptr_eq(&first, &source.snapshots()), "the very same list");
    bed.make("a/20260303");
    // What somebody touches stays what it was called.
    File::create(bed.path("a/20260301/new")).unwrap();
    fs::remove_dir_all(bed.path("a/20260302")).unwrap();
    assert!(source.refresh().await.unwrap());
    assert_eq!(source.snapshots().len(), 2);
    let known = first.iter().find(|s| &*s.given.parts[1].1 == b"20260301").unwrap();
    let same = source.snapshots().iter().find(|s| s.id == known.id).unwrap().clone();
    assert_eq!(same.content, known.content);
    let gone = first.iter().find(|s| &*s.given.parts[1].1 == b"20260302").unwrap();
    assert_eq!(dir_of(&*source, &gone.id).await.err().unwrap().kind(), Kind::Stale);
}

#[tokio::test]
async fn what_moves_as_it_grows_older_stays_the_same_snapshot() {
    let bed = Bed::new(&["daily.0"]);
    let source = bed.open("{interval}.{n}").await.unwrap();
    let id = only(&*source);
    let node = dir_of(&*source, &id).await.unwrap();
    fs::rename(bed.path("daily.0"), bed.path("daily.1")).unwrap();
    bed.make("daily.0");
    // Before any refresh: the name means another directory now.
    let moved = dir_of(&*source, &id).await.unwrap();
    assert_eq!(read(&moved).await.unwrap(), "daily.0", "as it was called when it was made");
    assert_eq!(read(&node).await.unwrap(), "daily.0");
    source.refresh().await.unwrap();
    assert_eq!(source.snapshots().len(), 2);
    fs::remove_dir_all(bed.path("daily.1")).unwrap();
    assert_eq!(dir_of(&*source, &id).await.err().unwrap().kind(), Kind::Stale);
}

#[tokio::test]
async fn the_time_of_what_has_no_name_is_that_of_its_directory() {
    let bed = Bed::new(&["daily.0/web"]);
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    File::open(bed.path("daily.0")).unwrap().set_modified(then).unwrap();
    let source = bed.open("{interval}.{n}").await.unwrap();
    assert_eq!(told(&*source), [format!("nas {} 1000000", bed.dir.path().display())]);
    assert_eq!(*source.snapshots()[0].tags, [Arc::from("daily")]);
    // As rsnapshot has it: what it touches is the directory above that of a host.
    let source = bed.open("{interval}.{n}/{host}").await.unwrap();
    assert_eq!(told(&*source), ["web / 1000000"]);
}

#[tokio::test]
async fn trees_as_they_are_follow_what_is_written() {
    let bed = Bed::new(&["current/pc@+home+lab", "current/plain"]);
    let source = bed.open("current/{set}").await.unwrap();
    let list = source.snapshots();
    let set = list.iter().find(|s| s.given.set.as_deref() == Some(b"pc@+home+lab")).unwrap();
    assert_eq!((set.host.as_deref(), &*set.paths[0]), (Some("pc"), &b"/home/lab"[..]));
    let node = dir_of(&*source, &set.id).await.unwrap();
    assert_eq!(node.meta.validity, Validity::For(Duration::from_secs(60)));
}

#[tokio::test]
async fn nothing_that_looks_like_the_pattern_is_an_error_and_never_the_end_of_all_snapshots() {
    let bed = Bed::new(&["other"]);
    for (pattern, kind, says) in [
        ("{host}/{time}", Kind::NotFound, "/{host}/{time}: nothing is there that looks like the pattern"),
        ("away/{time}", Kind::NotFound, "away"),
        ("{time}/{time}", Kind::Usage, "two parts of the pattern are called {time}"),
        ("other/name/{time}", Kind::NotDirectory, "other/name"),
    ] {
        let error = bed.open(pattern).await.err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let source = bed.open("{time}").await.unwrap();
    let known = source.snapshots();
    fs::rename(bed.path("other"), bed.path(".unmounted")).unwrap();
    assert_eq!(source.refresh().await.unwrap_err().kind(), Kind::NotFound);
    assert!(source.health().error.is_some());
    assert!(Arc::ptr_eq(&known, &source.snapshots()));
    fs::rename(bed.path(".unmounted"), bed.path("other")).unwrap();
    assert!(!source.refresh().await.unwrap());
    assert!(source.health().error.is_none());
}

#[tokio::test]
async fn links_lead_nowhere() {
    let bed = Bed::new(&["a/20260301", "b"]);
    symlink("../a/20260301", bed.path("b/20260302")).unwrap();
    symlink("a", bed.path("c")).unwrap();
    let source = bed.open("{host}/{time}").await.unwrap();
    let id = only(&*source);
    // One that takes the place of a directory later is not followed either.
    fs::rename(bed.path("a"), bed.path(".a")).unwrap();
    symlink(".a", bed.path("a")).unwrap();
    assert_eq!(dir_of(&*source, &id).await.err().unwrap().kind(), Kind::NotFound);
    assert_eq!(source.snapshots().len(), 1, "what is known stays while nothing is found at all");
}

#[tokio::test]
async fn two_trees_of_one_source_are_never_one() {
    let bed = Bed::new(&["a.0", "b.0"]);
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for name in ["a.0", "b.0"] {
        File::open(bed.path(name)).unwrap().set_modified(then).unwrap();
    }
    let source = bed.open("{interval}.{n}").await.unwrap();
    let list = source.snapshots();
    assert_eq!((list.len(), list[0].time), (2, list[1].time));
    assert!(list[0].id != list[1].id && list[0].content != list[1].content);
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A process called rsync that stands in `directory`.
fn rsync_in(bed: &Bed, directory: &Path) -> Running {
    let program = bed.path("rsync");
    fs::copy("/bin/sleep", &program).unwrap();
    let child =
        Command::new(&program).arg("600").current_dir(directory).stdin(Stdio::null()).spawn().unwrap();
    let comm = format!("/proc/{}/comm", child.id());
    while fs::read(&comm).unwrap() != b"rsync\n" {
        std::thread::yield_now();
    }
    Running(child)
}

#[tokio::test]
async fn what_rsync_still_writes_is_hidden_and_what_it_reads_stays() {
    let bed = Bed::new(&["s/20260301", "s/20260302/deep"]);
    let writing = rsync_in(&bed, &bed.path("s/20260302/deep"));
    let source = bed.open("s/{time}").await.unwrap();
    only(&*source);
    drop(writing);
    assert!(source.refresh().await.unwrap());
    assert_eq!(source.snapshots().len(), 2);
    let _reading = rsync_in(&bed, &bed.path("s/20260301"));
    assert!(!source.refresh().await.unwrap());
    assert_eq!(source.snapshots().len(), 2);
}

#[tokio::test]
async fn the_directories_above_are_told() {
    let bed = Bed::new(&["in/20260301"]);
    fs::set_permissions(bed.path("in"), fs::Permissions::from_mode(0o710)).unwrap();
    let source = bed.open("in/{time}").await.unwrap();
    let opened = source.open(&only(&*source), 0).resolve().await.unwrap();
    let crate::tree::Ancestors::Recorded(above) = opened.ancestors else { panic!("unknown") };
    let last = above.last().unwrap();
    let there = fs::metadata(bed.path("in")).unwrap();
    assert_eq!((last.perm, last.uid), (0o710, there.uid()));
    let id = only(&*source);
    assert_eq!(source.open(&id, 1).resolve().await.err().unwrap().kind(), Kind::NotFound);
}
