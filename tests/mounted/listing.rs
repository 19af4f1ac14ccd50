//! Directories: complete, in order, with the numbers and types that stat tells.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use backupfs::tree::{FileType, Step, Validity};
use rustix::fs::{Dir, Mode, OFlags, SeekFrom};

use crate::guard::{mounted, options};
use crate::memory::{Memory, With, dir, file, key, looks, special, symlink};

fn many(count: usize) -> backupfs::tree::Node {
    dir((0..count).map(|i| (format!("{i:05}"), file("x"))))
}

#[test]
fn fifty_thousand_entries_are_all_there_with_attributes_and_without() {
    let Some(mount) = mounted(dir([("many", many(50_000))]), options()) else { return };
    let names: Vec<_> =
        std::fs::read_dir(mount.path("many")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 50_000);
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), 50_000);
    assert_eq!(mount.sh("ls -f many | wc -l").trim(), "50002", "with . and ..");
    assert_eq!(mount.sh("ls -l many | grep -c '^-rw-r--r-- 1 root root 1 Mar  1'").trim(), "50000");
    assert_eq!(mount.sh("find many -type f -size -2c | wc -l").trim(), "50000");
}

#[test]
fn seekdir_goes_on_where_telldir_was() {
    let Some(mount) = mounted(dir([("many", many(3_000))]), options()) else { return };
    let fd = rustix::fs::open(mount.path("many"), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let read = |dir: &mut Dir| -> Vec<(Vec<u8>, i64)> {
        dir.map(|e| e.unwrap()).map(|e| (e.file_name().to_bytes().to_vec(), e.offset())).collect()
    };
    let all = read(&mut Dir::read_from(&fd).unwrap());
    assert_eq!(all.len(), 3_002);
    for at in [0, 1, 2, 1_500, 3_000, 3_001] {
        let mut dir = Dir::read_from(&fd).unwrap();
        dir.seek(all[at].1).unwrap();
        assert_eq!(read(&mut dir), all[at + 1..], "after entry {at}");
    }
    rustix::fs::seek(&fd, SeekFrom::Start(0)).unwrap();
}

#[test]
fn numbers_and_types_in_listings_are_those_of_stat() {
    let tree = dir([
        ("dir", dir([("below", dir([("file", file("1"))]))])),
        ("file", file("2")),
        ("link", symlink("file")),
        ("pipe", special(FileType::Fifo, 0)),
        ("socket", special(FileType::Socket, 0)),
        ("char", special(FileType::Char, 0x103)),
        ("block", special(FileType::Block, 0x801)),
    ]);
    let Some(mount) = mounted(tree, options()) else { return };
    let mut dirs = vec![mount.root().to_owned()];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap()) {
            let stat = entry.path().symlink_metadata().unwrap();
            assert_eq!(entry.ino(), stat.ino(), "{:?}", entry.path());
            assert_eq!(entry.file_type().unwrap(), stat.file_type(), "{:?}", entry.path());
            seen += 1;
            if stat.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    assert_eq!(seen, 9);
    assert!(mount.path("socket").symlink_metadata().unwrap().file_type().is_socket());
    let dots = mount.sh("cd dir/below && ls -ai | grep -F .");
    let number = |path: &str| mount.path(path).symlink_metadata().unwrap().ino();
    let (dot, dotdot) = (number("dir/below"), number("dir"));
    assert_eq!(
        dots.split_whitespace().collect::<Vec<_>>(),
        [&dot.to_string(), ".", &dotdot.to_string(), ".."]
    );
}

#[test]
fn entries_without_attributes_show_their_true_ones_to_all_who_ask() {
    let set = Arc::new(Memory::default());
    let looked_up = Arc::new(AtomicUsize::new(0));
    for (i, name) in ["20260301_030000", "20260302_030000"].iter().enumerate() {
        let date = dir([("inside", file("x"))]).with(key(1000 + i as u128));
        set.set_untold(name, date.with(|meta| (meta.perm, meta.uid) = (0o2750, 77)));
    }
    let counted = {
        let (set, looked_up) = (set.clone(), looked_up.clone());
        move |name: &[u8]| {
            looked_up.fetch_add(1, Ordering::Relaxed);
            backupfs::tree::Dir::lookup(&*set, name)
        }
    };
    let tree = dir([("set", set.node()), ("counted", looks(counted))]);
    let Some(mount) = mounted(tree, options()) else { return };
    assert_eq!(mount.sh("ls set"), "20260301_030000\n20260302_030000\n");
    assert_eq!(mount.sh("find set -mindepth 1 -maxdepth 1 -type d | wc -l").trim(), "2");
    let by_listing: HashMap<_, _> = std::fs::read_dir(mount.path("set"))
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.path(), e.ino()))
        .collect();
    assert_eq!(mount.sh("ls -l set | grep -c '^drwxr-s--- 1 77 '").trim(), "2");
    for (path, ino) in &by_listing {
        assert_eq!(path.symlink_metadata().unwrap().ino(), *ino);
    }
    // Listing again neither breaks what is known nor what is in use.
    let inside = std::fs::File::open(mount.path("set/20260301_030000")).unwrap();
    mount.sh("ls set; find set");
    assert_eq!(inside.metadata().unwrap().mode() & 0o7777, 0o2750);
    assert_eq!(mount.sh("cat set/*/inside"), "xx");
    assert_eq!(mount.sh("stat -c %a set/20260302_030000").trim(), "2750");
}

