//! Extended attributes under each policy.

use backupfs::fuse::{IdMap, IdRange, Options, XattrPolicy};
use backupfs::tree::Node;
use rustix::io::Errno;

use crate::guard::{mounted, options, shared};
use crate::memory::{With, dir, file};
use crate::permissions::acl;

fn tree() -> Node {
    let huge = vec![1; 70_000];
    let attributes: &[(&str, &[u8])] = &[
        ("security.selinux", b"system_u"),
        ("system.posix_acl_access", &acl(0o6, 1001, 0o7, 0o4)),
        ("trusted.secret", b"t"),
        ("user.comment", b"hello"),
        ("user.hidden", b"found"),
        ("user.huge", &huge),
    ];
    dir([
        ("f", file("x").attributes(attributes).with(|m| m.perm = 0o770)),
        ("none", file("x")),
        ("own", file("x").attributes(&[("user.backupfs.etag", b"e")]).with(|m| m.has_xattrs = false)),
        ("d", dir::<&str>([]).attributes(&[("user.hidden", b"set")]).with(|m| m.has_xattrs = false)),
    ])
}

fn get(path: &std::path::Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut buffer = [0; 65536];
    rustix::fs::getxattr(path, name, &mut buffer).map(|len| buffer[..len].to_vec())
}

#[test]
fn all_shows_what_linux_can_carry() {
    let Some(mount) = mounted(tree(), options()) else { return };
    let listed = mount.sh("getfattr -d -m- --absolute-names f | grep = | cut -d= -f1");
    assert_eq!(listed, "security.selinux\nsystem.posix_acl_access\ntrusted.secret\nuser.comment\n");
    let f = mount.path("f");
    assert_eq!(get(&f, "user.comment").unwrap(), b"hello");
    assert_eq!(get(&f, "user.hidden").unwrap(), b"found");
    assert_eq!(get(&f, "user.huge"), Err(Errno::NODATA));
    assert_eq!(get(&f, "user.none"), Err(Errno::NODATA));
    assert_eq!(get(&mount.path("d"), "user.hidden").unwrap(), b"set");
    assert_eq!(get(&mount.path("own"), "user.backupfs.etag").unwrap(), b"e");
    assert_eq!(get(&mount.path("own"), "user.backupfs.other"), Err(Errno::NODATA));
    assert_eq!(mount.sh("getfattr -d -m- d none own"), "");
    assert_eq!(rustix::fs::getxattr_query(&f, "user.comment"), Ok(5));
    assert_eq!(rustix::fs::getxattr(&f, "user.comment", &mut [0u8; 4]), Err(Errno::RANGE));
    assert_eq!(rustix::fs::listxattr(&f, &mut [0u8; 4]), Err(Errno::RANGE));
}

#[test]
fn acls_are_unsupported_where_no_source_has_any_and_modes_are_enforced_all_the_same() {
    let file = |perm| file("x").with(move |m| (m.uid, m.gid, m.perm) = (1001, 1001, perm));
    for options in [options(), shared()] {
        let tree = dir([("private", file(0o600)), ("group", file(0o640)), ("public", file(0o644))]);
        let Some(mount) = mounted(tree, Options { acls: false, ..options }) else { return };
        mount.sh("ls -l");
        for name in ["system.posix_acl_access", "system.posix_acl_default"] {
            assert_eq!(get(&mount.path("private"), name), Err(Errno::OPNOTSUPP));
        }
        assert_eq!(get(&mount.path("private"), "user.none"), Err(Errno::NODATA));
        assert_eq!(mount.sh("getfacl -cn group"), "user::rw-\ngroup::r--\nother::---\n\n");
    }
    let tree = dir([("private", file(0o600)), ("group", file(0o640)), ("public", file(0o644))]);
    let Some(mount) = mounted(tree, Options { acls: false, ..shared() }) else { return };
    for (uid, may) in [(1001, [true, true, true]), (1002, [false, false, true])] {
        let reads = |name| mount.sh_as(uid, &format!("cat {name}")).status.success();
        assert_eq!(["private", "group", "public"].map(reads), may, "{uid}");
    }
}

#[test]
fn labels_are_unsupported_until_a_file_with_attributes_was_listed() {
    let without = dir([("a", file("x")), ("b", file("y"))]);
    let with = dir([("a", file("x")), ("b", file("y").attributes(&[("user.comment", b"hello")]))]);
    for (tree, none) in [(without, Errno::OPNOTSUPP), (with, Errno::NODATA)] {
        let Some(mount) = mounted(tree, options()) else { return };
        mount.sh("ls -l");
        assert_eq!(get(&mount.path("a"), "security.selinux"), Err(none));
        assert_eq!(get(&mount.path("a"), "user.comment"), Err(Errno::NODATA));
    }
}

#[test]
fn tools_copy_them() {
    let Some(mount) = mounted(tree(), options()) else { return };
    let target = tempfile::tempdir_in("/tmp").unwrap();
    let to = target.path().display().to_string();
    mount.sh(&format!(
        "rsync -aHAX . {to}/r && cp -a . {to}/c && tar --xattrs --xattrs-include='*' --acls -cf {to}/t ."
    ));
    for copy in ["r", "c"] {
        assert_eq!(get(&target.path().join(copy).join("f"), "user.comment").unwrap(), b"hello", "{copy}");
        let shown = mount.sh("getfacl -pn f");
        let copied = mount.sh(&format!("getfacl -pn {to}/{copy}/f")).replace(&format!("{to}/{copy}/"), "");
        assert_eq!(shown, copied, "{copy}");
    }
}

#[test]
fn user_shows_its_name_space_only() {
    let Some(mount) = mounted(tree(), Options { xattrs: XattrPolicy::User, ..options() }) else { return };
    assert_eq!(mount.sh("getfattr -m- f | grep -v '^#'").trim(), "user.comment");
    assert_eq!(get(&mount.path("f"), "security.selinux"), Err(Errno::OPNOTSUPP), "never shown here");
    assert_eq!(get(&mount.path("f"), "user.none"), Err(Errno::NODATA));
    assert_eq!(mount.sh("stat -c %a f").trim(), "740", "the mask is not the group's");
}

#[test]
fn none_switches_them_off_and_cuts_group_bits_to_the_groups_own() {
    let Some(mount) = mounted(tree(), Options { xattrs: XattrPolicy::None, ..options() }) else { return };
    let f = mount.path("f");
    assert_eq!(get(&f, "user.comment"), Err(Errno::OPNOTSUPP));
    assert_eq!(rustix::fs::listxattr(&f, &mut [0u8; 100]), Err(Errno::OPNOTSUPP));
    assert_eq!(mount.sh("ls -l f | cut -c1-10; stat -c %a f none"), "-rwxr-----\n740\n644\n");
}

#[test]
fn acls_name_the_users_of_this_machine() {
    let idmap = IdMap { uids: vec![IdRange { recorded: 1001, shown: 4001, count: 1 }], gids: vec![] };
    let Some(mount) = mounted(tree(), Options { idmap, ..options() }) else { return };
    assert!(mount.sh("getfacl -pn f").contains("user:4001:rw-"), "{}", mount.sh("getfacl -pn f"));
}
