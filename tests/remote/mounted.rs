//! A restic repository behind each kind of server, mounted: what is copied out of it is what is copied out of the
//! repository on this machine.

use std::path::Path;
use std::process::Command;

use crate::harness::child::{descendants, has};
use crate::harness::rclone::Rclone;
use crate::harness::sshd::Sshd;
use crate::machine::{Mountpoint, arguments, backupfs, can_mount, fixture, run, succeed, wait_for};

/// Everything about every entry below `root`, contents included, in an order of its own.
pub fn manifest(root: &Path) -> Vec<u8> {
    let list = "find . -printf '%p %y %m %U %G %s %t %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum";
    let mut find = Command::new("sh");
    let found = find.arg("-c").arg(list).current_dir(root).env("LC_ALL", "C").output().unwrap();
    assert!(found.status.success() && !found.stdout.is_empty());
    found.stdout
}

/// What `cp -a` brings out of the newest snapshot of every set, with `arguments` to `mount`.
fn copied(set_up: impl FnOnce(&mut Command)) -> (Vec<u8>, Vec<u8>) {
    let mountpoint = Mountpoint::new();
    let mut mount = backupfs();
    mount.arg("mount").arg("--password-file").arg(fixture().password_file()).arg(mountpoint.path());
    set_up(&mut mount);
    succeed(&mut mount);
    let server = mountpoint.servers()[0];
    let environment = std::fs::read(format!("/proc/{server}/environ")).unwrap();
    let copy = mountpoint.beside("copy");
    succeed(Command::new("cp").arg("-a").arg(mountpoint.path().join("current")).arg(&copy));
    let copied = manifest(&copy);
    let below = descendants(server);
    let shown: Vec<u8> = below.iter().flat_map(|pid| arguments(*pid)).chain(environment).collect();
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
    mountpoint.wait_until_gone();
    wait_for("what the server started to end", || below.iter().all(|pid| arguments(*pid).is_empty()));
    (copied, shown)
}

fn expected() -> Vec<u8> {
    copied(|mount| {
        mount.arg("-r").arg(fixture().repository());
    })
    .0
}

#[test]
fn over_rest_with_a_password_that_nobody_sees() {
    if !can_mount() || !has("rclone") {
        return;
    }
    let server = Rclone::serve(&fixture().repository(), &["--user", "me", "--pass", "hunter2"]);
    let (manifest, shown) = copied(|mount| {
        mount.arg("-r").arg(format!("rest:http://{}/", server.address));
        mount.env("RESTIC_REST_USERNAME", "me").env("RESTIC_REST_PASSWORD", "hunter2");
    });
    assert!(manifest == expected(), "what was copied differs");
    assert!(!String::from_utf8_lossy(&shown).contains("hunter2"));
}

#[test]
fn over_sftp() {
    if !can_mount() || !has("sshd") {
        return;
    }
    let sshd = Sshd::start("internal-sftp -R");
    let (manifest, _) = copied(|mount| {
        mount
            .arg("-r")
            .arg(format!("sftp:{}", sshd.url(&fixture().repository()).trim_start_matches("sftp:")));
        mount.env("PATH", sshd.path());
    });
    assert!(manifest == expected(), "what was copied differs");
}

#[test]
fn an_ssh_server_that_was_gone_is_there_again_without_a_remount() {
    if !can_mount() || !has("sshd") {
        return;
    }
    let mut sshd = Sshd::start("internal-sftp -R");
    let mountpoint = Mountpoint::new();
    let mut mount = backupfs();
    mount.arg("mount").arg("--password-file").arg(fixture().password_file()).arg("-o").arg("cache-dir=none");
    mount.arg("-r").arg(sshd.url(&fixture().repository())).env("PATH", sshd.path());
    succeed(mount.arg(mountpoint.path()));
    let sets = mountpoint.path().join("current");
    let names = |of: &Path| -> Vec<_> {
        let mut names: Vec<_> =
            std::fs::read_dir(of).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let known = names(&sets);
    assert!(!known.is_empty());
    sshd.stop();
    let unread = sets.join(&known[0]);
    let gone = std::fs::read_dir(&unread).map(|entries| entries.count()).unwrap_err();
    let honest = [libc::EIO, libc::ETIMEDOUT];
    assert!(gone.raw_os_error().is_some_and(|number| honest.contains(&number)), "{gone}");
    assert_eq!(names(&sets), known, "what is known stays");
    sshd.start_again();
    wait_for("the server to be asked again", || std::fs::read_dir(&unread).is_ok());
    assert!(!manifest(&sets).is_empty());
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
}

#[test]
fn over_rclone() {
    if !can_mount() || !has("rclone") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("rclone.conf");
    std::fs::write(&config, "[here]\ntype = alias\nremote = /\n").unwrap();
    let (manifest, shown) = copied(|mount| {
        mount.arg("-r").arg(format!("rclone:here:{}", fixture().repository().display()));
        mount.env("RCLONE_CONFIG", &config).env("RCLONE_CONFIG_PASS", "hunter2");
    });
    assert!(!String::from_utf8_lossy(&shown).contains("hunter2"));
    assert!(manifest == expected(), "what was copied differs");
}

/// Mounts, kills the server without a word, and waits for what it had started to end by itself.
fn orphaned(set_up: impl FnOnce(&mut Command)) {
    let mountpoint = Mountpoint::new();
    let mut mount = backupfs();
    mount.arg("mount").arg("--password-file").arg(fixture().password_file()).arg(mountpoint.path());
    set_up(&mut mount);
    succeed(&mut mount);
    let server = mountpoint.servers()[0];
    let below = descendants(server);
    assert!(!below.is_empty());
    mountpoint.kill();
    wait_for("what the server started to end", || below.iter().all(|pid| arguments(*pid).is_empty()));
}

#[test]
fn programs_end_with_a_server_that_is_killed() {
    if !can_mount() || !has("sshd") || !has("rclone") {
        return;
    }
    let sshd = Sshd::start("internal-sftp");
    orphaned(|mount| {
        mount.arg("-r").arg(sshd.url(&fixture().repository())).env("PATH", sshd.path());
    });
    orphaned(|mount| {
        mount.arg("-r").arg(format!("rclone::local:{}", fixture().repository().display()));
        mount.env("RCLONE_CONFIG", "/dev/null");
    });
}

#[test]
fn what_cannot_be_reached_is_one_line_and_exit_code_32() {
    for (url, says) in [
        ("rest:http://127.0.0.1:1/repo/", "cannot be reached"),
        ("sftp://nobody@127.0.0.1:1//repo", "Connection refused"),
        ("rclone:nosuchremote:repo", "didn't find section in config file"),
    ] {
        let mut command = backupfs();
        command.arg("ls").arg("-r").arg(url).env("RESTIC_PASSWORD", "x").env("RCLONE_CONFIG", "/dev/null");
        let (code, said) = run(&mut command);
        // Before the last line the log may tell that the server is asked less often.
        let last = said.lines().last().unwrap_or_default();
        assert!(code == 32 && last.contains(says), "{code}: {said}");
    }
}
