//! Stores behind real servers, which end with the test.

use std::path::Path;
use std::sync::Arc;

use backupfs::store::ObjectStore;
use backupfs::store::program::Program;
use backupfs::store::rest::{self, Rest, Server, Trust};
use backupfs::store::sftp::{self, Sftp};

use crate::harness::rclone::{Rclone, socket_to};
use crate::harness::sshd::Sshd;
use crate::subjects::{InDirectory, Subject};

/// A directory that a server shows.
struct Served<T> {
    dir: InDirectory,
    /// The server, which ends with this, or what is needed to start it.
    by: T,
    store: fn(&T, &Path) -> Arc<dyn ObjectStore>,
}

impl<T> Served<T> {
    fn new(start: impl FnOnce(&Path) -> T, store: fn(&T, &Path) -> Arc<dyn ObjectStore>) -> Self {
        let dir = InDirectory::empty();
        Served { by: start(dir.0.path()), dir, store }
    }
}

impl<T> Subject for Served<T> {
    fn put(&self, key: &str, bytes: &[u8]) {
        self.dir.put(key, bytes);
    }

    fn remove(&self, key: &str) {
        self.dir.remove(key);
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        (self.store)(&self.by, self.dir.0.path())
    }
}

fn rest(server: Server, login: Option<(&str, &str)>) -> Arc<dyn ObjectStore> {
    let login = login.map(|(user, password)| (user.to_owned(), password.as_bytes().into()));
    let settings =
        rest::Settings { server, path: "/".into(), login, trust: Trust::default(), name: "rest:test".into() };
    Arc::new(Rest::new(settings).unwrap())
}

pub fn over_rest() -> impl Subject {
    let store =
        |rclone: &Rclone, _: &Path| rest(Server::Web { authority: rclone.address.clone(), tls: false }, None);
    Served::new(|dir| Rclone::serve(dir, &[]), store)
}

pub fn over_rest_with_a_password() -> impl Subject {
    let store = |rclone: &Rclone, _: &Path| {
        let server = Server::Web { authority: rclone.address.clone(), tls: false };
        rest(server, Some(("me", "p:\u{e4} %")))
    };
    Served::new(|dir| Rclone::serve(dir, &["--user", "me", "--pass", "p:\u{e4} %"]), store)
}

pub fn over_a_socket() -> impl Subject {
    let start = |dir: &Path| {
        let rclone = Rclone::serve(dir, &[]);
        let beside = tempfile::tempdir().unwrap();
        let socket = socket_to(&rclone.address, beside.path());
        (rclone, beside, socket)
    };
    Served::new(start, |(_, _, socket), _| rest(Server::Unix { socket: socket.clone(), tls: false }, None))
}

pub fn over_rclone() -> impl Subject {
    let store = |(): &(), dir: &Path| -> Arc<dyn ObjectStore> {
        let environment =
            [("PATH", "/usr/bin:/bin"), ("RCLONE_CONFIG", "/dev/null"), ("RCLONE_CACHE_OBJECTS", "false")];
        let environment = environment.map(|(name, value)| (name.into(), value.into())).to_vec();
        let remote = format!(":local:{}", dir.display());
        Arc::new(backupfs::store::rclone(&remote, "rclone:test", None, environment).unwrap())
    };
    Served::new(|_| (), store)
}

/// The server's program itself, without ssh.
pub fn over_sftp_server() -> impl Subject {
    let store = |(): &(), dir: &Path| -> Arc<dyn ObjectStore> {
        let name = "/usr/lib/openssh/sftp-server".into();
        let program = Program { name, arguments: Vec::new(), environment: Vec::new() };
        Arc::new(Sftp::new(program, dir.to_str().unwrap(), "sftp:test"))
    };
    Served::new(|_| (), store)
}

pub fn over_ssh() -> impl Subject {
    let store = |sshd: &Sshd, dir: &Path| -> Arc<dyn ObjectStore> {
        let host = sftp::Host {
            user: Some(&Sshd::user()),
            host: "127.0.0.1",
            port: Some(sshd.port),
            ..Default::default()
        };
        let program = sftp::ssh(&host, vec![("PATH".into(), sshd.path().into())]);
        Arc::new(Sftp::new(program, dir.to_str().unwrap(), "sftp:test"))
    };
    Served::new(|_| Sshd::start("internal-sftp"), store)
}
