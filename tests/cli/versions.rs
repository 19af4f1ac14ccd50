//! `backupfs versions`.

use std::process::Command;

use crate::machine::{Mountpoint, can_mount, run, succeed};
use crate::sample::Sample;

const THESIS: &str = "\
thesis/thesis.tex in laptop@+home+lab: on 5 of 5 dates

DATE             SIZE  MODIFIED             CONTENT
20260226_030000   562  2026-02-24 22:02:00  first
20260227_030000   756  2026-02-26 22:41:00  changed
20260228_030000   756  2026-02-26 22:41:00  same
20260301_030000  1029  2026-02-28 21:57:00  changed
20260302_030000   512  2026-03-01 22:59:00  changed

To restore a version beside the original:
";

/// The commands that restore `thesis.tex` into `to`.
fn commands(mountpoint: &str, to: &str) -> String {
    let command = |date: &str| {
        format!("  cp -a {mountpoint}/laptop@+home+lab/{date}/thesis/thesis.tex {to}/thesis.{date}.tex\n")
    };
    ["20260226_030000", "20260227_030000", "20260301_030000", "20260302_030000"].map(command).concat()
}

#[test]
fn a_path_of_a_host_is_found_in_its_sets() {
    let sample = Sample::new();
    let mut command = sample.command("versions");
    let shown = succeed(command.args(["--host", "laptop", "/home/lab/thesis/thesis.tex"]));
    let mount = format!("  backupfs mount /mnt/backups -r {}\n", sample.repository().display());
    assert_eq!(shown, format!("{THESIS}{mount}{}", commands("/mnt/backups", "/home/lab/thesis")));
}

#[test]
fn paths_of_the_tree_are_understood_in_every_form() {
    let sample = Sample::new();
    for form in [
        "laptop@+home+lab",
        "laptop@+home+lab/20260227_030000",
        "laptop@+home+lab/latest",
        "current/laptop@+home+lab",
    ] {
        let mut command = sample.command("versions");
        let shown = succeed(command.arg(format!("{form}/thesis/thesis.tex")).current_dir("/"));
        assert!(
            shown.starts_with(THESIS) && shown.ends_with(&commands("/mnt/backups", ".")),
            "{form}: {shown}"
        );
    }
}

#[test]
fn a_deleted_file_is_told_as_json() {
    let sample = Sample::new();
    let mut command = sample.command("versions");
    let json = succeed(command.args(["--json", "--host", "l*", "/home/lab/recipes/plum-cake.md"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let versions = json[0]["versions"].as_array().unwrap();
    let changes: Vec<&str> = versions.iter().map(|version| version["change"].as_str().unwrap()).collect();
    assert_eq!(changes, ["first", "same", "same", "same", "absent"]);
    assert_eq!(versions[0]["size"], 441);
    assert!(
        versions[0]["restore"].as_str().unwrap().ends_with("/home/lab/recipes/plum-cake.20260226_030000.md")
    );
    assert!(versions[1].get("restore").is_none());
}

#[test]
fn what_no_backup_holds_is_a_failure() {
    let sample = Sample::new();
    let (code, stderr) = run(sample.command("versions").args(["--host", "laptop", "/etc/passwd"]));
    assert_eq!((code, stderr.as_str()), (32, "backupfs: /etc/passwd: lies in no backup of host laptop\n"));
    let output = sample.command("versions").args(["--host", "laptop", "/home/lab/nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(32));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .starts_with("nothing in laptop@+home+lab: on 0 of 5 dates\n")
    );
    let (code, stderr) = run(sample.command("versions").arg("other@+home/file"));
    assert_eq!((code, stderr.lines().count()), (32, 1));
    assert!(stderr.contains("no such set"), "{stderr}");
}

#[test]
fn inside_a_mount_no_repository_needs_to_be_named() {
    if !can_mount() {
        return;
    }
    let sample = Sample::new();
    let mountpoint = Mountpoint::new();
    succeed(sample.command("mount").arg(mountpoint.path()));
    let mut command = crate::machine::backupfs();
    command.env("TZ", "UTC").args(["versions", "thesis.tex"]);
    let shown = succeed(command.current_dir(mountpoint.path().join("current/laptop@+home+lab/thesis")));
    let place = mountpoint.path().display().to_string();
    assert_eq!(shown, format!("{THESIS}{}", commands(&place, ".")));
    // Pasted, the commands do what they say.
    let script: String =
        shown.lines().filter(|line| line.starts_with("  cp -a ")).map(|line| format!("{line}\n")).collect();
    let here = mountpoint.beside("restored");
    std::fs::create_dir(&here).unwrap();
    succeed(Command::new("sh").args(["-ec", &script]).env("BACKUPFS_CACHE_DIR", "none").current_dir(&here));
    assert_eq!(std::fs::read(here.join("thesis.20260301_030000.tex")).unwrap().len(), 1029);
    succeed(crate::machine::backupfs().arg("umount").arg(mountpoint.path()));
}
