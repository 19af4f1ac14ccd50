//! `backupfs status`.

use crate::machine::{Mountpoint, backupfs, can_mount, run, signal, succeed, wait_for};
use crate::sample::Sample;

#[test]
fn a_mount_tells_how_it_is() {
    if !can_mount() {
        return;
    }
    let sample = Sample::new();
    let mountpoint = Mountpoint::new();
    succeed(sample.command("mount").arg(mountpoint.path()));
    let shown = succeed(backupfs().arg("status").arg(mountpoint.path()));
    let first = format!("{}: 3 sets, 9 dates", mountpoint.path().display());
    assert_eq!(shown.lines().next(), Some(first.as_str()));
    assert!(shown.lines().nth(2).unwrap().ends_with("  up"), "{shown}");
    let json = succeed(backupfs().args(["status", "--json"]).arg(mountpoint.path()));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["status"]["sources"][0]["snapshots"], 7);
    let all = backupfs().arg("status").output().unwrap().stdout;
    assert!(String::from_utf8(all).unwrap().contains(&first));

    let server = mountpoint.servers()[0];
    signal(server, "KILL");
    wait_for("the server to die", || mountpoint.servers().is_empty());
    let output = backupfs().arg("status").arg(mountpoint.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(32));
    assert!(String::from_utf8(output.stdout).unwrap().contains("its server has died"));
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
}

#[test]
fn what_the_kernel_asked_for_is_counted() {
    if !can_mount() {
        return;
    }
    let sample = Sample::new();
    let mountpoint = Mountpoint::new();
    succeed(sample.command("mount").arg(mountpoint.path()));
    let counted = |name: &str| {
        let json = std::fs::read(mountpoint.path().join(".backupfs/status.json")).unwrap();
        let status: serde_json::Value = serde_json::from_slice(&json).unwrap();
        status["counters"][name].as_u64().unwrap()
    };
    let (opened, looked_up, read) = (counted("fuse_opendir"), counted("fuse_lookup"), counted("fuse_read"));
    std::fs::read_dir(mountpoint.path()).unwrap().for_each(drop);
    assert_eq!(counted("fuse_opendir"), opened + 1);
    for _ in 0..5 {
        mountpoint.path().join("absent").metadata().unwrap_err();
    }
    assert!(counted("fuse_lookup") > looked_up);
    // Asking is reading, too.
    assert!(counted("fuse_read") > read);
    assert_eq!(counted("fuse_readlink"), 0);
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
}

#[test]
fn where_nothing_is_mounted_there_is_nothing_to_tell() {
    let mountpoint = Mountpoint::new();
    let (code, stderr) = run(backupfs().arg("status").arg(mountpoint.path()));
    assert_eq!(code, 32);
    assert_eq!(stderr, format!("backupfs: no backups are mounted at {}\n", mountpoint.path().display()));
}
