//! A bucket in memory, shown.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::tz::TimeZone;

use super::{History, Metadata, Spec, open};
use crate::cache::{Budget, Disk, Drawer, Folder};
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Shared;
use crate::store::bucket::{Bucket, Extent, Labels, Mark, Pinned, Stored, Version, VersionPage};
use crate::tree::{Content, Dir, Entry, FileType, Identity, Node, Snapshot, Source, Time};

const DAY: i64 = 86_400_000;

/// One version of an object: when, under which labels, which bytes (none: deleted).
#[derive(Clone)]
struct Put {
    changed: i64,
    labels: Labels,
    bytes: Option<Bytes>,
}

/// A bucket in memory that counts what it is asked.
#[derive(Default)]
struct Fake {
    objects: Mutex<BTreeMap<String, Vec<Put>>>,
    versioned: bool,
    pages: AtomicU64,
    heads: AtomicU64,
    reads: AtomicU64,
    down: Mutex<Option<Error>>,
}

impl Fake {
    fn new(versioned: bool) -> Arc<Self> {
        Arc::new(Fake { versioned, ..Fake::default() })
    }

    fn put(&self, key: &str, changed: i64, bytes: &[u8], labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.add(key, Put { changed, labels, bytes: Some(Bytes::copy_from_slice(bytes)) });
    }

    fn delete(&self, key: &str, changed: i64) {
        self.add(key, Put { changed, labels: Labels::new(), bytes: None });
    }

    fn add(&self, key: &str, put: Put) {
        let mut objects = self.objects.lock().unwrap();
        let versions = objects.entry(key.to_owned()).or_default();
        if !self.versioned {
            versions.clear();
        }
        versions.push(put);
    }

    fn requests(&self) -> [u64; 3] {
        [&self.pages, &self.heads, &self.reads].map(|count| count.load(Ordering::Relaxed))
    }

    fn find(&self, object: &Pinned) -> Result<Put> {
        let objects = self.objects.lock().unwrap();
        let missing = || Error::new(Kind::NotFound, format!("{}: no such object", object.key));
        let versions = objects.get(&object.key).ok_or_else(missing)?;
        let found = match &object.version {
            Some(id) => versions.get(id.parse::<usize>().unwrap()),
            None => versions.last(),
        };
        let found = found.cloned().ok_or_else(missing)?;
        match &found.bytes {
            Some(bytes) if etag(bytes) != object.etag => Err(Error::new(Kind::Stale, "another object")),
            _ => Ok(found),
        }
    }

    fn is_up(&self) -> Result<()> {
        self.down.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(bytes))
}

impl Bucket for Fake {
    fn keeps_versions(&self) -> BoxFuture<'_, Result<bool>> {
        async { self.is_up().map(|()| self.versioned) }.boxed()
    }

    fn page<'a>(&'a self, extent: Extent, after: Option<&'a Mark>) -> BoxFuture<'a, Result<VersionPage>> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        let answer = self.is_up().map(|()| {
            let objects = self.objects.lock().unwrap();
            // As some servers do, it begins with the key that it is to go on behind.
            let behind = |key: &&String| after.is_none_or(|mark| ***key >= *mark.key);
            let keys: Vec<&String> = objects.keys().filter(behind).take(1001).collect();
            let mut page = VersionPage::default();
            for key in keys.iter().take(1000) {
                let versions = objects.get(*key).map_or(&[][..], |versions| versions);
                for (number, put) in versions.iter().enumerate() {
                    let is_latest = number + 1 == versions.len();
                    if extent == Extent::Latest && (!is_latest || put.bytes.is_none()) {
                        continue;
                    }
                    let stored = put.bytes.as_ref();
                    page.versions.push(Version {
                        key: (*key).clone(),
                        id: self.versioned.then(|| number.to_string()),
                        changed: put.changed,
                        is_latest,
                        stored: stored.map(|bytes| Stored { size: bytes.len() as u64, etag: etag(bytes) }),
                    });
                }
            }
            let last = keys.get(999).filter(|_| keys.len() > 1000);
            page.next = last.map(|key| Mark { key: (*key).clone(), version: None });
            page
        });
        std::future::ready(answer).boxed()
    }

    fn labels<'a>(&'a self, object: &'a Pinned) -> BoxFuture<'a, Result<Labels>> {
        self.heads.fetch_add(1, Ordering::Relaxed);
        async { self.is_up().and_then(|()| self.find(object)).map(|put| put.labels) }.boxed()
    }

    fn read<'a>(&'a self, object: &'a Pinned, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        async move {
            self.is_up()?;
            let bytes = self.find(object)?.bytes.unwrap();
            let (from, to) = (usize::try_from(offset).unwrap(), usize::try_from(offset + length).unwrap());
            Ok(bytes.slice(from..to))
        }
        .boxed()
    }
}

