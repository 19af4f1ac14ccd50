//! Trees of real directories, through the seams alone.

use std::fs;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::cache::Budget;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Shared;
use crate::store::Place;
use crate::tree::{
    Ancestors, Content, Dir, Entry, FileType, Identity, Listing, Node, Opened, Reader, Step, Validity,
};

pub(super) fn host() -> Arc<Host> {
    Host::new("id", "backups", Place::alone(), Shared::new(Budget::of(8 << 20)), None)
}

/// A directory, opened by its path whenever it has to be.
pub(super) fn tree(path: &Path, snapshot: &str, validity: Validity) -> Tree {
    let path = path.to_owned();
    let root = move || {
        let fd = fs::File::open(&path).map_err(|e| Error::io("top", e))?;
        Ok(Descriptor::from(std::os::fd::OwnedFd::from(fd)))
    };
    Tree {
        root: Arc::new(root),
        snapshot: snapshot.into(),
        path: 0,
        name: Arc::from(&b"top"[..]),
        ancestors: Ancestors::Unknown,
        validity,
    }
}

async fn open(path: &Path) -> Node {
    host().open(tree(path, "2026", Validity::Forever)).resolve().await.unwrap().node
}

fn dir(node: &Node) -> Arc<dyn Dir> {
    let Content::Dir(dir) = &node.content else { panic!("no directory") };
    Arc::clone(dir)
}

async fn lookup(node: &Node, name: &str) -> Result<Option<Node>> {
    dir(node).lookup(name.as_bytes()).resolve().await
}

/// The node at a path that is there.
async fn at(node: &Node, path: &str) -> Node {
    let mut node = node.clone();
    for name in path.split('/') {
        node = lookup(&node, name).await.unwrap().unwrap_or_else(|| panic!("no {name}"));
    }
    node
}

async fn listing(node: &Node) -> Arc<dyn Listing> {
    dir(node).listing().resolve().await.unwrap()
}

async fn names(node: &Node) -> Vec<String> {
    let mut names = Vec::new();
    listing(node).await.visit(0, &mut |entry: &Entry<'_>| {
        names.push(String::from_utf8_lossy(entry.name).into_owned());
        ControlFlow::Continue(())
    });
    names.sort();
    names
}

async fn reader(node: &Node) -> Result<Arc<dyn Reader>> {
    let Content::File(file) = &node.content else { panic!("no file") };
    file.open().resolve().await
}

async fn content(node: &Node) -> Result<Bytes> {
    reader(node).await?.read_at(0, 1 << 20).resolve().await
}

#[tokio::test]
async fn a_directory_is_shown_as_it_is() {
    let top = tempfile::tempdir().unwrap();
    fs::create_dir_all(top.path().join("a/b")).unwrap();
    fs::write(top.path().join("a/b/file"), "content").unwrap();
    symlink("../nowhere", top.path().join("a/link")).unwrap();
    fs::set_permissions(top.path().join("a"), fs::Permissions::from_mode(0o751)).unwrap();
    let node = open(top.path()).await;
    assert_eq!(node.meta.kind, FileType::Dir);
    assert_eq!(names(&node).await, ["a"]);
    let a = at(&node, "a").await;
    assert_eq!((a.meta.perm, a.meta.identity), (0o751, Identity::Path));
    assert_eq!(names(&a).await, ["b", "link"]);
    let Content::Symlink(target) = at(&a, "link").await.content else { panic!("no link") };
    assert_eq!(target, "../nowhere");
    assert_eq!(content(&at(&a, "b/file").await).await.unwrap(), "content");
    assert!(lookup(&a, "no").await.unwrap().is_none());
}

#[tokio::test]
async fn looked_up_and_listed_nodes_are_the_same() {
    let top = tempfile::tempdir().unwrap();
    fs::write(top.path().join("file"), "x").unwrap();
    symlink("x", top.path().join("link")).unwrap();
    let node = open(top.path()).await;
    let looked = [at(&node, "file").await.meta, at(&node, "link").await.meta];
    let listing = listing(&node).await;
    let mut seen = Vec::new();
    listing.visit(0, &mut |entry: &Entry<'_>| {
        assert_eq!(listing.node(entry.at).unwrap().meta, entry.meta.unwrap());
        seen.push(entry.meta.unwrap());
        ControlFlow::Continue(())
    });
    seen.sort_by_key(|meta| meta.kind == FileType::Symlink);
    assert_eq!(seen, looked);
}

