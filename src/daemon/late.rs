//! A source that could not be opened with the others: it is tried again at each refresh, and then is what it opens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::future::BoxFuture;

use super::keep::Common;
use super::open::{begin, prepared};
use super::together::{Task, flat};
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::tree::{Opened, Snapshot, SnapshotId, Source, SourceHealth, Step, Time, Usage};

/// Empty until it can be opened.
pub struct Late {
    config: config::Source,
    common: Common,
    opened: OnceLock<Arc<dyn Source>>,
    /// Why it could not be opened the last time.
    failure: Mutex<Error>,
    /// An opening under way.
    going: Mutex<Option<Task>>,
    /// It is shown no more, whenever it can be opened.
    is_retired: AtomicBool,
    nothing: Arc<[Snapshot]>,
}

impl Late {
    /// A source that could not be opened because of `failure`.
    pub fn new(config: config::Source, common: Common, failure: Error) -> Arc<Self> {
        Self::with(config, common, failure, None)
    }

    /// A source that is still being opened.
    pub fn going(config: config::Source, common: Common, task: Task) -> Arc<Self> {
        let says = format!("{}: is still being opened", config.title);
        Self::with(config, common, Error::new(Kind::Unavailable, says), Some(task))
    }

    fn with(config: config::Source, common: Common, failure: Error, going: Option<Task>) -> Arc<Self> {
        let (opened, failure, going) = (OnceLock::new(), Mutex::new(failure), Mutex::new(going));
        let is_retired = AtomicBool::new(false);
        Arc::new(Late { config, common, opened, failure, going, is_retired, nothing: Arc::default() })
    }

    fn failure(&self) -> Error {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn try_again(&self) -> Result<bool> {
        let failure = self.failure();
        if !may_pass(&failure) {
            return Err(failure);
        }
        let going = self.going.lock().unwrap_or_else(PoisonError::into_inner).take();
        let task = match going {
            Some(task) => task,
            None => begin(prepared(&self.config, &self.common).await),
        };
        match flat(task.await) {
            Ok(source) => {
                // Refreshes do not overlap; were it set already, that one is as good.
                let _ = self.opened.set(source);
                if self.is_retired.load(Ordering::SeqCst) {
                    self.retire();
                }
                Ok(true)
            }
            Err(error) => {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = error.clone();
                Err(error)
            }
        }
    }
}

/// Whether the same repository and password might work later: a disk that is not there yet, not a wrong password.
fn may_pass(failure: &Error) -> bool {
    match failure.kind() {
        Kind::NotFound
        | Kind::NotDirectory
        | Kind::Stale
        | Kind::Unavailable
        | Kind::TimedOut
        | Kind::Denied
        | Kind::Invalid
        | Kind::Corrupt
        | Kind::System => true,
        Kind::Password
        | Kind::Unsupported
        | Kind::NoAttribute
        | Kind::IsDirectory
        | Kind::Usage
        | Kind::Interrupted
        | Kind::Internal => false,
    }
}

impl Source for Late {
    fn id(&self) -> &str {
        self.opened.get().map_or("", |source| source.id())
    }

    fn name(&self) -> &str {
        let config::Source { title, .. } = &self.config;
        title
    }

    fn snapshots(&self) -> Arc<[Snapshot]> {
        self.opened.get().map_or_else(|| self.nothing.clone(), |source| source.snapshots())
    }

    fn refresh(&self) -> BoxFuture<'_, Result<bool>> {
        match self.opened.get() {
            Some(source) => source.refresh(),
            None => Box::pin(self.try_again()),
        }
    }

    fn open(&self, snapshot: &SnapshotId, path: usize) -> Step<Opened> {
        match self.opened.get() {
            Some(source) => source.open(snapshot, path),
            None => Step::err(self.failure()),
        }
    }

    fn at(&self, moment: Time) -> Option<Snapshot> {
        self.opened.get().and_then(|source| source.at(moment))
    }

    fn health(&self) -> SourceHealth {
        match self.opened.get() {
            Some(source) => source.health(),
            None => SourceHealth {
                listed: None,
                error: Some(self.failure()),
                usage: Usage::default(),
                omitted: 0,
                left_out: Vec::new(),
            },
        }
    }

    fn retire(&self) {
        self.is_retired.store(true, Ordering::SeqCst);
        if let Some(source) = self.opened.get() {
            source.retire();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Password, Secret, Typed, resolve};

    fn late(path: &std::path::Path, failure: Kind) -> Arc<Late> {
        let typed = Typed { repos: vec![path.into()], ..Typed::default() };
        let mut config = resolve(&typed).unwrap();
        let mut source = config.sources.remove(0);
        source.password = Password::known(Secret::new(b"x".to_vec().into()));
        config.cache_dir = None;
        Late::new(source, Common::new(&config).0, Error::new(failure, "away"))
    }

    #[tokio::test]
    async fn what_is_not_there_is_tried_again_and_stays_empty_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repo");
        let source = late(&path, Kind::NotFound);
        assert!(source.snapshots().is_empty());
        assert_eq!(source.health().error.unwrap().to_string(), "away");
        assert!(matches!(source.open(&"ab".into(), 0), Step::Ready(Err(_))));
        // The reason is the newest one.
        source.refresh().await.unwrap_err();
        assert!(source.health().error.unwrap().to_string().contains("No such file"), "{:?}", source.health());
    }

    #[tokio::test]
    async fn a_wrong_password_is_not_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let error = late(dir.path(), Kind::Password).refresh().await.unwrap_err();
        assert_eq!(error.to_string(), "away");
    }

    #[tokio::test]
    async fn an_opening_under_way_is_waited_for_and_not_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let Late { config, common, .. } = &*late(dir.path(), Kind::NotFound);
        let task = tokio::spawn(async { Err(Error::new(Kind::TimedOut, "no route")) });
        let source = Late::going(config.clone(), common.clone(), task);
        assert!(source.health().error.unwrap().to_string().contains("still being opened"));
        assert_eq!(source.refresh().await.unwrap_err().to_string(), "no route");
        // Then anew: there is nothing.
        let anew = source.refresh().await.unwrap_err();
        assert!(anew.to_string().contains("no restic repository"), "{anew}");
    }
}
