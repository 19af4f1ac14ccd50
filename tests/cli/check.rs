//! `backupfs check`.

use std::fs;

use crate::machine::{fixture, succeed};
use crate::sample::Sample;

#[test]
fn a_sound_repository_is_said_to_be() {
    let sample = Sample::new();
    let name = sample.repository().display().to_string();
    let shown = succeed(&mut sample.command("check"));
    let row = shown.lines().nth(1).unwrap();
    assert!(shown.starts_with("SOURCE ") && shown.lines().count() == 2, "{shown}");
    assert!(row.starts_with(&format!("{name}  local  {name}  ")), "{shown}");
    assert!(row.ends_with(" ms          7  sound"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&succeed(fixture().command("check").arg("--json"))).unwrap();
    assert_eq!((&json[0]["snapshots"], &json[0]["problems"]), (&10.into(), &serde_json::json!([])));
}

#[test]
fn a_lost_pack_is_found_and_its_snapshots_are_named() {
    let sample = Sample::new();
    for directory in fs::read_dir(sample.repository().join("data")).unwrap() {
        fs::remove_dir_all(directory.unwrap().path()).unwrap();
    }
    let output = sample.command("check").output().unwrap();
    assert_eq!(output.status.code(), Some(32));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.lines().nth(1).unwrap().contains("problem"), "{stdout}");
    assert!(stdout.contains(": snapshot b8e23f5d: /home/lab: tree blob "), "{stdout}");
    for path in ["/etc/nginx", "/srv/www"] {
        assert!(stdout.contains(&format!(": snapshot ef4fa866: {path}: tree blob ")), "{stdout}");
    }
}

#[test]
fn a_garbage_snapshot_is_a_problem() {
    let sample = Sample::new();
    let snapshots = sample.repository().join("snapshots");
    let one = fs::read_dir(&snapshots).unwrap().next().unwrap().unwrap().path();
    fs::write(one, "garbage").unwrap();
    let output = sample.command("check").output().unwrap();
    assert_eq!(output.status.code(), Some(32), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("1 problem"));
}

#[test]
fn what_cannot_be_opened_is_one_line_of_several() {
    let sample = Sample::new();
    let output = sample.command("check").args(["-r", "/nonexistent/repo"]).output().unwrap();
    assert_eq!(output.status.code(), Some(32));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("/nonexistent/repo") && stdout.contains("cannot be opened"), "{stdout}");
    assert!(stdout.contains("No such file or directory (os error 2); check its url\n"), "{stdout}");
    assert!(stdout.contains("sound"), "{stdout}");
}
