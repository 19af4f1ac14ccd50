//! Who may see what: private mounts, shared mounts, ACLs.

use backupfs::fuse::{Options, XattrPolicy};
use backupfs::tree::Node;

use crate::guard::{mounted, options, shared};
use crate::memory::{With, dir, file};

/// An access ACL: owner rwx, the named user, the owning group, the mask, others nothing.
pub fn acl(named: u16, uid: u32, mask: u16, group: u16) -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in [(1u16, 7u16, !0u32), (2, named, uid), (4, group, !0), (16, mask, !0), (32, 0, !0)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(perm.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

fn owned(node: Node, uid: u32, perm: u16) -> Node {
    node.with(|meta| (meta.uid, meta.gid, meta.perm) = (uid, uid, perm))
}

fn tree() -> Node {
    let lets_in = |named, mask| {
        let acl = acl(named, 1001, mask, 0);
        owned(file("for 1001\n"), 0, mask << 3).attributes(&[("system.posix_acl_access", &acl)])
    };
    dir([
        ("public", owned(file("public\n"), 0, 0o644)),
        ("secret", owned(file("secret\n"), 0, 0o600)),
        ("own", owned(file("own\n"), 1001, 0o400)),
        ("closed", owned(dir([("inside", owned(file("open inside\n"), 0, 0o755))]), 0, 0o700)),
        ("named", lets_in(0o4, 0o4)),
        ("masked", lets_in(0o6, 0o2)),
        ("nobodys", owned(file("nobody's\n"), 5555, 0)),
        ("nothing", owned(dir([("x", file("x\n"))]), 5555, 0)),
    ])
}

fn allowed(output: &std::process::Output) -> bool {
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("Permission denied") || error.contains("can't cd"), "{error}");
    }
    output.status.success()
}

#[test]
fn a_shared_mount_shows_others_what_the_recorded_modes_and_acls_let_them_see() {
    let Some(mount) = mounted(tree(), shared()) else { return };
    let reads = |uid, name: &str| allowed(&mount.sh_as(uid, &format!("cat {name}")));
    for (name, user_1001, user_1002) in [
        ("public", true, true),
        ("secret", false, false),
        ("own", true, false),
        ("closed/inside", false, false),
        ("named", true, false),
        ("masked", false, false),
        ("nobodys", false, false),
        ("nothing/x", false, false),
    ] {
        assert_eq!(reads(1001, name), user_1001, "1001 {name}");
        assert_eq!(reads(1002, name), user_1002, "1002 {name}");
        assert!(reads(0, name), "root {name}");
    }
}

#[test]
fn acls_that_are_not_shown_let_nobody_in_instead_of_too_many() {
    for xattrs in [XattrPolicy::None, XattrPolicy::User] {
        let acl = acl(0o4, 1001, 0o6, 0);
        let f = owned(file("x"), 0, 0o660)
            .with(|m| m.gid = 1002)
            .attributes(&[("system.posix_acl_access", &acl)]);
        let Some(mount) = mounted(dir([("f", f)]), Options { xattrs, ..shared() }) else { return };
        assert!(!allowed(&mount.sh_as(1002, "cat f")), "the mask must not count for the group");
        assert!(!allowed(&mount.sh_as(1001, "cat f")));
    }
}

#[test]
fn a_private_mount_is_readable_in_full_by_who_mounted_it_and_by_nobody_else() {
    let Some(mount) = mounted(tree(), options()) else { return };
    assert_eq!(mount.sh("cat secret nobodys nothing/x closed/inside"), "secret\nnobody's\nx\nopen inside\n");
    assert_eq!(mount.sh("stat -c '%a %u' nobodys").trim(), "0 5555");
    assert!(!allowed(&mount.sh_as(1001, "cat public")));
    let through = std::process::Command::new("timeout")
        .args(["10", "setpriv", "--reuid", "1001", "--regid", "1001", "--clear-groups", "ls"])
        .arg(mount.root())
        .output()
        .unwrap();
    assert!(!through.status.success(), "{through:?}");
}

#[test]
fn set_user_id_is_shown_and_gives_no_privilege() {
    let Ok(id) = std::fs::read("/usr/bin/id") else { return };
    let Some(mount) = mounted(dir([("id", owned(file(id), 0, 0o4755))]), shared()) else { return };
    assert_eq!(mount.sh("stat -c %a id").trim(), "4755");
    let output = mount.sh_as(1001, "./id -u");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1001");
}
