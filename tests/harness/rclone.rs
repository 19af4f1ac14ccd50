//! rclone as a server of restic's REST protocol.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::child::Server;

/// `rclone serve restic` of a directory, on a port of this machine.
pub struct Rclone {
    server: Server,
    /// `127.0.0.1:PORT`.
    pub address: String,
}

impl Rclone {
    /// Serves `directory`, with more arguments.
    pub fn serve(directory: &Path, arguments: &[&str]) -> Self {
        Self::start(&["rclone"], directory, arguments)
    }

    /// The same as a user who may write nowhere; root starts it.
    pub fn serve_as_nobody(directory: &Path, arguments: &[&str]) -> Self {
        let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--", "rclone"];
        Self::start(&nobody, directory, arguments)
    }

    fn start(program: &[&str], directory: &Path, arguments: &[&str]) -> Self {
        let directory = directory.to_str().unwrap();
        // Tests change what lies there.
        let fixed = ["serve", "restic", "--addr", "127.0.0.1:0", "--cache-objects=false", directory];
        let nowhere = [("RCLONE_CONFIG", "/dev/null")];
        let mut server = Server::start(program[0], &[&program[1..], &fixed, arguments].concat(), &nowhere);
        let address = server.wait_for_word(|line| {
            let (_, address) = line.split_once("://127.0.0.1:")?;
            Some(format!("127.0.0.1:{}", address.split('/').next()?))
        });
        Rclone { server, address }
    }

    /// Ends it now; its port refuses connections from then on.
    pub fn stop(&mut self) {
        self.server.stop();
    }
}

/// A socket that leads to a port: old rclones cannot listen on one.
pub fn socket_to(address: &str, directory: &Path) -> PathBuf {
    let socket = directory.join("rest.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let address = address.to_owned();
    // Ends with the process; each connection with its two ends.
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(&address) else { break };
            let (back, forth) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || pass(near, forth, |to| drop(to.shutdown(Shutdown::Write))));
            std::thread::spawn(move || pass(far, back, |to: &UnixStream| drop(to.shutdown(Shutdown::Write))));
        }
    });
    socket
}

fn pass<W: Write>(mut from: impl Read, mut to: W, end: impl Fn(&W)) {
    let _ = std::io::copy(&mut from, &mut to);
    end(&to);
}
