//! What stat, readlink and statfs tell.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use backupfs::fuse::{self, IdMap, IdRange, Options, Owner};
use backupfs::tree::{FileType, Time, Usage};
use bytes::Bytes;

use crate::guard::{mounted, options};
use crate::memory::{Manner, With, dir, file, sparse, special, symlink};

#[test]
fn times_from_before_1970_to_the_year_9999_are_exact() {
    let times = [
        ("before", -1, 250_000_000),
        ("old", -14_182_940, 0),
        ("epoch", 0, 0),
        ("y2038", 1 << 31, 1),
        ("far", 253_402_300_799, 999_999_999),
    ];
    let tree =
        dir(times.map(|(name, secs, nanos)| (name, file("").with(|m| m.mtime = Time { secs, nanos }))));
    let Some(mount) = mounted(tree, options()) else { return };
    for (name, secs, nanos) in times {
        let meta = mount.path(name).metadata().unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (secs, i64::from(nanos)), "{name}");
    }
    assert_eq!(mount.sh("stat -c %y before").trim(), "1969-12-31 23:59:59.250000000 +0000");
    assert_eq!(mount.sh("ls -l --time-style=full-iso far | cut -d' ' -f6").trim(), "9999-12-31");
}

#[test]
fn extreme_times_cost_nothing_but_themselves() {
    let extremes = [("min", i64::MIN, 0), ("max", i64::MAX, 999_999_999), ("nanos", 5, u32::MAX)];
    let tree = dir(extremes.map(|(name, secs, nanos)| {
        let time = Time { secs, nanos };
        (name, file("here").with(|m| (m.mtime, m.atime, m.ctime) = (time, time, time)))
    }));
    let Some(mount) = mounted(tree, options()) else { return };
    assert_eq!(mount.sh("cat min max nanos; ls -l >/dev/null"), "hereherehere");
    assert_eq!(mount.path("nanos").metadata().unwrap().mtime(), 5);
}

#[test]
fn types_modes_devices_and_link_counts_are_as_recorded() {
    let tree = dir([
        ("null", special(FileType::Char, 0x103).with(|m| m.perm = 0o666)),
        ("nvme", special(FileType::Block, 0x1231_0345)),
        ("suid", file("").with(|m| m.perm = 0o4755)),
        ("sticky", dir::<&str>([]).with(|m| m.perm = 0o1777)),
        ("pipe", special(FileType::Fifo, 0)),
        ("socket", special(FileType::Socket, 0)),
        ("linked", file("").with(|m| m.nlink = 3)),
        ("unlinked", file("").with(|m| m.nlink = 0)),
        ("link", symlink("../somewhere else/\u{e9}")),
    ]);
    let Some(mount) = mounted(tree, options()) else { return };
    let stat = mount.sh("stat -c '%n %F %a %t:%T %h' null suid sticky pipe socket linked unlinked");
    let expected = "null character special file 666 1:3 1\nsuid regular empty file 4755 0:0 1\n\
        sticky directory 1777 0:0 1\npipe fifo 600 0:0 1\nsocket socket 600 0:0 1\n\
        linked regular empty file 644 0:0 3\nunlinked regular empty file 644 0:0 1\n";
    assert_eq!(stat, expected);
    let nvme = mount.path("nvme").symlink_metadata().unwrap().rdev();
    assert_eq!((libc::major(nvme), libc::minor(nvme)), (0x103, 0x12345));
    let link = mount.path("link");
    assert_eq!(std::fs::read_link(&link).unwrap().to_str().unwrap(), "../somewhere else/\u{e9}");
    assert_eq!(link.symlink_metadata().unwrap().len(), 20);
}

