//! `backupfs automap`: what autofs gets to hear, and what it does not.

use std::fs;
use std::process::Command;

use crate::machine::{backupfs, run, succeed};

/// A configuration with two sources and a profile; one name is no key.
fn configuration() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = "[[source]]\nname = 'home'\nurl = '/srv/a'\n[[source]]\nname = 'a b'\nurl = '/srv/b'\n";
    fs::write(dir.path().join("config.toml"), config).unwrap();
    fs::write(dir.path().join("lab.toml"), "[[source]]\nurl = '/srv/c'\n").unwrap();
    dir
}

fn automap(dir: &tempfile::TempDir, key: Option<&str>) -> Command {
    let mut command = backupfs();
    command.arg("automap").arg("-c").arg(dir.path().join("config.toml"));
    if let Some(key) = key {
        command.arg("--").arg(key);
    }
    command
}

#[test]
fn sources_and_profiles_are_keys() {
    let dir = configuration();
    let option = format!("config={}", dir.path().join("config.toml").display());
    for key in ["home", "lab"] {
        let entry = succeed(&mut automap(&dir, Some(key)));
        assert_eq!(entry, format!("-fstype=backupfs,ro,{option} :{key}\n"));
    }
    let map = succeed(&mut automap(&dir, None));
    assert_eq!(
        map,
        format!("home -fstype=backupfs,ro,{option} :home\nlab -fstype=backupfs,ro,{option} :lab\n")
    );
}

#[test]
fn what_any_user_could_make_up_is_refused_with_nothing_on_stdout() {
    let dir = configuration();
    for key in [
        ";id", "$(id)", "`id`", "../x", "-o suid", "-osuid", "--help", "a b", "", ".", "none", "nobody",
        "config",
    ] {
        let output = automap(&dir, Some(key)).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{key:?}");
        let (_, says) = run(&mut automap(&dir, Some(key)));
        assert_eq!(says.lines().count(), 1, "{key:?}: {says}");
    }
}
