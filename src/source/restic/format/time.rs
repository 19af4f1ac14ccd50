//! RFC 3339 times as Go and rustic write them: years 0000 to 9999, up to nine digits of a second.

use crate::error::{Error, Kind, Result};
use crate::tree::Time;

/// The instant, and the recorded offset from UTC in seconds east (`None` for `-00:00`, which says that it is unknown).
///
/// A leap second is shown as the last nanosecond of its minute. Everything malformed is `Corrupt`.
pub fn parse(text: &str) -> Result<(Time, Option<i32>)> {
    scan(text.as_bytes()).ok_or_else(|| {
        Error::new(Kind::Corrupt, format!("not a time: {:?}", text.chars().take(60).collect::<String>()))
    })
}

fn scan(text: &[u8]) -> Option<(Time, Option<i32>)> {
    // A directory has three of these for each entry: they are read at one glance.
    let (head, rest) = text.split_first_chunk::<19>()?;
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T' | b't', h0, h1, b':', n0, n1, b':', s0, s1] = head
    else {
        return None;
    };
    let year = number([y0, y1, y2, y3])?;
    let [month, day] = [number([m0, m1])?, number([d0, d1])?];
    let [hour, minute, second] = [number([h0, h1])?, number([n0, n1])?, number([s0, s1])?];
    let (fraction, rest) = fraction(rest)?;
    let offset = offset(rest)?;
    let valid = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let (second, nanos) = if second == 60 { (59, 999_999_999) } else { (second, fraction) };
    let local = days_since_epoch(year, month, day) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    valid.then(|| (Time { secs: local - i64::from(offset.unwrap_or(0)), nanos }, offset))
}

/// The number that these digits are.
#[inline]
fn number<const N: usize>(digits: [u8; N]) -> Option<u32> {
    let (mut value, mut all_digits) = (0, true);
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        all_digits &= digit < 10;
        value = value * 10 + u32::from(digit);
    }
    all_digits.then_some(value)
}

/// Nanoseconds: none, or a point and one to nine digits. And what follows.
#[inline]
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let [b'.', rest @ ..] = text else { return Some((0, text)) };
    let (mut nanos, mut scale) = (0, 1_000_000_000);
    let mut rest = rest;
    while let [digit @ b'0'..=b'9', more @ ..] = rest {
        nanos = nanos * 10 + u32::from(digit - b'0');
        scale /= 10;
        if scale == 0 {
            return None;
        }
        rest = more;
    }
    (scale < 1_000_000_000).then_some((nanos * scale, rest))
}

