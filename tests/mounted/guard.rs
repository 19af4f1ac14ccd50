//! A mount that ends with its test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backupfs::error::Kind;
use backupfs::fuse::{self, IdMap, MountSpec, Options, Owner, Session, XattrPolicy};
use backupfs::tree::{Node, Usage};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Unmounts when dropped, also by a failing test.
pub struct Mounted {
    dir: TempDir,
    // Requests are answered until the mount has gone.
    _runtime: Runtime,
    session: Option<Session>,
}

/// Options of a private mount of an immutable tree.
pub fn options() -> Options {
    Options {
        allow_other: false,
        xattrs: XattrPolicy::All,
        owner: Owner::Recorded,
        uid: None,
        gid: None,
        idmap: IdMap::default(),
        metadata_timeout: Duration::from_secs(10),
        data_timeout: Duration::from_secs(10),
        immutable: true,
        has_trusted: false,
        acls: true,
        access_log: None,
        usage: Arc::new(|| Usage { bytes: 10_000_000, objects: 42 }),
    }
}

/// Options of a mount that others may look into.
pub fn shared() -> Options {
    Options { allow_other: true, ..options() }
}

/// Mounts `root`, or says why not.
pub fn mounted(root: Node, options: Options) -> Option<Mounted> {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        eprintln!("SKIPPED: needs root and /dev/fuse");
        return None;
    }
    Some(Mounted::new(root, options))
}

impl Mounted {
    pub fn new(root: Node, options: Options) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let spec =
            MountSpec { source: "memory, mostly".into(), allow_other: options.allow_other, noexec: false };
        let runtime = Runtime::new().unwrap();
        let device = fuse::mount(dir.path(), &spec).unwrap();
        let mut mounted = Mounted { dir, _runtime: runtime, session: None };
        let handle = mounted._runtime.handle().clone();
        let rights = Arc::new(fuse::OwnRights::of(&device).unwrap());
        mounted.session = Some(fuse::serve(device, rights, root, options, handle).unwrap());
        mounted
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(path)
    }

    pub fn session(&self) -> &Session {
        self.session.as_ref().unwrap()
    }

    /// Unmounts and waits until the kernel has let go.
    pub fn end(mut self) {
        // A program that another test of this process is just starting has its descriptors until it begins.
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(busy) = fuse::unmount(self.root(), false) {
            assert!(busy.kind() == Kind::Unavailable && Instant::now() < deadline, "{busy}");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.session.take().unwrap().wait().unwrap();
    }

    /// Runs a shell command at the root of the mount.
    pub fn sh(&self, command: &str) -> String {
        let output = self.sh_as(0, command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same as another user, who may fail.
    pub fn sh_as(&self, uid: u32, command: &str) -> Output {
        let script = format!("cd {} && {command}", self.root().display());
        let id = format!("{uid}");
        Command::new("timeout")
            .args(["20", "setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-c", &script])
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .output()
            .unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.session.is_some() {
            let _ = fuse::unmount(self.root(), true);
        }
    }
}