#[tokio::test]
async fn hard_links_are_one_node_and_only_in_one_snapshot() {
    let top = tempfile::tempdir().unwrap();
    fs::write(top.path().join("one"), "x").unwrap();
    fs::hard_link(top.path().join("one"), top.path().join("two")).unwrap();
    let host = host();
    let open = async |snapshot: &str| {
        let tree = tree(top.path(), snapshot, Validity::Forever);
        host.open(tree).resolve().await.unwrap().node
    };
    let (first, second) = (open("1").await, open("2").await);
    let identity = async |node: &Node, name: &str| at(node, name).await.meta.identity;
    assert!(matches!(identity(&first, "one").await, Identity::Key(_)));
    assert_eq!(identity(&first, "one").await, identity(&first, "two").await);
    assert_eq!(identity(&first, "one").await, identity(&open("1").await, "one").await, "over mounts");
    assert_ne!(identity(&first, "one").await, identity(&second, "one").await);
}

#[tokio::test]
async fn reads_are_exact_and_holes_are_found() {
    let top = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0u32..100_000).flat_map(u32::to_le_bytes).collect();
    fs::write(top.path().join("file"), &bytes).unwrap();
    let sparse = fs::File::create(top.path().join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"data", 4 << 20).unwrap();
    let node = open(top.path()).await;
    let file = reader(&at(&node, "file").await).await.unwrap();
    for (offset, len) in [(0, 10), (5, 131_072), (399_990, 100), (400_000, 5), (u64::MAX, 1), (3, 0)] {
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        let to = from.saturating_add(len).min(bytes.len());
        assert_eq!(file.read_at(offset, len).resolve().await.unwrap(), bytes[from..to]);
    }
    assert_eq!(file.next_data(7).resolve().await.unwrap(), Some(7));
    assert_eq!(file.next_hole(7).resolve().await.unwrap(), 400_000, "the end is one");
    let found = at(&node, "sparse").await;
    let sparse = reader(&found).await.unwrap();
    assert_eq!(sparse.next_data(0).resolve().await.unwrap(), Some(4 << 20));
    assert_eq!(sparse.next_hole(0).resolve().await.unwrap(), 0);
    assert_eq!(sparse.next_data(5 << 20).resolve().await.unwrap(), None);
    assert!(found.meta.blocks * 512 < 1 << 20);
}

