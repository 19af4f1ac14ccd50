//! The moments of a bucket that are shown as snapshots.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::History;
use super::table::Table;
use crate::source::chunked::Id;
use crate::tree::{Given, Snapshot, SnapshotId, SnapshotTime, Time};

/// What the snapshots of a bucket have in common.
pub(super) struct Maker {
    pub identity: String,
    pub host: Arc<str>,
    pub paths: Arc<[Arc<[u8]>]>,
    pub zone: TimeZone,
    pub history: History,
}

/// Milliseconds since 1970 as a time.
pub(super) fn time(millis: i64) -> Time {
    let nanos = u32::try_from(millis.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    Time { secs: millis.div_euclid(1000), nanos }
}

/// The last millisecond not later than `time`.
pub(super) fn millis(time: Time) -> i64 {
    time.secs.saturating_mul(1000).saturating_add(i64::from(time.nanos / 1_000_000))
}

impl Maker {
    /// The snapshots to list. Of a bucket without versions, or when no history is wanted, there is one: that of now.
    pub(super) fn list(&self, table: &Table) -> Arc<[Snapshot]> {
        let mut moments: Vec<i64> = Vec::new();
        let mut span = None;
        for change in table.changes.iter().copied() {
            let spanned = self.span(change);
            if span.replace(spanned) == Some(spanned) && spanned.is_some() {
                moments.pop();
            }
            moments.push(change);
        }
        if self.history == History::Off {
            moments = table.changes.last().copied().into_iter().collect();
        }
        moments.into_iter().map(|moment| self.snapshot(table, moment)).collect()
    }

    /// The day or hour that a moment lies in; nothing where each counts by itself.
    fn span(&self, moment: i64) -> Option<DateTime> {
        let at = Timestamp::from_millisecond(moment).ok()?.to_zoned(self.zone.clone()).datetime();
        match self.history {
            History::Days => Some(at.date().at(0, 0, 0, 0)),
            History::Hours => Some(at.date().at(at.hour(), 0, 0, 0)),
            History::Changes | History::Off => None,
        }
    }

    /// The bucket as it was at `moment`, when something changed.
    pub(super) fn snapshot(&self, table: &Table, moment: i64) -> Snapshot {
        let id = self.id(table, moment);
        let content = Id::of(&[self.identity.as_bytes(), id.as_bytes()]).to_string();
        Snapshot {
            id,
            original: None,
            time: SnapshotTime { instant: time(moment), offset: None },
            host: Some(Arc::clone(&self.host)),
            user: None,
            tags: Arc::default(),
            paths: Arc::clone(&self.paths),
            content: content.into(),
            given: Given::default(),
        }
    }

    /// `t` and the moment: what a past moment holds does not change. What there is now does, so that is told apart by
    /// content.
    fn id(&self, table: &Table, moment: i64) -> SnapshotId {
        match self.history {
            History::Off => format!("n{moment}-{:032x}", table.digest).into(),
            _ => format!("t{moment}").into(),
        }
    }

    /// What a snapshot shows of `table`: a moment, or all there is now; nothing when it is none of this bucket's, or was
    /// of what there is no more.
    pub(super) fn moment(&self, table: &Table, id: &SnapshotId) -> Option<Option<i64>> {
        if self.history == History::Off {
            let now = *table.changes.last()?;
            return (self.id(table, now) == *id).then_some(None);
        }
        let moment = id.strip_prefix('t')?.parse().ok()?;
        table.changed_by(moment).is_some().then_some(Some(moment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn maker(history: History, zone: TimeZone) -> Maker {
        let paths = Arc::from([Arc::from(&b"/p"[..])]);
        Maker { identity: "b/p".into(), host: "b".into(), paths, zone, history }
    }

    fn table(hours: &[i64]) -> Table {
        Table::new(Vec::new(), hours.iter().map(|hour| hour * HOUR).collect(), 0, 0)
    }

    fn listed(history: History, zone: TimeZone, hours: &[i64]) -> Vec<i64> {
        let list = maker(history, zone).list(&table(hours));
        list.iter().map(|snapshot| snapshot.time.instant.secs / 3600).collect()
    }

    #[test]
    fn the_last_change_of_a_span_is_listed() {
        let utc = || TimeZone::UTC;
        assert_eq!(listed(History::Days, utc(), &[1, 5, 23, 24, 100, 101]), [23, 24, 101]);
        let east = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(listed(History::Days, east, &[1, 5, 21, 22, 23, 24]), [21, 24]);
        let half = Table::new(Vec::new(), vec![1, HOUR / 2, HOUR], 0, 0);
        assert_eq!(maker(History::Hours, utc()).list(&half).len(), 2);
        assert_eq!(listed(History::Changes, utc(), &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(listed(History::Off, utc(), &[1, 2, 3]), [3]);
        assert!(listed(History::Days, utc(), &[]).is_empty());
    }

    #[test]
    fn any_moment_of_the_past_can_be_opened_and_only_those() {
        let (table, maker) = (table(&[10, 20]), maker(History::Days, TimeZone::UTC));
        for (id, shows) in [
            (format!("t{}", 10 * HOUR), Some(Some(10 * HOUR))),
            (format!("t{}", 15 * HOUR), Some(Some(15 * HOUR))),
            ("t5".into(), None),
            ("x".into(), None),
            ("t".into(), None),
        ] {
            assert_eq!(maker.moment(&table, &id.as_str().into()), shows, "{id}");
        }
    }

    #[test]
    fn what_there_is_now_is_gone_when_it_changed() {
        let maker = maker(History::Off, TimeZone::UTC);
        let (before, after) = (table(&[10]), Table { digest: 1, ..table(&[10]) });
        let id = maker.list(&before)[0].id.clone();
        assert_eq!(maker.moment(&before, &id), Some(None));
        assert_eq!(maker.moment(&after, &id), None);
    }

    #[test]
    fn times_are_milliseconds_before_1970_too() {
        for at in [0, 1, 999, 1000, -1, -999, -1000, -1001, 1_772_505_821_123] {
            assert_eq!(millis(time(at)), at);
        }
        assert_eq!(time(-1), Time { secs: -1, nanos: 999_000_000 });
        assert_eq!(millis(Time { secs: i64::MAX, nanos: 0 }), i64::MAX);
    }
}
