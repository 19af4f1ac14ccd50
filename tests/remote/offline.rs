//! A repository behind a server that is stopped: what the disk cache has of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::rclone::Rclone;
use crate::machine::{Mountpoint, backupfs, can_mount, fixture, run, succeed, wait_for};
use crate::mounted::manifest;

struct Bed {
    server: Rclone,
    mountpoint: Mountpoint,
    cache: PathBuf,
}

impl Bed {
    fn new() -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let mountpoint = Mountpoint::new();
        let cache = mountpoint.beside("cache");
        let server = Rclone::serve(&fixture().repository(), &["--user", "me", "--pass", "hunter2"]);
        Some(Bed { server, mountpoint, cache })
    }

    /// `backupfs VERB` on the repository behind the server, with options.
    fn command(&self, verb: &str, options: &str) -> Command {
        let mut command = backupfs();
        command.arg(verb).arg("-r").arg(format!("rest:http://me:hunter2@{}/", self.server.address));
        command.arg("--password-file").arg(fixture().password_file());
        command.arg("-o").arg(format!("cache-dir={},{options}", self.cache.display()));
        command
    }

    fn mount(&self, options: &str) {
        succeed(self.command("mount", options).arg(self.mountpoint.path()));
    }

    fn umount(&self) {
        succeed(backupfs().arg("umount").arg(self.mountpoint.path()));
        self.mountpoint.wait_until_gone();
    }

    /// Everything of every date.
    fn everything(&self) -> Vec<u8> {
        manifest(&self.mountpoint.path())
    }

    /// What `backupfs cache …` prints.
    fn cache(&self, arguments: &[&str]) -> String {
        let option = format!("cache-dir={}", self.cache.display());
        succeed(backupfs().arg("cache").args(arguments).args(["-o", &option]))
    }

    fn segments(&self) -> Vec<PathBuf> {
        let Ok(files) = fs::read_dir(self.cache.join("stored")) else { return Vec::new() };
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|end| end == "data" || end == "meta"));
        paths
    }
}

