//! `backupfs snapshots`.

use crate::machine::{fixture, run, succeed};
use crate::sample::Sample;

#[test]
fn the_table_shows_every_date_with_its_snapshot() {
    let expected = "\
SET                DATE             ID        HOST    TAGS
laptop@+home+lab   20260226_030000  b8e23f5d  laptop
laptop@+home+lab   20260227_030000  7d980cba  laptop
laptop@+home+lab   20260228_030000  02b378b7  laptop
laptop@+home+lab   20260301_030000  ceb8dc36  laptop
laptop@+home+lab   20260302_030000  e5b4a739  laptop
server@+etc+nginx  20260222_013000  ef4fa866  server  weekly
server@+etc+nginx  20260301_013000  242054bf  server  weekly
server@+srv+www    20260222_013000  ef4fa866  server  weekly
server@+srv+www    20260301_013000  242054bf  server  weekly
7 snapshots
";
    let sample = Sample::new();
    assert_eq!(succeed(&mut sample.command("snapshots")), expected);
    let server = succeed(sample.command("snapshots").args(["--host", "serv*", "--path", "/srv"]));
    assert_eq!(server.lines().count(), 4, "{server}");
    assert!(server.ends_with("2 snapshots\n"), "{server}");
}

#[test]
fn json_names_every_snapshot_of_the_fixture() {
    let listed: serde_json::Value =
        serde_json::from_str(&succeed(fixture().command("snapshots").arg("--json"))).unwrap();
    let rows = listed.as_array().unwrap();
    let recorded = std::fs::read(fixture().repository().with_file_name("expected/snapshots.json")).unwrap();
    let recorded: serde_json::Value = serde_json::from_slice(&recorded).unwrap();
    for snapshot in recorded.as_array().unwrap() {
        let paths = snapshot["paths"].as_array().unwrap();
        let of_it: Vec<_> = rows.iter().filter(|row| row["id"] == snapshot["id"]).collect();
        assert_eq!(of_it.len(), paths.len(), "{snapshot}");
        for row in of_it {
            assert!(paths.contains(&row["path"]), "{row}");
            assert_eq!(row["host"], snapshot["hostname"]);
            let tags = snapshot["tags"].as_array().cloned().unwrap_or_default();
            assert_eq!(row["tags"], serde_json::Value::from(tags));
        }
    }
}

#[test]
fn a_repository_that_cannot_be_opened_hides_no_other() {
    let sample = Sample::new();
    let output = sample.command("snapshots").args(["-r", "/nonexistent/repo"]).output().unwrap();
    assert_eq!(output.status.code(), Some(32));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 11);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("backupfs: left out: ") && stderr.contains("/nonexistent/repo"), "{stderr}");
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let sample = Sample::new();
    let mut command = sample.command("snapshots");
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_wrong_password_is_one_line() {
    let sample = Sample::new();
    let (code, stderr) = run(sample.command("snapshots").env("RESTIC_PASSWORD", "wrong"));
    assert_eq!((code, stderr.lines().count()), (32, 1), "{stderr}");
}
