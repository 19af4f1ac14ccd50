//! A mount that fails: one line with the cause, the exit code of mount(8), nothing mounted, nobody left.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::machine::{Mountpoint, Running, backupfs, can_mount, fixture, run, signal, wait_for};

/// Runs a mount that must fail and leave nothing behind; answers its one line.
fn fails(mountpoint: &Mountpoint, command: &mut Command, code: i32) -> String {
    let (got, stderr) = run(command.arg(mountpoint.path()));
    assert_eq!(got, code, "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(mountpoint.mounted().is_empty(), "left mounted");
    assert!(mountpoint.servers().is_empty(), "left a process");
    stderr
}

/// A copy of the fixture that a test may damage.
fn copy(mountpoint: &Mountpoint) -> std::path::PathBuf {
    let copy = mountpoint.beside("repo");
    let status = Command::new("cp").arg("-r").arg(fixture().repository()).arg(&copy).status().unwrap();
    assert!(status.success());
    copy
}

fn mount_of(repository: &Path) -> Command {
    let mut command = backupfs();
    command.arg("mount").arg("-r").arg(repository).arg("--password-file").arg(fixture().password_file());
    command
}

#[test]
fn a_wrong_password() {
    let mountpoint = Mountpoint::new();
    let file = mountpoint.beside("password");
    fs::write(&file, "wrong\n").unwrap();
    let mut command = backupfs();
    command.arg("mount").arg("-r").arg(fixture().repository()).arg("--password-file").arg(&file);
    let says = fails(&mountpoint, &mut command, 32);
    assert!(says.contains("password") && says.contains("restic-v2"), "{says}");
}

#[test]
fn no_password_at_all() {
    let mountpoint = Mountpoint::new();
    let mut command = backupfs();
    command.arg("mount").arg("-r").arg(fixture().repository());
    let says = fails(&mountpoint, &mut command, 32);
    assert!(says.contains("no password: use --password-file"), "{says}");
}

#[test]
fn a_repository_that_is_not_there() {
    let mountpoint = Mountpoint::new();
    let missing = mountpoint.beside("missing");
    let says = fails(&mountpoint, &mut mount_of(&missing), 32);
    assert!(says.contains("missing: cannot be opened: No such file"), "{says}");
    let says = fails(&mountpoint, &mut mount_of(fixture().repository().parent().unwrap()), 32);
    assert!(says.contains("is no restic repository") && says.contains("/repo is one"), "{says}");
}

#[test]
fn a_damaged_config() {
    let mountpoint = Mountpoint::new();
    let repository = copy(&mountpoint);
    let config = repository.join("config");
    let _ = fs::remove_file(&config);
    fs::write(&config, [0; 100]).unwrap();
    let says = fails(&mountpoint, &mut mount_of(&repository), 32);
    assert!(says.contains("config"), "{says}");
}

#[test]
fn a_log_file_that_cannot_be_opened() {
    let mountpoint = Mountpoint::new();
    let mut command = fixture().command("mount");
    let says = fails(&mountpoint, command.args(["-o", "log=/no/such/dir/log"]), 1);
    assert!(says.contains("/no/such/dir/log"), "{says}");
}

#[test]
fn a_machine_without_fuse() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mountpoint = Mountpoint::new();
    let script = "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"";
    let mount = fixture().command("mount");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(mount.get_program()).args(mount.get_args());
    let says = fails(&mountpoint, &mut command, 2);
    assert!(says.contains("/dev/fuse"), "{says}");
}

#[test]
fn several_repositories_of_which_one_fails() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    let missing = mountpoint.beside("missing");
    let mut command = fixture().command("mount");
    let (code, stderr) = run(command.arg("-r").arg(&missing).arg(mountpoint.path()));
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("cannot be opened now: ") && stderr.contains("missing"), "{stderr}");
    assert!(fs::read_dir(mountpoint.path()).unwrap().count() > 0);
    drop(mountpoint);
    let mountpoint = Mountpoint::new();
    let mut command = mount_of(&mountpoint.beside("one"));
    let says = fails(&mountpoint, command.arg("-r").arg(mountpoint.beside("two")), 32);
    assert!(says.contains("/one: ") && says.contains("(1 more failed)"), "{says}");
}

#[test]
fn a_mount_that_does_not_get_ready_in_time() {
    let mountpoint = Mountpoint::new();
    let log = mountpoint.beside("log");
    assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
    // The server waits for its log, which nobody reads.
    let options = format!("mount-timeout=1s,log={}", log.display());
    let says = fails(&mountpoint, fixture().command("mount").args(["-o", &options]), 32);
    assert!(says.contains("not ready within 1 s (mount-timeout)"), "{says}");
    let options = format!("allow_other,{options}");
    let says = fails(&mountpoint, fixture().command("mount").args(["-f", "-o", &options]), 32);
    assert!(says.contains("not ready within 1 s (mount-timeout)"), "{says}");
}

#[test]
fn an_interrupted_mount() {
    for name in ["INT", "TERM"] {
        let mountpoint = Mountpoint::new();
        let log = mountpoint.beside("log");
        assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
        let mut command = fixture().command("mount");
        command.arg(mountpoint.path()).args(["-o", &format!("log={}", log.display())]);
        let mut parent = Running(command.stderr(std::process::Stdio::null()).spawn().unwrap());
        wait_for("the server to start", || !mountpoint.servers().is_empty());
        signal(parent.0.id(), name);
        assert_eq!(parent.0.wait().unwrap().code(), Some(8), "SIG{name}");
        assert!(mountpoint.mounted().is_empty() && mountpoint.servers().is_empty());
    }
}

#[test]
fn whoever_mounts_is_killed_before_the_tree_is_ready() {
    let mountpoint = Mountpoint::new();
    let log = mountpoint.beside("log");
    assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
    let mut command = fixture().command("mount");
    command.arg(mountpoint.path()).args(["-o", &format!("log={}", log.display())]);
    let parent = Running(command.stderr(std::process::Stdio::null()).spawn().unwrap());
    wait_for("the server to start", || !mountpoint.servers().is_empty());
    signal(parent.0.id(), "KILL");
    mountpoint.wait_until_gone();
}
