//! The sample of `backupfs demo` as a repository, for tests that need to know every byte of it.

use std::path::PathBuf;
use std::process::Command;

use crate::machine::backupfs;

/// Five nights of `laptop:/home/lab`, two Sundays of `server:/etc/nginx` and `server:/srv/www`.
pub struct Sample(tempfile::TempDir);

impl Sample {
    /// A copy of its own.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/demo/sample/repository.tar");
        tar::Archive::new(std::fs::File::open(archive).unwrap()).unpack(dir.path().join("repo")).unwrap();
        Sample(dir)
    }

    /// Where it lies.
    pub fn repository(&self) -> PathBuf {
        self.0.path().join("repo")
    }

    /// `backupfs VERB -r …` on a machine whose clock shows UTC.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = backupfs();
        command.env("TZ", "UTC").env("RESTIC_PASSWORD", "demo").arg(verb).arg("-r").arg(self.repository());
        command
    }
}
