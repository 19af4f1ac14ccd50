//! Where a password must never be seen.

use std::fs;

use crate::machine::{Mountpoint, arguments, backupfs, can_mount, fixture, succeed};

#[test]
fn no_password_in_the_arguments_or_the_environment_of_the_server() {
    if !can_mount() {
        return;
    }
    let fixture = fixture();
    let password = fs::read_to_string(fixture.password_file()).unwrap();
    let password = password.trim();
    let mountpoint = Mountpoint::new();
    let log = mountpoint.beside("log");
    let mut command = backupfs();
    command.arg("-vvv").arg("mount").arg("-r").arg(fixture.repository()).arg(mountpoint.path());
    command.arg("-o").arg(format!("log={}", log.display()));
    succeed(command.env("RESTIC_PASSWORD", password).env("AWS_SECRET_ACCESS_KEY", "also secret"));
    let server = mountpoint.servers()[0];
    let environment = fs::read(format!("/proc/{server}/environ")).unwrap();
    let seen = [arguments(server), environment, fs::read(&log).unwrap()].concat();
    let seen = String::from_utf8_lossy(&seen);
    assert!(!seen.contains(password) && !seen.contains("also secret"), "{seen}");
    let limits = fs::read_to_string(format!("/proc/{server}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
