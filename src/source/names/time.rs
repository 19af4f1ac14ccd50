//! Times in the names of snapshots.

use jiff::Timestamp;
use jiff::civil::{DateTime, Time as Hour};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};

use super::hour;
use crate::error::{Error, Kind, Result};
use crate::tree::{SnapshotTime, Time};

/// Reads times in names: in the usual shapes (`snap_20220906_082043`, `daily.2026-03-01`, `@GMT-2026.03.01-12.00.00`,
/// `2026-03-01T12:00Z`), or as a format says.
pub struct Times {
    format: Option<String>,
    zone: TimeZone,
}

impl Times {
    /// With names as `format` (strftime's) has them where it is given; `zone` is that of names that say none. Errors:
    /// `Usage` when the format is none, or tells no date.
    pub fn new(format: Option<&str>, zone: TimeZone) -> Result<Self> {
        let times = Times { format: format.map(str::to_owned), zone };
        let Some(format) = format else { return Ok(times) };
        let refuse = |why: String| Err(Error::new(Kind::Usage, format!("time-format {format:?}: {why}")));
        let some = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        match BrokenDownTime::from(&some).to_string(format) {
            Err(error) => refuse(error.to_string()),
            Ok(name) if times.formatted(format, &name).is_none() => refuse("tells no date".to_owned()),
            Ok(_) => Ok(times),
        }
    }

    /// The time that `name` tells; of a day alone its first moment. `None` when it tells none.
    pub fn of(&self, name: &[u8]) -> Option<SnapshotTime> {
        let (at, offset) = match &self.format {
            Some(format) => self.formatted(format, std::str::from_utf8(name).ok()?)?,
            None => usual(name)?,
        };
        let instant = match offset {
            Some(offset) => offset.to_timestamp(at).ok()?,
            None => self.zone.to_ambiguous_timestamp(at).compatible().ok()?,
        };
        let offset = offset.unwrap_or_else(|| self.zone.to_offset(instant));
        // Names have no fractions.
        let instant = Time { secs: instant.as_second(), nanos: 0 };
        Some(SnapshotTime { instant, offset: Some(offset.seconds()) })
    }

    fn formatted(&self, format: &str, name: &str) -> Option<(DateTime, Option<Offset>)> {
        let parts = BrokenDownTime::parse(format, name).ok()?;
        if let Ok(instant) = parts.to_timestamp() {
            let offset = parts.offset().unwrap_or(Offset::UTC);
            return Some((offset.to_datetime(instant), Some(offset)));
        }
        let at =
            parts.to_datetime().ok().or_else(|| Some(parts.to_date().ok()?.to_datetime(Hour::midnight())))?;
        Some((at, parts.offset()))
    }
}

/// The first date with an hour in `name`, else the first date.
fn usual(name: &[u8]) -> Option<(DateTime, Option<Offset>)> {
    let mut day = None;
    for at in 0..name.len() {
        let (before, text) = name.split_at_checked(at)?;
        if before.last().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let Some((date, hours)) = hour::date(text) else { continue };
        if let Some((time, rest)) = hour::hour(hours) {
            let is_iso = hours.first() == Some(&b'T');
            let offset = hour::offset(rest, is_iso).or_else(|| is_universal(before).then_some(Offset::UTC));
            return Some((date.to_datetime(time), offset));
        }
        if day.is_none() && hour::ends(hours) {
            day = Some((date.to_datetime(Hour::midnight()), is_universal(before).then_some(Offset::UTC)));
        }
    }
    day
}