#[test]
fn names_are_bytes() {
    let names: Vec<Vec<u8>> = vec![
        b"\xff\xfe".to_vec(),
        b"new\nline".to_vec(),
        b"-dash".to_vec(),
        b"\x1b[31m".to_vec(),
        " ".into(),
        vec![b'n'; 255],
        "é".into(),
    ];
    let tree = dir(names.iter().map(|name| (name.clone(), file(name.clone()))));
    let Some(mount) = mounted(tree, options()) else { return };
    let listed: HashSet<_> =
        std::fs::read_dir(mount.root()).unwrap().map(|e| e.unwrap().file_name().into_vec()).collect();
    assert_eq!(listed, names.iter().cloned().collect());
    for name in &names {
        let path = mount.path(std::ffi::OsStr::from_bytes(name));
        assert_eq!(&std::fs::read(path).unwrap(), name);
    }
    let too_long = std::fs::metadata(mount.path("n".repeat(256))).unwrap_err();
    assert_eq!(too_long.raw_os_error(), Some(libc::ENAMETOOLONG));
}

#[test]
fn what_is_not_there_is_asked_for_once_while_it_cannot_come() {
    let (asked, asked_twice) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counting = |counter: &Arc<AtomicUsize>| {
        let counter = counter.clone();
        looks(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Step::ok(None)
        })
    };
    let changing =
        counting(&asked_twice).with(|meta| meta.validity = Validity::For(std::time::Duration::ZERO));
    let tree = dir([("forever", counting(&asked)), ("changing", changing)]);
    let Some(mount) = mounted(tree, options()) else { return };
    for _ in 0..5 {
        for path in ["forever/none", "changing/none"] {
            let error = std::fs::metadata(mount.path(path)).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(asked_twice.load(Ordering::Relaxed), 5);
}

#[test]
fn one_key_is_one_inode_and_equal_directories_are_two() {
    let shared = || file("same").with(key(99)).with(|meta| meta.nlink = 2);
    let tree = dir([
        ("a", dir([("one", shared()), ("two", shared()), ("sub", dir([("x", file("x"))]))])),
        ("b", dir([("one", shared()), ("sub", dir([("x", file("x"))]))])),
    ]);
    let Some(mount) = mounted(tree, options()) else { return };
    let ino = |path: &str| mount.path(path).metadata().unwrap().ino();
    assert_eq!(ino("a/one"), ino("a/two"));
    assert_eq!(ino("a/one"), ino("b/one"));
    assert_ne!(ino("a/sub"), ino("b/sub"));
    assert_ne!(ino("a/sub/x"), ino("b/sub/x"));
    assert_eq!(
        mount.sh("cd a/sub && ls ../../b/sub >/dev/null && /bin/pwd").trim(),
        mount.path("a/sub").to_str().unwrap()
    );
    // Numbers do not depend on who came first, or on which mount it is.
    let tree =
        dir([("b", dir([("sub", dir([("x", file("x"))]))])), ("a", dir([("sub", dir([("x", file("x"))]))]))]);
    let again = mounted(tree, options()).unwrap();
    for path in ["b/sub/x", "a/sub", "b"] {
        assert_eq!(again.path(path).metadata().unwrap().ino(), ino(path), "{path}");
    }
}
