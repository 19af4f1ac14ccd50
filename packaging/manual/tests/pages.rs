//! The pages as the program writes them and man(1) shows them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn manual(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_backupfs-manual")).args(arguments).output().unwrap()
}

/// Every file that the program wrote below `directory`.
fn files(directory: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(directory).unwrap().map(|folder| folder.unwrap().path());
    folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|file| file.unwrap().path()).collect()
}

/// man(1) finds nothing wrong with them, and each names itself as apropos(1) wants it.
#[test]
fn man_shows_every_page_without_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    assert!(manual(&[directory.path()]).status.success());
    let files = files(directory.path());
    assert!(files.len() > 12, "{files:?}");
    for file in files {
        let mut man = Command::new("man");
        man.args(["--warnings", "-l"]).arg(&file).env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8");
        let shown = man.output().expect("man: tests/run installs man-db");
        let complaints = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success() && complaints.is_empty(), "{}: {complaints}", file.display());
        let name = file.file_stem().unwrap().to_str().unwrap();
        let text = String::from_utf8_lossy(&shown.stdout);
        let named = text.lines().any(|line| line.trim_start().starts_with(&format!("{name} - ")));
        assert!(named, "{}: {text}", file.display());
    }
}

#[test]
fn equal_sources_make_equal_pages() {
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for directory in [&first, &second] {
        assert!(manual(&[directory.path()]).status.success());
    }
    for file in files(first.path()) {
        let other = second.path().join(file.strip_prefix(first.path()).unwrap());
        assert!(fs::read(&file).unwrap() == fs::read(other).unwrap(), "{}", file.display());
    }
}

#[test]
fn without_a_directory_or_with_one_that_cannot_be_it_fails() {
    assert_eq!(manual(&[]).status.code(), Some(1));
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = manual(&[file.path()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains(file.path().to_str().unwrap()), "{output:?}");
}
