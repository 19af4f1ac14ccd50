//! `backupfs status`.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use crate::machine::{Mountpoint, backupfs, can_mount, run, succeed, wait_for};
use crate::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
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

    mountpoint.kill();
    let output = backupfs().arg("status").arg(mountpoint.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(32));
    assert!(String::from_utf8(output.stdout).unwrap().contains("its server has died"));
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
}

#[test]
fn a_monitor_reads_one_line_and_an_exit_code() {
    if !can_mount() {
        return;
    }
    let sample = Sample::new();
    let mountpoint = Mountpoint::new();
    succeed(sample.command("mount").arg(mountpoint.path()));
    let ask = |age: &str| {
        let output =
            backupfs().args(["status", "--fail-older-than", age]).arg(mountpoint.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text.lines().next().unwrap_or_default().to_owned())
    };
    // The sample was backed up long ago.
    let (code, line) = ask("36h");
    assert_eq!(code, 2, "{line}");
    assert!(line.starts_with("BACKUPS CRITICAL: 3 sets older than 1 d 12 h: "), "{line}");
    assert!(line.contains(" | sets=3;;;0 fresh=0;;;0;3 oldest="), "{line}");
    let (code, line) = ask("36500d");
    assert_eq!(code, 1, "{line}");
    assert!(line.starts_with("BACKUPS WARNING: 3 sets later than expected: "), "{line}");
    let (code, line) = ask("soon");
    assert_eq!(
        (code, line.as_str()),
        (3, "BACKUPS UNKNOWN: \"soon\" must be a length of time such as 90min or 36h")
    );
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
    assert_eq!(ask("36h").0, 3);
}

#[test]
fn counters_are_read_from_a_file_and_over_a_socket() {
    if !can_mount() {
        return;
    }
    let sample = Sample::new();
    let mountpoint = Mountpoint::new();
    let socket = sample.repository().with_file_name("metrics.sock");
    let option = format!("metrics-socket={},expect-every=36500d", socket.display());
    succeed(sample.command("mount").args(["-o", &option]).arg(mountpoint.path()));
    let file = std::fs::read_to_string(mountpoint.path().join(".backupfs/metrics")).unwrap();
    assert!(file.contains("\nbackupfs_fresh_sets 3\n") && file.ends_with("\n# EOF\n"), "{file}");
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.contains("\nbackupfs_sets 3\n"), "{answer}");
    let second = Mountpoint::new();
    let (code, stderr) = run(sample.command("mount").args(["-o", &option]).arg(second.path()));
    assert_eq!(code, 1);
    assert!(stderr.contains("each mount needs a socket of its own"), "{stderr}");
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
    wait_for("the socket to go", || !socket.exists());
}

/// Two members of long ago, one of them written to just now, and one without any snapshot.
fn fill(group: &Path) {
    for name in ["cback-old", "cback-new"] {
        let to = group.join(name);
        assert!(
            Command::new("cp").arg("-r").arg(Sample::new().repository()).arg(&to).status().unwrap().success()
        );
        let written = if name == "cback-new" { "1 hour ago" } else { "5 days ago" };
        for file in std::fs::read_dir(to.join("snapshots")).unwrap() {
            let file = file.unwrap().path();
            assert!(Command::new("touch").args(["-d", written]).arg(file).status().unwrap().success());
        }
    }
    std::fs::create_dir_all(group.join("cback-none/keys")).unwrap();
}

/// What a monitor is told of a group whose members were filled in.
fn told_of_members(repository: &str, options: &str) -> String {
    let mountpoint = Mountpoint::new();
    let mut mount = backupfs();
    // Nobody knows the password: members are counted without.
    mount.env("RESTIC_PASSWORD", "wrong").arg("mount").args(["-r", repository, "-o", options]);
    succeed(mount.arg(mountpoint.path()));
    let output =
        backupfs().args(["status", "--fail-older-than", "36h"]).arg(mountpoint.path()).output().unwrap();
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    text.lines().next().unwrap().to_owned()
}

#[test]
fn members_of_groups_are_counted_by_the_times_of_their_objects_without_a_password() {
    if !can_mount() {
        return;
    }
    let says = "2 members of all older than 1 d 12 h: none (no snapshot), old (5 d";
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let local = told_of_members(&format!("{}/cback-*", dir.path().display()), "name=all,cache-dir=none");
    assert!(local.contains(says) && local.contains(" members=3;;;0"), "{local}");
    let Some(server) = S3Server::start() else { return };
    fill(&server.root());
    let (id, secret) = (format!("s3-key-id={ACCESS_KEY}"), dir.path().join("secret"));
    std::fs::write(&secret, SECRET_KEY).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let options = format!("name=all,cache-dir=none,{id},s3-secret-file={}", secret.display());
    let far = told_of_members(&format!("s3:{}/cback-*", server.endpoint()), &options);
    assert!(far.contains(says) && far.contains(" members=3;;;0"), "{far}");
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
