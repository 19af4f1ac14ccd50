//! `-f`: the mount lives as long as the process, which ends cleanly when it is told to.

use std::fs;
use std::process::Stdio;

use crate::machine::{Mountpoint, Running, can_mount, fixture, signal, wait_for};

/// Starts a mount in the foreground and waits until it is there.
fn start(mountpoint: &Mountpoint) -> Running {
    let mut command = fixture().command("mount");
    command.arg("-f").arg(mountpoint.path()).stderr(Stdio::piped());
    let running = Running(command.spawn().unwrap());
    wait_for("the mount", || !mountpoint.mounted().is_empty());
    assert!(fs::read_dir(mountpoint.path()).unwrap().count() > 0);
    running
}

#[test]
fn signals_unmount_and_end_it_with_success() {
    if !can_mount() {
        return;
    }
    for name in ["TERM", "INT"] {
        let mountpoint = Mountpoint::new();
        let mut running = start(&mountpoint);
        // It is the very process that was started, and one more where that is a broker.
        assert_eq!(mountpoint.daemons()[0], running.0.id());
        signal(running.0.id(), name);
        assert_eq!(running.0.wait().unwrap().code(), Some(0), "SIG{name}");
        assert!(mountpoint.mounted().is_empty());
    }
}

#[test]
fn a_hangup_refreshes_and_does_not_end_it() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    let mut running = start(&mountpoint);
    signal(running.0.id(), "HUP");
    assert!(fs::read_dir(mountpoint.path()).unwrap().count() > 0);
    assert_eq!(running.0.try_wait().unwrap(), None);
}

#[test]
fn it_ends_with_success_when_it_is_unmounted() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    let mut running = start(&mountpoint);
    crate::machine::succeed(crate::machine::backupfs().arg("umount").arg(mountpoint.path()));
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}
