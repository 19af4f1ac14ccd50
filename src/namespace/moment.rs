//! Moments between the listed dates, of sources that can show any.

use std::collections::HashMap;
use std::sync::Arc;

use super::calendar::Calendar;
use super::date::Candidate;
use super::place::Placed;
use super::seat::Seat;
use super::state::{Date, Set, State, at};
use super::view::View;
use super::{Access, Namespace};
use crate::tree::{Ancestor, Snapshot, Time};

/// What a set was at a moment that is not listed.
pub(super) struct Moment {
    pub placed: Placed,
    snapshot: Snapshot,
    seat: Arc<Seat>,
}

/// What sets were at one moment, by name; only those of sources that can tell.
pub(super) type Moments = HashMap<Arc<[u8]>, Moment>;

/// What a set shows in a place.
pub(super) enum Shown<'a> {
    Date(&'a Date),
    Moment(&'a Moment),
}

impl Moment {
    pub(super) fn candidate(&self) -> Candidate {
        let member = &self.seat.member;
        Candidate {
            source: member.source.clone(),
            snapshot: self.snapshot.clone(),
            path: at(self.placed.path),
            access: member.access.map(|Access { uid, gid, perm }| Ancestor { uid, gid, perm }),
        }
    }
}

impl Namespace {
    /// What the sources that can tell held at `until`, which may be another for each.
    fn held(&self, until: impl Fn(&Seat) -> Option<Time>) -> Moments {
        let mut moments = Moments::new();
        for (_, seat) in self.seated() {
            let Some(snapshot) = until(&seat).and_then(|until| seat.member.source.at(until)) else {
                continue;
            };
            for placed in self.place(&seat, std::slice::from_ref(&snapshot)).placed {
                let is_newest =
                    moments.get(&placed.set).is_none_or(|other| other.placed.instant < placed.instant);
                if is_newest {
                    let (seat, snapshot) = (Arc::clone(&seat), snapshot.clone());
                    moments.insert(placed.set.clone(), Moment { placed, snapshot, seat });
                }
            }
        }
        moments
    }

    /// What a name that no date has means in a set: a moment of the past, as names tell it.
    pub(super) fn named_moment(&self, set: &Set, name: &[u8]) -> Option<Moment> {
        // Most names are none, and sources are many.
        Calendar::is_written(name).then_some(())?;
        let now = self.clock.now();
        let until =
            |seat: &Seat| self.calendar.written(name, seat.placer.zone()).filter(|until| *until <= now);
        self.held(until).remove(&set.name)
    }
}

impl View {
    /// The moments that may be shown here beside the dates.
    pub(super) fn moments(&self, ns: &Namespace) -> Moments {
        self.until(ns).map_or_else(Moments::new, |until| ns.held(|_| Some(until)))
    }

    /// What a set shows here: the newest date by then, or what a source tells of a later moment.
    pub(super) fn shown<'a>(
        &self,
        ns: &Namespace,
        state: &State,
        set: &'a Set,
        moments: &'a Moments,
    ) -> Option<Shown<'a>> {
        let date = self.choose(ns, state, set);
        let later = |moment: &&Moment| date.is_none_or(|date| date.instant < moment.placed.instant);
        let is_named = date.is_some_and(|date| self.names(state, set, date));
        match moments.get(&set.name).filter(later).filter(|_| !is_named) {
            Some(moment) => Some(Shown::Moment(moment)),
            None => date.map(Shown::Date),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::namespace::fake::{self, Describe, FakeSource};
    use crate::namespace::testbed::{Bed, list};
    use crate::tree::{Identity, Snapshot, Validity};

    const SET: &str = "h@+";

    fn taken(short: &str, time: &str) -> Snapshot {
        fake::snapshot(short).host("h").paths(&["/"]).at(time)
    }

    /// A bed of a source that lists two days, and remembers what was between them.
    fn bed() -> Bed {
        let listed = vec![taken("bb", "2026-03-01T10:00:00Z"), taken("dd", "2026-03-02T10:00:00Z")];
        let source = FakeSource::with("bucket", listed);
        source.remember(vec![taken("aa", "2026-03-01T08:00:00Z"), taken("cc", "2026-03-02T08:00:00Z")]);
        Bed::new(&[&source])
    }

    #[test]
    fn at_shows_what_was_there_at_that_moment_and_not_only_what_is_listed() {
        let bed = bed();
        for (when, short) in [
            ("2026-03-01T09:00Z", "aa"),
            ("2026-03-01T11:00Z", "bb"),
            ("2026-03-01", "bb"),
            ("20260302_080000", "cc"),
            ("2026-03-02T09:59Z", "cc"),
            ("today", "dd"),
        ] {
            let path = format!("at/{when}");
            assert_eq!(bed.id(&format!("{path}/{SET}")), short.repeat(32), "{when}");
            assert_eq!(bed.ls(&path), [SET], "{when}: listed too");
            let listed = list(&bed.at(&path), 0)[0].identity;
            assert_eq!(listed, bed.at(&format!("{path}/{SET}")).meta.identity, "{when}");
        }
        assert!(!bed.has(&format!("at/2026-03-01T07:59Z/{SET}")), "nothing is that old");
        assert!(bed.ls("at/2026-03-01T07:59Z").is_empty());
        assert_eq!(bed.ls("at"), ["2026-03-01", "2026-03-02"]);
    }

    #[test]
    fn a_snapshot_s_own_name_means_that_snapshot() {
        let bed = bed();
        assert_eq!(bed.id(&format!("at/20260301_100000/{SET}")), "bb".repeat(32));
    }

    #[test]
    fn any_moment_can_be_looked_up_in_its_set_and_is_not_listed() {
        let bed = bed();
        for (name, short) in [("20260301_080000", "aa"), ("20260301_235959", "bb"), ("20260302_090000", "cc")]
        {
            let path = format!("{SET}/{name}");
            assert_eq!(bed.id(&path), short.repeat(32), "{name}");
            let meta = bed.at(&path).meta;
            assert!(matches!(meta.identity, Identity::Key(_)));
            assert_eq!(meta.validity, Validity::For(Duration::from_secs(60)));
        }
        assert_ne!(bed.at("h@+/20260301_080000").meta.identity, bed.at("h@+/20260301_080001").meta.identity);
        assert_eq!(bed.ls(SET), ["latest", "20260301_100000", "20260302_100000"]);
        for none in ["20260301_075959", "20270101_000000", "20261301_000000", "yesterday", "2026-03-01"] {
            assert!(!bed.has(&format!("{SET}/{none}")), "{none}");
        }
    }

    #[test]
    fn a_newer_date_of_another_source_counts_for_more_than_an_older_moment() {
        let bucket = FakeSource::with("bucket", vec![taken("bb", "2026-03-01T10:00:00Z")]);
        bucket.remember(vec![taken("aa", "2026-03-01T08:00:00Z")]);
        let other = FakeSource::with("other", vec![taken("ee", "2026-03-01T09:00:00Z")]);
        let bed = Bed::new(&[&bucket, &other]);
        assert_eq!(bed.id(&format!("at/2026-03-01T09:30Z/{SET}")), "ee".repeat(32));
        assert_eq!(bed.id(&format!("at/2026-03-01T08:30Z/{SET}")), "aa".repeat(32));
    }

    #[test]
    fn in_a_shared_mount_a_moment_keeps_out_whom_it_must_itself() {
        let source = FakeSource::with("bucket", vec![taken("bb", "2026-03-01T10:00:00Z")]);
        let old = taken("aa", "2026-03-01T08:00:00Z");
        source.remember(vec![old.clone()]);
        let node = fake::dir(fake::owned(1000, 50, 0o755), vec![]);
        source.tree(&old, 0, Ok(fake::opened("", node, fake::recorded(&[(1000, 1000, 0o700)]))));
        let bed = Bed::shared(&[&source]);
        let meta = bed.at(&format!("{SET}/20260301_080000")).meta;
        assert_eq!((meta.uid, meta.gid, meta.perm), (1000, 1000, 0o700));
    }
}
