//! What README tells a newcomer to type works.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::machine::{Mountpoint, can_mount};

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
fn every_command_is_in_the_table() {
    for verb in backupfs::cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        assert!(README.contains(&format!("| `backupfs {}", verb.get_name())), "{}", verb.get_name());
    }
}
