//! What a service manager is told by a mount in the foreground (`Type=notify`): that it is ready, and that it lives.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

/// The variables by which the manager says where and how often it wants to hear of us.
pub const VARIABLES: [&str; 2] = ["NOTIFY_SOCKET", "WATCHDOG_USEC"];

/// The line to the manager, if there is one.
pub struct Manager {
    socket: OsString,
    /// It must hear of us so often.
    patience: Option<Duration>,
}

impl Manager {
    /// The one that started this process; `None` when nobody wants to be told.
    pub fn of_process() -> Option<Self> {
        Manager::from(std::env::var_os(VARIABLES[0]), std::env::var_os(VARIABLES[1]))
    }

    fn from(socket: Option<OsString>, microseconds: Option<OsString>) -> Option<Self> {
        let socket = socket.filter(|socket| matches!(socket.as_bytes(), [b'/' | b'@', _, ..]))?;
        let patience = microseconds.and_then(|text| text.to_str()?.parse().ok()).filter(|number| *number > 0);
        Some(Manager { socket, patience: patience.map(Duration::from_micros) })
    }

    /// Says that the tree at `mountpoint` can be walked; from then on, while the current runtime lives, that we live.
    pub fn ready(self, mountpoint: &Path) {
        self.say(&format!("READY=1\nSTATUS=shows backups at {}", mountpoint.display()));
        let Some(patience) = self.patience else { return };
        tokio::spawn(async move {
            // Half of it, as systemd advises.
            let mut ticks = tokio::time::interval(patience / 2);
            loop {
                ticks.tick().await;
                self.say("WATCHDOG=1");
            }
        });
    }

    /// A manager that does not listen is not waited for.
    fn say(&self, words: &str) {
        let said = address(&self.socket).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.send_to_addr(words.as_bytes(), &address)
        });
        if let Err(error) = said {
            tracing::warn!(%error, "cannot tell the service manager");
        }
    }
}

/// A name that begins with `@` is an abstract one.
fn address(socket: &OsStr) -> std::io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(socket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1000];
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test]
    async fn a_manager_hears_that_we_are_ready_and_that_we_live() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager::from(Some(path.into()), Some("20000".into())).unwrap().ready(Path::new("/mnt/b"));
        let told = tokio::task::spawn_blocking(move || [(); 3].map(|()| received(&socket))).await.unwrap();
        assert_eq!(told, ["READY=1\nSTATUS=shows backups at /mnt/b", "WATCHDOG=1", "WATCHDOG=1"]);
    }

    #[test]
    fn abstract_names_begin_with_an_at_sign() {
        let name = format!("backupfs-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Manager::from(Some(format!("@{name}").into()), None).unwrap().say("x");
        assert_eq!(received(&socket), "x");
    }

    #[test]
    fn nobody_is_told_where_nobody_listens() {
        for socket in [None, Some(""), Some("relative"), Some("/")] {
            assert!(Manager::from(socket.map(OsString::from), None).is_none(), "{socket:?}");
        }
        for often in ["0", "soon", "-1"] {
            assert!(Manager::from(Some("/x".into()), Some(often.into())).unwrap().patience.is_none());
        }
        // Whoever does not answer is not waited for.
        Manager::from(Some("/no/such/socket".into()), None).unwrap().say("x");
    }
}
