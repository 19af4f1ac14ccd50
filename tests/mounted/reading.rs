//! Bytes: exact, in any order, with holes where there were holes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use backupfs::error::{Error, Kind};
use backupfs::fuse::Options;
use backupfs::tree::{Content, Node, Step};
use bytes::Bytes;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::guard::{mounted, options};
use crate::memory::{Manner, With, dir, file, key, looks, odd, pattern, sparse};

/// With zero-message opens, and with opens answered.
fn both() -> [Options; 2] {
    [true, false].map(|immutable| Options { immutable, ..options() })
}

#[test]
fn reads_of_any_size_at_any_offset_are_exact() {
    let content = pattern(3_000_000);
    for options in both() {
        let slow = odd(content.clone(), Manner::Slow(Duration::from_millis(1)));
        let Some(mount) = mounted(dir([("fast", file(content.clone())), ("slow", slow)]), options) else {
            return;
        };
        for name in ["fast", "slow"] {
            assert_eq!(std::fs::read(mount.path(name)).unwrap(), content, "{name}");
            let opened = File::open(mount.path(name)).unwrap();
            let direct = rustix::fs::open(mount.path(name), OFlags::RDONLY | OFlags::DIRECT, Mode::empty());
            let direct = File::from(direct.unwrap());
            for (offset, len) in [(0, 1), (4095, 2), (1_234_567, 131_073), (2_999_999, 1), (2_999_999, 10)] {
                let end = (offset + len).min(content.len());
                let mut buffer = vec![0; len];
                for file in [&opened, &direct] {
                    let mut got = 0;
                    while let Ok(n) = file.read_at(&mut buffer[got..], (offset + got) as u64) {
                        got += n;
                        if n == 0 {
                            break;
                        }
                    }
                    assert_eq!(buffer[..got], content[offset..end], "{name} {offset}+{len}");
                }
            }
            assert_eq!(opened.read_at(&mut [0; 10], 3_000_000).unwrap(), 0);
            assert_eq!(opened.read_at(&mut [0; 10], u64::MAX >> 2).unwrap(), 0);
        }
    }
}

#[test]
fn many_readers_of_many_files_do_not_mix() {
    let contents: Vec<Bytes> = (0..40).map(|i| Bytes::from(vec![i; 100_000 + usize::from(i)])).collect();
    let tree = dir(contents.iter().enumerate().map(|(i, content)| {
        let manner = if i % 2 == 0 { Manner::Ready } else { Manner::Slow(Duration::from_millis(2)) };
        (i.to_string(), odd(content.clone(), manner))
    }));
    for options in both() {
        let Some(mount) = mounted(tree.clone(), options) else { return };
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let (mount, contents) = (&mount, &contents);
                scope.spawn(move || {
                    for i in 0..contents.len() {
                        let i = (i * 7 + worker) % contents.len();
                        assert_eq!(std::fs::read(mount.path(i.to_string())).unwrap(), contents[i]);
                    }
                });
            }
        });
    }
}

#[test]
fn holes_are_found_and_copied_as_holes() {
    let data = |byte| Bytes::from(vec![byte; 1 << 20]);
    let size = 50 << 30;
    let extents = vec![(1 << 30, data(1)), (40 << 30, data(2))];
    for options in both() {
        let Some(mount) = mounted(dir([("f", sparse(size, extents.clone(), Manner::Ready))]), options) else {
            return;
        };
        let opened = rustix::fs::open(mount.path("f"), OFlags::RDONLY, Mode::empty()).unwrap();
        let seek = |to| rustix::fs::seek(&opened, to);
        assert_eq!(seek(SeekFrom::Data(0)), Ok(1 << 30));
        assert_eq!(seek(SeekFrom::Hole(1 << 30)), Ok((1 << 30) + (1 << 20)));
        assert_eq!(seek(SeekFrom::Data((1 << 30) + (1 << 20))), Ok(40 << 30));
        assert_eq!(seek(SeekFrom::Hole(0)), Ok(0));
        assert_eq!(seek(SeekFrom::Data(45 << 30)), Err(Errno::NXIO));
        assert_eq!(seek(SeekFrom::Data(size)), Err(Errno::NXIO));
        assert_eq!(seek(SeekFrom::Hole(45 << 30)), Ok(45 << 30));
        assert_eq!(seek(SeekFrom::End(0)), Ok(size));
        let target = tempfile::tempdir().unwrap();
        let copy = target.path().join("copy");
        mount.sh(&format!("cp --sparse=auto f {}", copy.display()));
        use std::os::unix::fs::MetadataExt;
        let meta = copy.metadata().unwrap();
        assert_eq!(meta.len(), size);
        assert!(meta.blocks() * 512 <= 3 << 20, "{} blocks", meta.blocks());
        let mut byte = [0];
        File::open(copy).unwrap().read_exact_at(&mut byte, (40 << 30) + 5).unwrap();
        assert_eq!(byte, [2]);
    }
}

