//! The metrics over a socket of this machine: HTTP/1.0, one answer a connection, for `curl --unix-socket` and whatever
//! reads OpenMetrics through one. Only who runs the mount, and root, are answered.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::error::{Error, Kind, Result};
use crate::namespace::Namespace;
use crate::observe::openmetrics::CONTENT_TYPE;

/// No request is longer.
const LONGEST: usize = 8 << 10;

/// Whoever asks has to say what, and take the answer, within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many are answered at a time.
const AT_ONCE: usize = 8;

/// A socket that is there while this lives.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// What somebody else put there is not ours to remove.
    own: Option<Identity>,
}

impl Socket {
    /// Makes the socket at `path`; one that a killed process left is replaced. Errors, which name it: something else is
    /// there, or somebody listens already.
    pub fn open(path: &Path) -> Result<(Socket, std::os::unix::net::UnixListener)> {
        let failed = |e: std::io::Error| {
            Error::io(format!("metrics-socket {}", path.display()), e).with_kind(Kind::System)
        };
        clear(path)?;
        let made = || -> std::io::Result<std::os::unix::net::UnixListener> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            // The file is born with this mode: there is no moment in which others could connect.
            fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
            bind(&socket, &SocketAddrUnix::new(path)?)?;
            listen(&socket, 16)?;
            Ok(socket.into())
        };
        let listener = made().map_err(failed)?;
        Ok((Socket { own: identity(path), path: path.to_owned() }, listener))
    }

    /// Answers on the current runtime for as long as `namespace` is there.
    pub fn serve(listener: std::os::unix::net::UnixListener, namespace: &Arc<Namespace>) -> Result<()> {
        let failed = |e| Error::io("metrics-socket", e).with_kind(Kind::System);
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        let (namespace, turns) = (Arc::downgrade(namespace), Arc::new(Semaphore::new(AT_ONCE)));
        tokio::spawn(async move {
            loop {
                let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of descriptors, perhaps: others need the processor.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let Some(namespace) = namespace.upgrade() else { return };
                tokio::spawn(async move {
                    let _turn = turn;
                    // Whoever hangs up had enough.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, &namespace)).await;
                });
            }
        });
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.own.is_some() && identity(&self.path) == self.own {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Device, inode, and when it was made: numbers of inodes come again.
type Identity = (u64, u64, i64, i64);

fn identity(path: &Path) -> Option<Identity> {
    let meta = path.symlink_metadata().ok()?;
    Some((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

/// Takes away a socket of ours that nobody listens on.
fn clear(path: &Path) -> Result<()> {
    let refused = |why: &str| Error::new(Kind::Usage, format!("metrics-socket {}: {why}", path.display()));
    let Ok(meta) = path.symlink_metadata() else { return Ok(()) };
    let is_ours = meta.uid() == rustix::process::geteuid().as_raw();
    if !meta.file_type().is_socket() || !is_ours {
        return Err(refused("something else is there"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|e| Error::io(path.display().to_string(), e))
        }
        _ => Err(refused("another process listens there; each mount needs a socket of its own")),
    }
}

async fn answer(mut stream: UnixStream, namespace: &Arc<Namespace>) -> std::io::Result<()> {
    let asker = stream.peer_cred()?.uid();
    if asker != 0 && asker != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let request = read_head(&mut stream).await?;
    let reply = match asked(&request) {
        Asked::Metrics { body } => {
            let ns = Arc::clone(namespace);
            let text = tokio::task::spawn_blocking(move || ns.metrics()).await.unwrap_or_default();
            let head = head("200 OK", CONTENT_TYPE, text.len());
            if body { head + &text } else { head }
        }
        Asked::Other(status) => head(status, "text/plain", 0),
    };
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

fn head(status: &str, kind: &str, length: usize) -> String {
    format!(
        "HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
}

/// Everything up to the empty line, or to where patience with its length ends.
async fn read_head(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while head.len() < LONGEST && !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut part).await? {
            0 => break,
            n => head.extend_from_slice(part.get(..n).unwrap_or_default()),
        }
    }
    Ok(head)
}

/// What a request is for.
#[derive(Debug, PartialEq)]
enum Asked {
    Metrics {
        body: bool,
    },
    /// Nothing that there is.
    Other(&'static str),
}

fn asked(head: &[u8]) -> Asked {
    let line = head.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
    let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
    match words.as_slice() {
        [method @ ("GET" | "HEAD"), path, version] if version.starts_with("HTTP/1.") => {
            match path.split('?').next() {
                Some("/" | "/metrics") => Asked::Metrics { body: *method == "GET" },
                _ => Asked::Other("404 Not Found"),
            }
        }
        [_, _, version] if version.starts_with("HTTP/") => Asked::Other("405 Method Not Allowed"),
        _ => Asked::Other("400 Bad Request"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream as Plain;

    use super::*;
    use crate::namespace::Options;

    #[test]
    fn only_metrics_can_be_asked_for() {
        for (request, wanted) in [
            ("GET /metrics HTTP/1.0\r\n\r\n", Asked::Metrics { body: true }),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", Asked::Metrics { body: true }),
            ("GET /metrics?name=a HTTP/1.1\r\n\r\n", Asked::Metrics { body: true }),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Asked::Metrics { body: false }),
            ("GET /etc/passwd HTTP/1.1\r\n\r\n", Asked::Other("404 Not Found")),
            ("POST /metrics HTTP/1.1\r\n\r\n", Asked::Other("405 Method Not Allowed")),
            ("GET /metrics HTTP/2\r\n\r\n", Asked::Other("405 Method Not Allowed")),
            ("\u{1}\r\n\r\n", Asked::Other("400 Bad Request")),
            ("", Asked::Other("400 Bad Request")),
        ] {
            assert_eq!(asked(request.as_bytes()), wanted, "{request:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_socket_is_its_owners_and_answers_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.sock");
        let namespace = Namespace::new(Vec::new(), Vec::new(), Options::default()).unwrap();
        let (socket, listener) = Socket::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        Socket::serve(listener, &namespace).unwrap();
        let asked = path.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = Plain::connect(asked).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let answer = answer.await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && head.contains(CONTENT_TYPE), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())) && body.ends_with("# EOF\n"));
        let taken = Socket::open(&path).unwrap_err().to_string();
        assert!(taken.contains("each mount needs a socket of its own"), "{taken}");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_process_left_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.sock");
        let (left, listener) = Socket::open(&path).unwrap();
        drop(listener);
        let (new, _listener) = Socket::open(&path).unwrap();
        drop(left);
        assert!(path.exists(), "the old one does not take the new one with it");
        drop(new);
        std::fs::write(&path, "precious").unwrap();
        let refused = Socket::open(&path).unwrap_err();
        assert_eq!(refused.kind(), Kind::Usage);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
