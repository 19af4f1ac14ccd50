//! A tree that changes while it is mounted.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backupfs::tree::{Change, Node, Validity};

use crate::guard::{Mounted, mounted, options};
use crate::memory::{Memory, With, dir, file, key, symlink};

/// Kept for an hour: what is seen sooner was told.
fn hour(node: Node) -> Node {
    node.with(|meta| meta.validity = Validity::For(Duration::from_secs(3600)))
}

fn change(dir: &[&str], names: &[&str]) -> Change {
    let bytes = |names: &[&str]| names.iter().map(|n| n.as_bytes().to_vec()).collect();
    Change { dir: bytes(dir), names: bytes(names) }
}

/// Notifications go their own way, so that a change is seen soon, not at once.
fn soon(what: &str, mut seen: impl FnMut() -> bool) {
    let start = Instant::now();
    while !seen() {
        assert!(start.elapsed() < Duration::from_secs(10), "not seen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

struct Tree {
    root: Arc<Memory>,
    set: Arc<Memory>,
    mount: Mounted,
}

fn tree() -> Option<Tree> {
    let (root, set) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    set.set_untold("one", dir([("f", file("1"))]).with(key(11)));
    set.set("latest", hour(symlink("one")));
    root.set("set", hour(set.node()));
    let mount = mounted(hour(root.node()), options())?;
    Some(Tree { root, set, mount })
}

#[test]
fn new_snapshots_appear_and_latest_follows() {
    let Some(Tree { set, mount, .. }) = tree() else { return };
    let changes = mount.session().changes();
    assert_eq!(mount.sh("cat set/latest/f; ls set"), "1latest\none\n");
    assert!(!mount.path("set/two").exists());
    set.set_untold("two", dir([("f", file("2"))]).with(key(12)));
    set.set("latest", hour(symlink("two")));
    assert!(!mount.path("set/two").exists(), "its absence is kept until it is told");
    changes(change(&["set"], &["two", "latest"]));
    soon("the new snapshot", || mount.path("set/two/f").exists());
    soon("the new target", || std::fs::read_link(mount.path("set/latest")).unwrap() == Path::new("two"));
    assert_eq!(mount.sh("cat set/latest/f; ls set"), "2latest\none\ntwo\n");
}

#[test]
fn removed_snapshots_go_and_open_files_of_theirs_stay() {
    let Some(Tree { set, mount, .. }) = tree() else { return };
    assert_eq!(std::fs::read(mount.path("set/one/f")).unwrap(), b"1");
    let open = std::fs::File::open(mount.path("set/one/f")).unwrap();
    set.remove("one");
    mount.session().changes()(change(&["set"], &["one"]));
    soon("the end of the snapshot", || !mount.path("set/one").exists());
    assert_eq!(names(&mount.path("set")), ["latest"]);
    assert_eq!(open.metadata().unwrap().len(), 1);
}

#[test]
fn a_set_that_comes_changes_the_root_and_its_time() {
    let Some(Tree { root, mount, .. }) = tree() else { return };
    let before = mount.root().metadata().unwrap().mtime();
    assert!(!mount.path("new").exists());
    root.set("new", hour(dir([("x", file("x"))])));
    mount.session().changes()(change(&[], &["new"]));
    soon("the new set", || mount.path("new/x").exists());
    assert_eq!(names(mount.root()), ["new", "set"]);
    assert!(mount.root().metadata().unwrap().mtime() > before);
}

#[test]
fn attributes_of_a_changed_directory_are_asked_for_again() {
    let Some(Tree { root, set, mount }) = tree() else { return };
    assert_eq!(mount.path("set").metadata().unwrap().mtime(), 1_772_334_000);
    let open = std::fs::File::open(mount.path("set")).unwrap();
    root.set("set", hour(set.node()).with(|meta| meta.mtime.secs = 1_800_000_000));
    mount.session().changes()(change(&["set"], &["whatever"]));
    soon("the new time", || mount.path("set").metadata().unwrap().mtime() == 1_800_000_000);
    assert_eq!(open.metadata().unwrap().mtime(), 1_800_000_000);
}

#[test]
fn a_directory_with_a_key_is_found_below_its_name() {
    let (root, member, set) =
        (Arc::new(Memory::default()), Arc::new(Memory::default()), Arc::new(Memory::default()));
    member.set("set", hour(set.node()));
    root.set("member", hour(member.node().with(key(77))));
    let Some(mount) = mounted(hour(root.node()), options()) else { return };
    assert!(!mount.path("member/set/new").exists());
    set.set("new", file("x"));
    mount.session().changes()(change(&["member", "set"], &["new"]));
    soon("the new entry", || mount.path("member/set/new").exists());
}

#[test]
fn changes_of_what_nobody_knows_are_harmless() {
    let Some(Tree { mount, .. }) = tree() else { return };
    let changes = mount.session().changes();
    changes(change(&["no", "such", "place"], &["x"]));
    changes(change(&["set"], &["never looked at"]));
    changes(change(&["set", "latest"], &["not a directory"]));
    changes(change(&[], &["set"]));
    soon("life", || std::fs::read(mount.path("set/latest/f")).is_ok());
}

#[test]
fn answers_expire_by_themselves_where_nobody_tells() {
    let root = Arc::new(Memory::default());
    let brief = root.node().with(|meta| meta.validity = Validity::For(Duration::from_millis(300)));
    let Some(mount) = mounted(brief, options()) else { return };
    assert!(!mount.path("new").exists());
    root.set("new", file("1"));
    soon("the new entry", || mount.path("new").exists());
    assert_eq!(names(mount.root()), ["new"]);
    root.remove("new");
    soon("its end", || !mount.path("new").exists());
    assert_eq!(names(mount.root()), [""; 0]);
}
