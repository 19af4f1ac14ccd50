//! What is wrong before anything is opened: exit code 1 (32 for places), one line that names it.

use std::fs;

use crate::machine::{Mountpoint, backupfs, fixture, run, succeed};

/// The message of a command that must end with `code`: one line, as everything on stderr.
fn message(command: &mut std::process::Command, code: i32) -> String {
    let (got, stderr) = run(command);
    assert_eq!(got, code, "{command:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("backupfs: "), "{stderr}");
    stderr
}

#[test]
fn every_help_lists_the_exit_codes() {
    let help = succeed(backupfs().arg("--help"));
    assert!(help.contains("Exit codes: 0 done"), "{help}");
    for verb in ["mount", "umount"] {
        assert!(help.contains(verb), "{help}");
        let help = succeed(backupfs().args([verb, "--help"]));
        assert!(help.contains("Exit codes: 0 done") && help.contains("32 failed"), "{help}");
    }
    assert!(succeed(backupfs().arg("--version")).starts_with("backupfs "));
}

#[test]
fn the_internal_verb_is_not_shown_and_refuses_to_be_typed() {
    assert!(!succeed(backupfs().arg("--help")).contains("serve"));
    let (code, stderr) = run(backupfs().args(["serve", "/mnt"]));
    assert!(code != 0 && stderr.contains("hand-over"), "{code} {stderr}");
}

#[test]
fn wrong_arguments_are_exit_code_1() {
    for arguments in [&["nonsense"][..], &["mount", "--nonsense"], &[], &["umount"]] {
        assert_eq!(run(backupfs().args(arguments)).0, 1, "{arguments:?}");
    }
}

#[test]
fn an_unknown_option_is_named_with_the_nearest() {
    let mountpoint = Mountpoint::new();
    let mut command = fixture().command("mount");
    let says = message(command.arg(mountpoint.path()).args(["-o", "ro,refesh=5s"]), 1);
    assert_eq!(says, "backupfs: -o: unknown option \"refesh\"; did you mean \"refresh\"?\n");
}

#[test]
fn a_password_in_an_option_is_refused_and_not_repeated() {
    let mountpoint = Mountpoint::new();
    let mut command = fixture().command("mount");
    let says = message(command.arg(mountpoint.path()).args(["-o", "password=hunter2"]), 1);
    assert!(says.contains("others can read it") && !says.contains("hunter2"), "{says}");
}

#[test]
fn without_a_repository_or_a_mountpoint_nothing_happens() {
    let mountpoint = Mountpoint::new();
    let home = mountpoint.beside("home");
    let says = message(backupfs().arg("mount").arg(mountpoint.path()).env("HOME", &home), 1);
    assert!(says.contains("no repository given"), "{says}");
    let says = message(&mut fixture().command("mount"), 1);
    assert!(says.contains("no mountpoint given"), "{says}");
}

#[test]
fn a_mistake_in_the_configuration_names_its_line() {
    let mountpoint = Mountpoint::new();
    let file = mountpoint.beside("config.toml");
    fs::write(&file, "refresh = \"5s\"\nalow_other = true\n[[source]]\nurl = \"/srv/x\"\n").unwrap();
    let says = message(backupfs().arg("mount").arg(mountpoint.path()).arg("-c").arg(&file), 1);
    assert!(
        says.contains("config.toml:2: unknown key \"alow_other\"; did you mean \"allow_other\"?"),
        "{says}"
    );
}

#[test]
fn places_that_are_not_read_are_refused_without_their_secrets() {
    let mountpoint = Mountpoint::new();
    for (url, code, remedy) in [
        ("kopia:/srv/k", 32, "not supported: this version reads restic"),
        ("b2:bucket:path", 32, "reach it by rclone:REMOTE:PATH"),
        ("https://user:hunter2@host/", 1, "did you mean \"rest:https:\"?"),
        ("s3:https://AKIA:hunter2@host/b", 1, "keys do not belong into the URL"),
        ("sftp:user:hunter2@host:/x", 1, "ssh uses keys"),
    ] {
        let says = message(backupfs().arg("mount").arg(mountpoint.path()).args(["-r", url]), code);
        assert!(says.contains(remedy) && !says.contains("hunter2"), "{says}");
        assert_eq!(says.trim_end().lines().count(), 1, "{says}");
    }
}

#[test]
fn a_place_to_mount_on_must_be_a_directory_apart_from_the_repository() {
    let fixture = fixture();
    let mountpoint = Mountpoint::new();
    let file = mountpoint.beside("file");
    fs::write(&file, "").unwrap();
    for (place, says) in [
        (mountpoint.beside("missing"), "No such file or directory"),
        (file, "is not a directory"),
        (fixture.repository(), "lie in each other"),
        (fixture.repository().join("data"), "lie in each other"),
        (fixture.repository().join("..").join(".."), "lie in each other"),
        ("/".into(), "lie in each other"),
    ] {
        let message = message(fixture.command("mount").arg(&place), 32);
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn unmounting_what_is_not_mounted_says_so() {
    let mountpoint = Mountpoint::new();
    let says = message(backupfs().arg("umount").arg(mountpoint.path()), 32);
    assert!(says.contains("no backups are mounted at"), "{says}");
    let says = message(backupfs().args(["umount", "/proc"]), 32);
    assert!(says.contains("no backups are mounted at /proc"), "{says}");
}