#[test]
fn blocks_count_data_only() {
    let data = Bytes::from(vec![7; 1 << 20]);
    let tree = dir([
        ("sparse", sparse(50 << 30, vec![(10 << 30, data)], Manner::Ready)),
        ("full", file(vec![1; 5000])),
    ]);
    let Some(mount) = mounted(tree, options()) else { return };
    let meta = |name: &str| mount.path(name).metadata().unwrap();
    assert_eq!((meta("sparse").len(), meta("sparse").blocks()), (50 << 30, 2048));
    assert_eq!(meta("full").blocks(), 10);
    assert!(meta("full").blksize() >= 128 << 10);
}

#[test]
fn a_size_that_no_file_can_have_costs_that_file_only() {
    let huge = file("").with(|m| m.size = u64::MAX);
    let tree = dir([
        ("huge", huge),
        ("good", file("good")),
        ("largest", file("").with(|m| m.size = i64::MAX as u64)),
    ]);
    let Some(mount) = mounted(tree, options()) else { return };
    assert_eq!(mount.sh("ls"), "good\nhuge\nlargest\n");
    let error = mount.path("huge").metadata().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert_eq!(mount.path("largest").metadata().unwrap().len(), i64::MAX as u64);
    assert_eq!(mount.sh("cat good"), "good");
}

#[test]
fn owners_are_recorded_mapped_or_replaced() {
    let tree = || dir([("f", file("").with(|m| (m.uid, m.gid) = (1000, 100)))]);
    let idmap = IdMap {
        uids: vec![IdRange { recorded: 1000, shown: 2000, count: 1 }],
        gids: vec![IdRange { recorded: 0, shown: 500, count: 1000 }],
    };
    for (owner, idmap, shown) in [
        (Owner::Recorded, IdMap::default(), (1000, 100)),
        (Owner::Recorded, idmap, (2000, 600)),
        (Owner::Root, IdMap::default(), (0, 0)),
        (Owner::Mounter, IdMap::default(), (0, 0)),
    ] {
        let Some(mount) = mounted(tree(), Options { owner, idmap, ..options() }) else { return };
        let meta = mount.path("f").metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), shown, "{owner:?}");
    }
}

#[test]
fn df_shows_a_full_file_system_of_some_size() {
    for (usage, size) in [(10_000_000, "9766"), (0, "4")] {
        let usage = Arc::new(move || Usage { bytes: usage, objects: 7 });
        let Some(mount) = mounted(dir::<&str>([]), Options { usage, ..options() }) else { return };
        let df = mount.sh("df -k --output=avail,pcent,fstype,source . | tail -1");
        assert_eq!(
            df.split_whitespace().collect::<Vec<_>>(),
            ["0", "100%", "fuse.backupfs", "memory,", "mostly"]
        );
        let blocks: u64 = mount.sh("df -k --output=size . | tail -1").trim().parse().unwrap();
        assert!(blocks.abs_diff(size.parse().unwrap()) < 4, "{blocks}");
        assert_eq!(mount.sh("stat -f -c %l .").trim(), "255");
    }
}

#[test]
fn the_table_of_mounts_tells_what_is_mounted() {
    let Some(mount) = mounted(dir::<&str>([]), crate::guard::shared()) else { return };
    let entry = fuse::mounted_at(mount.root()).unwrap().unwrap();
    assert_eq!((entry.fstype.as_str(), entry.source.to_str()), (fuse::FSTYPE, Some("memory, mostly")));
    for option in
        ["ro", "nosuid", "nodev", "noatime", "user_id=0", "group_id=0", "default_permissions", "allow_other"]
    {
        assert!(entry.options.split(',').any(|o| o == option), "{option} in {}", entry.options);
    }
    let read_ahead = format!("/sys/class/bdi/{}/read_ahead_kb", entry.device);
    assert_eq!(std::fs::read_to_string(read_ahead).unwrap().trim(), "1024");
    assert!(!fuse::is_dead(mount.root()).unwrap());
    let path = mount.root().to_owned();
    mount.end();
    assert!(fuse::mounted_at(&path).unwrap().is_none());
}
