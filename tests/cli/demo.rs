//! `backupfs demo`: what a newcomer types first.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::machine::{Mountpoint, backupfs, can_mount, kill_daemons_of, run, succeed, wait_for};

/// The lines to paste: each stands two blanks in.
fn to_paste(welcome: &str) -> Vec<&str> {
    welcome.lines().filter_map(|line| line.strip_prefix("  ")).collect()
}

#[test]
fn the_sample_is_as_it_was_backed_up() {
    if !can_mount() {
        return;
    }
    let place = Mountpoint::new();
    let said = succeed(backupfs().args(["demo", "--check"]).arg(place.path()));
    assert!(
        said.starts_with("3 sets, 9 dates, 127 files and directories: all as they were backed up"),
        "{said}"
    );
    assert!(!place.path().exists());
}

#[test]
fn what_it_says_to_try_works_when_pasted() {
    if !can_mount() {
        return;
    }
    let place = Mountpoint::new();
    let dir = place.beside("a demo");
    let welcome = succeed(backupfs().arg("demo").arg(&dir));
    assert_eq!(welcome, succeed(backupfs().arg("demo").arg(&dir)), "a second time");
    let commands = to_paste(&welcome);
    let [find, restore, compare, end] = commands.as_slice() else { panic!("{welcome}") };
    let pasted = |command: &str| {
        Command::new("sh")
            .args(["-c", command])
            .env("BACKUPFS_CACHE_DIR", "none")
            .stderr(Stdio::inherit())
            .output()
            .unwrap()
    };

    let found = String::from_utf8(pasted(find).stdout).unwrap();
    assert_eq!(found.lines().count(), 4, "{found}");
    assert!(pasted(restore).status.success());
    assert_eq!(fs::read(dir.join("home/thesis.restored.tex")).unwrap().len(), 1029);
    assert_eq!(fs::read(dir.join("home/thesis.tex")).unwrap().len(), 512);
    let compared = pasted(compare);
    assert_eq!(compared.status.code(), Some(1), "diff finds differences");
    assert!(String::from_utf8(compared.stdout).unwrap().contains("News in March"));

    assert!(pasted(end).status.success());
    assert!(!dir.exists());
}

#[test]
fn a_demo_whose_server_died_starts_anew() {
    if !can_mount() {
        return;
    }
    let place = Mountpoint::new();
    let dir = place.beside("demo");
    succeed(backupfs().arg("demo").arg(&dir));
    kill_daemons_of(&dir.join("backups"));
    wait_for("the mount to die", || fs::read_dir(dir.join("backups")).is_err());
    succeed(backupfs().arg("demo").arg(&dir));
    assert!(dir.join("backups/laptop@+home+lab/latest/thesis").is_dir());
    succeed(backupfs().args(["demo", "--end"]).arg(&dir));
    assert!(!dir.exists());
}

#[test]
fn a_demo_in_use_is_not_checked_away() {
    if !can_mount() {
        return;
    }
    let place = Mountpoint::new();
    let dir = place.beside("demo");
    succeed(backupfs().arg("demo").arg(&dir));
    let (code, stderr) = run(backupfs().args(["demo", "--check"]).arg(&dir));
    assert!(code == 1 && stderr.contains("a demo is mounted there"), "{code} {stderr}");
    assert!(dir.join("backups/current").is_dir());
    succeed(backupfs().args(["demo", "--end"]).arg(&dir));
}

/// Runs the binary as an ordinary user who may open `/dev/fuse`, in a mount namespace of its own. `spoil` may take
/// something away first.
fn as_user(spoil: &str, dir: &Path, arguments: &str) -> (i32, String, String) {
    let script = format!(
        "set -e; mount --make-rprivate /; chmod 755 {dir}; mkdir -m 700 {dir}/home; chown 1000:1000 {dir}/home
         mknod -m 666 {dir}/fuse c 10 229; mount --bind {dir}/fuse /dev/fuse; {spoil}
         exec setpriv --reuid 1000 --regid 1000 --clear-groups env -i HOME={dir}/home PATH=/usr/bin:/bin {dir}/backupfs {arguments}",
        dir = dir.display(),
    );
    // Where the binary was built an ordinary user may not be able to go.
    fs::copy(env!("CARGO_BIN_EXE_backupfs"), dir.join("backupfs")).unwrap();
    let output =
        Command::new("unshare").args(["-m", "sh", "-c", &script]).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Whether tests can play another user.
fn is_root() -> bool {
    let is = rustix::process::geteuid().is_root();
    if !is {
        eprintln!("skipped: only root can become another user");
    }
    is
}

#[test]
fn an_ordinary_user_can_check_it_too() {
    if !can_mount() || !is_root() {
        return;
    }
    let place = Mountpoint::new();
    let dir = place.beside("machine");
    fs::create_dir(&dir).unwrap();
    chmod_above(&place);
    let (code, stdout, stderr) = as_user("", &dir, "demo --check");
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("all as they were backed up"), "{stdout}");
    assert_eq!(fs::read_dir(dir.join("home/.cache/backupfs")).unwrap().count(), 0, "removed what it made");
}

#[test]
fn what_is_missing_is_said_with_its_remedy_and_nothing_stays() {
    if !can_mount() || !is_root() {
        return;
    }
    for (spoil, says) in [
        ("umount /dev/fuse; mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3", "modprobe fuse"),
        ("chmod 600 /dev/fuse", "chmod 666 /dev/fuse"),
    ] {
        let place = Mountpoint::new();
        let dir = place.beside("machine");
        fs::create_dir(&dir).unwrap();
        chmod_above(&place);
        let (code, stdout, stderr) = as_user(spoil, &dir, "demo");
        assert_eq!((code, stdout.as_str()), (2, ""), "{spoil}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(says), "{spoil}: {stderr}");
        assert_eq!(fs::read_dir(dir.join("home/.cache/backupfs")).unwrap().count(), 0, "{spoil}");
    }
}

/// Lets an ordinary user pass through the temporary directory.
fn chmod_above(place: &Mountpoint) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(place.path().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
}
