//! The set-up of the log.

use std::path::PathBuf;
use std::sync::{OnceLock, PoisonError, RwLock};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::sink::Sink;
use super::{line, metrics};
use crate::error::{Error, Kind, Result};

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error: a command, or a mount in the foreground.
    Stderr,
    /// The journal when it runs, else syslog when that runs, else nowhere.
    System,
    /// A file, appended to, created for its owner alone.
    File(PathBuf),
}

/// Targets of our own events. Libraries get a line for a warning or worse, whatever the level.
const OURS: &str = "backupfs";

/// What is in force; `None` before the first start.
static LOG: RwLock<Option<Log>> = RwLock::new(None);

struct Log {
    sink: Sink,
    level: Level,
}

/// Starts the log of this process: lines of `level` and worse go to `target`. Called again (a daemon that has read its
/// orders) the later call holds. Errors: the file cannot be opened; then nothing changes.
pub fn start(target: LogTarget, level: Level) -> Result<()> {
    let sink = Sink::open(&target)?;
    *LOG.write().unwrap_or_else(PoisonError::into_inner) = Some(Log { sink, level });
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    let ours = INSTALLED.get_or_init(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Lines)).is_ok()
    });
    // Which call sites are worth evaluating depends on the level.
    tracing::callsite::rebuild_interest_cache();
    if *ours { Ok(()) } else { Err(Error::new(Kind::Internal, "another log was set up before")) }
}

/// Turns events into lines of [`LOG`].
struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let log = LOG.read().unwrap_or_else(PoisonError::into_inner);
        let least = if metadata.target().starts_with(OURS) { Level::TRACE } else { Level::WARN };
        log.as_ref().is_some_and(|log| *metadata.level() <= log.level.min(least))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let log = LOG.read().unwrap_or_else(PoisonError::into_inner);
        Some(log.as_ref().map_or(LevelFilter::OFF, |log| log.level.into()))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        match level {
            Level::ERROR => metrics::LOG_ERRORS.add(1),
            Level::WARN => metrics::LOG_WARNINGS.add(1),
            _ => {}
        }
        let text = line::text(event);
        if let Some(log) = &*LOG.read().unwrap_or_else(PoisonError::into_inner) {
            log.sink.write(level, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &std::path::Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        // Other tests of this process may log too.
        let ours = text.lines().filter(|line| line.contains("probe"));
        ours.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    // One test, because a process has one log.
    #[test]
    fn events_become_single_printable_lines_of_the_level_and_target_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        start(LogTarget::File(first.clone()), Level::INFO).unwrap();
        let name = "a\nb\x1b[31m";
        tracing::warn!(name, pack = %"ab12", offset = 7, odd = ?name, "probe: damaged {name}");
        tracing::info!("probe");
        tracing::debug!("probe: not worth a line");
        start(LogTarget::File(second.clone()), Level::DEBUG).unwrap();
        tracing::debug!(target: "backupfs::room", "probe: worth it now");
        tracing::info!(target: "library", "probe: chatter");
        tracing::error!("probe: {}", "é".repeat(5000));
        assert!(start(LogTarget::File("/nowhere/log".into()), Level::ERROR).is_err());
        tracing::info!("probe: still here");

        let escaped = r"a\nb\u{1b}[31m";
        let expected =
            format!("warning: probe: damaged {escaped} name={escaped} pack=ab12 offset=7 odd=\"{escaped}\"");
        assert_eq!(lines(&first), [expected, "info: probe".to_owned()]);
        let second = lines(&second);
        assert_eq!(second[0], "debug: backupfs::room: probe: worth it now");
        assert!(second[1].len() < 4200 && second[1].ends_with("é…"));
        assert_eq!(second[2], "info: probe: still here");
        assert_eq!(second.len(), 3);
    }
}
