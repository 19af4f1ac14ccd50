//! The program itself, beside something that shows how it was called.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what these share is no #[test]")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A directory in which the helper lies beside a script that prints its arguments and environment.
struct Stage {
    dir: tempfile::TempDir,
    /// One test at a time: a program that is being written cannot be executed, and a process that another test starts
    /// meanwhile inherits the descriptor.
    _alone: MutexGuard<'static, ()>,
}

fn stage() -> Stage {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    fs::copy(env!("CARGO_BIN_EXE_mount-backupfs"), dir.path().join("mount.backupfs")).unwrap();
    let script =
        "#!/bin/sh\nprintf '<%s>' \"$@\"\necho \" PATH=$PATH HOME=$HOME uid=$(/usr/bin/id -u)\"\nexit 32\n";
    let program = dir.path().join("backupfs");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    Stage { dir, _alone: alone }
}

fn helper(stage: &Stage) -> Command {
    Command::new(stage.dir.path().join("mount.backupfs"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_lies_beside_it_is_executed_and_its_exit_code_passed_on() {
    let stage = stage();
    let Output { status, stdout, .. } =
        helper(&stage).args(["a b", "/mnt", "-o", r"ro,x=a\,b", "-fv"]).env("PATH", "/x").output().unwrap();
    let said = text(&stdout);
    assert!(said.starts_with(r"<mount><--spec><a b><-o><ro,x=a\,b><--fake><-v><--></mnt> PATH=/x"), "{said}");
    assert_eq!(status.code(), Some(32));
}

#[test]
fn without_a_path_programs_are_found_in_the_usual_places() {
    let stage = stage();
    for path in [None, Some("")] {
        let mut command = helper(&stage);
        command.env_clear().args(["home", "/mnt"]);
        command.envs(path.map(|path| ("PATH", path)));
        let said = text(&command.output().unwrap().stdout);
        assert!(said.contains(" PATH=/usr/local/sbin:") && said.contains(" HOME= "), "{said}");
    }
}

#[test]
fn what_is_wrong_is_one_line_and_exit_code_1() {
    let stage = stage();
    for words in [
        &["home"][..],
        &["home", "/mnt", "-x"],
        &["-osuid", "/mnt"],
        &["home", "/mnt", "-o", "setuid=no such"],
    ] {
        let Output { status, stdout, stderr } = helper(&stage).args(words).output().unwrap();
        let said = text(&stderr);
        assert_eq!((status.code(), stdout.len(), said.lines().count()), (Some(1), 0, 1), "{words:?}: {said}");
        assert!(said.starts_with("mount.backupfs: "), "{said}");
    }
}

#[test]
fn without_the_program_the_system_lacks_something() {
    let stage = stage();
    fs::remove_file(stage.dir.path().join("backupfs")).unwrap();
    let Output { status, stderr, .. } = helper(&stage).args(["home", "/mnt"]).output().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(text(&stderr).contains("backupfs: No such file"), "{}", text(&stderr));
}

#[test]
fn setuid_mounts_as_that_user_from_his_home() {
    let stage = stage();
    let output = helper(&stage).args(["home", "/mnt", "-o", "setuid=daemon,ro"]).output().unwrap();
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } == 0 {
        let said = text(&output.stdout);
        assert!(said.starts_with("<mount><--spec><home><-o><ro><--></mnt>"), "{said}");
        assert!(said.ends_with(" HOME=/usr/sbin uid=1\n"), "{said}");
    } else {
        assert_eq!(output.status.code(), Some(1), "who is not root cannot become another");
    }
    // Who has no rights cannot take somebody's.
    let mut ordinary = helper(&stage);
    ordinary.args(["home", "/mnt", "-o", "setuid=root"]);
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } == 0 {
        ordinary.uid(1000).gid(1000);
    }
    let Output { status, stderr, .. } = ordinary.output().unwrap();
    assert_eq!(status.code(), Some(1), "{}", text(&stderr));
    assert!(text(&stderr).contains("setuid=root: Operation not permitted"), "{}", text(&stderr));
}
