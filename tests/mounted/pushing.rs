//! Small files reach the kernel before they are asked for, and only for who reads.
//!
//! What was read from a node before anybody read the file can only have been pushed; what is read afterwards without a
//! further read of the node came out of the kernel's cache.

use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use backupfs::tree::{Content, File, FileType, Meta, Node, Reader, Step, Validity};
use bytes::Bytes;

use crate::guard::{Mounted, mounted, options};
use crate::memory::{Manner, With, dir, meta, odd, pattern};

/// A file that counts how often it is read.
struct Counted {
    bytes: Bytes,
    reads: Arc<AtomicUsize>,
}

impl File for Counted {
    fn open(&self) -> Step<Arc<dyn Reader>> {
        Step::ok(Arc::new(Counted { bytes: self.bytes.clone(), reads: self.reads.clone() }))
    }
}

impl Reader for Counted {
    fn read_at(&self, offset: u64, len: usize) -> Step<Bytes> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let from = usize::try_from(offset).unwrap();
        Step::ok(self.bytes.slice(from..self.bytes.len().min(from + len)))
    }

    fn next_hole(&self, _: u64) -> Step<u64> {
        Step::ok(self.bytes.len() as u64)
    }
}

/// A directory of files by name, with the counts of their reads.
struct Files {
    node: Node,
    content: Vec<(String, Bytes, Arc<AtomicUsize>)>,
}

impl Files {
    fn new(sizes: impl IntoIterator<Item = usize>) -> Self {
        let file = |(number, size): (usize, usize)| {
            (
                format!("file-{number:04}"),
                pattern(size + number).slice(number..),
                Arc::<AtomicUsize>::default(),
            )
        };
        let content: Vec<_> = sizes.into_iter().enumerate().map(file).collect();
        let node = |bytes: &Bytes, reads: &Arc<AtomicUsize>| Node {
            meta: Meta { size: bytes.len() as u64, ..meta(FileType::File, 0o644) },
            content: Content::File(Arc::new(Counted { bytes: bytes.clone(), reads: reads.clone() })),
            xattrs: None,
        };
        let node = dir(content.iter().map(|(name, bytes, reads)| (name, node(bytes, reads))));
        Files { node, content }
    }

    fn reads(&self, number: usize) -> usize {
        self.content[number].2.load(Ordering::SeqCst)
    }

    /// How many have been read at all.
    fn touched(&self) -> usize {
        (0..self.content.len()).filter(|number| self.reads(*number) > 0).count()
    }

    fn check(&self, at: &Path, number: usize) {
        let (name, bytes, _) = &self.content[number];
        let read = std::fs::read(at.join(name)).unwrap();
        assert!(read == *bytes, "{name}: {} of {} bytes, or others", read.len(), bytes.len());
    }
}

/// Lists with attributes, so that the kernel knows all files; gives names by number.
fn list(at: &Path) -> Vec<(PathBuf, u64)> {
    let mut found: Vec<_> = std::fs::read_dir(at)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().ino(), entry.ino());
            (entry.path(), entry.ino())
        })
        .collect();
    found.sort();
    found
}

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what}: it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn mount(files: &Files) -> Option<Mounted> {
    mounted(dir([("d", files.node.clone())]), options())
}

#[test]
fn what_follows_three_reads_is_in_the_kernel_before_it_is_asked_for() {
    let sizes = (0..60).map(|n| [1, 4096, 5000, 100_000, 4095][n % 5]);
    let files = Files::new(sizes);
    let Some(mount) = mount(&files) else { return };
    let at = mount.path("d");
    assert_eq!(list(&at).len(), 60);
    assert_eq!(files.touched(), 0, "listing reads nothing");
    (0..3).for_each(|number| files.check(&at, number));
    // Number 3 is left out: that it is read would tell how far the reader has come.
    until("the first window", || files.reads(4) == 1 && files.reads(5) == 1);
    // The next window goes when number 3 is read, and so on to the end.
    (3..60).for_each(|number| {
        until("the next file", || number > 3 || files.reads(4) > 0);
        files.check(&at, number);
    });
    until("the last window", || files.touched() == 60);
    assert!((4..9).all(|number| files.reads(number) == 1), "they came out of the kernel's cache");
    (0..60).for_each(|number| files.check(&at, number));
}