fn spec(bucket: &Arc<Fake>) -> Spec {
    Spec {
        name: "objects:fake".into(),
        identity: "fake/p".into(),
        bucket: Arc::<Fake>::clone(bucket),
        host: "bucket".into(),
        path: "/p".into(),
        drawer: None,
        history: None,
        zone: TimeZone::UTC,
        metadata: Metadata::Auto,
    }
}

async fn opened(spec: Spec) -> Arc<dyn Source> {
    open(spec, Shared::new(Budget::of(64 << 20))).await.unwrap()
}

async fn root(source: &Arc<dyn Source>, snapshot: &Snapshot) -> Node {
    source.open(&snapshot.id, 0).resolve().await.unwrap().node
}

fn dir(node: &Node) -> Arc<dyn Dir> {
    match &node.content {
        Content::Dir(dir) => Arc::clone(dir),
        _ => panic!("no directory"),
    }
}

/// Everything below a directory: paths with their nodes. Listing and look-up say the same.
async fn walk(node: Node) -> BTreeMap<String, Node> {
    let mut found = BTreeMap::new();
    let mut left = vec![(String::new(), node)];
    while let Some((path, node)) = left.pop() {
        let dir = dir(&node);
        let listing = dir.listing().resolve().await.unwrap();
        let mut entries = Vec::new();
        listing.visit(0, &mut |entry: &Entry<'_>| {
            entries.push((entry.at, entry.name.to_vec(), entry.meta, entry.identity));
            ControlFlow::Continue(())
        });
        for (at, name, meta, identity) in entries {
            let node = listing.node(at).unwrap();
            assert_eq!((Some(node.meta), node.meta.identity), (meta, identity));
            let looked_up = dir.lookup(&name).resolve().await.unwrap().unwrap();
            assert_eq!(looked_up.meta, node.meta);
            let path = format!("{path}{}", String::from_utf8(name).unwrap());
            if node.meta.kind == FileType::Dir {
                left.push((format!("{path}/"), node.clone()));
            }
            found.insert(path, node);
        }
        assert!(dir.lookup(b"no such name").resolve().await.unwrap().is_none());
    }
    found
}

fn names(walked: &BTreeMap<String, Node>) -> Vec<&str> {
    walked.keys().map(String::as_str).collect()
}

async fn read(node: &Node, offset: u64, length: usize) -> Result<Bytes> {
    match &node.content {
        Content::File(file) => file.open().resolve().await?.read_at(offset, length).resolve().await,
        _ => panic!("no file"),
    }
}

