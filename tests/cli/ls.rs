//! `backupfs ls`.

use crate::machine::{fixture, run, succeed};
use crate::sample::Sample;

#[test]
fn the_tree_is_listed_as_a_mount_would_show_it() {
    let sample = Sample::new();
    let ls = |path: &str| {
        let mut names: Vec<String> =
            succeed(sample.command("ls").arg(path)).lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(ls(""), "at current laptop@+home+lab server@+etc+nginx server@+srv+www");
    assert_eq!(ls("server@+srv+www"), "20260222_013000 20260301_013000 latest");
    let home = "bin data drafts letters notes pictures recipes thesis";
    for place in ["laptop@+home+lab/latest", "/laptop@+home+lab/20260226_030000/", "current/laptop@+home+lab"]
    {
        assert_eq!(ls(place), home, "{place}");
    }
    assert_eq!(ls("at/2026-02-28/laptop@+home+lab/recipes"), "bread.md plum-cake.md");
    assert_eq!(ls("laptop@+home+lab/latest/recipes"), "bread.md");
    assert_eq!(ls("laptop@+home+lab/latest/drafts"), "");
}

#[test]
fn the_long_form_tells_everything() {
    let sample = Sample::new();
    let expected = "\
drwxr-xr-x  1  1000  1000    0  2026-02-24 20:11  figures
lrwxrwxrwx  1  1000  1000   17  2026-02-24 20:10  readings.csv -> ../data/tides.csv
-rw-r--r--  1  1000  1000  512  2026-03-01 22:59  thesis.tex
";
    assert_eq!(succeed(sample.command("ls").args(["-l", "laptop@+home+lab/latest/thesis"])), expected);
    let file = succeed(sample.command("ls").args(["-l", "current/laptop@+home+lab/pictures/pier.png"]));
    let expected =
        "-rw-r--r--  2  1000  1000  5078  2026-02-22 15:20  current/laptop@+home+lab/pictures/pier.png\n";
    assert_eq!(file, expected);
}

#[test]
fn links_are_followed_inside_the_tree_only() {
    let sample = Sample::new();
    let through = succeed(sample.command("ls").arg("laptop@+home+lab/latest/thesis/../data"));
    assert_eq!(through, "tides.csv\n");
    let linked =
        succeed(sample.command("ls").args(["--json", "laptop@+home+lab/latest/thesis/readings.csv"]));
    let linked: serde_json::Value = serde_json::from_str(&linked).unwrap();
    assert_eq!((&linked[0]["type"], &linked[0]["size"]), (&"file".into(), &174.into()));
    let (code, stderr) = run(fixture().command("ls").arg("alpha@+srv+data/latest/links/absolute/x"));
    assert!(code == 32 && stderr.lines().count() == 1, "{code} {stderr}");
}

#[test]
fn names_keep_their_bytes_in_pipes_and_in_json() {
    let mut command = fixture().command("ls");
    let output = command.arg("alpha@+srv+data/latest/names").output().unwrap();
    assert!(output.status.success());
    let lines: Vec<&[u8]> = output.stdout.split(|byte| *byte == b'\n').collect();
    assert!(lines.contains(&b"latin\xe9".as_slice()));
    assert!(lines.contains(&b"esc\x1b[31mred".as_slice()));
    let json = succeed(fixture().command("ls").args(["--json", "alpha@+srv+data/latest/names"]));
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let latin = rows.iter().find(|row| row["name"] == "latin\u{fffd}").unwrap();
    assert_eq!(latin["name_base64"], "bGF0aW7p");
    assert!(rows.iter().any(|row| row["name"] == "esc\u{1b}[31mred" && row.get("name_base64").is_none()));
}

#[test]
fn a_terminal_gets_nothing_to_obey() {
    let mut ls = fixture().command("ls");
    ls.arg("alpha@+srv+data/latest/names");
    let words: Vec<String> = std::iter::once(ls.get_program())
        .chain(ls.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut script = std::process::Command::new("script");
    let shown =
        succeed(script.args(["-qec", &words.join(" "), "/dev/null"]).stdin(std::process::Stdio::null()));
    assert!(
        shown.contains("esc\\x1b[31mred") && shown.contains("latin\\xe9") && shown.contains("new\\nline"),
        "{shown:?}"
    );
    assert!(!shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn what_is_not_there_is_said() {
    let sample = Sample::new();
    for path in ["nothing", "laptop@+home+lab/20260101_000000", "laptop@+home+lab/latest/thesis/thesis.tex/x"]
    {
        let (code, stderr) = run(sample.command("ls").arg(path));
        assert_eq!(
            (code, stderr),
            (32, format!("backupfs: {path}: no such file or directory in these backups\n"))
        );
    }
}