/// Seconds east of UTC, `Some(None)` when the text says that they are unknown.
#[inline]
fn offset(text: &[u8]) -> Option<Option<i32>> {
    let &[sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] = text else {
        return matches!(text, b"Z" | b"z").then_some(Some(0));
    };
    let [hours, minutes] = [number([h0, h1])?, number([m0, m1])?];
    let east = i32::try_from(hours * 3600 + minutes * 60).ok().filter(|_| hours < 24 && minutes < 60)?;
    Some(match (sign, east) {
        (b'-', 0) => None,
        (b'-', east) => Some(-east),
        (_, east) => Some(east),
    })
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, counted in years that begin in March so that the leap day
/// is a year's last.
fn days_since_epoch(year: u32, month: u32, day: u32) -> i64 {
    let (year, month, day) = (i64::from(year), i64::from(month), i64::from(day));
    let years = if month <= 2 { year - 1 } else { year };
    let months = (month + 9) % 12;
    let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    // 719,468 days lie between 0000-03-01 and the epoch.
    years * 365 + leap_days + (months * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: i64, nanos: u32, offset: i32) -> (Time, Option<i32>) {
        (Time { secs, nanos }, Some(offset))
    }

    #[test]
    fn instants_are_exact_from_year_0_to_9999() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", at(0, 0, 0)),
            ("1969-12-31T23:59:58.499999999Z", at(-2, 499_999_999, 0)),
            ("1969-12-31T23:59:59.5Z", at(-1, 500_000_000, 0)),
            ("2024-01-16T03:00:00+01:00", at(1_705_370_400, 0, 3600)),
            ("2024-02-29T23:59:59.000000001-03:30", at(1_709_263_799, 1, -12_600)),
            ("2000-02-29T00:00:00Z", at(951_782_400, 0, 0)),
            ("0001-01-01T00:00:00Z", at(-62_135_596_800, 0, 0)),
            ("0000-01-01T00:00:00Z", at(-62_167_219_200, 0, 0)),
            ("9999-12-31T23:59:59.999999999Z", at(253_402_300_799, 999_999_999, 0)),
            ("9999-12-31T23:59:59-23:59", at(253_402_300_799 + 86_340, 0, -86_340)),
            ("2024-01-16t03:00:00z", at(1_705_374_000, 0, 0)),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(parse("1970-01-01T00:00:00-00:00").unwrap(), (Time::default(), None));
        assert_eq!(parse("1970-01-01T00:00:00+00:00").unwrap(), at(0, 0, 0));
    }

    #[test]
    fn a_leap_second_is_the_end_of_its_minute() {
        let expected = at(1_483_228_799, 999_999_999, 0);
        assert_eq!(parse("2016-12-31T23:59:60Z").unwrap(), expected);
        assert_eq!(parse("2016-12-31T23:59:60.25Z").unwrap(), expected);
    }

    #[test]
    fn everything_else_is_corrupt() {
        for text in [
            "",
            "2024",
            "2024-01-16",
            "2024-01-16T03:00:00",
            "2024-01-16 03:00:00Z",
            "2024-01-16T03:00:00ZZ",
            "2024-01-16T03:00:00+0100",
            "2024-01-16T03:00:00+01",
            "2024-01-16T03:00:00+24:00",
            "2024-01-16T03:00:00+01:60",
            "2024-01-16T03:00:00.Z",
            "2024-01-16T03:00:00.0000000001Z",
            "2024-01-16T03:00:61Z",
            "2024-01-16T03:60:00Z",
            "2024-01-16T24:00:00Z",
            "2024-00-16T03:00:00Z",
            "2024-13-16T03:00:00Z",
            "2024-01-00T03:00:00Z",
            "2024-04-31T03:00:00Z",
            "2023-02-29T03:00:00Z",
            "1900-02-29T03:00:00Z",
            "10000-01-01T00:00:00Z",
            "-001-01-01T00:00:00Z",
            "+999-01-01T00:00:00Z",
            "2024-1-16T03:00:00Z",
            "２０２４-01-16T03:00:00Z",
        ] {
            assert_eq!(parse(text).unwrap_err().kind(), Kind::Corrupt, "{text}");
        }
    }

    proptest! {
        /// jiff prints what is to be read: an implementation of the calendar independent of this one.
        #[test]
        fn reads_what_a_calendar_library_writes(
            secs in -62_135_596_800 + 90_000..253_402_207_200 - 90_000i64,
            nanos in 0..1_000_000_000i32,
            minutes in -23 * 60..=23 * 60,
        ) {
            let instant = jiff::Timestamp::from_second(secs).unwrap() + jiff::SignedDuration::new(0, nanos);
            let offset = jiff::tz::Offset::from_seconds(minutes * 60).unwrap();
            let text = instant.display_with_offset(offset).to_string();
            let (time, read) = parse(&text).unwrap();
            prop_assert_eq!((time.secs, time.nanos), (secs, nanos.cast_unsigned()));
            prop_assert_eq!(read, Some(minutes * 60));
        }

        #[test]
        fn nanoseconds_keep_the_order_of_instants(digits in "[0-9]{1,9}", more in "[0-9]{1,9}") {
            let nanos = |digits: &str| parse(&format!("1960-01-01T00:00:00.{digits}Z")).unwrap().0.nanos;
            prop_assert_eq!(nanos(&digits).cmp(&nanos(&more)), format!("{digits:0<9}").cmp(&format!("{more:0<9}")));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9TZ:.+-]{0,40}") {
            let _ = parse(&text);
        }
    }
}