#[tokio::test]
async fn a_plain_bucket_is_one_snapshot_of_what_there_is_now() {
    let bucket = Fake::new(false);
    bucket.put("a/b", 2 * DAY, b"two", &[]);
    bucket.put("a.txt", DAY, b"content", &[]);
    let source = opened(spec(&bucket)).await;
    let list = source.snapshots();
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].host.as_deref(), &*list[0].paths[0]), (Some("bucket"), &b"/p"[..]));
    assert_eq!(list[0].time.instant, Time { secs: 2 * 86_400, nanos: 0 });
    assert!(source.at(Time { secs: i64::MAX, nanos: 0 }).is_none(), "it has no past");
    let walked = walk(root(&source, &list[0]).await).await;
    assert_eq!(names(&walked), ["a", "a.txt", "a/b"]);
    let meta = walked["a.txt"].meta;
    assert_eq!((meta.size, meta.blocks, meta.perm, meta.uid, meta.nlink), (7, 1, 0o644, 0, 1));
    assert_eq!((meta.mtime.secs, meta.ctime.secs), (86_400, 86_400));
    assert_eq!(read(&walked["a.txt"], 2, 100).await.unwrap(), "ntent");
    let usage = source.health().usage;
    assert_eq!((usage.objects, usage.bytes), (2, 10));
    assert!(!source.refresh().await.unwrap());
    bucket.put("c", 3 * DAY, b"", &[]);
    assert!(source.refresh().await.unwrap());
    assert_eq!(names(&walk(root(&source, &source.snapshots()[0]).await).await), ["a", "a.txt", "a/b", "c"]);
    let gone = source.open(&list[0].id, 0).resolve().await.err().unwrap();
    assert_eq!(gone.kind(), Kind::Stale, "what there was then is no more");
}

#[tokio::test]
async fn a_versioned_bucket_shows_each_day_on_which_something_changed_and_any_moment() {
    let bucket = Fake::new(true);
    bucket.put("kept", DAY, b"one", &[]);
    bucket.put("kept", DAY + 1000, b"other", &[]);
    bucket.put("gone", DAY, b"x", &[]);
    bucket.delete("gone", 3 * DAY);
    let source = opened(spec(&bucket)).await;
    let list = source.snapshots();
    let days: Vec<i64> = list.iter().map(|snapshot| snapshot.time.instant.secs).collect();
    assert_eq!(days, [86_401, 3 * 86_400]);
    let (first, last) =
        (walk(root(&source, &list[0]).await).await, walk(root(&source, &list[1]).await).await);
    assert_eq!((names(&first), names(&last)), (vec!["gone", "kept"], vec!["kept"]));
    assert_eq!(first["kept"].meta.identity, last["kept"].meta.identity, "an unchanged file is one file");
    let earlier = source.at(Time { secs: 86_400, nanos: 999_000_000 }).unwrap();
    assert_eq!(earlier.time.instant.secs, 86_400);
    let then = walk(root(&source, &earlier).await).await;
    assert_eq!(read(&then["kept"], 0, 10).await.unwrap(), "one");
    assert_eq!(read(&last["kept"], 0, 10).await.unwrap(), "other");
    assert_ne!(then["kept"].meta.identity, last["kept"].meta.identity);
    assert!(source.at(Time { secs: 5, nanos: 0 }).is_none(), "nothing is that old");
    bucket.put("new", 3 * DAY + 5000, b"n", &[]);
    assert!(source.refresh().await.unwrap());
    let newer = source.snapshots();
    assert_eq!(newer.len(), 2, "the day has another last change");
    let old = walk(source.open(&list[1].id, 0).resolve().await.unwrap().node).await;
    assert_eq!(names(&old), ["kept"], "what was shown of the day stays what it was");
}

#[tokio::test]
async fn which_moments_are_listed_can_be_chosen() {
    let bucket = Fake::new(true);
    for n in 0..6 {
        bucket.put("k", DAY + n * 1_800_000, &n.to_le_bytes(), &[]);
    }
    for (history, count) in
        [(History::Days, 1), (History::Hours, 3), (History::Changes, 6), (History::Off, 1)]
    {
        let source = opened(Spec { history: Some(history), ..spec(&bucket) }).await;
        assert_eq!(source.snapshots().len(), count, "{history:?}");
        assert_eq!(source.at(Time { secs: i64::MAX, nanos: 0 }).is_some(), history != History::Off);
    }
    let plain = Fake::new(false);
    let wrong =
        open(Spec { history: Some(History::Days), ..spec(&plain) }, Shared::new(Budget::of(1 << 20))).await;
    let error = wrong.err().unwrap();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.to_string().starts_with("objects:fake: the bucket keeps no versions"), "{error}");
    assert!(opened(spec(&plain)).await.snapshots().is_empty(), "an empty bucket has no snapshots");
}