/// Whether what stands before a date says that it is universal time: `@GMT-`, `Snap_GMT-`.
fn is_universal(before: &[u8]) -> bool {
    before.ends_with(b"GMT-") || before.ends_with(b"UTC-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(zone: i8) -> Times {
        Times::new(None, TimeZone::fixed(jiff::tz::offset(zone))).unwrap()
    }

    /// As RFC 3339 has it.
    fn read(times: &Times, name: &str) -> Option<String> {
        let SnapshotTime { instant, offset } = times.of(name.as_bytes())?;
        let instant = jiff::Timestamp::from_second(instant.secs).unwrap();
        let offset = Offset::from_seconds(offset.unwrap()).unwrap();
        Some(instant.display_with_offset(offset).to_string())
    }

    #[test]
    fn times_are_recognised_in_the_usual_shapes() {
        for (name, time) in [
            ("snap_20220906_082043", "2022-09-06T08:20:43+02:00"),
            ("20260301_030000", "2026-03-01T03:00:00+02:00"),
            ("daily.2026-03-01", "2026-03-01T00:00:00+02:00"),
            ("@GMT-2026.03.01-12.00.00", "2026-03-01T12:00:00+00:00"),
            ("nightly_GMT-2026.03.01-12.00.00", "2026-03-01T12:00:00+00:00"),
            ("2026-03-01T12:00Z", "2026-03-01T12:00:00+00:00"),
            ("2026-03-01T12:00:30-08:00", "2026-03-01T12:00:30-08:00"),
            ("home.20260301T121703+0100", "2026-03-01T12:17:03+01:00"),
            ("autosnap_2026-03-01_12:00:01_daily", "2026-03-01T12:00:01+02:00"),
            ("zfs-auto-snap_hourly-2026-03-01-1217", "2026-03-01T12:17:00+02:00"),
            ("zrepl_20260301_121703_000", "2026-03-01T12:17:03+02:00"),
            ("scheduled-2026-03-01-12_00_05_UTC", "2026-03-01T12:00:05+00:00"),
            ("2026-03-01-121703", "2026-03-01T12:17:03+02:00"),
            ("20260301121703", "2026-03-01T12:17:03+02:00"),
            ("202603011217", "2026-03-01T12:17:00+02:00"),
            ("2026-03-01 12.17.03", "2026-03-01T12:17:03+02:00"),
            ("hourly.2026-03-01_1205", "2026-03-01T12:05:00+02:00"),
            ("2025-01-01 to 20260301_121703", "2026-03-01T12:17:03+02:00"),
            ("_nightly-2026-03-01_1099511627776", "2026-03-01T00:00:00+02:00"),
            ("2026-03-01-9999", "2026-03-01T00:00:00+02:00"),
        ] {
            assert_eq!(read(&times(2), name).as_deref(), Some(time), "{name}");
        }
        for name in
            ["", "daily.0", "before-upgrade", "12345678901234567", "2026", "csi-snap-7f3a99b1", "1772323200"]
        {
            assert_eq!(read(&times(2), name), None, "{name}");
        }
        assert!(times(0).of(b"\xff20260301\xff").is_some());
    }

    #[test]
    fn a_zone_with_summer_time_gives_each_name_its_own_offset() {
        let times = Times::new(None, TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()).unwrap();
        assert_eq!(read(&times, "20260701_120000").unwrap(), "2026-07-01T12:00:00+02:00");
        assert_eq!(read(&times, "20260101_120000").unwrap(), "2026-01-01T12:00:00+01:00");
        assert_eq!(read(&times, "20261025_023000").unwrap(), "2026-10-25T02:30:00+02:00", "the first of two");
    }

    #[test]
    fn a_format_reads_whole_names_and_nothing_else() {
        let of = |format: &str| Times::new(Some(format), TimeZone::UTC).unwrap();
        assert_eq!(read(&of("nas-%d%m%y-%H"), "nas-010326-12").unwrap(), "2026-03-01T12:00:00+00:00");
        assert_eq!(read(&of("%Y.%j"), "2026.060").unwrap(), "2026-03-01T00:00:00+00:00");
        assert_eq!(read(&of("%s"), "1772323200").unwrap(), "2026-03-01T00:00:00+00:00");
        assert_eq!(read(&of("%Y%m%d"), "20260301x"), None);
        assert_eq!(read(&of("nas-%d%m%y-%H"), "20260301_030000"), None);
        for wrong in ["", "%H:%M", "%!", "%", "plain"] {
            let error = Times::new(Some(wrong), TimeZone::UTC).err().unwrap();
            assert_eq!(error.kind(), Kind::Usage, "{wrong}");
            assert!(error.to_string().starts_with("time-format"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_not(name in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
            times(0).of(&name);
        }

        #[test]
        fn a_time_is_found_whatever_stands_around_it(before in "[a-z._-]{0,9}", after in "([_.-][a-z]{0,9})?") {
            let name = format!("{before}20260301_030000{after}");
            proptest::prop_assert_eq!(read(&times(0), &name), Some("2026-03-01T03:00:00+00:00".to_owned()));
        }
    }
}
