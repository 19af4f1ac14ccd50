//! Following the sources: who is asked when, and what happens when one has something new.
//!
//! Every source is asked by a task of its own and by one at a time, so a stalled one holds up nothing but itself. A new
//! tree is built from the lists that are there and takes the old one's place in one step; nobody waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::build::Contribution;
use super::{Namespace, diff};
use crate::tree::ChangeSink;

/// News that come closer together than this make one new tree.
const SETTLE: Duration = Duration::from_millis(100);

/// The right to ask one source; given back however the asking ends.
struct Turn {
    ns: Arc<Namespace>,
    member: usize,
}

impl Turn {
    fn take(ns: &Arc<Namespace>, member: usize) -> Option<Turn> {
        let taken = ns.watch.get(member)?.busy.swap(true, Ordering::Acquire);
        (!taken).then(|| Turn { ns: ns.clone(), member })
    }

    /// Asks; true when there is news. Failures are told when they begin and when they end.
    async fn ask(self) -> bool {
        let (Some(member), Some(watch)) = (self.ns.members.get(self.member), self.ns.watch.get(self.member))
        else {
            return false;
        };
        let result = member.source.refresh().await;
        let failed = watch.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !failed => {
                tracing::warn!(source = member.source.name(), %error, "no news: showing what was listed last");
            }
            Ok(_) if failed => tracing::info!(source = member.source.name(), "listing works again"),
            _ => {}
        }
        result.unwrap_or(false)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(watch) = self.ns.watch.get(self.member) {
            watch.busy.store(false, Ordering::Release);
        }
    }
}

impl Namespace {
    /// Where changes are told; replaces an earlier sink.
    pub fn on_change(&self, sink: ChangeSink) {
        self.sink.store(Some(Arc::new(sink)));
    }

    /// Refreshes every source once, concurrently, and rebuilds what changed. A failing source keeps its last list and
    /// never delays another; one that is still being asked is left alone.
    pub async fn refresh(self: &Arc<Self>) {
        self.asked.store(self.age(), Ordering::Relaxed);
        let mut turns = JoinSet::new();
        for turn in (0..self.members.len()).filter_map(|member| Turn::take(self, member)) {
            turns.spawn(turn.ask());
        }
        let mut due: Option<Instant> = None;
        loop {
            let done = match due {
                Some(at) => timeout_at(at, turns.join_next()).await,
                None => Ok(turns.join_next().await),
            };
            match done {
                Ok(None) => break,
                Ok(Some(Ok(false))) => {}
                Ok(Some(Ok(true))) => {
                    due.get_or_insert_with(|| Instant::now() + SETTLE);
                }
                Ok(Some(Err(error))) => tracing::error!(%error, "a source panicked while being listed"),
                Err(_) => {
                    due = None;
                    self.rebuild();
                }
            }
        }
        if due.is_some() {
            self.rebuild();
        }
    }

    /// Refreshes every `Options::refresh` on the current runtime until the returned task is aborted or the namespace is
    /// gone. From now on a look at a directory whose answers have grown older than that starts a refresh too.
    pub fn spawn_refresh(self: &Arc<Self>) -> JoinHandle<()> {
        let runtime = tokio::runtime::Handle::current();
        let (ns, period) = (Arc::downgrade(self), self.options.refresh.max(Duration::from_millis(1)));
        let task = runtime.spawn(async move {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await;
            // A round waits for its slowest source, the next one does not.
            let mut rounds = JoinSet::new();
            loop {
                ticks.tick().await;
                let Some(ns) = ns.upgrade() else { return };
                rounds.spawn(async move { ns.refresh().await });
                while rounds.try_join_next().is_some() {}
            }
        });
        // A second call keeps the first runtime, which is as good.
        let _ = self.runtime.set(runtime);
        task
    }

    /// Somebody looks at a directory that follows new snapshots: when what it shows is old, it is refreshed behind the
    /// answer, which is never kept waiting.
    pub(super) fn touch(self: &Arc<Self>) {
        let (now, asked) = (self.age(), self.asked.load(Ordering::Relaxed));
        let Some(runtime) = self.runtime.get() else { return };
        if u128::from(now.saturating_sub(asked)) < self.options.refresh.as_millis().max(1) {
            return;
        }
        if self.asked.compare_exchange(asked, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let ns = self.clone();
            runtime.spawn(async move { ns.refresh().await });
        }
    }

    /// Milliseconds since the namespace was made.
    pub(super) fn age(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Puts a new tree in place when a source has a new list, and tells what changed.
    fn rebuild(&self) {
        let mut desk = self.desk.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let desk = &mut *desk;
        let mut news = false;
        for (index, known) in desk.contributions.iter_mut().enumerate() {
            let Some(source) = self.members.get(index).map(|member| &member.source) else { continue };
            let list = source.snapshots();
            if Arc::ptr_eq(&list, &known.list) {
                continue;
            }
            news = true;
            let placement = self.place(index, &list);
            for error in placement.refused.iter().map(ToString::to_string) {
                if desk.told.insert(error.clone()) {
                    tracing::warn!(%error, "the set keeps its name");
                }
            }
            // A source that was opened late has its identity only now.
            let repository = source.id().into();
            *known = Contribution { repository, list, placed: placement.placed.into() };
        }
        if !news {
            return;
        }
        let old = self.state.load_full();
        let new = Arc::new(desk.book.build(&desk.contributions, Some(&old), self.clock.now()));
        self.state.store(new.clone());
        // Told while the desk is locked: in the order in which the trees came.
        if let Some(sink) = self.sink.load_full() {
            diff::changes(&old, &new).into_iter().for_each(|change| sink(change));
        }
    }
}