#[test]
fn readers_by_inode_number_are_followed_too() {
    let files = Files::new([4096; 100]);
    let Some(mount) = mount(&files) else { return };
    let at = mount.path("d");
    let mut by_number = list(&at);
    by_number.sort_by_key(|(_, number)| *number);
    let number = |path: &PathBuf| -> usize {
        path.to_str().unwrap()[path.to_str().unwrap().len() - 4..].parse().unwrap()
    };
    for (path, _) in by_number.iter().take(3) {
        files.check(&at, number(path));
    }
    let next: Vec<usize> = by_number.iter().skip(4).take(50).map(|(path, _)| number(path)).collect();
    until("the first window", || next.iter().all(|number| files.reads(*number) == 1));
    next.iter().for_each(|number| files.check(&at, *number));
    assert!(next.iter().all(|number| files.reads(*number) == 1), "they came out of the kernel's cache");
}

#[test]
fn who_only_lists_gets_nothing() {
    let files = Files::new([100; 200]);
    let Some(mount) = mount(&files) else { return };
    mount.sh("ls -lR . >/dev/null; find . -size +1k >/dev/null; stat d/file-0000 d/file-0001 d/file-0002 >/dev/null");
    // One and two files are no walk.
    files.check(&mount.path("d"), 10);
    files.check(&mount.path("d"), 11);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(files.touched(), 2);
}

#[test]
fn who_walks_a_tree_finds_the_next_directories_filled() {
    let dirs: Vec<Files> = (0..8).map(|n| Files::new(vec![1000 + n; 20])).collect();
    let named = dirs.iter().enumerate().map(|(n, files)| (format!("{n}"), files.node.clone()));
    let Some(mount) = mounted(dir(named), options()) else { return };
    list(mount.root());
    for (number, files) in dirs.iter().enumerate().take(4) {
        let at = mount.path(number.to_string());
        list(&at);
        (0..20).for_each(|number| files.check(&at, number));
    }
    let at = mount.path("4");
    list(&at);
    until("a directory that was only listed", || dirs[4].touched() >= 19);
    let before: Vec<usize> = (0..20).map(|number| dirs[4].reads(number)).collect();
    (0..20).for_each(|number| dirs[4].check(&at, number));
    let again = (0..20).filter(|number| before[*number] > 0 && dirs[4].reads(*number) > before[*number]);
    assert_eq!(again.count(), 0, "what was pushed is not read again");
    assert_eq!(dirs[7].touched(), 0, "what nobody listed is not known to the kernel");
}

#[test]
fn files_that_may_change_and_large_ones_are_left_alone() {
    let mut files = Files::new([64; 40]);
    let changing = Validity::For(Duration::from_secs(60));
    let node = |n: usize| {
        let (name, bytes, reads) = &files.content[n];
        let content = Content::File(Arc::new(Counted { bytes: bytes.clone(), reads: reads.clone() }));
        let meta = Meta { size: bytes.len() as u64, ..meta(FileType::File, 0o644) };
        let node = Node { meta, content, xattrs: None };
        (name.clone(), if n % 2 == 1 { node.with(|meta| meta.validity = changing) } else { node })
    };
    let nodes: Vec<_> = (0..40).map(node).collect();
    files.node = dir(nodes);
    let Some(mount) = mount(&files) else { return };
    let at = mount.path("d");
    list(&at);
    [0, 2, 4].into_iter().for_each(|number| files.check(&at, number));
    until("the others", || (8..40).step_by(2).all(|number| files.reads(number) == 1));
    assert!((1..40).step_by(2).all(|number| files.reads(number) == 0), "they may change");
}

#[test]
fn what_hangs_fails_or_panics_ends_the_pushing_and_nothing_else() {
    for manner in
        [Manner::Never, Manner::Fails(backupfs::error::Kind::Corrupt), Manner::Panics, Manner::Short]
    {
        let files = Files::new([500; 10]);
        let bad = odd(pattern(500), manner);
        let good: Vec<_> = (0..10)
            .map(|n| {
                let (name, bytes, _) = &files.content[n];
                (name.clone(), odd(bytes.clone(), Manner::Ready))
            })
            .chain([("bad".to_owned(), bad)])
            .chain((0..10).map(|n| (format!("later-{n}"), odd(pattern(300), Manner::Ready))))
            .collect();
        let Some(mount) = mounted(dir([("d", dir(good))]), options()) else { return };
        let at = mount.path("d");
        list(&at);
        (0..10).for_each(|number| files.check(&at, number));
        assert_eq!(std::fs::read(at.join("later-3")).unwrap(), pattern(300));
        // And the mount ends at once, whatever is being waited for.
        let begun = Instant::now();
        mount.end();
        assert!(begun.elapsed() < options().data_timeout);
    }
}
