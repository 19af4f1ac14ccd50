//! What README tells a newcomer to type works.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::machine::{Mountpoint, can_mount};
use crate::s3::{ACCESS_KEY, S3Server, SECRET_KEY};

const README: &str = include_str!("../../README.md");

/// The commands under a heading.
fn commands(heading: &str) -> &'static str {
    let section = README.split(&format!("## {heading}\n")).nth(1).unwrap();
    section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap()
}

#[test]
fn the_quick_start_restores_a_file() {
    if !can_mount() {
        return;
    }
    if !Path::new("/usr/bin/restic").exists() {
        eprintln!("skipped: restic is not installed");
        return;
    }
    let place = Mountpoint::new();
    let home = place.beside("home");
    fs::create_dir(&home).unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_backupfs")).parent().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-ec", commands("Quick start")]).env_clear().current_dir(&home).stdin(Stdio::null());
    shell
        .env("HOME", &home)
        .env("BACKUPFS_CACHE_DIR", home.join("cache"))
        .env("PATH", format!("{}:/usr/bin:/bin", binaries.display()));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(home.join("papers/thesis.restored.tex")).unwrap(), "All of it.\n");
    assert!(fs::read_dir(home.join("backups")).unwrap().next().is_none(), "still mounted");
}

#[test]
fn five_commands_restore_a_file_from_s3() {
    if !can_mount() {
        return;
    }
    let Some(server) = S3Server::start() else { return };
    let place = Mountpoint::new();
    let home = place.beside("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("restic-password"), "correct horse").unwrap();
    server.bucket("bucket");
    let binaries = Path::new(env!("CARGO_BIN_EXE_backupfs")).parent().unwrap();
    let url = server.url("bucket/laptop");
    let shell = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).env_clear().current_dir(&home).stdin(Stdio::null());
        shell.env("HOME", &home).env("BACKUPFS_CACHE_DIR", home.join("cache"));
        shell.env("PATH", format!("{}:/usr/bin:/bin", binaries.display()));
        shell.env("RESTIC_REPOSITORY", &url).env("RESTIC_PASSWORD_FILE", home.join("restic-password"));
        shell.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    if !Path::new("/usr/bin/restic").exists() {
        eprintln!("skipped: restic is not installed");
        return;
    }
    shell("mkdir papers; echo All of it. > papers/thesis.tex; restic -q init; cd papers; restic -q backup .");
    let typed = commands("From S3");
    assert_eq!(typed.lines().count(), 5);
    let typed = typed
        .replace("cargo install --path .\n", "")
        .replace("s3:https://s3.example.org/bucket/laptop", &url);
    shell(&typed.replace("=KEY", &format!("={ACCESS_KEY}")).replace("=SECRET", &format!("={SECRET_KEY}")));
    assert_eq!(fs::read_to_string(home.join("thesis.restored.tex")).unwrap(), "All of it.\n");
    shell("backupfs umount ~/backups");
}

#[test]
fn every_command_is_in_the_table() {
    for verb in backupfs::cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        assert!(README.contains(&format!("| `backupfs {}", verb.get_name())), "{}", verb.get_name());
    }
}
