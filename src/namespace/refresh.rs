//! Following the sources: who is asked when, and what happens when one has something new.
//!
//! Every source is asked by a task of its own and by one at a time, so a stalled one holds up nothing but itself. A new
//! tree is built from the lists that are there and takes the old one's place in one step; nobody waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::build::Contribution;
use super::group::Group;
use super::seat::{Seat, Seated};
use super::{Namespace, diff};
use crate::tree::{ChangeSink, Cookie};

/// News that come closer together than this make one new tree.
const SETTLE: Duration = Duration::from_millis(100);

/// The right to ask one source; given back however the asking ends.
struct Turn {
    ns: Arc<Namespace>,
    number: usize,
    seat: Arc<Seat>,
}

impl Turn {
    fn take(ns: &Arc<Namespace>, (number, seat): (usize, Arc<Seat>)) -> Option<Turn> {
        let taken = seat.watch.busy.swap(true, Ordering::Acquire);
        (!taken).then(|| Turn { ns: ns.clone(), number, seat })
    }

    /// Asks; true when there is news. Failures are told when they begin and when they end.
    async fn ask(self) -> bool {
        let member = &self.seat.member;
        let is_new = member.source.health().listed.is_none();
        let mut result = member.source.refresh().await;
        // It was only opened now, with a listing that was kept: that is shown until there is a newer one, if ever.
        if is_new && result.is_ok() && self.ns.rest_of(&self.seat).is_zero() {
            self.ns.renew().await;
            result = member.source.refresh().await.map(|_| true);
        }
        let failed = self.seat.watch.turned(result.is_err());
        match &result {
            Err(error) if !failed => {
                tracing::warn!(source = member.source.name(), %error, "no news: showing what was listed last");
                self.ns.tell_of_outage(self.number);
            }
            Ok(_) if failed => tracing::info!(source = member.source.name(), "listing works again"),
            _ => {}
        }
        result.unwrap_or(false)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.seat.watch.busy.store(false, Ordering::Release);
    }
}

/// Who is to be asked when.
struct Agenda {
    /// The next time that anything is to be done.
    next: Instant,
    seats: HashMap<usize, Instant>,
    /// By position.
    groups: HashMap<Cookie, Instant>,
}

impl Default for Agenda {
    fn default() -> Self {
        Agenda { next: Instant::now(), seats: HashMap::new(), groups: HashMap::new() }
    }
}

/// Sources whose times are this near are asked together.
const TOGETHER: Duration = Duration::from_millis(500);

impl Agenda {
    /// Who is to be asked `now`, and the next time for each of them. Whoever is new is as new as its listing.
    fn due(&mut self, ns: &Namespace, now: Instant) -> (Seated, Vec<Arc<Group>>) {
        let (mut seats, mut groups) = (ns.seated(), ns.groups.load().to_vec());
        self.seats.retain(|number, _| seats.iter().any(|(seated, _)| seated == number));
        self.groups.retain(|at, _| groups.iter().any(|group| group.at == *at));
        let usual = ns.options.refresh.max(Duration::from_millis(1));
        // What comes meanwhile is found after that.
        self.next = now + usual;
        seats.retain(|(number, seat)| {
            self.is_due(Asked::Seat(*number), ns.period_of(seat), || ns.rest_of(seat), now)
        });
        groups.retain(|group| {
            let period = group.period().unwrap_or(usual);
            self.is_due(Asked::Group(group.at), period, || period, now)
        });
        (seats, groups)
    }

    /// `first` tells in how long somebody new is to be asked.
    fn is_due(
        &mut self,
        who: Asked,
        period: Duration,
        first: impl FnOnce() -> Duration,
        now: Instant,
    ) -> bool {
        let period = period.max(Duration::from_millis(1));
        let at = match who {
            Asked::Seat(number) => self.seats.entry(number).or_insert_with(|| now + first()),
            Asked::Group(position) => self.groups.entry(position).or_insert_with(|| now + first()),
        };
        let is_due = *at <= now + TOGETHER.min(period / 2);
        if is_due {
            *at = now + period;
        }
        self.next = self.next.min(*at);
        is_due
    }
}

