//! Where log lines go: stderr, a file, or the system's log (the journal, else syslog).

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::error::{Error, Kind, Result};

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Coloured when it is a terminal.
    Stderr,
    /// Appended to; made readable by its owner alone.
    File(PathBuf),
    /// The journal, else syslog; where there is neither, lines are lost.
    System,
}

/// Sends events of `level` and graver to `sink`, from now on and for the whole process. Errors: `Usage` when the file
/// cannot be opened; `Internal` when called twice.
pub fn start(sink: &Sink, level: Level) -> Result<()> {
    let filter = EnvFilter::new(format!("warn,backupfs={level}"));
    let layer = layer(sink)?;
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|e| Error::caused_by(Kind::Internal, "log", e))
}

fn layer(sink: &Sink) -> Result<Box<dyn Layer<Registry> + Send + Sync>> {
    match sink {
        Sink::Stderr => {
            let ansi = io::stderr().is_terminal();
            Ok(fmt::layer().with_writer(io::stderr).with_ansi(ansi).with_target(false).boxed())
        }
        Sink::File(path) => {
            let open = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
            let file = open
                .map_err(|e| Error::io(format!("log file {}", path.display()), e).with_kind(Kind::Usage))?;
            Ok(fmt::layer().with_writer(Arc::new(file)).with_ansi(false).with_target(false).boxed())
        }
        Sink::System => Ok(match tracing_journald::layer() {
            Ok(journal) => journal.with_syslog_identifier("backupfs".into()).boxed(),
            Err(_) => syslog(Path::new("/dev/log")).boxed(),
        }),
    }
}

/// A layer that writes to the syslog socket at `path`; `None`, which takes every event to nowhere, when there is none.
fn syslog(path: &Path) -> Option<impl Layer<Registry> + Send + Sync + use<>> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(path).ok()?;
    // A full log must not stop a reader of files.
    socket.set_nonblocking(true).ok()?;
    let writer = Syslog { socket: Arc::new(socket) };
    Some(
        fmt::layer().with_writer(writer).with_ansi(false).without_time().with_level(false).with_target(false),
    )
}

/// Makes the writer of one event's line.
struct Syslog {
    socket: Arc<UnixDatagram>,
}

/// Writes one event as one datagram.
struct Line {
    socket: Arc<UnixDatagram>,
    priority: u8,
}

/// The facility `daemon` in a priority.
const DAEMON: u8 = 3 << 3;

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { socket: self.socket.clone(), priority: DAEMON | 6 }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        let severity = match *meta.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        Line { priority: DAEMON | severity, ..self.make_writer() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut datagram = format!("<{}>backupfs[{}]: ", self.priority, std::process::id()).into_bytes();
        datagram.extend_from_slice(bytes.trim_ascii_end());
        // A line that the log does not take is lost, and nobody could be told.
        let _ = self.socket.send(&datagram);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn syslog_gets_one_datagram_an_event_with_its_severity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = UnixDatagram::bind(&path).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(syslog(&path)), || {
            tracing::error!(pack = "ab", "damaged");
            tracing::info!("fine");
        });
        let received = || {
            let mut buffer = [0; 1000];
            let length = log.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        let head = |priority| format!("<{priority}>backupfs[{}]: ", std::process::id());
        assert_eq!(received(), head(27) + "damaged pack=\"ab\"");
        assert_eq!(received(), head(30) + "fine");
    }

    #[test]
    fn no_syslog_is_no_error() {
        assert!(syslog(Path::new("/no/such/socket")).is_none());
    }

    #[test]
    fn a_log_file_is_private_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for line in ["one", "two"] {
            let layer = layer(&Sink::File(path.clone())).unwrap();
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                tracing::warn!(line)
            });
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("WARN") && text.contains("line=\"two\""), "{text}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let missing = layer(&Sink::File("/no/such/dir/log".into())).err().unwrap();
        assert_eq!(missing.kind(), Kind::Usage);
    }
}
