//! Instants as people write them: names of snapshots, days, the words that `at/` understands.
//!
//! Repositories may record any instant; the calendar ends at the years ±9999, and what lies beyond is named like the
//! last moment within.

use jiff::civil::{Date, DateTime};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::name::shows;
use super::options::TimeStyle;
use crate::error::{Error, Kind, Result};
use crate::tree::{SnapshotTime, Time};

/// The name of the symlink to a set's newest snapshot: no snapshot may have it.
pub(super) const LATEST: &str = "latest";

const PLAIN: &str = "%Y%m%d_%H%M%S";
const DAY: i64 = 86_400;
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
// A name needs room for `-<8 of its id>`.
const LONGEST: usize = 240;

/// How instants are written in this mount.
pub(super) struct Calendar {
    style: TimeStyle,
    format: String,
    local: TimeZone,
    /// The zone in which `at/` counts days.
    days: TimeZone,
}

/// A moment as a name below `at/` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// So many days before today.
    DaysAgo(i32),
    /// The last moment of a day, counted from 1970-01-01.
    Day(i32),
    /// Not later than this.
    Until(Time),
}

impl Calendar {
    /// A calendar whose "here" is `local`. Errors: `Usage` when the format is none, or does not yield names.
    pub(super) fn new(style: TimeStyle, format: &str, local: TimeZone) -> Result<Self> {
        let days = if style == TimeStyle::Utc { TimeZone::UTC } else { local.clone() };
        let calendar = Calendar { style, format: format.to_owned(), local, days };
        let refuse = |why: String| Err(Error::new(Kind::Usage, format!("time-format {format:?}: {why}")));
        for secs in [0, 1_772_323_200, -62_167_219_200, 253_402_300_799, i64::MIN, i64::MAX] {
            let time = SnapshotTime { instant: Time { secs, nanos: 0 }, offset: Some(0) };
            match calendar.broken_down(&time, None).to_string(format) {
                Err(error) => return refuse(error.to_string()),
                Ok(name) if !is_name(&name) => return refuse(format!("{name:?} is no name for a snapshot")),
                Ok(_) => {}
            }
        }
        Ok(calendar)
    }

    /// The plain name of a snapshot; `zone` serves one that recorded no offset.
    pub(super) fn name(&self, time: &SnapshotTime, zone: Option<&TimeZone>) -> String {
        let parts = self.broken_down(time, zone);
        match parts.to_string(&self.format) {
            Ok(name) if is_name(&name) => name,
            _ => parts.to_string(PLAIN).unwrap_or_else(|_| time.instant.secs.to_string()),
        }
    }

    fn broken_down(&self, time: &SnapshotTime, zone: Option<&TimeZone>) -> BrokenDownTime {
        let recorded = time.offset.and_then(|secs| Offset::from_seconds(secs).ok());
        let zone = match (self.style, recorded) {
            (TimeStyle::Utc, _) => TimeZone::UTC,
            (TimeStyle::Local, _) => self.local.clone(),
            (TimeStyle::Recorded, Some(offset)) => TimeZone::fixed(offset),
            (TimeStyle::Recorded, None) => zone.unwrap_or(&self.local).clone(),
        };
        match timestamp(time.instant) {
            Some(at) => BrokenDownTime::from(&at.to_zoned(zone)),
            None => {
                let offset = zone.to_offset(clamped(time.instant));
                let mut parts = BrokenDownTime::from(civil(time.instant, offset));
                parts.set_offset(Some(offset));
                parts
            }
        }
    }

    /// Whether a name could be a snapshot's, in the usual form.
    pub(super) fn is_written(name: &[u8]) -> bool {
        std::str::from_utf8(name).ok().and_then(compact).is_some()
    }

