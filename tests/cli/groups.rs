//! Groups: many repositories under one location.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{Mountpoint, backupfs, can_mount, run, succeed};
use crate::sample::Sample;

/// A directory as a minio server in file-system mode leaves it: two repositories, one directory that is none, and what
/// is no member at all.
struct Many(tempfile::TempDir);

impl Many {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("restic");
        fs::create_dir_all(root.join(".minio.sys/buckets")).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        fs::create_dir(root.join("broken")).unwrap();
        for name in ["alice", "bob"] {
            copy(&Sample::new().repository(), &root.join(name));
        }
        Many(dir)
    }

    fn pattern(&self) -> PathBuf {
        self.0.path().join("restic/*")
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = backupfs();
        command.env("TZ", "UTC").env("RESTIC_PASSWORD", "demo").arg(verb).arg("-r").arg(self.pattern());
        command
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn lines(command: &mut Command) -> Vec<String> {
    let mut lines: Vec<String> = succeed(command).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_star_makes_a_directory_of_members_with_a_tree_each() {
    let many = Many::new();
    let ls = |path: &str| lines(many.command("ls").arg(path));
    assert_eq!(ls(""), ["at", "current", "restic"]);
    assert_eq!(ls("restic"), ["alice", "bob", "broken"]);
    assert_eq!(ls("restic/bob").join(" "), "at current laptop@+home+lab server@+etc+nginx server@+srv+www");
    assert_eq!(ls("restic/alice/current/laptop@+home+lab/recipes"), ["bread.md"]);
    assert!(ls("current").is_empty());
    let (code, says) = run(many.command("ls").arg("restic/broken"));
    assert_eq!(code, 32);
    assert!(says.contains("restic/broken: is no restic repository"), "{says}");
    let (code, says) = run(many.command("ls").arg("restic/carol"));
    assert_eq!(code, 32, "{says}");
}

#[test]
fn members_have_passwords_and_names_by_template() {
    let many = Many::new();
    many.file("alice.key", "demo\n");
    many.file("bob.key", "wrong\n");
    let root = many.0.path().display().to_string();
    let config = many.file(
        "config.toml",
        &format!(
            "[[source]]\nname = 'users'\nurl = 'restic/*'\npassword-file = '{root}/{{member}}.key'\nset = 'cernbox@+eos+{{member}}'\n"
        ),
    );
    let command = |path: &str| {
        let mut command = backupfs();
        command.args(["ls", "-c"]).arg(&config).arg(path);
        command
    };
    assert_eq!(lines(&mut command("users")), ["alice", "bob", "broken"]);
    assert_eq!(lines(&mut command("users/alice")), ["at", "cernbox@+eos+alice", "current"]);
    let (code, says) = run(&mut command("users/bob"));
    assert!(code == 32 && says.contains("users/bob: "), "{says}");
}

#[test]
fn members_may_be_named_by_a_command_or_a_file() {
    let many = Many::new();
    let root = many.0.path().display().to_string();
    let list = many.file(
        "members",
        &format!("# members\n{root}/restic/alice\n{{\"name\": \"second\", \"url\": \"{root}/restic/bob\", \"host\": \"server\"}}\nnot a member\n"),
    );
    for said in [
        format!("members-file = '{}'", list.display()),
        format!("members-command = 'cat {}'", list.display()),
    ] {
        let config = many.file(
            "config.toml",
            &format!("[[source]]\nname = 'users'\n{said}\npassword-command = 'printf demo'\n"),
        );
        let ls = |path: &str| {
            let mut command = backupfs();
            lines(command.args(["ls", "-c"]).arg(&config).arg(path))
        };
        assert_eq!(ls("users"), ["alice", "second"], "{said}");
        assert_eq!(ls("users/second").join(" "), "at current server@+etc+nginx server@+srv+www");
    }
}

#[test]
fn a_place_that_cannot_be_listed_is_one_line_and_no_mount() {
    let mountpoint = Mountpoint::new();
    let says = |pattern: &str| {
        let mut command = backupfs();
        command.env("RESTIC_PASSWORD", "x").arg("mount").arg(mountpoint.path()).args(["-r", pattern]);
        let (code, says) = run(&mut command);
        assert_eq!(code, 32, "{says}");
        assert_eq!(says.trim_end().lines().count(), 1, "{says}");
        says
    };
    assert!(says("/no/such/directory/*").contains("/no/such/directory: No such file or directory"));
    assert!(
        says("rest:http://127.0.0.1:9/*/").contains("127.0.0.1: "),
        "a REST server lists no repositories"
    );
    assert!(mountpoint.mounted().is_empty());
}

#[test]
fn a_mounted_group_is_walked_like_any_tree() {
    if !can_mount() {
        return;
    }
    let many = Many::new();
    let mountpoint = Mountpoint::new();
    succeed(many.command("mount").arg(mountpoint.path()));
    let group = mountpoint.path().join("restic");
    let mut names: Vec<_> = fs::read_dir(&group).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["alice", "bob", "broken"]);
    let status = || fs::read_to_string(mountpoint.path().join(".backupfs/status.json")).unwrap();
    assert!(status().contains("\"open\": 0"), "{}", status());
    let read = |member: &str| {
        fs::read(group.join(member).join("current/laptop@+home+lab/recipes/bread.md")).unwrap()
    };
    assert_eq!(read("alice"), read("bob"));
    assert!(status().contains("\"open\": 2"), "{}", status());
    let error = fs::metadata(group.join("broken/current")).unwrap_err();
    assert_ne!(error.kind(), std::io::ErrorKind::NotFound, "what cannot be opened is not empty");
    assert!(!group.join("carol").exists());
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
}
