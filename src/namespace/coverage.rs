//! How old the newest snapshot of each set is, and which sets are late.

use std::time::Duration;

use serde_json::{Value, json};

use super::state::{Set, State, at};
use super::{EXPECT_EVERY, Namespace, calendar};
use crate::tree::{SnapshotTime, Time};

/// The newest snapshot of a set.
pub(super) struct Age {
    pub set: String,
    pub newest: Time,
    /// Whole seconds; none where it was taken by a clock that is ahead of this one.
    pub seconds: u64,
    pub expected: Duration,
}

impl Age {
    /// Whether it is older than was expected.
    pub(super) fn is_late(&self) -> bool {
        self.seconds > self.expected.as_secs()
    }

    fn json(&self) -> Value {
        json!({
            "set": self.set,
            "newest": written(self.newest),
            "age_seconds": self.seconds,
            "expected_seconds": self.expected.as_secs(),
            "late": self.is_late(),
        })
    }
}

/// How many sets there are and how many of them are not late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coverage {
    pub sets: usize,
    pub fresh: usize,
}

impl Coverage {
    pub(super) fn of(ages: &[Age]) -> Self {
        Coverage { sets: ages.len(), fresh: ages.iter().filter(|age| !age.is_late()).count() }
    }

    /// The share that is not late, in percent; all of nothing.
    #[allow(clippy::cast_precision_loss, reason = "no machine has so many sets")]
    pub(super) fn percent(self) -> f64 {
        match self.sets {
            0 => 100.0,
            sets => (self.fresh as f64 * 1000.0 / sets as f64).floor() / 10.0,
        }
    }

    pub(super) fn json(self) -> Value {
        json!({ "sets": self.sets, "fresh": self.fresh, "percent": self.percent() })
    }
}

impl Namespace {
    /// The ages of all sets of this tree, the oldest first.
    pub(super) fn ages(&self, state: &State) -> Vec<Age> {
        let now = self.clock.now();
        let mut ages: Vec<Age> = state.sets.iter().filter_map(|set| self.age_of(set, now)).collect();
        ages.sort_by(|one, other| (one.newest, &one.set).cmp(&(other.newest, &other.set)));
        ages
    }

    fn age_of(&self, set: &Set, now: Time) -> Option<Age> {
        let date = set.newest()?;
        let seat = date.copies.first().and_then(|copy| self.seat(at(copy.member)));
        Some(Age {
            set: String::from_utf8_lossy(&set.name).into_owned(),
            newest: date.instant,
            seconds: seconds_between(date.instant, now),
            expected: seat.map_or(EXPECT_EVERY, |seat| seat.member.expect_every),
        })
    }

    /// When the newest snapshot of this tree was taken.
    pub(super) fn newest(&self) -> Option<Time> {
        self.state.load().sets.iter().filter_map(Set::newest).map(|date| date.instant).max()
    }
}

/// The ages as `status.json` has them.
pub(super) fn json_of(ages: &[Age]) -> Vec<Value> {
    ages.iter().map(Age::json).collect()
}

/// Whole seconds from one moment to a later one, else none.
pub(super) fn seconds_between(one: Time, other: Time) -> u64 {
    u64::try_from(other.secs.saturating_sub(one.secs)).unwrap_or(0)
}

/// A moment as text, in UTC and whole seconds.
pub(super) fn written(at: Time) -> String {
    calendar::rfc3339(&SnapshotTime { instant: Time { nanos: 0, ..at }, offset: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::Options;
    use crate::namespace::fake::{self, Describe, FakeSource};
    use crate::namespace::testbed::{Bed, member};

    // The clock of a bed starts at 2026-03-10T12:00:00Z.
    fn bed() -> Bed {
        let daily = vec![
            fake::snapshot("aa").host("fresh").at("2026-03-10T03:00:00Z"),
            fake::snapshot("ab").host("fresh").at("2026-02-01T03:00:00Z"),
            fake::snapshot("bb").host("late").at("2026-03-09T11:59:59Z"),
            fake::snapshot("cc").host("ahead").at("2027-01-01T00:00:00Z"),
        ];
        let weekly =
            FakeSource::with("w", vec![fake::snapshot("dd").host("weekly").at("2026-03-04T00:00:00Z")]);
        let weekly =
            crate::namespace::Member { expect_every: Duration::from_secs(7 * 86_400), ..member(&weekly) };
        Bed::with(vec![member(&FakeSource::with("d", daily)), weekly], Options::default(), "UTC")
    }

    #[test]
    fn the_newest_snapshot_of_a_set_tells_whether_it_is_late_by_what_is_expected_of_its_source() {
        let bed = bed();
        let ages = bed.ns.ages(&bed.ns.state.load());
        let brief: Vec<_> = ages.iter().map(|age| (&*age.set, age.seconds, age.is_late())).collect();
        assert_eq!(
            brief,
            [
                ("weekly@+", 6 * 86_400 + 43_200, false),
                ("late@+", 86_401, true),
                ("fresh@+", 9 * 3600, false),
                ("ahead@+", 0, false)
            ]
        );
        assert_eq!(Coverage::of(&ages), Coverage { sets: 4, fresh: 3 });
        assert_eq!(ages[1].json()["newest"], "2026-03-09T11:59:59Z");
    }

    #[test]
    fn what_was_fresh_becomes_late() {
        let bed = bed();
        bed.clock.pass(Duration::from_secs(86_400));
        let ages = bed.ns.ages(&bed.ns.state.load());
        assert_eq!(Coverage::of(&ages).fresh, 1, "a clock that is ahead is no reason to worry");
    }

    #[test]
    fn shares_are_never_rounded_up() {
        assert_eq!(Coverage { sets: 3, fresh: 2 }.percent(), 66.6);
        assert_eq!(Coverage { sets: 10_000, fresh: 9_999 }.percent(), 99.9);
        assert_eq!(Coverage { sets: 0, fresh: 0 }.percent(), 100.0);
    }
}