/// The counter `name` of the mount at `mountpoint`.
fn counter(mountpoint: &Path, name: &str) -> u64 {
    let status = fs::read(mountpoint.join(".backupfs/status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    status["counters"][name].as_u64().unwrap()
}

#[test]
fn with_a_warm_cache_all_is_there_without_the_server() {
    let Some(mut bed) = Bed::new() else { return };
    bed.mount("");
    let warm = bed.everything();
    bed.umount();
    bed.server.stop();
    bed.mount("");
    assert!(bed.everything() == warm, "what is shown differs");
    let (_, status) = (run(backupfs().arg("status").arg(bed.mountpoint.path())), bed.status());
    assert!(status.contains("shown from the cache alone"), "{status}");
    assert!(!status.contains("hunter2"));
    bed.umount();
    let (code, said) = run(bed.command("mount", "offline-max=1s").arg(bed.mountpoint.path()));
    assert!(code == 32 && said.contains("offline-max"), "{code}: {said}");
    assert!(bed.mountpoint.mounted().is_empty());
}

impl Bed {
    fn status(&self) -> String {
        let output = backupfs().arg("status").arg(self.mountpoint.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn a_warm_cache_spares_the_server_every_read_of_a_pack() {
    let Some(bed) = Bed::new() else { return };
    bed.mount("");
    let warm = bed.everything();
    assert!(counter(&bed.mountpoint.path(), "cache_misses") > 0);
    bed.umount();
    bed.mount("");
    assert!(bed.everything() == warm);
    assert_eq!(counter(&bed.mountpoint.path(), "cache_misses"), 0);
    assert!(counter(&bed.mountpoint.path(), "store_reads") <= 2, "the configuration, and a key");
    bed.umount();
    let shown = bed.cache(&["show"]);
    assert!(shown.contains("rest:http://") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_flipped_bit_in_the_cache_is_fetched_again_without_a_word() {
    let Some(bed) = Bed::new() else { return };
    bed.mount("");
    let warm = bed.everything();
    bed.umount();
    for path in bed.segments() {
        let mut bytes = fs::read(&path).unwrap();
        (60..bytes.len()).step_by(3001).for_each(|at| bytes[at] ^= 1);
        fs::write(path, bytes).unwrap();
    }
    let log = bed.mountpoint.beside("log");
    bed.mount(&format!("log={}", log.display()));
    assert!(bed.everything() == warm);
    assert!(counter(&bed.mountpoint.path(), "cache_misses") > 0);
    bed.umount();
    let log = fs::read_to_string(&log).unwrap_or_default();
    // A machine that is busy for seconds is an outage, which is worth a word.
    let of_outages = ["shown from the cache alone", "can be reached again"];
    let mut words = log.lines().filter(|line| !of_outages.iter().any(|word| line.contains(word)));
    assert_eq!(words.next(), None);
    // The cache is kept as far as there is time for it: what is damaged must not stay so.
    let misses = (0..3).map(|_| {
        bed.mount("");
        assert!(bed.everything() == warm);
        let misses = counter(&bed.mountpoint.path(), "cache_misses");
        bed.umount();
        misses
    });
    let misses: Vec<u64> = misses.take_while(|misses| *misses > 0).collect();
    assert!(misses.len() < 3, "it is not kept again: {misses:?}");
}

#[test]
fn what_a_killed_daemon_leaves_is_good() {
    let Some(bed) = Bed::new() else { return };
    for round in 1..=5u64 {
        bed.mount("");
        let root = bed.mountpoint.path();
        let walk = std::thread::spawn(move || {
            // Ends with an error when the daemon is killed.
            let _ = Command::new("cp").arg("-a").arg(&root).arg(root.with_file_name("copy")).output();
        });
        let before = bed.segments().len();
        if round > 1 {
            wait_for("something to be written", || bed.segments().len() >= before.min(1));
        }
        std::thread::sleep(std::time::Duration::from_millis(round * 20));
        bed.mountpoint.kill();
        walk.join().unwrap();
        succeed(backupfs().arg("umount").arg(bed.mountpoint.path()));
        let _ = fs::remove_dir_all(bed.mountpoint.beside("copy"));
    }
    bed.mount("");
    let all = bed.everything();
    bed.umount();
    fs::remove_dir_all(&bed.cache).unwrap();
    bed.mount("");
    assert!(bed.everything() == all);
    bed.umount();
}

#[test]
fn several_mounts_share_a_cache_and_one_may_be_emptied_under_them() {
    let Some(mut bed) = Bed::new() else { return };
    let others: Vec<Mountpoint> = (0..3).map(|_| Mountpoint::new()).collect();
    bed.mount("");
    for other in &others {
        succeed(bed.command("mount", "").arg(other.path()));
    }
    let all = std::thread::scope(|scope| {
        let reading: Vec<_> = others.iter().map(|other| scope.spawn(|| manifest(&other.path()))).collect();
        let all = bed.everything();
        assert!(reading.into_iter().all(|reading| reading.join().unwrap() == all));
        all
    });
    assert!(bed.cache(&["clear"]).contains("removed"));
    assert!(bed.everything() == all);
    for mountpoint in others.iter().map(Mountpoint::path) {
        succeed(backupfs().arg("umount").arg(mountpoint));
    }
    bed.umount();
    bed.mount("");
    assert!(bed.everything() == all);
    bed.umount();
    let name = bed.server.address.clone();
    let shown: serde_json::Value = serde_json::from_str(&bed.cache(&["--json"])).unwrap();
    let store = shown["stores"][0]["store"].as_str().unwrap();
    assert!(store.contains(&name), "{store}");
    assert!(shown["index_bytes"].as_u64().unwrap() > 0);
    assert!(bed.cache(&["purge", store]).contains("removed"));
    let shown: serde_json::Value = serde_json::from_str(&bed.cache(&["--json"])).unwrap();
    assert_eq!(shown["index_bytes"], 0, "its index goes with it");
    bed.server.stop();
    let (code, _) = run(bed.command("mount", "").arg(bed.mountpoint.path()));
    assert_eq!(code, 32, "nothing is left of it");
}

#[test]
fn a_cache_that_is_full_or_cannot_be_written_to_costs_nothing() {
    let Some(bed) = Bed::new() else { return };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    bed.mount("cache-size=0");
    let all = bed.everything();
    bed.umount();
    assert!(bed.segments().is_empty());
    fs::create_dir_all(&bed.cache).unwrap();
    let small = ["-t", "tmpfs", "-o", "size=1M,mode=0700", "tmpfs"];
    succeed(Command::new("mount").args(small).arg(&bed.cache));
    let _detached = crate::machine::Detached(bed.cache.clone());
    bed.mount("");
    assert!(bed.everything() == all, "on a full disk");
    bed.umount();
    succeed(Command::new("mount").args(["-o", "remount,ro"]).arg(&bed.cache));
    bed.mount("");
    assert!(bed.everything() == all, "on a disk that cannot be written to");
    bed.umount();
}
