//! Groups in a bucket: what the disk cache has of them when the server is gone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use crate::machine::{Mountpoint, backupfs, can_mount, fixture, succeed};
use crate::mounted::manifest;

struct Bed {
    server: S3Server,
    mountpoint: Mountpoint,
}

impl Bed {
    fn new() -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let server = S3Server::start()?;
        let bucket = server.bucket("many");
        for name in ["alice", "bob", "carol"] {
            let copied =
                Command::new("cp").arg("-r").arg(fixture().repository()).arg(bucket.join(name)).status();
            assert!(copied.unwrap().success());
        }
        Some(Bed { server, mountpoint: Mountpoint::new() })
    }

    fn mount(&self) {
        let mut command = backupfs();
        command.arg("mount").arg(self.mountpoint.path()).arg("-r").arg(self.server.url("many/*"));
        command.arg("--password-file").arg(fixture().password_file());
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let cache = self.mountpoint.beside("cache");
        succeed(command.arg("-o").arg(format!("cache-dir={}", cache.display())));
    }

    fn umount(&self) {
        succeed(backupfs().arg("umount").arg(self.mountpoint.path()));
        self.mountpoint.wait_until_gone();
    }

    fn group(&self) -> PathBuf {
        self.mountpoint.path().join("many")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.group()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn status(&self) -> String {
        fs::read_to_string(self.mountpoint.path().join(".backupfs/status.json")).unwrap()
    }
}

#[test]
fn with_a_warm_cache_members_are_listed_and_read_without_the_server() {
    let Some(mut bed) = Bed::new() else { return };
    bed.mount();
    let (names, warm) = (bed.names(), manifest(&bed.group().join("bob/current")));
    assert_eq!(names, ["alice", "bob", "carol"]);
    bed.umount();
    bed.server.stop();
    bed.mount();
    assert_eq!(bed.names(), names);
    let again = manifest(&bed.group().join("bob/current"));
    assert!(again == warm, "what is shown differs");
    assert!(bed.status().contains("shown from the cache alone"), "{}", bed.status());
    let absent = fs::metadata(bed.group().join("dora")).unwrap_err();
    assert_eq!(absent.kind(), std::io::ErrorKind::NotFound, "as far as is known");
    let never_read = fs::metadata(bed.group().join("alice/current")).unwrap_err();
    assert_ne!(never_read.kind(), std::io::ErrorKind::NotFound, "{never_read}");
    bed.umount();
}