#[tokio::test]
async fn what_is_no_file_is_shown_and_not_opened() {
    let top = tempfile::tempdir().unwrap();
    let open_top = fs::File::open(top.path()).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(&open_top, "pipe", rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(top.path().join("socket")).unwrap();
    let node = open(top.path()).await;
    for (name, kind) in [("pipe", FileType::Fifo), ("socket", FileType::Socket)] {
        let found = at(&node, name).await;
        assert_eq!(found.meta.kind, kind);
        assert!(matches!(found.content, Content::Special));
    }
    // A pipe in place of a file that was listed: opened without waiting for a writer, and refused.
    fs::write(top.path().join("file"), "x").unwrap();
    let file = at(&node, "file").await;
    fs::remove_file(top.path().join("file")).unwrap();
    rustix::fs::mknodat(&open_top, "file", rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(content(&file).await.unwrap_err().kind(), Kind::Stale);
}

#[tokio::test]
async fn what_changed_since_is_stale_and_never_absent() {
    let top = tempfile::tempdir().unwrap();
    fs::create_dir_all(top.path().join("a/b")).unwrap();
    fs::write(top.path().join("a/file"), "before").unwrap();
    let node = open(top.path()).await;
    let (a, file, b) = (at(&node, "a").await, at(&node, "a/file").await, at(&node, "a/b").await);
    fs::write(top.path().join("a/file"), "afterwards").unwrap();
    assert_eq!(content(&file).await.unwrap_err().kind(), Kind::Stale);
    // A link in place of a directory leads nowhere.
    fs::rename(top.path().join("a"), top.path().join("moved")).unwrap();
    symlink("moved", top.path().join("a")).unwrap();
    let error = lookup(&a, "b").await.err().unwrap();
    assert_eq!(error.kind(), Kind::Stale);
    assert!(error.to_string().starts_with("backups: snapshot 2026: /a/b: "), "{error}");
    assert_eq!(dir(&b).listing().resolve().await.err().unwrap().kind(), Kind::Stale);
    fs::remove_dir_all(top.path()).unwrap();
    assert_eq!(dir(&node).listing().resolve().await.err().unwrap().kind(), Kind::Stale);
    assert_eq!(lookup(&node, "x").await.err().unwrap().kind(), Kind::Stale);
}

#[tokio::test(start_paused = true)]
async fn the_top_is_the_directory_that_it_was() {
    let outer = tempfile::tempdir().unwrap();
    let top = outer.path().join("top");
    fs::create_dir(&top).unwrap();
    fs::write(top.join("file"), "x").unwrap();
    let host = host();
    let opens = Arc::new(AtomicUsize::new(0));
    let mut tree = tree(&top, "2026", Validity::Forever);
    let (root, counted) = (tree.root, Arc::clone(&opens));
    tree.root = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        root.open()
    });
    let node = host.open(tree).resolve().await.unwrap().node;
    at(&node, "file").await;
    assert_eq!(opens.load(Ordering::Relaxed), 1, "open as long as it is used");
    fs::rename(&top, outer.path().join("old")).unwrap();
    fs::create_dir(&top).unwrap();
    at(&node, "file").await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(lookup(&node, "file").await.err().unwrap().kind(), Kind::Stale);
    assert_eq!(opens.load(Ordering::Relaxed), 2, "closed when idle");
}

#[tokio::test]
async fn a_directory_that_may_change_is_read_again() {
    let top = tempfile::tempdir().unwrap();
    let open = async |validity| host().open(tree(top.path(), "2026", validity)).resolve().await.unwrap().node;
    let lasting = open(Validity::Forever).await;
    let passing = open(Validity::For(Duration::ZERO)).await;
    assert_eq!((names(&lasting).await.len(), names(&passing).await.len()), (0, 0));
    fs::write(top.path().join("new"), "x").unwrap();
    assert_eq!((names(&lasting).await.len(), names(&passing).await.len()), (0, 1));
    assert!(lookup(&lasting, "new").await.unwrap().is_none(), "look-ups agree with what was listed");
}

#[tokio::test]
async fn other_file_systems_are_borders() {
    let node = open("/".as_ref()).await;
    let proc = at(&node, "proc").await;
    assert_eq!(proc.meta.kind, FileType::Dir);
    assert!(names(&proc).await.is_empty());
    assert!(lookup(&proc, "self").await.unwrap().is_none());
    assert!(!names(&at(&node, "usr").await).await.is_empty());
}

