//! A mount from its beginning to its end.

use std::fs;
use std::process::Command;

use crate::machine::{Detached, Mountpoint, backupfs, can_mount, fixture, run, signal, succeed, wait_for};

#[test]
fn mounts_when_it_returns_and_unmounts() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    let (code, stderr) = run(fixture().command("mount").arg(mountpoint.path()));
    assert_eq!(code, 0, "{stderr}");
    assert!(fs::read_dir(mountpoint.path()).unwrap().count() > 0);
    let lines = mountpoint.mounted();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let fields: Vec<&str> = lines[0].split(' ').collect();
    assert_eq!(fields[0], fixture().repository().to_str().unwrap());
    assert_eq!(fields[2], "fuse.backupfs");
    for option in ["ro", "nosuid", "nodev"] {
        assert!(fields[3].split(',').any(|o| o == option), "{lines:?}");
    }
    let [server] = mountpoint.servers()[..] else { panic!("{:?}", mountpoint.servers()) };
    assert_eq!(fs::read_to_string(format!("/proc/{server}/comm")).unwrap(), "backupfs\n");
    assert_eq!(fs::read_link(format!("/proc/{server}/cwd")).unwrap().to_str(), Some("/"));
    for fd in ["0", "1", "2"] {
        let open = fs::read_link(format!("/proc/{server}/fd/{fd}")).unwrap();
        assert_eq!(open.to_str(), Some("/dev/null"), "fd {fd}");
    }
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
    mountpoint.wait_until_gone();
}

#[test]
fn root_is_told_that_only_root_can_see_a_private_mount() {
    if !can_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    for (options, told) in [("ro", true), ("allow_other", false)] {
        let mountpoint = Mountpoint::new();
        let (code, stderr) = run(fixture().command("mount").arg(mountpoint.path()).args(["-o", options]));
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(stderr.contains("only root can see"), told, "{options}: {stderr}");
    }
}

#[test]
fn a_place_that_is_taken_is_refused() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    succeed(fixture().command("mount").arg(mountpoint.path()));
    let (code, stderr) = run(fixture().command("mount").arg(mountpoint.path()));
    assert_eq!(code, 32);
    assert!(stderr.contains("already mounted at"), "{stderr}");
    assert_eq!(mountpoint.mounted().len(), 1);
    assert_eq!(mountpoint.servers().len(), 1);
}

#[test]
fn a_mount_whose_server_was_killed_is_replaced() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    succeed(fixture().command("mount").arg(mountpoint.path()));
    mountpoint.kill();
    wait_for("the mount to die", || fs::metadata(mountpoint.path()).is_err());
    succeed(fixture().command("mount").arg(mountpoint.path()));
    assert_eq!(mountpoint.mounted().len(), 1);
    assert!(fs::read_dir(mountpoint.path()).unwrap().count() > 0);
}

#[test]
fn a_dead_mount_is_unmounted() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    succeed(fixture().command("mount").arg(mountpoint.path()));
    mountpoint.kill();
    wait_for("the mount to die", || fs::metadata(mountpoint.path()).is_err());
    succeed(backupfs().arg("umount").arg(mountpoint.path()));
    mountpoint.wait_until_gone();
}

#[test]
fn the_server_ends_when_somebody_else_unmounts() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    succeed(fixture().command("mount").arg(mountpoint.path()));
    succeed(Command::new("umount").arg(mountpoint.path()));
    mountpoint.wait_until_gone();
}

#[test]
fn sigterm_unmounts_even_when_a_file_is_open() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    succeed(fixture().command("mount").arg(mountpoint.path()));
    let _open = fs::File::open(mountpoint.path()).unwrap();
    signal(mountpoint.servers()[0], "TERM");
    mountpoint.wait_until_gone();
}

#[test]
fn a_later_mount_at_the_same_place_is_left_alone() {
    if !can_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    let mountpoint = Mountpoint::new();
    succeed(fixture().command("mount").arg(mountpoint.path()));
    let server = mountpoint.servers()[0];
    succeed(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(mountpoint.path()));
    signal(server, "TERM");
    wait_for("the server to go", || mountpoint.servers().is_empty());
    let lines = mountpoint.mounted();
    assert!(lines.iter().any(|line| line.starts_with("tmpfs ")), "{lines:?}");
}

#[test]
fn the_configuration_file_says_it_all() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    let fixture = fixture();
    let (file, log) = (mountpoint.beside("config.toml"), mountpoint.beside("log"));
    let text = format!(
        "mountpoint = {:?}\nlog = {log:?}\nlog-level = \"info\"\n[[source]]\nname = \"home\"\nurl = {:?}\npassword-command = \"cat '{}'\"\n",
        mountpoint.path(),
        fixture.repository(),
        fixture.password_file().display(),
    );
    fs::write(&file, text).unwrap();
    succeed(backupfs().arg("mount").arg("-c").arg(&file));
    assert!(mountpoint.mounted()[0].starts_with("home "), "{:?}", mountpoint.mounted());
    assert!(log.exists());
}

#[test]
fn a_place_may_have_any_name() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    let place = mountpoint.path().join("-a b\\,\né#");
    fs::create_dir(&place).unwrap();
    let _detached = Detached(place.clone());
    for _ in 0..2 {
        succeed(fixture().command("mount").arg(&place));
        assert!(fs::read_dir(&place).unwrap().count() > 0);
        let (code, stderr) = run(fixture().command("mount").arg(&place));
        assert!(
            code == 32 && stderr.lines().count() == 1 && stderr.contains("already mounted"),
            "{code} {stderr}"
        );
        succeed(backupfs().arg("umount").arg(&place));
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    }
}

#[test]
fn a_repository_that_comes_later_is_shown() {
    if !can_mount() {
        return;
    }
    let mountpoint = Mountpoint::new();
    let (present, missing) = (fixture(), mountpoint.beside("missing"));
    let (code, stderr) =
        run(present.command("mount").arg("-r").arg(&missing).arg(mountpoint.path()).arg("-orefresh=1s"));
    assert_eq!(code, 0, "{stderr}");
    let status = || fs::read_to_string(mountpoint.path().join(".backupfs/status.json")).unwrap();
    assert!(status().contains("missing: cannot be opened"), "{}", status());
    let copy = mountpoint.beside("copy");
    succeed(Command::new("cp").arg("-r").arg(present.repository()).arg(&copy));
    fs::rename(&copy, &missing).unwrap();
    wait_for("the repository to be shown", || !status().contains("cannot be opened"));
}