    /// The last moment of the second that such a name tells; `zone` is that of snapshots that recorded no offset.
    pub(super) fn written(&self, name: &[u8], zone: Option<&TimeZone>) -> Option<Time> {
        let at = std::str::from_utf8(name).ok().and_then(compact)?;
        let zone = match self.style {
            TimeStyle::Utc => &TimeZone::UTC,
            TimeStyle::Local => &self.local,
            TimeStyle::Recorded => zone.unwrap_or(&self.local),
        };
        let found = zone.to_ambiguous_timestamp(at).compatible().ok()?;
        Some(Time { secs: found.as_second(), nanos: 999_999_999 })
    }

    /// The day of `instant` in the mount's zone, counted from 1970-01-01.
    pub(super) fn day(&self, instant: Time) -> i32 {
        let offset = self.days.to_offset(clamped(instant));
        day_number(civil(instant, offset).date())
    }

    /// The last moment of a day in the mount's zone.
    pub(super) fn end_of(&self, day: i32) -> Time {
        let next = date_of(day).and_then(|date| date.tomorrow().ok());
        let midnight = next.and_then(|date| self.instant(date.at(0, 0, 0, 0)));
        let midnight = midnight.unwrap_or(Time { secs: i64::MAX, nanos: 0 });
        Time { secs: midnight.secs.saturating_sub(1), nanos: 999_999_999 }
    }

    fn instant(&self, at: DateTime) -> Option<Time> {
        let found = self.days.to_ambiguous_timestamp(at).compatible().ok()?;
        Some(Time { secs: found.as_second(), nanos: 0 })
    }

    /// What `word` means, or `None` when it is no moment: `today`, `yesterday`, `2026-03-01`, `20260301_120000`,
    /// `2026-03-01T12:00` with or without seconds and zone.
    pub(super) fn word(&self, word: &[u8]) -> Option<Word> {
        match word {
            b"today" => return Some(Word::DaysAgo(0)),
            b"yesterday" => return Some(Word::DaysAgo(1)),
            _ => {}
        }
        let text = std::str::from_utf8(word).ok()?;
        if let Some(date) = dashed(text) {
            return Some(Word::Day(day_number(date)));
        }
        let until = match text.split_once('T') {
            Some((date, rest)) => self.iso(dashed(date)?, rest)?,
            None => self.instant(compact(text)?)?,
        };
        // A name has no fractions: the whole second counts.
        Some(Word::Until(Time { nanos: 999_999_999, ..until }))
    }

    fn iso(&self, date: Date, rest: &str) -> Option<Time> {
        let zone_at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
        let (clock, zone) = rest.split_at_checked(zone_at)?;
        let at = match clock.as_bytes() {
            [_, _, b':', _, _] => at_clock(date, clock.get(..2)?, clock.get(3..)?, "00")?,
            [_, _, b':', _, _, b':', _, _] => {
                at_clock(date, clock.get(..2)?, clock.get(3..5)?, clock.get(6..)?)?
            }
            _ => return None,
        };
        if zone.is_empty() {
            return self.instant(at);
        }
        let found = fixed(zone)?.to_timestamp(at).ok()?;
        Some(Time { secs: found.as_second(), nanos: 0 })
    }

    /// The last moment that a word means, now being `now`.
    pub(super) fn until(&self, word: Word, now: Time) -> Time {
        match word {
            Word::DaysAgo(days) => self.end_of(self.day(now).saturating_sub(days)),
            Word::Day(day) => self.end_of(day),
            Word::Until(time) => time,
        }
    }
}

/// A time zone as the configuration names it: `Europe/Berlin`, `+01:00`, `UTC`. Errors: `Usage`.
pub fn zone(name: &str) -> Result<TimeZone> {
    if let Some(offset) = fixed(name) {
        return Ok(TimeZone::fixed(offset));
    }
    TimeZone::get(name).map_err(|e| Error::caused_by(Kind::Usage, format!("time zone {name:?}"), e))
}

/// `2026-03-01`, the day that a day number means; `None` for years that are not written with four digits.
pub(super) fn day_name(day: i32) -> Option<String> {
    let date = date_of(day)?;
    (date.year() >= 0).then(|| format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()))
}

