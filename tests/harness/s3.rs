//! A real S3 server over a directory: versitygw, on a free port of this machine, gone with whoever started it.
//!
//! `VERSITYGW` names the program, else it is looked for on `PATH` and in `~/go/bin`. A bucket is a directory of
//! [`S3Server::root`], and a file that is put there is an object at once.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Who may do everything on the server.
pub const ACCESS_KEY: &str = "test-access";
/// The key's secret.
pub const SECRET_KEY: &str = "test-secret-that-nobody-prints";

/// A running server.
pub struct S3Server {
    address: SocketAddr,
    scheme: &'static str,
    dir: tempfile::TempDir,
    /// Dropped to end the server.
    end: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl S3Server {
    /// A server without buckets; says so and answers none where the program is missing.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with more options of the program.
    pub fn start_with(options: &[&str]) -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("skipped: no versitygw (go install github.com/versity/versitygw/cmd/versitygw@v1.8.0)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        for name in ["root", "meta", "iam", "versions"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        // Somebody else may take the free port before the server does.
        for _ in 0..5 {
            let address = free_port();
            let mut command = command(&program, address, dir.path(), options);
            if let Some((end, keeper)) = keep(move || command.spawn().unwrap(), address) {
                let scheme = if options.contains(&"--cert") { "https" } else { "http" };
                return Some(S3Server { address, scheme, dir, end: Some(end), keeper: Some(keeper) });
            }
        }
        panic!(
            "versitygw does not come up: {}",
            fs::read_to_string(dir.path().join("log")).unwrap_or_default()
        );
    }

    /// A server that the tests of this process share while any of them has it.
    pub fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<S3Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, without a slash at the end.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// restic's spelling of what lies at `path`, which begins with a bucket.
    pub fn url(&self, path: &str) -> String {
        format!("s3:{}/{path}", self.endpoint())
    }

    /// The directory whose directories are the buckets.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Makes a bucket and answers its directory.
    pub fn bucket(&self, name: &str) -> PathBuf {
        let bucket = self.root().join(name);
        fs::create_dir_all(&bucket).unwrap();
        bucket
    }

    /// Makes a bucket that nobody else uses and answers its name.
    pub fn fresh_bucket(&self) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bucket-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.bucket(&name);
        name
    }

    /// Adds a user who may do what bucket policies allow him.
    pub fn add_user(&self, access: &str, secret: &str) {
        let mut admin = Command::new(program().unwrap());
        admin.args([
            "admin",
            "--access",
            ACCESS_KEY,
            "--secret",
            SECRET_KEY,
            "--endpoint-url",
            &self.endpoint(),
        ]);
        admin.args(["create-user", "--access", access, "--secret", secret, "--role", "user"]);
        let out = admin.env_clear().output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Ends the server and starts nothing in its place: its port refuses connections from now on.
    pub fn stop(&mut self) {
        drop(self.end.take());
        if let Some(keeper) = self.keeper.take() {
            keeper.join().unwrap();
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The server program.
pub fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("VERSITYGW") {
        return Some(named.into());
    }
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join("go/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(home).map(|dir| dir.join("versitygw")).find(|file| file.is_file())
}

/// A port of this machine that nobody listens on.
fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn command(program: &Path, address: SocketAddr, dir: &Path, options: &[&str]) -> Command {
    let log = fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    // The kernel ends the server with the thread that started it, should nobody live to do it.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.arg("--port").arg(address.to_string()).args(["--quiet", "--keep-alive", "--iam-dir"]);
    command.arg(dir.join("iam")).args(options);
    command
        .args(["posix", "--sidecar"])
        .arg(dir.join("meta"))
        .arg("--versioning-dir")
        .arg(dir.join("versions"));
    command.arg(dir.join("root"));
    command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    command
}

/// Starts a server on a thread of its own, which ends it when the sender goes; none when it ended by itself before it
/// listened at `address`.
fn keep(
    start: impl FnOnce() -> Child + Send + 'static,
    address: SocketAddr,
) -> Option<(mpsc::Sender<()>, JoinHandle<()>)> {
    let (end, ended) = mpsc::channel::<()>();
    let (say, came_up) = mpsc::channel();
    let keeper = std::thread::spawn(move || {
        let mut child = start();
        let up = listens(&mut child, address);
        say.send(up).unwrap();
        if up {
            let _ = ended.recv();
        }
        let _ = child.kill();
        let _ = child.wait();
    });
    came_up.recv().unwrap().then_some((end, keeper))
}

/// Waits until the server takes connections; false when it ended instead.
fn listens(child: &mut Child, address: SocketAddr) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