#[tokio::test]
async fn looking_round_costs_no_request_and_reading_one_for_each_piece() {
    let bucket = Fake::new(true);
    for n in 0..2500 {
        bucket.put(&format!("d{}/k{n:04}", n % 10), DAY, &[b'x'; 10], &[]);
    }
    let big: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    bucket.put("big", DAY, &big, &[]);
    let source = opened(Spec { metadata: Metadata::Off, ..spec(&bucket) }).await;
    assert_eq!(bucket.requests(), [3, 0, 0]);
    for _ in 0..3 {
        assert_eq!(walk(root(&source, &source.snapshots()[0]).await).await.len(), 2511);
    }
    assert_eq!(bucket.requests(), [3, 0, 0]);
    let walked = walk(root(&source, &source.snapshots()[0]).await).await;
    for at in [0usize, 1, 1_048_575, 1_048_576, 2_000_000, 2_999_999, 3_000_000] {
        let end = big.len().min(at + 70_000);
        assert_eq!(read(&walked["big"], at as u64, 70_000).await.unwrap(), &big[at..end], "{at}");
    }
    assert_eq!(bucket.requests(), [3, 0, 3], "each piece once");
    assert!(read(&walked["big"], u64::MAX, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn many_read_one_object_at_once_and_get_what_is_there() {
    let bucket = Fake::new(false);
    let big: Vec<u8> = (0..20_000_000u32).map(|n| (n >> 8).to_le_bytes()[0] ^ n.to_le_bytes()[0]).collect();
    bucket.put("part-1", DAY, &big, &[]);
    let source = opened(spec(&bucket)).await;
    let walked = walk(root(&source, &source.snapshots()[0]).await).await;
    let Content::File(file) = &walked["part-1"].content else { panic!() };
    let reader = file.open().resolve().await.unwrap();
    let big = Arc::new(big);
    let readers = (0..8usize).map(|n| {
        let (reader, big) = (Arc::clone(&reader), Arc::clone(&big));
        tokio::spawn(async move {
            for at in (n * 2_000_000..big.len().min(n * 2_000_000 + 6_000_000)).step_by(131_072) {
                let came = reader.read_at(at as u64, 131_072).resolve().await.unwrap();
                assert!(came == big[at..big.len().min(at + 131_072)], "{at}");
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    assert_eq!(reader.next_hole(5).resolve().await.unwrap(), 20_000_000);
}

#[tokio::test]
async fn what_writers_left_is_shown_and_asked_for_once() {
    let bucket = Fake::new(false);
    let mtime = ("mtime", "1600000000.25");
    bucket.put(
        "file",
        DAY,
        b"abc",
        &[mtime, ("mode", "33152"), ("uid", "7"), ("gid", "8"), ("md5", &"ab".repeat(16))],
    );
    bucket.put("link", DAY, b"../target", &[mtime, ("mode", "41471")]);
    bucket.put("dir/", DAY, b"", &[("mode", "16832"), ("mtime", "1500000000")]);
    bucket.put("dir/plain", DAY, b"", &[]);
    bucket.put("pipe", DAY, b"", &[("mode", "4480")]);
    let source = opened(spec(&bucket)).await;
    let walked = walk(root(&source, &source.snapshots()[0]).await).await;
    let file = &walked["file"];
    assert_eq!((file.meta.perm, file.meta.uid, file.meta.gid), (0o600, 7, 8));
    assert_eq!(file.meta.mtime, Time { secs: 1_600_000_000, nanos: 250_000_000 });
    assert_eq!(file.meta.ctime.secs, 86_400);
    assert!(!file.meta.has_xattrs, "nobody need ask for any that are listed");
    let xattrs = file.xattrs.as_ref().unwrap();
    let md5 = xattrs.get(b"user.backupfs.md5").resolve().await.unwrap();
    assert_eq!(md5.as_deref(), Some("ab".repeat(16).as_bytes()));
    let tag = xattrs.get(b"user.backupfs.etag").resolve().await.unwrap().unwrap();
    assert_eq!(tag, etag(b"abc").trim_matches('"'));
    assert!(xattrs.get(b"user.backupfs.version").resolve().await.unwrap().is_none());
    assert!(xattrs.names().resolve().await.unwrap().is_empty(), "no copy takes them along");
    assert!(matches!(&walked["link"].content, Content::Symlink(to) if to == "../target"));
    assert_eq!((walked["link"].meta.kind, walked["link"].meta.size), (FileType::Symlink, 9));
    assert_eq!((walked["dir"].meta.perm, walked["dir"].meta.mtime.secs), (0o700, 1_500_000_000));
    assert_eq!((walked["pipe"].meta.kind, walked["pipe"].meta.perm), (FileType::Fifo, 0o600));
    assert_eq!(walked["dir/plain"].meta.mtime.secs, 86_400);
    let asked = bucket.requests();
    walk(root(&source, &source.snapshots()[0]).await).await;
    assert_eq!(bucket.requests(), asked, "and kept");
    let unasked = opened(Spec { metadata: Metadata::Off, ..spec(&bucket) }).await;
    let walked = walk(root(&unasked, &unasked.snapshots()[0]).await).await;
    assert_eq!((walked["file"].meta.perm, walked["link"].meta.kind), (0o644, FileType::File));
    assert_eq!(bucket.requests()[1], asked[1]);
}

#[tokio::test]
async fn an_object_that_was_replaced_is_stale_and_never_mixed_with_the_new_one() {
    let bucket = Fake::new(false);
    bucket.put("k", DAY, &[1; 8_000_000], &[]);
    let source = opened(spec(&bucket)).await;
    let walked = walk(root(&source, &source.snapshots()[0]).await).await;
    let Content::File(file) = &walked["k"].content else { panic!() };
    let reader = file.open().resolve().await.unwrap();
    assert_eq!(reader.read_at(0, 10).resolve().await.unwrap(), vec![1; 10]);
    bucket.put("k", DAY, &[2; 8_000_000], &[]);
    let error = reader.read_at(6_000_000, 10).resolve().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Stale);
    assert!(error.to_string().starts_with("objects:fake: k: "), "{error}");
    bucket.objects.lock().unwrap().clear();
    assert_eq!(
        reader.read_at(7_900_000, 10).resolve().await.unwrap_err().kind(),
        Kind::Stale,
        "not: never there"
    );
}

#[tokio::test]
async fn the_beginning_of_a_large_file_comes_with_what_follows() {
    let bucket = Fake::new(false);
    bucket.put("k", DAY, &[1; 8_000_000], &[]);
    let source = opened(spec(&bucket)).await;
    let walked = walk(root(&source, &source.snapshots()[0]).await).await;
    read(&walked["k"], 7_000_000, 10).await.unwrap();
    assert_eq!(bucket.requests()[2], 1, "in the middle nothing comes along");
    assert_eq!(read(&walked["k"], 0, 10).await.unwrap(), vec![1; 10]);
    while bucket.requests()[2] < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(read(&walked["k"], 3_000_000, 10).await.unwrap(), vec![1; 10]);
    assert_eq!(bucket.requests()[2], 5);
}

#[tokio::test]
async fn an_outage_leaves_what_was_listed() {
    let bucket = Fake::new(true);
    bucket.put("k", DAY, b"content", &[]);
    let source = opened(spec(&bucket)).await;
    *bucket.down.lock().unwrap() = Some(Error::new(Kind::Unavailable, "no route"));
    let before = source.snapshots();
    assert_eq!(source.refresh().await.unwrap_err().to_string(), "objects:fake: no route");
    assert_eq!(source.health().error.unwrap().kind(), Kind::Unavailable);
    assert!(Arc::ptr_eq(&before, &source.snapshots()));
    let walked = walk(root(&source, &before[0]).await).await;
    assert_eq!(read(&walked["k"], 0, 7).await.unwrap_err().kind(), Kind::Unavailable);
    *bucket.down.lock().unwrap() = None;
    assert!(!source.refresh().await.unwrap());
    assert!(source.health().error.is_none());
    assert_eq!(read(&walked["k"], 0, 7).await.unwrap(), "content");
}

#[tokio::test]
async fn a_large_listing_is_kept_and_later_only_what_changed_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Fake::new(false);
    for n in 0..12_000 {
        bucket.put(&format!("k{n:06}"), DAY, b"x", &[]);
    }
    let spec = |history| {
        let disk = Disk::open(&Folder::open(dir.path()).unwrap(), 1 << 30).unwrap();
        let drawer = Some(Drawer::new(disk, "s3:bucket", "bucket"));
        Spec { metadata: Metadata::Off, history, drawer, ..spec(&bucket) }
    };
    let opened = |history| open(spec(history), Shared::new(Budget::of(64 << 20)));
    let first = opened(None).await.unwrap();
    let before = bucket.requests()[0];
    assert_eq!(before, 13, "one key of each page is told twice");
    bucket.put("k005000x", 2 * DAY, b"new", &[]);
    assert!(first.refresh().await.unwrap());
    assert_eq!(walk(root(&first, &first.snapshots()[0]).await).await.len(), 12_001);
    // A server that is away is no reason not to show what was kept.
    *bucket.down.lock().unwrap() = Some(Error::new(Kind::Unavailable, "no route"));
    let error = opened(None).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable, "whether there are versions has to be known");
    let later = opened(Some(History::Off)).await.unwrap();
    assert_eq!(walk(root(&later, &later.snapshots()[0]).await).await.len(), 12_001);
    assert!(later.refresh().await.is_err() && later.health().error.is_some());
}

#[tokio::test]
async fn a_kept_listing_is_shown_with_its_age_and_renewed_when_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Fake::new(false);
    for n in 0..5000 {
        bucket.put(&format!("k{n:06}"), DAY, b"x", &[]);
    }
    // Each is a process of its own: what one notes is there when it has ended.
    let opened = async || {
        let disk = Disk::open(&Folder::open(dir.path()).unwrap(), 1 << 30).unwrap();
        let drawer = Some(Drawer::new(disk, "s3:bucket", "bucket"));
        self::opened(Spec { metadata: Metadata::Off, drawer, ..spec(&bucket) }).await
    };
    let first = opened().await;
    let listed = first.health().listed.unwrap();
    drop(first);
    let asked = bucket.requests();
    let second = opened().await;
    // Whatever it might do by itself has its chance.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(walk(root(&second, &second.snapshots()[0]).await).await.len(), 5000);
    assert_eq!(bucket.requests(), asked);
    let age = listed.duration_since(second.health().listed.unwrap()).unwrap();
    assert!(age < Duration::from_secs(1), "told to the second: {age:?}");
    assert!(!second.refresh().await.unwrap());
    assert!(bucket.requests()[0] > asked[0], "whoever asks for news gets them");
    assert!(second.health().listed.unwrap() > listed);
}

#[tokio::test]
async fn files_about_to_be_read_are_fetched_together() {
    let bucket = Fake::new(false);
    for n in 0..200 {
        bucket.put(&format!("k{n:03}"), DAY, format!("content {n}").as_bytes(), &[]);
    }
    let source = opened(spec(&bucket)).await;
    let node = root(&source, &source.snapshots()[0]).await;
    let listing = dir(&node).listing().resolve().await.unwrap();
    listing.will_read(&(0..200).collect::<Vec<_>>());
    while bucket.requests()[2] < 200 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let walked = walk(node).await;
    for n in 0..200 {
        let node = &walked[&format!("k{n:03}")];
        assert_eq!(read(node, 0, 100).await.unwrap(), format!("content {n}"));
        assert!(matches!(node.meta.identity, Identity::Key(_)));
    }
    assert_eq!(bucket.requests()[2], 200);
}