/// Who is asked.
enum Asked {
    Seat(usize),
    Group(Cookie),
}

impl Namespace {
    /// Where changes are told; replaces an earlier sink.
    pub fn on_change(&self, sink: ChangeSink) {
        self.sink.store(Some(Arc::new(sink)));
    }

    /// Refreshes every source once, concurrently, and rebuilds what changed. A failing source keeps its last list and
    /// never delays another; one that is still being asked is left alone.
    pub async fn refresh(self: &Arc<Self>) {
        self.ask(self.seated(), self.groups.load().to_vec()).await;
    }

    /// The same of the sources that list what is older than it is to be: for whoever looks once. False when one of them
    /// failed, and what is shown of it is as old as it was.
    pub async fn refresh_old(self: &Arc<Self>) -> bool {
        let mut old = self.seated();
        old.retain(|(_, seat)| self.rest_of(seat).is_zero());
        if !old.is_empty() {
            self.ask(old.clone(), Vec::new()).await;
        }
        !old.iter().any(|(_, seat)| seat.watch.failing.load(Ordering::Relaxed))
    }

    /// The same of some of them.
    async fn ask(self: &Arc<Self>, seats: Seated, groups: Vec<Arc<Group>>) {
        self.asked.store(self.age(), Ordering::Relaxed);
        let mut turns = JoinSet::new();
        for turn in seats.into_iter().filter_map(|seat| Turn::take(self, seat)) {
            turns.spawn(turn.ask());
        }
        for group in groups {
            turns.spawn(async move {
                group.refresh().await;
                // It has told already.
                false
            });
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
                    self.renew().await;
                }
            }
        }
        // Without news too: a round that was abandoned may have left some.
        self.renew().await;
    }

    /// Rebuilds where it may take its time: a million dates are a second's work.
    async fn renew(self: &Arc<Self>) {
        let ns = self.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || ns.rebuild()).await {
            tracing::error!(%error, "building the tree ended");
        }
    }

    /// Refreshes every source as often as was said of it, else every `Options::refresh`, counted from when it was listed, on
    /// the current runtime until the returned task is aborted or the namespace is gone. From now on a look at a directory
    /// whose answers have grown older than that starts a refresh too.
    pub fn spawn_refresh(self: &Arc<Self>) -> JoinHandle<()> {
        let runtime = tokio::runtime::Handle::current();
        let mut agenda = Agenda::default();
        let (seats, groups) = agenda.due(self, Instant::now());
        // A round waits for its slowest source, the next one does not.
        let mut rounds = JoinSet::new();
        if !seats.is_empty() {
            let ns = self.clone();
            rounds.spawn(async move { ns.ask(seats, groups).await });
        }
        let ns = Arc::downgrade(self);
        let task = runtime.spawn(async move {
            loop {
                sleep_until(agenda.next).await;
                let Some(ns) = ns.upgrade() else { return };
                let (seats, groups) = agenda.due(&ns, Instant::now());
                rounds.spawn(async move { ns.ask(seats, groups).await });
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
        let periods = self.seats.load().iter().flatten().map(|seat| self.period_of(seat)).min();
        let period = periods.unwrap_or(self.options.refresh);
        if u128::from(now.saturating_sub(asked)) < period.as_millis().max(1) {
            return;
        }
        if self.asked.compare_exchange(asked, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let ns = self.clone();
            runtime.spawn(async move { ns.refresh().await });
        }
    }

    /// Dates that other sources hold too are to be read from those.
    fn tell_of_outage(&self, member: usize) {
        if let Ok(member) = u32::try_from(member) {
            diff::read_elsewhere(&self.state.load(), member).into_iter().for_each(|change| self.tell(change));
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
            let Some(seat) = self.seat(index) else { continue };
            let source = &seat.member.source;
            let list = source.snapshots();
            if Arc::ptr_eq(&list, &known.list) {
                continue;
            }
            news = true;
            let placement = self.place(&seat, &list);
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
        diff::changes(&old, &new).into_iter().for_each(|change| self.tell(change));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use crate::namespace::fake::{self, Describe, FakeSource};
    use crate::namespace::testbed::{Bed, list, member};
    use crate::namespace::{Options, Rename};
    use crate::tree::{Change, Snapshot, Validity};

    const MINUTE: Duration = Duration::from_secs(60);

    fn taken(short: &str, host: &str) -> Snapshot {
        fake::snapshot(short).host(host)
    }

    fn down() -> Option<Error> {
        Some(Error::new(Kind::Unavailable, "away"))
    }

    /// Lets every task do what it can.
    async fn settle() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn new_snapshots_appear_and_removed_ones_go() {
        let source = FakeSource::with("r", vec![taken("aa", "h")]);
        let bed = Bed::new(&[&source]);
        let (set, date) = (bed.at("h@+"), bed.at("h@+/20260301_030000"));
        source.put(vec![taken("bb", "i")]);
        bed.ns.refresh().await;
        assert_eq!(bed.ls("/"), ["current", "at", "i@+"]);
        assert!(!bed.has("h@+") && !bed.has("h@+/20260301_030000"));
        assert!(list(&set, 0).is_empty(), "a directory that was removed while somebody was in it");
        assert_eq!(list(&date, 0)[0].name, "id", "what is open goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_source_keeps_its_last_list() {
        let source = FakeSource::with("r", vec![taken("aa", "h")]);
        let bed = Bed::new(&[&source]);
        let before = ["/", "h@+", "current", "at"].map(|path| bed.entries(path));
        source.put(vec![]);
        source.down(down());
        for _ in 0..1000 {
            bed.ns.refresh().await;
            assert_eq!(["/", "h@+", "current", "at"].map(|path| bed.entries(path)), before);
        }
        assert!(bed.told().is_empty());
        source.down(None);
        bed.ns.refresh().await;
        assert_eq!(bed.ls("/"), ["current", "at"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_source_delays_no_other_and_is_asked_once() {
        let (stalled, other) = (FakeSource::with("a", vec![taken("aa", "h")]), FakeSource::new("b"));
        let bed = Bed::new(&[&stalled, &other]);
        stalled.stall(true);
        stalled.put(vec![]);
        let ns = bed.ns.clone();
        let stuck = tokio::spawn(async move { ns.refresh().await });
        settle().await;
        other.put(vec![taken("bb", "i")]);
        tokio::time::timeout(MINUTE, bed.ns.refresh()).await.expect("does not wait for the stalled one");
        assert_eq!(bed.ls("/"), ["current", "at", "h@+", "i@+"]);
        stalled.stall(false);
        stuck.await.unwrap();
        assert_eq!(bed.ls("/"), ["current", "at", "i@+"]);
    }

    #[tokio::test(start_paused = true)]
    async fn news_are_shown_while_another_source_of_the_same_round_still_thinks() {
        let (stalled, other) = (FakeSource::new("a"), FakeSource::new("b"));
        let bed = Bed::new(&[&stalled, &other]);
        stalled.stall(true);
        other.put(vec![taken("bb", "i")]);
        let round = bed.ns.refresh();
        assert!(tokio::time::timeout(MINUTE, round).await.is_err(), "the round itself waits");
        assert!(bed.has("i@+"));
        stalled.stall(false);
        stalled.put(vec![taken("aa", "h")]);
        settle().await;
        bed.ns.refresh().await;
        assert!(bed.has("h@+"), "an abandoned round gives back the right to ask");
    }

    #[tokio::test(start_paused = true)]
    async fn news_of_an_abandoned_round_are_not_lost() {
        let (stalled, other) = (FakeSource::new("a"), FakeSource::new("b"));
        let bed = Bed::new(&[&stalled, &other]);
        stalled.stall(true);
        other.put(vec![taken("bb", "i")]);
        let before_it_settles = tokio::time::timeout(SETTLE / 2, bed.ns.refresh()).await;
        assert!(before_it_settles.is_err() && !bed.has("i@+"));
        stalled.stall(false);
        settle().await;
        bed.ns.refresh().await;
        assert!(bed.has("i@+"));
    }

    #[tokio::test(start_paused = true)]
    async fn sources_are_asked_every_refresh() {
        let source = FakeSource::new("r");
        let options = Options { refresh: MINUTE, ..Options::default() };
        let bed = Bed::with(vec![member(&source)], options, "UTC");
        let task = bed.ns.spawn_refresh();
        settle().await;
        source.put(vec![taken("aa", "h")]);
        tokio::time::sleep(MINUTE - Duration::from_secs(1)).await;
        assert!(!bed.has("h@+"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(bed.has("h@+"));
        source.stall(true);
        tokio::time::sleep(MINUTE).await;
        source.put(vec![]);
        source.stall(false);
        tokio::time::sleep(MINUTE).await;
        assert!(!bed.has("h@+"), "goes on after a stall");
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_kept_is_renewed_when_it_is_as_old_as_it_may_become() {
        let ages = [("new", 0), ("kept", 20), ("old", 60), ("future", -5)];
        let sources = ages.map(|(name, age)| {
            let source = FakeSource::new(name);
            source.listed_at(fake::LISTED.checked_add_signed(-age).unwrap());
            source
        });
        let options = Options { refresh: MINUTE, ..Options::default() };
        let bed = Bed::with(sources.iter().map(member).collect(), options, "UTC");
        let asked = || [0, 1, 2, 3].map(|n: usize| sources[n].refreshes());
        let task = bed.ns.spawn_refresh();
        settle().await;
        assert_eq!(asked(), [0, 0, 1, 1], "what is old is renewed at once");
        tokio::time::sleep(Duration::from_secs(39)).await;
        assert_eq!(asked(), [0, 0, 1, 1]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(asked(), [0, 1, 1, 1]);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(asked(), [1, 1, 2, 2]);
        bed.ns.refresh().await;
        assert_eq!(asked(), [2, 2, 3, 3], "whoever asks for news gets them, whatever their age");
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_looks_once_sees_nothing_that_is_older_than_it_may_be() {
        let (old, new) = (FakeSource::new("old"), FakeSource::new("new"));
        let bed = Bed::with(
            vec![member(&old), member(&new)],
            Options { refresh: MINUTE, ..Options::default() },
            "UTC",
        );
        old.listed_at(fake::LISTED - 61);
        new.listed_at(fake::LISTED - 59);
        old.put(vec![taken("aa", "h")]);
        assert!(bed.ns.refresh_old().await);
        assert_eq!((old.refreshes(), new.refreshes()), (1, 0));
        assert_eq!(bed.ls("/"), ["current", "at", "h@+"]);
        new.down(down());
        assert!(bed.ns.refresh_old().await, "it is new enough");
        old.down(down());
        assert!(!bed.ns.refresh_old().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_is_opened_late_shows_what_was_kept_whatever_becomes_of_listing_anew() {
        let troubles: [fake::Trouble; 2] = [|late| late.stall(true), |late| late.down(down())];
        for trouble in troubles {
            let (late, slow) = (FakeSource::new("late").unlisted(), FakeSource::new("slow"));
            late.listed_at(fake::LISTED - 100);
            late.put(vec![taken("aa", "h")]);
            late.before_refresh(2, trouble);
            // Neither is whoever shows it waited for.
            slow.stall(true);
            let bed = Bed::new(&[&late, &slow]);
            let ns = bed.ns.clone();
            let task = tokio::spawn(async move { ns.refresh().await });
            while late.refreshes() < 2 {
                settle().await;
            }
            settle().await;
            assert!(bed.has("h@+"));
            task.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_is_opened_late_with_what_was_kept_is_renewed_where_that_is_old() {
        let sources = [0, 100].map(|age| {
            let source = FakeSource::new("late").unlisted();
            source.listed_at(fake::LISTED - age);
            source
        });
        let bed = Bed::new(&[&sources[0], &sources[1]]);
        bed.ns.refresh().await;
        assert_eq!(sources.map(|source| source.refreshes()), [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn refreshing_ends_with_the_namespace() {
        let bed = Bed::new(&[]);
        let task = bed.ns.spawn_refresh();
        drop(bed);
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_at_something_old_refreshes_behind_the_answer() {
        let source = FakeSource::with("r", vec![taken("aa", "h")]);
        let bed = Bed::with(vec![member(&source)], Options { refresh: MINUTE, ..Options::default() }, "UTC");
        let task = bed.ns.spawn_refresh();
        source.put(vec![taken("aa", "h"), taken("bb", "h").at("2026-03-02T00:00:00Z")]);
        assert_eq!(bed.ls("h@+").len(), 2);
        settle().await;
        assert_eq!(bed.ls("h@+").len(), 2, "not old yet");
        bed.clock.pass(MINUTE);
        assert_eq!(bed.ls("h@+").len(), 2, "the answer does not wait");
        settle().await;
        assert_eq!(bed.ls("h@+").len(), 3);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_told_sees_the_new_tree_already() {
        let source = FakeSource::new("r");
        let bed = Bed::new(&[&source]);
        let ns = bed.ns.clone();
        let (told, seen) = std::sync::mpsc::channel();
        bed.ns.on_change(Box::new(move |_: Change| {
            told.send(ns.state.load().set(b"h@+").is_some()).unwrap();
        }));
        source.put(vec![taken("aa", "h")]);
        bed.ns.refresh().await;
        assert!(bed.told().is_empty(), "a sink replaces the one before");
        let seen: Vec<bool> = seen.try_iter().collect();
        assert!(!seen.is_empty() && seen.iter().all(|there| *there), "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_lists_for_the_first_time_shows_up() {
        let (late, other) =
            (FakeSource::new("late").unlisted(), FakeSource::with("b", vec![taken("bb", "i")]));
        let bed = Bed::new(&[&late, &other]);
        assert_eq!(bed.ls("/"), ["current", "at", "i@+"], "one without a listing does not fail the root");
        late.put(vec![taken("aa", "h")]);
        bed.ns.refresh().await;
        assert_eq!(bed.ls("/"), ["current", "at", "i@+", "h@+"]);
    }

    fn to_at(from: &str) -> Options {
        Options { rename: vec![Rename { from: from.into(), to: "at".into() }], ..Options::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rename_rule_that_goes_wrong_later_loses_nothing() {
        let source = FakeSource::with("r", vec![taken("aa", "h")]);
        let bed = Bed::with(vec![member(&source)], to_at("^i@.*"), "UTC");
        source.put(vec![taken("aa", "h"), taken("bb", "i")]);
        bed.ns.refresh().await;
        assert_eq!(bed.ls("/"), ["current", "at", "h@+", "i@+"]);
    }

    #[test]
    fn a_rename_rule_that_is_wrong_from_the_beginning_is_an_error() {
        let source = FakeSource::with("r", vec![taken("aa", "i")]);
        let error = Namespace::new(vec![member(&source)], Vec::new(), to_at("^i@.*")).err().unwrap();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains("rename \"^i@.*\" to \"at\""), "{error}");
    }

    #[test]
    fn answers_about_what_changes_are_kept_as_long_as_a_refresh_takes_to_come() {
        let bed = Bed::new(&[&FakeSource::with("r", vec![taken("aa", "h")])]);
        for path in
            ["/", "h@+", "h@+/latest", "current", "current/h@+", "at", "at/2026-03-01", "at/2026-03-01/h@+"]
        {
            assert_eq!(bed.at(path).meta.validity, Validity::For(MINUTE), "{path}");
        }
        for path in ["at/today", "at/yesterday", "at/today/h@+"] {
            assert_eq!(bed.at(path).meta.validity, Validity::For(Duration::from_secs(1)), "{path}");
        }
        assert_eq!(bed.at("h@+/20260301_030000").meta.validity, Validity::Forever);
    }
}