/// RFC 3339 in the recorded offset, with as many digits of the second as it needs.
pub(super) fn rfc3339(time: &SnapshotTime) -> String {
    let offset = time.offset.and_then(|secs| Offset::from_seconds(secs).ok()).unwrap_or(Offset::UTC);
    let local = civil(time.instant, offset);
    if offset.is_zero() {
        return format!("{local}Z");
    }
    let (sign, minutes) = (if offset.is_negative() { '-' } else { '+' }, offset.seconds().abs() / 60);
    format!("{local}{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

/// Whether a snapshot can be called so.
pub(super) fn is_name(name: &str) -> bool {
    shows(name.as_bytes()) && name.len() <= LONGEST && name != LATEST && !name.contains(char::is_control)
}

fn timestamp(at: Time) -> Option<Timestamp> {
    Timestamp::new(at.secs, i32::try_from(at.nanos).ok()?).ok()
}

fn clamped(at: Time) -> Timestamp {
    timestamp(at).unwrap_or(if at.secs < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

fn civil(at: Time, offset: Offset) -> DateTime {
    let since = SignedDuration::new(
        at.secs.saturating_add(i64::from(offset.seconds())),
        i32::try_from(at.nanos).unwrap_or(0),
    );
    let end = if at.secs < 0 { DateTime::MIN } else { DateTime::MAX };
    EPOCH.checked_add(since).unwrap_or(end)
}

fn day_number(date: Date) -> i32 {
    let since = date.at(0, 0, 0, 0).duration_since(EPOCH).as_secs();
    i32::try_from(since.div_euclid(DAY)).unwrap_or(i32::MAX)
}

fn date_of(day: i32) -> Option<Date> {
    let since = SignedDuration::from_secs(i64::from(day) * DAY);
    EPOCH.checked_add(since).ok().map(DateTime::date)
}

fn dashed(text: &str) -> Option<Date> {
    match text.as_bytes() {
        [_, _, _, _, b'-', _, _, b'-', _, _] => date(text.get(..4)?, text.get(5..7)?, text.get(8..)?),
        _ => None,
    }
}

fn compact(text: &str) -> Option<DateTime> {
    if text.len() != 15 || text.as_bytes().get(8) != Some(&b'_') {
        return None;
    }
    let day = date(text.get(..4)?, text.get(4..6)?, text.get(6..8)?)?;
    at_clock(day, text.get(9..11)?, text.get(11..13)?, text.get(13..)?)
}

fn date(year: &str, month: &str, day: &str) -> Option<Date> {
    Date::new(number(year)?, i8::try_from(number(month)?).ok()?, i8::try_from(number(day)?).ok()?).ok()
}

fn at_clock(date: Date, hour: &str, minute: &str, second: &str) -> Option<DateTime> {
    let part = |text| i8::try_from(number(text)?).ok();
    let time = jiff::civil::Time::new(part(hour)?, part(minute)?, part(second)?, 0).ok()?;
    Some(date.to_datetime(time))
}

fn number(text: &str) -> Option<i16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `Z`, `+01:00`, `-0330`, `+01`.
fn fixed(zone: &str) -> Option<Offset> {
    let (sign, digits) = match zone.as_bytes().first()? {
        b'Z' if zone.len() == 1 => return Some(Offset::UTC),
        b'+' => (1, zone.get(1..)?),
        b'-' => (-1, zone.get(1..)?),
        _ => return None,
    };
    let (hours, minutes) = match digits.as_bytes() {
        [_, _] => (digits, "00"),
        [_, _, _, _] => digits.split_at_checked(2)?,
        [_, _, b':', _, _] => (digits.get(..2)?, digits.get(3..)?),
        _ => return None,
    };
    let minutes = number(minutes).filter(|m| *m < 60)?;
    Offset::from_seconds(sign * (i32::from(number(hours)?) * 3600 + i32::from(minutes) * 60)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(style: TimeStyle, local: &str) -> Calendar {
        Calendar::new(style, PLAIN, zone(local).unwrap()).unwrap()
    }

    fn at(text: &str) -> Time {
        let nanos = text.parse::<Timestamp>().unwrap().as_nanosecond();
        let (secs, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
        Time { secs: secs.try_into().unwrap(), nanos: nanos.try_into().unwrap() }
    }

    fn time(text: &str, offset: Option<i32>) -> SnapshotTime {
        SnapshotTime { instant: at(text), offset }
    }

    #[test]
    fn names_are_in_the_recorded_offset_in_utc_or_local() {
        let snapshot = time("2026-03-01T02:00:00Z", Some(3600));
        for (style, name) in [
            (TimeStyle::Recorded, "20260301_030000"),
            (TimeStyle::Utc, "20260301_020000"),
            (TimeStyle::Local, "20260228_213000"),
        ] {
            assert_eq!(calendar(style, "-04:30").name(&snapshot, None), name);
        }
    }

    #[test]
    fn a_zone_serves_snapshots_that_recorded_no_offset_and_no_other() {
        let berlin = zone("+01:00").unwrap();
        let calendar = calendar(TimeStyle::Recorded, "-04:30");
        let bare = time("2026-03-01T02:00:00Z", None);
        assert_eq!(calendar.name(&bare, Some(&berlin)), "20260301_030000");
        assert_eq!(calendar.name(&bare, None), "20260228_213000", "without one: here");
        let recorded = time("2026-03-01T02:00:00Z", Some(0));
        assert_eq!(calendar.name(&recorded, Some(&berlin)), "20260301_020000");
    }

    #[test]
    fn any_instant_has_a_name() {
        let calendar = calendar(TimeStyle::Recorded, "UTC");
        let name = |secs, nanos, offset| {
            let instant = Time { secs, nanos };
            calendar.name(&SnapshotTime { instant, offset: Some(offset) }, None)
        };
        assert_eq!(name(-1, 999_999_999, 0), "19691231_235959");
        assert_eq!(name(-62_135_596_800, 0, 0), "00010101_000000", "Go's zero time");
        assert_eq!(name(253_402_300_799, 0, 0), "99991231_235959");
        assert_eq!(name(253_402_300_799, 0, -3600), "99991231_225959");
        assert_eq!(name(253_402_300_799, 0, 3600), "99991231_235959", "beyond the calendar");
        assert_eq!(name(i64::MAX, u32::MAX, i32::MAX), "99991231_235959");
        assert!(shows(name(i64::MIN, 0, i32::MIN).as_bytes()));
        assert_eq!(name(0, 0, 200_000), "19700101_000000", "an impossible offset counts as none");
    }

    #[test]
    fn formats_that_yield_no_names_are_refused() {
        for format in ["", "%Y/%m/%d", "%D", "latest", ".", "..", "a\0b", "%", "%!", "%Y\n", &"x".repeat(250)]
        {
            let refused = Calendar::new(TimeStyle::Utc, format, TimeZone::UTC);
            let error = refused.err().unwrap_or_else(|| panic!("{format:?} was taken"));
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains("time-format"), "{error}");
        }
        let iso = Calendar::new(TimeStyle::Recorded, "%Y-%m-%dT%H.%M.%S%z", TimeZone::UTC).unwrap();
        assert_eq!(iso.name(&time("2026-03-01T02:00:00Z", Some(-3600)), None), "2026-03-01T01.00.00-0100");
    }

    #[test]
    fn words_of_at() {
        let calendar = calendar(TimeStyle::Recorded, "+02:00");
        let until = |text| Some(Word::Until(Time { nanos: 999_999_999, ..at(text) }));
        for (word, meaning) in [
            ("today", Some(Word::DaysAgo(0))),
            ("yesterday", Some(Word::DaysAgo(1))),
            ("1970-01-01", Some(Word::Day(0))),
            ("2026-03-01", Some(Word::Day(20_513))),
            ("20260301_120000", until("2026-03-01T10:00:00Z")),
            ("2026-03-01T12:00Z", until("2026-03-01T12:00:00Z")),
            ("2026-03-01T12:00:30Z", until("2026-03-01T12:00:30Z")),
            ("2026-03-01T12:00", until("2026-03-01T10:00:00Z")),
            ("2026-03-01T12:00:30", until("2026-03-01T10:00:30Z")),
            ("2026-03-01T12:00+05:30", until("2026-03-01T06:30:00Z")),
            ("2026-03-01T12:00-0800", until("2026-03-01T20:00:00Z")),
            ("2026-03-01T12:00+01", until("2026-03-01T11:00:00Z")),
            ("9999-12-31", Some(Word::Day(2_932_896))),
        ] {
            assert_eq!(calendar.word(word.as_bytes()), meaning, "{word}");
        }
        for word in [
            "",
            "Today",
            "2026",
            "2026-3-1",
            "2026-02-30",
            "2026-13-01",
            "20260301",
            "20260301_240000",
            "20260301-120000",
            "2026-03-01T",
            "2026-03-01T12",
            "2026-03-01T12:60Z",
            "2026-03-01T12:00z",
            "2026-03-01T12:00Z ",
            "2026-03-01T12:00+1",
            "2026-03-01T12:00+01:60",
            "+026-03-01",
            "2026-03-01é",
            "é026030_120000",
            "home",
            "99991231_235959",
        ] {
            assert_eq!(calendar.word(word.as_bytes()), None, "{word}");
        }
        assert_eq!(calendar.word(b"2026-03-01\xff"), None);
    }

    #[test]
    fn a_day_ends_with_its_last_nanosecond_in_the_mounts_zone() {
        let here = calendar(TimeStyle::Recorded, "+02:00");
        let day = here.day(at("2026-03-01T21:59:59.9Z"));
        assert_eq!(day_name(day).unwrap(), "2026-03-01");
        assert_eq!(here.end_of(day), at("2026-03-01T21:59:59.999999999Z"));
        assert_eq!(here.day(at("2026-03-01T22:00:00Z")), day + 1);
        let utc = calendar(TimeStyle::Utc, "+02:00");
        assert_eq!(utc.day(at("2026-03-01T22:00:00Z")), day, "time = utc counts days in UTC");
        assert_eq!(utc.until(Word::DaysAgo(1), at("2026-03-02T12:00:00Z")), utc.end_of(day));
        assert!(utc.end_of(i32::MAX) > at("9999-12-30T00:00:00Z"));
    }

    #[test]
    fn days_follow_daylight_saving() {
        let Ok(berlin) =
            Calendar::new(TimeStyle::Local, PLAIN, zone("Europe/Berlin").unwrap_or(TimeZone::UTC))
        else {
            panic!("the default format is one")
        };
        if berlin.local == TimeZone::UTC {
            return; // no time zone database on this machine
        }
        let day = berlin.day(at("2026-03-29T10:00:00Z"));
        assert_eq!(berlin.end_of(day), at("2026-03-29T21:59:59.999999999Z"), "a day of 23 hours");
        assert_eq!(berlin.name(&time("2026-07-01T00:00:00Z", Some(0)), None), "20260701_020000");
    }

    #[test]
    fn days_before_the_year_zero_have_no_name() {
        assert_eq!(day_name(-1).unwrap(), "1969-12-31");
        assert_eq!(day_name(-719_528).unwrap(), "0000-01-01");
        assert_eq!(day_name(-719_529), None);
        assert_eq!(day_name(i32::MAX), None);
    }

    #[test]
    fn rfc3339_keeps_offset_and_nanoseconds() {
        for (text, offset, shown) in [
            ("2026-03-01T02:00:00Z", Some(3600), "2026-03-01T03:00:00+01:00"),
            ("2026-03-01T02:00:00.5Z", Some(-12_600), "2026-02-28T22:30:00.5-03:30"),
            ("1969-12-31T23:59:58.499999999Z", None, "1969-12-31T23:59:58.499999999Z"),
        ] {
            assert_eq!(rfc3339(&time(text, offset)), shown);
        }
    }

    #[test]
    fn unknown_zones_are_errors() {
        assert_eq!(zone("Nowhere/Land").unwrap_err().kind(), Kind::Usage);
        assert!(zone("+25").is_ok() && zone("+99:00").is_err());
    }
}
