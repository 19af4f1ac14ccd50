//! `backupfs doctor`: a tree that stands for a sound machine, broken in one way after the other, and this machine itself.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::machine::{Mountpoint, backupfs, can_mount, fixture, succeed};

/// A machine on which all is well: backups are mounted by fstab for ordinary users, by autofs, and by a unit.
struct Machine(tempfile::TempDir);

const FILES: &[(&str, &str, u32)] = &[
    ("proc/sys/kernel/osrelease", "6.12.1-amd64\n", 0o444),
    ("proc/sys/fs/fuse/max_request_timeout", "0\n", 0o644),
    ("proc/filesystems", "nodev\tproc\nnodev\tfuse\n\text4\n", 0o444),
    ("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n", 0o444),
    ("sys/module/apparmor/parameters/enabled", "Y\n", 0o444),
    ("usr/bin/fusermount3", "", 0o4755),
    ("usr/sbin/mount.backupfs", "", 0o755),
    ("etc/fuse.conf", "user_allow_other\n", 0o644),
    ("etc/updatedb.conf", "PRUNEFS = \"NFS proc fuse.backupfs\"\nPRUNEPATHS = \"/tmp\"\n", 0o644),
    ("etc/fstab", "restic /mnt/backups backupfs nofail,users,allow_other 0 0\n", 0o644),
    ("etc/apparmor.d/fusermount3", PROFILE, 0o644),
    ("etc/auto.backups", "* -fstype=backupfs,ro :&\n", 0o644),
    ("usr/lib/systemd/system/autofs.service", "[Service]\nExecStart=/usr/sbin/automount\n", 0o644),
    ("etc/systemd/system/autofs.service.d/backupfs.conf", "[Service]\nKillMode=process\n", 0o644),
    (
        "usr/lib/systemd/system/backups.service",
        "[Service]\nExecStart=/usr/bin/backupfs mount -f /mnt/all\n",
        0o644,
    ),
    ("var/lib/systemd/timesync/clock", "", 0o644),
    ("etc/backupfs/config.toml", "timeout = \"60s\"\n[[source]]\nurl = \"/srv/restic\"\n", 0o644),
];

const PROFILE: &str = "profile fusermount3 /usr/bin/fusermount3 {
  mount fstype=fuse.* options=(nosuid,nodev) options in (ro,rw,noatime,noexec) -> /mnt/{,**/},
  umount /mnt/{,**/},
}
";

impl Machine {
    fn sound() -> Self {
        let machine = Machine(tempfile::tempdir().unwrap());
        for (path, text, mode) in FILES {
            machine.write(path, text, *mode);
        }
        for directory in ["mnt/backups", "var/cache", "dev"] {
            fs::create_dir_all(machine.path(directory)).unwrap();
        }
        // Not everybody may make a device: then it is missing on all of these machines.
        let _ = Command::new("mknod")
            .args(["-m", "666"])
            .arg(machine.path("dev/fuse"))
            .args(["c", "10", "229"])
            .output();
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str, mode: u32) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    /// `doctor` on it.
    fn examined(&self) -> Examined {
        let mut doctor = backupfs();
        doctor.env_remove("BACKUPFS_CACHE_DIR").env("HOME", "/nonexistent");
        doctor.args(["doctor", "-o", "cache-dir=/var/cache/backupfs", "--json", "--root"]).arg(self.0.path());
        Examined::of(&mut doctor)
    }
}

/// What doctor said.
#[derive(Debug)]
struct Examined {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Examined {
    fn of(doctor: &mut Command) -> Self {
        let output = doctor.output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        Examined { code: output.status.code(), findings: serde_json::from_slice(&output.stdout).unwrap() }
    }

    /// Each problem as `check: remedy`.
    fn problems(&self) -> Vec<String> {
        let problems = self.findings.iter().filter(|finding| finding["state"] == "problem");
        let told =
            problems.map(|f| format!("{}: {}", f["check"].as_str().unwrap(), f["remedy"].as_str().unwrap()));
        told.collect()
    }

    fn check(&self, check: &str) -> &Value {
        self.findings.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("{self:?}"))
    }
}

/// A way to break a machine, and the beginning of what is said then.
type Fault = (&'static str, fn(&Machine), &'static str);

