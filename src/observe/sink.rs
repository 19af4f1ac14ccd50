//! Where log lines go. A line that cannot be written is lost: logging never stops and never fails what it logs.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::Level;

use super::line::word;
use super::logging::LogTarget;
use crate::error::{Error, Kind, Result};

const NAME: &str = "backupfs";
const JOURNAL: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";
// LOG_DAEMON of syslog(3).
const FACILITY: u8 = 3;

/// An opened target.
pub(super) enum Sink {
    Stderr,
    File(File),
    /// Sends to the journal, else to syslog. Addressed anew with every line, because either may be restarted.
    System {
        socket: UnixDatagram,
        journal: PathBuf,
        syslog: PathBuf,
    },
}

impl Sink {
    pub(super) fn open(target: &LogTarget) -> Result<Self> {
        match target {
            LogTarget::Stderr => Ok(Sink::Stderr),
            LogTarget::File(path) => {
                let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
                file.map(Sink::File)
                    .map_err(|e| Error::io(format!("log file {}", path.display()), e).with_kind(Kind::Usage))
            }
            LogTarget::System => Self::system(JOURNAL, SYSLOG).map_err(|e| Error::io("log socket", e)),
        }
    }

    fn system(journal: impl AsRef<Path>, syslog: impl AsRef<Path>) -> std::io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A full queue costs a line, not the request that logs.
        socket.set_nonblocking(true)?;
        Ok(Sink::System { socket, journal: journal.as_ref().into(), syslog: syslog.as_ref().into() })
    }

    /// Writes one line, whole: lines of several threads do not mix.
    pub(super) fn write(&self, level: Level, text: &str) {
        let _ = match self {
            Sink::Stderr => {
                std::io::stderr().write_all(format!("{NAME}: {}: {text}\n", word(level)).as_bytes())
            }
            Sink::File(file) => {
                let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
                let mut file = file;
                file.write_all(format!("{now} {}: {text}\n", word(level)).as_bytes())
            }
            Sink::System { socket, journal, syslog } => {
                let sent = socket.send_to(journal_entry(level, text).as_bytes(), journal);
                sent.or_else(|_| socket.send_to(syslog_entry(level, text).as_bytes(), syslog)).map(drop)
            }
        };
    }
}

/// The journal's native protocol; `text` has no line break.
fn journal_entry(level: Level, text: &str) -> String {
    format!("PRIORITY={}\nSYSLOG_IDENTIFIER={NAME}\nMESSAGE={text}\n", severity(level))
}

fn syslog_entry(level: Level, text: &str) -> String {
    let now = jiff::Zoned::now().strftime("%b %e %H:%M:%S").to_string();
    let (priority, process) = (FACILITY * 8 + severity(level), std::process::id());
    format!("<{priority}>{now} {NAME}[{process}]: {}: {text}", word(level))
}

/// The severities of syslog(3).
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 9000];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn the_journal_is_preferred_and_syslog_takes_over_when_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, syslog) = (dir.path().join("journal"), dir.path().join("log"));
        let sink = Sink::system(&journal, &syslog).unwrap();
        sink.write(Level::ERROR, "nobody listens");

        let log = UnixDatagram::bind(&syslog).unwrap();
        sink.write(Level::ERROR, "pack damaged");
        let entry = received(&log);
        assert!(entry.starts_with("<27>"), "{entry}");
        assert!(
            entry.ends_with(&format!(" backupfs[{}]: error: pack damaged", std::process::id())),
            "{entry}"
        );

        let systemd = UnixDatagram::bind(&journal).unwrap();
        sink.write(Level::WARN, "key=value");
        assert_eq!(received(&systemd), "PRIORITY=4\nSYSLOG_IDENTIFIER=backupfs\nMESSAGE=key=value\n");

        drop(systemd);
        sink.write(Level::INFO, "back");
        assert!(received(&log).starts_with("<30>"));
    }

    #[test]
    fn a_full_queue_loses_lines_instead_of_blocking() {
        let dir = tempfile::tempdir().unwrap();
        let syslog = UnixDatagram::bind(dir.path().join("log")).unwrap();
        let sink = Sink::system(dir.path().join("none"), dir.path().join("log")).unwrap();
        for _ in 0..10_000 {
            sink.write(Level::WARN, "flood");
        }
        assert!(received(&syslog).ends_with("warning: flood"));
    }

    #[test]
    fn a_file_is_appended_to_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for text in ["first", "second"] {
            Sink::open(&LogTarget::File(path.clone())).unwrap().write(Level::WARN, text);
        }
        let lines = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = lines.lines().map(|line| line.split_once(' ').unwrap()).collect();
        assert_eq!(lines.iter().map(|l| l.1).collect::<Vec<_>>(), ["warning: first", "warning: second"]);
        for (time, _) in lines {
            time.parse::<jiff::Timestamp>().unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_that_names_it() {
        let error = Sink::open(&LogTarget::File("/nowhere/log".into())).err().unwrap();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains("/nowhere/log"));
    }
}
