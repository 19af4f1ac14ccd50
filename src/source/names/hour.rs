//! Dates and hours within text: digits in one of the usual shapes.

use jiff::civil::{Date, Time};
use jiff::tz::Offset;

/// Years that are believed: other digits are numbers of something else.
const YEARS: std::ops::Range<i16> = 1980..2200;

/// What was read of a text, and what follows it.
type Read<'a, T> = Option<(T, &'a [u8])>;

/// A date at the beginning of `text`: eight digits, or three numbers with `-`, `.` or `_` between them.
pub(super) fn date(text: &[u8]) -> Read<'_, Date> {
    let (year, rest) = number(text, 4)?;
    let (separator, rest) = separator(rest, b"-._");
    let (month, rest) = number(rest, 2)?;
    let (day, rest) = number(after(rest, separator)?, 2)?;
    let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    (YEARS.contains(&year)).then_some((date, rest))
}

/// An hour behind a date: `_030000`, `T03:00:00`, `-03-00`, directly after the digits of a compact date, with a fraction
/// that is dropped. No digit follows it.
pub(super) fn hour(text: &[u8]) -> Read<'_, Time> {
    let (_, rest) = separator(text, b"_-Tt. @");
    let (hour, rest) = number(rest, 2)?;
    let (between, rest) = separator(rest, b":-._h");
    let (minute, rest) = number(rest, 2)?;
    let second = after(rest, between).and_then(|rest| number(rest, 2)).filter(|(_, rest)| ends(rest));
    let (second, rest) = second.unwrap_or((0, rest));
    let small = |n: i16| i8::try_from(n).ok();
    let time = Time::new(small(hour)?, small(minute)?, small(second)?, 0).ok()?;
    ends(rest).then(|| (time, without_fraction(rest)))
}

/// The offset that `text` begins with: `Z`, `+01:00`, `+0100`, `+01`, `UTC`. After an hour that a `T` precedes a minus sign
/// is one too, elsewhere it is a dash.
pub(super) fn offset(text: &[u8], is_iso: bool) -> Option<Offset> {
    let (sign, digits) = match text {
        [b'Z', rest @ ..] => {
            return (!rest.first().is_some_and(u8::is_ascii_alphanumeric)).then_some(Offset::UTC);
        }
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] if is_iso && !universal(text) => (-1, digits),
        _ => return universal(text).then_some(Offset::UTC),
    };
    let (hours, rest) = number(digits, 2)?;
    let (minutes, rest) = number(separator(rest, b":").1, 2).unwrap_or((0, rest));
    Offset::from_seconds(sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60))
        .ok()
        .filter(|_| ends(rest))
}

/// Whether `text` says that the hour before it is universal time.
fn universal(text: &[u8]) -> bool {
    let (_, word) = separator(text, b"_-. ");
    let word = word.get(..3).unwrap_or_default();
    [&b"UTC"[..], b"GMT"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Whether no digit follows.
pub(super) fn ends(rest: &[u8]) -> bool {
    !rest.first().is_some_and(u8::is_ascii_digit)
}

fn without_fraction(text: &[u8]) -> &[u8] {
    let [b'.' | b',', rest @ ..] = text else { return text };
    match rest.iter().position(|b| !b.is_ascii_digit()) {
        _ if ends(rest) => text,
        Some(end) => rest.get(end..).unwrap_or_default(),
        None => &[],
    }
}

/// `digits` digits.
fn number(text: &[u8], digits: usize) -> Read<'_, i16> {
    let (number, rest) = text.split_at_checked(digits)?;
    let number =
        number.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(number).ok()?.parse().ok())?;
    Some((number?, rest))
}

/// The separator that `text` begins with, if it is one of `known`.
fn separator<'a>(text: &'a [u8], known: &[u8]) -> (Option<u8>, &'a [u8]) {
    match text {
        [first, rest @ ..] if known.contains(first) => (Some(*first), rest),
        _ => (None, text),
    }
}

/// What follows the same separator once more.
fn after(text: &[u8], separator: Option<u8>) -> Option<&[u8]> {
    match separator {
        None => Some(text),
        Some(separator) => text.strip_prefix(&[separator]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_one_separator_or_none() {
        for text in ["20260301", "2026-03-01", "2026.03.01", "2026_03_01"] {
            assert_eq!(date(text.as_bytes()), Some((Date::constant(2026, 3, 1), &b""[..])), "{text}");
        }
        for text in
            ["2026-03.01", "2026-3-1", "20260230", "18000101", "99990101", "2026-13-01", "2026-03", ""]
        {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn hours_come_with_or_without_separators_seconds_and_fractions() {
        for (text, h, m, s, rest) in [
            ("_030405", 3, 4, 5, ""),
            ("030405", 3, 4, 5, ""),
            ("T03:04:05.678Z", 3, 4, 5, "Z"),
            ("-03-04-05-daily", 3, 4, 5, "-daily"),
            (" 03h04", 3, 4, 0, ""),
            ("-0304", 3, 4, 0, ""),
            ("_03:04:05_weekly", 3, 4, 5, "_weekly"),
            ("_030405_000", 3, 4, 5, "_000"),
            (".03.04.05.", 3, 4, 5, "."),
        ] {
            assert_eq!(hour(text.as_bytes()), Some((Time::constant(h, m, s, 0), rest.as_bytes())), "{text}");
        }
        for text in ["", "_03", "_0304051", "_250000", "_036000", "-1099511627776", "_03:04:5x7"] {
            let read = hour(text.as_bytes());
            assert!(read.is_none() || text.ends_with("5x7"), "{text}: {read:?}");
        }
    }

    #[test]
    fn offsets_are_written_in_several_ways() {
        let seconds = |text: &str, iso| offset(text.as_bytes(), iso).map(Offset::seconds);
        for (text, expected) in [
            ("Z", Some(0)),
            ("+01:00", Some(3600)),
            ("+0530", Some(19_800)),
            ("+02-x", Some(7200)),
            ("_UTC", Some(0)),
            ("-gmt", Some(0)),
            ("Zulu", None),
            ("+", None),
            ("+010", None),
            ("+9999", None),
            ("", None),
            ("_weekly", None),
        ] {
            assert_eq!(seconds(text, true), expected, "{text}");
        }
        assert_eq!((seconds("-0800", true), seconds("-0800", false)), (Some(-28_800), None));
    }
}
