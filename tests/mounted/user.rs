//! An ordinary user's mount, through fusermount3.
//!
//! The device may be root's alone on the machine of the test, so each test runs this program again, as a user, in a
//! mount namespace of its own where a device for everybody lies over it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use backupfs::error::Kind;
use backupfs::fuse::{self, MountSpec, Options};

use crate::guard::{Mounted, options, shared};
use crate::memory::{With, dir, file};

/// Runs the ignored test `name` of this program as `nobody`, whom fusermount3 wants to know by name; `prepare` are shell commands run as root before.
fn as_user(name: &str, prepare: &str) {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/fusermount3").exists() {
        eprintln!("SKIPPED: needs root to become a user, and fusermount3");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let at = place.path().display();
    let script = format!(
        "mknod -m 666 {at}/fuse c 10 229 && chmod 666 {at}/fuse && mount --bind {at}/fuse /dev/fuse && {prepare} &&
         cd / && exec setpriv --reuid 65534 --regid 65534 --clear-groups \
         {} --exact {name} --ignored --nocapture",
        program.display()
    );
    let output = Command::new("timeout").args(["60", "unshare", "-m", "sh", "-c", &script]).output().unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
fn an_ordinary_user_mounts_reads_and_unmounts() {
    as_user("user::inner_mounts_reads_and_unmounts", "true");
}

#[test]
#[ignore = "run as a user by the test above"]
fn inner_mounts_reads_and_unmounts() {
    let foreign = file("0600 of somebody else").with(|m| (m.uid, m.perm) = (5555, 0o600));
    let mount = Mounted::new(dir([("f", foreign)]), options());
    let entry = fuse::mounted_at(mount.root()).unwrap().unwrap();
    assert_eq!((entry.fstype.as_str(), entry.source.to_str()), (fuse::FSTYPE, Some("memory, mostly")));
    for option in ["ro", "nosuid", "nodev", "noatime", "user_id=65534"] {
        assert!(entry.options.split(',').any(|o| o == option), "{option} in {}", entry.options);
    }
    assert_eq!(std::fs::read(mount.path("f")).unwrap(), b"0600 of somebody else");
    assert_eq!(mount.path("f").metadata().unwrap().uid(), 5555);
    let open = std::fs::File::open(mount.path("f")).unwrap();
    let error = fuse::unmount(mount.root(), false).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    drop(open);
    let path = mount.root().to_owned();
    mount.end();
    assert!(fuse::mounted_at(&path).unwrap().is_none());
    let error = fuse::unmount(&path, false).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
}

#[test]
fn a_user_may_let_others_in_only_where_the_machine_allows_it() {
    as_user("user::inner_may_not_let_others_in", "true");
    let allow = "mkdir -p /tmp && c=$(mktemp) && echo user_allow_other > $c && chmod 644 $c && \
        mount --bind $c /etc/fuse.conf";
    as_user("user::inner_lets_others_in", allow);
}

#[test]
#[ignore = "run as a user by the test above"]
fn inner_may_not_let_others_in() {
    let dir = tempfile::tempdir().unwrap();
    let spec = MountSpec { source: "x".into(), allow_other: true, noexec: false };
    let error = fuse::mount(dir.path(), &spec).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("user_allow_other"), "{error}");
    assert!(fuse::mounted_at(dir.path()).unwrap().is_none());
}

#[test]
#[ignore = "run as a user by the test above"]
fn inner_lets_others_in() {
    let tree = dir([("open", file("x")), ("closed", file("x").with(|m| (m.uid, m.perm) = (5555, 0o600)))]);
    let mount = Mounted::new(tree, Options { ..shared() });
    assert_eq!(std::fs::read(mount.path("open")).unwrap(), b"x");
    let error = std::fs::read(mount.path("closed")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn a_user_is_told_what_is_missing() {
    as_user("user::inner_misses_the_device", "umount /dev/fuse && mkdir -p /tmp && mount -t tmpfs none /dev");
    as_user("user::inner_misses_fusermount", "mount --bind /dev/null /usr/bin/fusermount3");
    as_user("user::inner_has_a_place_of_somebody_else", "true");
}

#[test]
#[ignore = "run as a user by the test above"]
fn inner_misses_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let spec = MountSpec { source: "x".into(), allow_other: false, noexec: false };
    let error = fuse::mount(dir.path(), &spec).unwrap_err();
    assert_eq!(error.kind(), Kind::System);
    assert!(error.to_string().contains("modprobe fuse"), "{error}");
}

#[test]
#[ignore = "run as a user by the test above"]
fn inner_misses_fusermount() {
    let dir = tempfile::tempdir().unwrap();
    let spec = MountSpec { source: "x".into(), allow_other: false, noexec: false };
    let error = fuse::mount(dir.path(), &spec).unwrap_err();
    assert_eq!(error.kind(), Kind::System);
    assert!(error.to_string().contains("fusermount3"), "{error}");
}

#[test]
#[ignore = "run as a user by the test above"]
fn inner_has_a_place_of_somebody_else() {
    let spec = MountSpec { source: "x".into(), allow_other: false, noexec: false };
    let error = fuse::mount(Path::new("/etc"), &spec).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().starts_with("/etc: "), "{error}");
}
