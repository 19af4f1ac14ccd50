//! Words that stand for numbers: lengths of time, sizes, ranges of ids.

use std::time::Duration;

use super::IdRange;

/// A length of time: `60`, `60s`, `500ms`, `10min` (or `10m`), `1h`, `2d`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" | "sec" => 1000,
        "m" | "min" => 60 * 1000,
        "h" => 3_600 * 1000,
        "d" => 86_400 * 1000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

/// A number of bytes: `1048576`, `1024K`, `48M`, `48MiB`, `1G`; units are powers of 1024.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// `u:RECORDED:SHOWN[:COUNT]`, or `g:` for groups, or `b:` for both: which of the two it is for, and the range.
pub fn id_range(text: &str) -> Option<(bool, bool, IdRange)> {
    let mut parts = text.split(':');
    let (users, groups) = match parts.next()? {
        "u" => (true, false),
        "g" => (false, true),
        "b" => (true, true),
        _ => return None,
    };
    let recorded = parts.next()?.parse().ok()?;
    let shown = parts.next()?.parse().ok()?;
    let count: u32 = parts.next().map_or(Some(1), |count| count.parse().ok())?;
    let last = count.checked_sub(1)?;
    let fits = |first: u32| first.checked_add(last).is_some();
    (parts.next().is_none() && fits(recorded) && fits(shown)).then_some((
        users,
        groups,
        IdRange { recorded, shown, count },
    ))
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("60", 60),
            ("60s", 60),
            ("10min", 600),
            ("10m", 600),
            ("1h", 3600),
            ("2d", 172_800),
            ("90 s", 90),
        ] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        for bad in
            ["", "s", "-1", "1.5s", "10 parsecs", "99999999999999999999", "18446744073709551615d", "1ss"]
        {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("48M", 48 << 20), ("48MiB", 48 << 20), ("1G", 1 << 30), ("2k", 2048)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "M", "1X", "1.5G", "-1", "18446744073709551615K"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn id_ranges() {
        let range = |recorded, shown, count| IdRange { recorded, shown, count };
        assert_eq!(id_range("u:1000:2000"), Some((true, false, range(1000, 2000, 1))));
        assert_eq!(id_range("b:0:100000:65536"), Some((true, true, range(0, 100_000, 65_536))));
        for bad in [
            "",
            "u",
            "u:1",
            "x:1:2",
            "u:1:2:0",
            "u:1:2:3:4",
            "u:4294967295:0:2",
            "u:-1:0",
            "g:1:4294967295:2",
        ] {
            assert_eq!(id_range(bad), None, "{bad}");
        }
    }
}
