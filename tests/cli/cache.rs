//! The cache directory: where it is, what a second mount has from it, and what is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::machine::{Mountpoint, backupfs, can_mount, fixture, run, succeed, wait_for};

/// Mounts with a cache directory; answers what was said.
fn mount(mountpoint: &Mountpoint, cache: &Path) -> String {
    let option = format!("cache-dir={}", cache.display());
    let (code, said) = run(fixture().command("mount").arg(mountpoint.path()).args(["-o", &option]));
    assert_eq!(code, 0, "{said}");
    said
}

fn umount(mountpoint: &Mountpoint) {
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
    mountpoint.wait_until_gone();
}

/// The files of segments below a cache directory.
fn segments(cache: &Path) -> Vec<PathBuf> {
    let Ok(repositories) = fs::read_dir(cache.join("index")) else { return Vec::new() };
    let files = repositories.flat_map(|repository| fs::read_dir(repository.unwrap().path()).unwrap());
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
    paths
}

/// Names and contents of everything in the first set.
fn content(mountpoint: &Mountpoint) -> Vec<u8> {
    let walk = "cd \"$1\"/*@+*/latest/ && find . -type f -print0 | sort -z | xargs -0 sha256sum";
    let output =
        std::process::Command::new("sh").args(["-c", walk, "sh"]).arg(mountpoint.path()).output().unwrap();
    assert!(!output.stdout.is_empty(), "{output:?}");
    output.stdout
}

#[test]
fn a_second_mount_needs_no_index_file() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    let cache = mountpoint.beside("cache/of-a-user");
    mount(&mountpoint, &cache);
    let first = content(&mountpoint);
    wait_for("the index to be written", || segments(&cache).len() == 1);
    umount(&mountpoint);
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&segments(&cache)[0]).unwrap().permissions().mode() & 0o777, 0o600);

    // A copy of the repository with the same index files, none of which can be read.
    let repository = mountpoint.beside("repo");
    succeed(std::process::Command::new("cp").arg("-r").arg(fixture().repository()).arg(&repository));
    for file in fs::read_dir(repository.join("index")).unwrap() {
        let file = file.unwrap().path();
        fs::remove_file(&file).unwrap();
        fs::write(file, "unreadable").unwrap();
    }
    let mut command = backupfs();
    command.arg("mount").arg("-r").arg(&repository).arg("--password-file").arg(fixture().password_file());
    let option = format!("cache-dir={}", cache.display());
    succeed(command.arg(mountpoint.path()).args(["-o", &option]));
    assert_eq!(content(&mountpoint), first);
    umount(&mountpoint);
}

#[test]
fn a_planted_cache_directory_is_refused_and_the_mount_works_from_memory() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    let (target, link) = (mountpoint.beside("target"), mountpoint.beside("link"));
    fs::create_dir(&target).unwrap();
    symlink(&target, &link).unwrap();
    let open = mountpoint.beside("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    for (cache, why) in [(&link, "it is a link"), (&open, "others may write to it")] {
        let said = mount(&mountpoint, cache);
        assert!(said.contains("indexes are kept in memory") && said.contains(why), "{said}");
        assert!(said.contains(cache.to_str().unwrap()), "{said}");
        assert!(!content(&mountpoint).is_empty());
        umount(&mountpoint);
        assert_eq!(fs::read_dir(cache).unwrap().count(), 0);
    }
}

#[test]
fn mounts_of_one_repository_share_a_cache() {
    if !can_mount() {
        return;
    }
    let places: Vec<Mountpoint> = (0..4).map(|_| Mountpoint::new()).collect();
    let cache = places[0].beside("cache");
    std::thread::scope(|scope| {
        for place in &places {
            scope.spawn(|| mount(place, &cache));
        }
    });
    let first = content(&places[0]);
    assert!(places.iter().all(|place| content(place) == first));
    wait_for("one segment to be left", || segments(&cache).len() == 1);
    places.iter().for_each(umount);
}

#[test]
fn the_environment_says_where_the_cache_is() {
    let place = Mountpoint::new();
    let (said, home) = (place.beside("said"), place.beside("home"));
    succeed(fixture().command("ls").env("BACKUPFS_CACHE_DIR", &said));
    assert!(said.is_dir());
    let root = rustix::process::geteuid().is_root();
    if !root {
        succeed(fixture().command("ls").env_remove("BACKUPFS_CACHE_DIR").env("HOME", &home));
        assert!(home.join(".cache/backupfs").is_dir());
    }
}