#[test]
fn a_short_answer_of_a_reader_is_an_error_and_never_a_shorter_file() {
    let tree = || dir([("short", odd(pattern(100_000), Manner::Short)), ("good", file("good"))]);
    for options in both() {
        let Some(mount) = mounted(tree(), options) else { return };
        let error = std::fs::read(mount.path("short")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert!(!mount.sh_as(0, "cat short").status.success());
        assert_eq!(mount.sh("cat good; stat -c %s short"), "good100000\n");
    }
}

#[test]
fn programs_run_map_and_send_what_they_read() {
    let Ok(program) = std::fs::read("/bin/true") else { return };
    let tree =
        dir([("true", file(program.clone()).with(|m| m.perm = 0o755)), ("text", file(pattern(70_000)))]);
    for options in both() {
        let Some(mount) = mounted(tree.clone(), options) else { return };
        mount.sh("./true && cmp true /bin/true && grep -c . text >/dev/null");
        let mut copy = tempfile::tempfile().unwrap();
        let mut source = File::open(mount.path("text")).unwrap();
        assert_eq!(std::io::copy(&mut source, &mut copy).unwrap(), 70_000);
        copy.flush().unwrap();
    }
}

#[test]
fn a_file_that_left_its_directory_is_read_to_its_end() {
    let set = Arc::new(crate::memory::Memory::default());
    set.set("f", file(pattern(2_000_000)).with(key(5)));
    for options in both() {
        let Some(mount) = mounted(dir([("set", set.node())]), options) else { return };
        set.set("f", file(pattern(2_000_000)).with(key(5)));
        let mut opened = File::open(mount.path("set/f")).unwrap();
        let mut start = vec![0; 1000];
        opened.read_exact(&mut start).unwrap();
        set.remove("f");
        let mut rest = Vec::new();
        opened.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, pattern(2_000_000)[1000..]);
    }
}

#[test]
fn a_shared_file_is_read_through_the_snapshot_that_is_left() {
    // Listed last, the removed one is where the file was found last.
    for (options, slowly) in both().into_iter().flat_map(|o| [(o.clone(), false), (o, true)]) {
        let removed = Arc::new(AtomicBool::new(false));
        let date = |fails: Option<Arc<AtomicBool>>| {
            let f = Removable { removed: fails.unwrap_or_default(), slowly };
            let node = file(pattern(5000)).with(key(5));
            let content = Content::File(Arc::new(f));
            dir([("f", Node { content, ..node })])
        };
        let tree = dir([("kept", date(None)), ("removed", date(Some(removed.clone())))]);
        let Some(mount) = mounted(tree, options) else { return };
        mount.sh("ls -l kept removed");
        removed.store(true, Ordering::Relaxed);
        assert_eq!(std::fs::read(mount.path("kept/f")).unwrap(), pattern(5000));
    }
}

/// A file whose snapshot may be removed.
struct Removable {
    removed: Arc<AtomicBool>,
    slowly: bool,
}

impl backupfs::tree::File for Removable {
    fn open(&self) -> Step<Arc<dyn backupfs::tree::Reader>> {
        let opened = match file(pattern(5000)).content {
            _ if self.removed.load(Ordering::Relaxed) => Step::err(Error::new(Kind::Stale, "removed")),
            Content::File(file) => file.open(),
            _ => unreachable!("it is a file"),
        };
        if self.slowly { Step::wait(opened.resolve()) } else { opened }
    }
}

#[test]
fn the_kernel_keeps_what_it_read() {
    let opens = Arc::new(AtomicUsize::new(0));
    let counter = opens.clone();
    let tree = looks(move |name| {
        counter.fetch_add(1, Ordering::Relaxed);
        Step::ok((name == b"f").then(|| file(pattern(100_000))))
    });
    let Some(mount) = mounted(tree, options()) else { return };
    for _ in 0..5 {
        assert_eq!(std::fs::read(mount.path("f")).unwrap().len(), 100_000);
    }
    assert_eq!(opens.load(Ordering::Relaxed), 1, "looked up once for ever");
}