const FAULTS: &[Fault] = &[
    (
        "no FUSE in the kernel",
        |m| {
            m.write("proc/filesystems", "nodev\tproc\n", 0o444);
            let _ = fs::remove_file(m.path("dev/fuse"));
        },
        "device: load it as root: modprobe fuse",
    ),
    (
        "a file for a device",
        |m| {
            let _ = fs::remove_file(m.path("dev/fuse"));
            m.write("dev/fuse", "", 0o666);
        },
        "device: remove it",
    ),
    (
        "an old kernel",
        |m| m.write("proc/sys/kernel/osrelease", "5.4.0-200-generic\n", 0o444),
        "kernel: run a newer",
    ),
    ("no fusermount3", |m| m.remove("usr/bin/fusermount3"), "fusermount3: install the package fuse3"),
    (
        "fusermount3 without privilege",
        |m| m.write("usr/bin/fusermount3", "", 0o755),
        "fusermount3: as root: chown",
    ),
    (
        "fuse.conf as installed",
        |m| m.write("etc/fuse.conf", "#user_allow_other\n", 0o644),
        "allow-other: as root: echo user_allow_other >> /etc/fuse.conf",
    ),
    (
        "AppArmor elsewhere",
        |m| {
            m.write("etc/apparmor.d/fusermount3", &PROFILE.replace("/mnt/", "/media/"), 0o644);
        },
        "apparmor: mount below /mnt, or put into /etc/apparmor.d/local/fusermount3: mount fstype=fuse.backupfs",
    ),
    (
        "updatedb.conf as installed",
        |m| m.write("etc/updatedb.conf", "PRUNEFS=\"NFS proc\"\n", 0o644),
        "updatedb: as root: sed -i 's/^ *PRUNEFS *= *\"/&fuse.backupfs /' /etc/updatedb.conf",
    ),
    (
        "a clock that went back",
        |m| {
            let file =
                fs::File::options().write(true).open(m.path("var/lib/systemd/timesync/clock")).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(86_400)).unwrap();
        },
        "clock: set it: timedatectl set-ntp true",
    ),
    (
        "a cache that others may write to",
        |m| {
            fs::create_dir(m.path("var/cache/backupfs")).unwrap();
            fs::set_permissions(m.path("var/cache/backupfs"), fs::Permissions::from_mode(0o777)).unwrap();
        },
        "cache: chmod 700 /var/cache/backupfs",
    ),
    (
        "a cache that is a link",
        |m| symlink("/tmp", m.path("var/cache/backupfs")).unwrap(),
        "cache: remove it: rm /var/cache/backupfs",
    ),
    (
        "a hidden mount",
        |m| {
            m.write(
                "etc/systemd/system/backups.service.d/hard.conf",
                "[Service]\nProtectSystem=strict\n",
                0o644,
            );
        },
        "unit: systemctl edit backups.service and reset there: ProtectSystem=",
    ),
    (
        "autofs that kills",
        |m| m.remove("etc/systemd/system/autofs.service.d/backupfs.conf"),
        "autofs: systemctl edit autofs.service and say there: [Service] KillMode=process",
    ),
    ("no mount helper", |m| m.remove("usr/sbin/mount.backupfs"), "fstab: install the whole package"),
    (
        "no mountpoint",
        |m| fs::remove_dir(m.path("mnt/backups")).unwrap(),
        "fstab: as root: mkdir -p /mnt/backups",
    ),
    (
        "a source that has another name now",
        |m| {
            m.write(
                "etc/backupfs/config.toml",
                "[[source]]\nname = \"resticc\"\nurl = \"/srv/restic\"\n",
                0o644,
            )
        },
        "fstab: correct it, and try it: mount -f -v /mnt/backups",
    ),
    (
        "an option that is none",
        |m| m.write("etc/fstab", "restic /mnt/backups backupfs nofail,refesh=5s 0 0\n", 0o644),
        "fstab: correct it, and try it: mount -f -v /mnt/backups",
    ),
    (
        "an impatient kernel",
        |m| m.write("proc/sys/fs/fuse/max_request_timeout", "10\n", 0o644),
        "request-timeout: as root: sysctl fs.fuse.max_request_timeout=120",
    ),
    (
        "a mistake in the configuration",
        |m| m.write("etc/backupfs/config.toml", "timout = \"1s\"\n", 0o644),
        "configuration: correct it",
    ),
    (
        "a mount over a mount",
        |m| {
            let line = "30 22 0:40 / /mnt/backups ro - fuse.backupfs home ro\n";
            m.write("proc/self/mountinfo", &line.repeat(2), 0o444);
        },
        "mount: backupfs umount -l /mnt/backups",
    ),
];