#[tokio::test]
async fn extended_attributes_are_those_of_the_entry_itself() {
    let top = tempfile::tempdir().unwrap();
    let file = fs::File::create(top.path().join("file")).unwrap();
    fs::write(top.path().join("plain"), "x").unwrap();
    fs::create_dir(top.path().join("dir")).unwrap();
    symlink("file", top.path().join("link")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(&file, "user.small", b"v", flags).unwrap();
    rustix::fs::fsetxattr(&file, "user.large", &[7; 2000], flags).unwrap();
    rustix::fs::fsetxattr(fs::File::open(top.path().join("dir")).unwrap(), "user.d", b"", flags).unwrap();
    let node = open(top.path()).await;
    let names = async |node: &Node| match &node.xattrs {
        None => Vec::new(),
        Some(xattrs) => xattrs.names().resolve().await.unwrap(),
    };
    let found = at(&node, "file").await;
    let mut listed = names(&found).await;
    listed.sort();
    assert_eq!(listed, ["user.large", "user.small"]);
    let get = async |name: &[u8]| found.xattrs.clone().unwrap().get(name).resolve().await.unwrap();
    assert_eq!(get(b"user.large").await.unwrap(), vec![7; 2000]);
    assert_eq!(get(b"user.no").await, None);
    assert_eq!(get(b"no\0name").await, None);
    assert_eq!(names(&at(&node, "dir").await).await, ["user.d"]);
    for plain in ["plain", "link"] {
        let found = at(&node, plain).await;
        assert!(!found.meta.has_xattrs && found.xattrs.is_none(), "{plain}");
    }
}

/// Somebody with rights, who notes what was asked.
#[derive(Default)]
struct Other(std::sync::Mutex<Vec<String>>);

impl Other {
    fn note(&self, asked: &str, name: &[u8]) {
        self.0.lock().unwrap().push(format!("{asked} {}", String::from_utf8_lossy(name)));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Rights for Other {
    fn entries(&self, dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
        self.note("entries", b"");
        beneath::visit(dir, |_, _| ())?;
        Ok(vec![b"marked".to_vec(), b"gone".to_vec()])
    }

    fn names(&self, _: BorrowedFd<'_>, entry: &[u8]) -> rustix::io::Result<Vec<Vec<u8>>> {
        self.note("names", entry);
        Ok(vec![b"trusted.mark".to_vec()])
    }

    fn value(&self, _: BorrowedFd<'_>, entry: &[u8], name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
        self.note("value", entry);
        Ok((name == b"trusted.mark").then(|| b"yes".to_vec()))
    }
}

#[tokio::test]
async fn what_only_others_see_is_asked_for_once_a_directory() {
    let top = tempfile::tempdir().unwrap();
    for name in ["marked", "plain", "other"] {
        fs::write(top.path().join(name), name).unwrap();
    }
    let other = Arc::new(Other::default());
    let shared = Shared::new(Budget::of(8 << 20));
    let host = Host::new("id", "backups", Place::alone(), shared, Some(other.clone()));
    let tree = tree(top.path(), "2026", Validity::Forever);
    let node = host.open(tree).resolve().await.unwrap().node;
    listing(&node).await;
    let attributes = async |name: &str| at(&node, name).await.xattrs.unwrap();
    let names = async |name: &str| attributes(name).await.names().resolve().await.unwrap();
    let get = async |name: &str, attribute: &str| {
        attributes(name).await.get(attribute.as_bytes()).resolve().await.unwrap()
    };
    assert!(!at(&node, "marked").await.meta.has_xattrs, "whoever is not privileged is answered at once");
    assert_eq!(get("marked", "user.x").await, None);
    assert!(other.asked().is_empty(), "nor is anybody asked for what all may see");
    let public = attributes("marked").await.names_but_trusted().resolve().await.unwrap();
    assert!(public.is_empty() && other.asked().is_empty(), "of what all may see neither");
    assert!(names("plain").await.is_empty());
    assert_eq!(other.asked(), ["entries "]);
    assert_eq!(names("marked").await, ["trusted.mark"]);
    assert_eq!(get("marked", "trusted.mark").await.unwrap(), "yes");
    assert_eq!(other.asked(), ["names marked", "value marked"]);
    assert!(names("other").await.is_empty() && get("plain", "trusted.mark").await.is_none());
    assert!(other.asked().is_empty(), "it is known of the whole directory");
}

#[tokio::test]
async fn of_what_will_be_read_others_are_asked_ahead_once_somebody_wanted_to_know() {
    let top = tempfile::tempdir().unwrap();
    for n in 0..6 {
        fs::create_dir(top.path().join(format!("d{n}"))).unwrap();
        fs::write(top.path().join(format!("d{n}/marked")), "x").unwrap();
        fs::write(top.path().join(format!("d{n}/plain")), "x").unwrap();
    }
    let other = Arc::new(Other::default());
    let shared = Shared::new(Budget::of(8 << 20));
    let host = Host::new("id", "backups", Place::alone(), shared, Some(other.clone()));
    let node = host.open(tree(top.path(), "2026", Validity::Forever)).resolve().await.unwrap().node;
    let asks = || other.asked().iter().filter(|asked| *asked == "entries ").count();
    let will_read = async |n: usize| listing(&at(&node, &format!("d{n}")).await).await.will_read(&[]);
    let names = async |n: usize, name: &str, privileged: bool| {
        let xattrs = at(&node, &format!("d{n}/{name}")).await.xattrs.unwrap();
        let names = if privileged { xattrs.names() } else { xattrs.names_but_trusted() };
        names.resolve().await.unwrap()
    };
    will_read(0).await;
    will_read(1).await;
    assert!(names(0, "plain", false).await.is_empty());
    assert!(names(0, "plain", true).await.is_empty());
    assert_eq!(asks(), 1, "nobody had wanted to know before");
    for _ in 0..2 {
        will_read(0).await;
        will_read(1).await;
        will_read(2).await;
    }
    let both = async {
        while other.0.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    for n in [1, 2] {
        assert!(names(n, "plain", true).await.is_empty());
        assert_eq!(names(n, "marked", true).await, ["trusted.mark"]);
    }
    assert_eq!(asks(), 2, "of each once, and of the first it was known");
}

#[tokio::test]
async fn of_what_cannot_be_opened_the_reason_is_told() {
    let host = host();
    let gone = |error: Kind| {
        let mut tree = tree("/".as_ref(), "20260301_030000", Validity::Forever);
        tree.root = Arc::new(move || Err(Error::new(error, "destroyed")));
        tree
    };
    for kind in [Kind::Stale, Kind::Denied, Kind::Unavailable] {
        let error = host.open(gone(kind)).resolve().await.err().unwrap();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.to_string(), "backups: snapshot 20260301: destroyed");
    }
    let file = tree("/etc/passwd".as_ref(), "1", Validity::Forever);
    assert_eq!(host.open(file).resolve().await.err().unwrap().kind(), Kind::NotDirectory);
}

#[tokio::test]
async fn a_warm_file_is_read_at_once() {
    let top = tempfile::tempdir().unwrap();
    fs::write(top.path().join("file"), vec![5; 300_000]).unwrap();
    let node = open(top.path()).await;
    let reader = reader(&at(&node, "file").await).await.unwrap();
    reader.read_at(0, 300_000).resolve().await.unwrap();
    // Not all file systems can say what they have in memory.
    let quiet = rustix::fs::statfs(top.path()).is_ok_and(|found| found.f_type == 0xef53);
    if quiet {
        assert!(matches!(reader.read_at(1, 299_999), Step::Ready(Ok(bytes)) if bytes.len() == 299_999));
    }
}

#[tokio::test]
async fn the_opened_top_carries_what_was_said_of_it() {
    let top = tempfile::tempdir().unwrap();
    let mut tree = tree(top.path(), "1", Validity::Forever);
    tree.ancestors = ancestors(top.path());
    let Opened { name, node, ancestors } = host().open(tree).resolve().await.unwrap();
    assert_eq!(&*name, b"top");
    assert_eq!(node.meta.mtime.secs, fs::metadata(top.path()).unwrap().mtime());
    assert!(matches!(ancestors, Ancestors::Recorded(above) if !above.is_empty()));
}

#[tokio::test]
async fn what_will_be_read_is_in_memory_before() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("file");
    fs::write(&path, vec![5; 100_000]).unwrap();
    let file = fs::File::open(&path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut byte = [0];
    let mut in_memory = || {
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        rustix::io::preadv2(&file, &mut [std::io::IoSliceMut::new(&mut byte)], 99_999, flags) == Ok(1)
    };
    // Some file systems are memory, and some cannot say.
    if rustix::fs::statfs(top.path()).is_ok_and(|found| found.f_type == 0xef53) && !in_memory() {
        let node = open(top.path()).await;
        let listing = listing(&node).await;
        listing.will_read(&[0, u64::MAX]);
        let mut at = Vec::new();
        listing.visit(0, &mut |entry: &Entry<'_>| {
            at.push(entry.at);
            ControlFlow::Continue(())
        });
        listing.will_read(&at);
        while !in_memory() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
