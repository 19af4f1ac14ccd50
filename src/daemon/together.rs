//! Sources are opened together, and none keeps a mount waiting for long.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::error::{Error, Kind, Result};
use crate::tree::Source;

/// Once one source is open, the others have so long.
const GRACE: Duration = Duration::from_secs(5);

/// The opening of a source on a task of its own, whose panic is an error.
pub(super) type Task = JoinHandle<Result<Arc<dyn Source>>>;

/// What became of the opening of a source.
pub(super) enum Opening {
    /// It ended.
    Done(Result<Arc<dyn Source>>),
    /// It goes on.
    Going(Task),
}

/// What all of `tasks` came to, in their order. Waits for each of them until one has succeeded and a while after that.
pub(super) async fn settled(tasks: Vec<Task>) -> Vec<Opening> {
    let one_is_open = watch::Sender::new(false);
    join_all(tasks.into_iter().map(|task| settle(task, &one_is_open))).await
}

async fn settle(mut task: Task, one_is_open: &watch::Sender<bool>) -> Opening {
    let others_wait = async {
        drop(one_is_open.subscribe().wait_for(|open| *open).await);
        sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        done = &mut task => {
            let done = flat(done);
            if done.is_ok() {
                one_is_open.send_replace(true);
            }
            Opening::Done(done)
        }
        () = others_wait => Opening::Going(task),
    }
}

/// What a task gave, its panic being an error.
pub(super) fn flat(
    joined: std::result::Result<Result<Arc<dyn Source>>, tokio::task::JoinError>,
) -> Result<Arc<dyn Source>> {
    joined.unwrap_or_else(|e| Err(Error::caused_by(Kind::Internal, "opening ended", e)))
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use tokio::time::Instant;

    use super::*;
    use crate::tree::{Opened, Snapshot, SnapshotId, SourceHealth, Step};

    struct Nothing;

    impl Source for Nothing {
        fn id(&self) -> &str {
            ""
        }

        fn name(&self) -> &str {
            ""
        }

        fn snapshots(&self) -> Arc<[Snapshot]> {
            Arc::default()
        }

        fn refresh(&self) -> BoxFuture<'_, Result<bool>> {
            Box::pin(async { Ok(false) })
        }

        fn open(&self, _: &SnapshotId, _: usize) -> Step<Opened> {
            Step::err(Error::new(Kind::Stale, "nothing"))
        }

        fn health(&self) -> SourceHealth {
            unreachable!("nobody asks")
        }
    }

    fn after(seconds: u64, good: bool) -> Task {
        tokio::spawn(async move {
            sleep(Duration::from_secs(seconds)).await;
            match good {
                true => Ok(Arc::new(Nothing) as Arc<dyn Source>),
                false => Err(Error::new(Kind::Unavailable, "away")),
            }
        })
    }

    /// What each came to, and after how many seconds.
    async fn outcome(tasks: Vec<Task>) -> (String, u64) {
        let begun = Instant::now();
        let letter = |opening| match opening {
            Opening::Done(Ok(_)) => 'o',
            Opening::Done(Err(_)) => 'x',
            Opening::Going(_) => '.',
        };
        let settled = settled(tasks).await.into_iter().map(letter).collect();
        (settled, begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_source_is_waited_for_only_a_while_after_the_first_is_open() {
        assert_eq!(outcome(vec![after(1, true), after(4, true), after(50, true)]).await, ("oo.".into(), 6));
        assert_eq!(outcome(vec![after(50, false), after(1, true), after(3, false)]).await, (".ox".into(), 6));
        assert_eq!(outcome(vec![after(0, true), after(1, true)]).await, ("oo".into(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn while_none_is_open_all_are_waited_for() {
        assert_eq!(outcome(vec![after(1, false), after(40, true)]).await, ("xo".into(), 40));
        assert_eq!(outcome(vec![after(1, false), after(40, false)]).await, ("xx".into(), 40));
        assert_eq!(outcome(vec![]).await, (String::new(), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_failure() {
        let panics: Task = tokio::spawn(async { panic!("forced") });
        assert_eq!(outcome(vec![panics, after(1, true)]).await, ("xo".into(), 1));
    }
}