#[test]
fn a_machine_broken_in_one_way_gets_the_remedy_for_that() {
    let sound = Machine::sound().examined();
    let usual = sound.problems();
    assert!(usual.iter().all(|told| told.starts_with("device: ")), "{sound:?}");
    for (fault, broken, says) in FAULTS {
        let machine = Machine::sound();
        broken(&machine);
        let examined = machine.examined();
        let problems = examined.problems();
        let new: Vec<_> = problems.iter().filter(|told| !usual.contains(told)).collect();
        assert!(new.len() == 1 && new[0].starts_with(says), "{fault}: {new:?}");
        assert_eq!(examined.code, Some(32), "{fault}");
    }
}

#[test]
fn the_exit_code_says_whether_all_is_well() {
    let machine = Machine::sound();
    if !machine.path("dev/fuse").exists() {
        eprintln!("skipped: no device can be made here");
        return;
    }
    let examined = machine.examined();
    assert_eq!((examined.code, examined.problems()), (Some(0), Vec::new()), "{examined:?}");
    let text = succeed(backupfs().args(["doctor", "--root"]).arg(machine.0.path()));
    assert!(text.starts_with("ok  ") && text.ends_with("\n\nAll is well.\n"), "{text}");
    assert!(!machine.path("var/cache/backupfs").exists(), "nothing is made");
}

#[test]
fn a_root_that_is_not_there_is_an_error() {
    let output = backupfs().args(["doctor", "--root", "/nonexistent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(32));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent: No such file"));
}

/// `doctor --json` about a repository of the test suite, on this machine.
fn here(mountpoint: &Path) -> Examined {
    Examined::of(fixture().command("doctor").arg("--json").arg(mountpoint))
}

#[test]
fn this_machine_is_tried_and_its_sources_are_timed() {
    let place = Mountpoint::new();
    let examined = here(&place.path());
    let source = examined.check("source");
    assert_eq!(source["state"], "ok", "{examined:?}");
    let says = source["says"].as_str().unwrap();
    assert!(says.contains(" ms away): ") && says.ends_with(" snapshots"), "{says}");
    assert_eq!(examined.check("configuration")["says"], "1 source and 0 groups");
    if can_mount() {
        let trial = examined.check("trial-mount");
        assert_ne!(trial["state"], "problem", "{trial}");
        assert!(trial["says"].as_str().unwrap().contains("FUSE 7."), "{trial}");
    }
    let mut wrong = backupfs();
    wrong.args(["doctor", "--json", "-r", "/nonexistent/repo"]).env("RESTIC_PASSWORD", "x");
    let examined = Examined::of(&mut wrong);
    assert_eq!(examined.code, Some(32));
    assert_eq!(examined.check("source")["remedy"], "check its url");
}

#[test]
fn a_dead_mount_is_found_and_the_remedy_takes_it_away() {
    if !can_mount() {
        return;
    }
    let place = Mountpoint::new();
    succeed(fixture().command("mount").arg(place.path()));
    let told = |examined: &Examined| -> Vec<Value> {
        let here = place.path().display().to_string();
        let mounts = examined.findings.iter().filter(|finding| finding["check"] == "mount");
        mounts.filter(|finding| finding["says"].as_str().unwrap().contains(&here)).cloned().collect()
    };
    let alive = told(&here(&place.path()));
    assert!(alive.len() == 1 && alive[0]["state"] == "ok", "{alive:?}");
    place.kill();
    let dead = told(&here(&place.path()));
    assert!(dead.len() == 1 && dead[0]["state"] == "problem", "{dead:?}");
    let remedy = dead[0]["remedy"].as_str().unwrap().split(';').next().unwrap();
    let umount = remedy.strip_prefix("backupfs ").unwrap();
    succeed(backupfs().args(umount.split(' ')));
    assert!(place.mounted().is_empty());
    assert!(told(&here(&place.path())).is_empty());
}
