//! Unmounting what somebody uses.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use crate::machine::{Mountpoint, Running, backupfs, can_mount, fixture, run, succeed};

#[test]
fn a_busy_mount_stays_and_names_who_uses_it() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    succeed(fixture().command("mount").arg(mountpoint.path()));
    let mut cat = Command::new("cat");
    let user = Running(cat.current_dir(mountpoint.path()).stdin(Stdio::piped()).spawn().unwrap());
    let (code, stderr) = run(backupfs().arg("umount").arg(mountpoint.path()));
    assert_eq!(code, 32);
    assert!(stderr.contains("busy"), "{stderr}");
    assert!(stderr.contains(&format!("cat (pid {}", user.0.id())), "{stderr}");
    assert_eq!(mountpoint.mounted().len(), 1);
    drop(user);
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
    mountpoint.wait_until_gone();
}

#[test]
fn a_lazy_unmount_lets_open_files_be_read() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    succeed(fixture().command("mount").arg(mountpoint.path()));
    let find = ["-type", "f", "-size", "+0", "-readable", "-print", "-quit"];
    let name = succeed(Command::new("find").arg(mountpoint.path()).args(find));
    let mut open = File::open(name.trim_end_matches('\n')).unwrap();
    succeed(backupfs().args(["umount", "-l"]).arg(mountpoint.path()));
    assert!(mountpoint.mounted().is_empty());
    let mut content = Vec::new();
    open.read_to_end(&mut content).unwrap();
    assert!(!content.is_empty());
    drop(open);
    mountpoint.wait_until_gone();
}
