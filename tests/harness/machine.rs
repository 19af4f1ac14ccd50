//! What the tests share: the binary in a bare environment, fixture repositories, and mounts that end with the test.

#![allow(dead_code, reason = "each target uses its part")]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary, without the caller's configuration, passwords and cache.
pub fn backupfs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backupfs"));
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("BACKUPFS_CACHE_DIR", "none")
        .stdin(Stdio::null());
    command
}

/// A repository of the test suite.
pub struct Fixture(PathBuf);

/// One made by restic, of several snapshots.
pub fn fixture() -> Fixture {
    Fixture(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/restic-v2"))
}

impl Fixture {
    /// The repository.
    pub fn repository(&self) -> PathBuf {
        self.0.join("repo")
    }

    /// The file that holds its password.
    pub fn password_file(&self) -> PathBuf {
        self.0.join("password")
    }

    /// `backupfs VERB -r … --password-file …`.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = backupfs();
        command.arg(verb).arg("-r").arg(self.repository()).arg("--password-file").arg(self.password_file());
        command
    }
}

/// A directory to mount on, in a temporary one. Whatever is still mounted there in the end is detached.
pub struct Mountpoint {
    dir: tempfile::TempDir,
}

impl Mountpoint {
    /// An empty directory.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("mnt")).unwrap();
        Mountpoint { dir }
    }

    /// Where to mount, free of links.
    pub fn path(&self) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join("mnt")
    }

    /// Beside the mountpoint: for files that the test needs.
    pub fn beside(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join(name)
    }

    /// The lines of the mount table for this place.
    pub fn mounted(&self) -> Vec<String> {
        let place = format!(" {} ", self.path().display());
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        table.lines().filter(|line| line.contains(&place)).map(str::to_owned).collect()
    }

    /// The processes that serve this place.
    pub fn servers(&self) -> Vec<u32> {
        servers_of(&self.path())
    }

    /// Waits until nothing is mounted here and nobody serves it.
    pub fn wait_until_gone(&self) {
        wait_for("the mount and its server to go", || self.mounted().is_empty() && self.daemons().is_empty());
    }

    /// Who keeps the mount, if anybody does, and who serves it.
    pub fn daemons(&self) -> Vec<u32> {
        daemons_of(&self.path())
    }

    /// Kills whoever keeps and serves the mount, and waits until they are gone.
    pub fn kill(&self) {
        kill_daemons_of(&self.path());
    }
}

impl Drop for Mountpoint {
    fn drop(&mut self) {
        if !self.mounted().is_empty() {
            drop(Detached(self.path()));
        }
    }
}

/// A place where nothing is mounted after the test.
pub struct Detached(pub PathBuf);

impl Drop for Detached {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        umount.arg("-l").arg("--").arg(&self.0).stderr(Stdio::null());
        while umount.status().is_ok_and(|status| status.success()) {}
    }
}

/// A process that ends with the test.
pub struct Running(pub std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether this machine can mount at all; says so when it cannot.
pub fn can_mount() -> bool {
    let can = fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
    if !can {
        eprintln!("skipped: /dev/fuse cannot be opened here");
    }
    can
}

/// Runs a command; answers its exit code and what it said on stderr.
pub fn run(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap_or(-1), String::from_utf8(stderr).unwrap())
}

/// Runs a command that must succeed; answers what it printed.
pub fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Waits for something that happens soon. The patience is for slow machines, not a measurement.
pub fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes that serve a mount at `mountpoint`.
pub fn servers_of(mountpoint: &Path) -> Vec<u32> {
    called("serve", mountpoint)
}

/// The processes that keep what takes rights of a mount at `mountpoint`: one where root mounted.
pub fn brokers_of(mountpoint: &Path) -> Vec<u32> {
    called("broker", mountpoint)
}

/// Who keeps a mount at `mountpoint`, if anybody does, and who serves it.
pub fn daemons_of(mountpoint: &Path) -> Vec<u32> {
    [brokers_of(mountpoint), servers_of(mountpoint)].concat()
}

/// Kills whoever keeps and serves a mount, and waits until they are gone: what is mounted is dead then.
pub fn kill_daemons_of(mountpoint: &Path) {
    signal(daemons_of(mountpoint)[0], "KILL");
    wait_for("the server to die", || daemons_of(mountpoint).is_empty());
}

/// The processes of this program that were started with `verb` and end in `mountpoint`.
fn called(verb: &str, mountpoint: &Path) -> Vec<u32> {
    let title = [mountpoint.as_os_str().as_bytes(), b"\0"].concat();
    let is_it = |pid: &u32| {
        let arguments = arguments(*pid);
        arguments.split(|byte| *byte == 0).nth(1) == Some(verb.as_bytes()) && arguments.ends_with(&title)
    };
    processes().into_iter().filter(is_it).collect()
}

/// All processes.
fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The arguments of a process, each ended by NUL; none when it is gone.
pub fn arguments(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// Sends a signal.
pub fn signal(pid: u32, name: &str) {
    succeed(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()));
}
