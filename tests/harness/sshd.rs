//! OpenSSH's server on a port of this machine, with keys and users of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::child::{Server, output};

/// A server that shows the files of this machine over SFTP, and the client side of it: a directory with an `ssh` that
/// knows the server's key and has one that it takes.
pub struct Sshd {
    server: Server,
    dir: tempfile::TempDir,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

impl Sshd {
    /// Starts one; `subsystem` is the command behind `sftp`.
    pub fn start(subsystem: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for key in ["host", "user"] {
            output(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(key)));
        }
        // Nobody else takes a port that was just free.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
             LogLevel INFO\nSubsystem sftp {subsystem}\n",
            path("host"),
            path("user.pub"),
        );
        fs::write(path("sshd_config"), config).unwrap();
        // Where sshd, as root, shuts up the part of it that talks to strangers.
        let _ = fs::create_dir_all("/run/sshd");
        let sshd = Sshd { server: listening(&dir, port), dir, port };
        sshd.make_client();
        sshd
    }

    /// Starts it again where it was, after [`Sshd::stop`].
    pub fn start_again(&mut self) {
        self.server = listening(&self.dir, self.port);
    }

    /// Ends it, and every session.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// What it started for those who are logged in.
    pub fn sessions(&self) -> Vec<u32> {
        let mut all = self.server.processes();
        // The last is the one that listens.
        all.pop();
        all
    }

    /// Ends every session.
    pub fn end_sessions(&self) {
        for pid in self.sessions() {
            // It may have ended with its parent.
            let _ = Command::new("kill").arg("-KILL").arg(pid.to_string()).status();
        }
    }

    fn make_client(&self) {
        let at = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        fs::create_dir(at("bin")).unwrap();
        let host_key = fs::read_to_string(at("host.pub")).unwrap();
        fs::write(at("known_hosts"), format!("[127.0.0.1]:{} {host_key}", self.port)).unwrap();
        let config = format!(
            "Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n",
            at("user"),
            at("known_hosts"),
        );
        fs::write(at("ssh_config"), config).unwrap();
        // ssh takes its home from the user database, so only an argument leads it to another configuration.
        let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", at("ssh_config"));
        fs::write(at("bin/ssh"), script).unwrap();
        fs::set_permissions(at("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A `PATH` with the client before everything else.
    pub fn path(&self) -> String {
        format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", self.dir.path().join("bin").display())
    }

    /// A file of the client's or the server's: `known_hosts`, `user`, `ssh_config`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Who may log in: who runs the tests.
    pub fn user() -> String {
        output(Command::new("id").arg("-un")).trim().to_owned()
    }

    /// `sftp://user@127.0.0.1:port//path`.
    pub fn url(&self, path: &Path) -> String {
        format!("sftp://{}@127.0.0.1:{}/{}", Self::user(), self.port, path.display())
    }
}

fn listening(dir: &tempfile::TempDir, port: u16) -> Server {
    let config = dir.path().join("sshd_config");
    let mut server = Server::start("/usr/sbin/sshd", &["-D", "-e", "-f", config.to_str().unwrap()], &[]);
    server.wait(|_| TcpStream::connect(("127.0.0.1", port)).ok());
    server
}
