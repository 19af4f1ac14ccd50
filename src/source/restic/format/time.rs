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
    let mut rest = Scanner(text);
    let year = rest.number(4)?;
    rest.one_of(b"-")?;
    let month = rest.number(2)?;
    rest.one_of(b"-")?;
    let day = rest.number(2)?;
    rest.one_of(b"Tt")?;
    let hour = rest.number(2)?;
    rest.one_of(b":")?;
    let minute = rest.number(2)?;
    rest.one_of(b":")?;
    let second = rest.number(2)?;
    let fraction = rest.fraction()?;
    let offset = rest.offset()?;
    let valid = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && rest.0.is_empty();
    let (second, nanos) = if second == 60 { (59, 999_999_999) } else { (second, fraction) };
    let local = days_since_epoch(year, month, day) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    valid.then(|| (Time { secs: local - i64::from(offset.unwrap_or(0)), nanos }, offset))
}

struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    fn one_of(&mut self, allowed: &[u8]) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        if !allowed.contains(&first) {
            return None;
        }
        self.0 = rest;
        Some(first)
    }

    /// Exactly `digits` digits, at most nine.
    fn number(&mut self, digits: usize) -> Option<u32> {
        (0..digits).try_fold(0, |value, _| Some(value * 10 + u32::from(self.one_of(b"0123456789")? - b'0')))
    }

    /// Nanoseconds: none, or a point and one to nine digits.
    fn fraction(&mut self) -> Option<u32> {
        if self.one_of(b".").is_none() {
            return Some(0);
        }
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let scale = u32::try_from(digits).ok().filter(|n| (1..=9).contains(n))?;
        Some(self.number(digits)? * 10u32.pow(9 - scale))
    }

    /// Seconds east of UTC, `Some(None)` when the text says that they are unknown.
    fn offset(&mut self) -> Option<Option<i32>> {
        let sign = self.one_of(b"Zz+-")?;
        if matches!(sign, b'Z' | b'z') {
            return Some(Some(0));
        }
        let hours = self.number(2)?;
        self.one_of(b":")?;
        let minutes = self.number(2)?;
        let east = i32::try_from(hours * 3600 + minutes * 60).ok().filter(|_| hours < 24 && minutes < 60)?;
        Some(match (sign, east) {
            (b'-', 0) => None,
            (b'-', east) => Some(-east),
            (_, east) => Some(east),
        })
    }
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
