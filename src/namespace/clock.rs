//! The time of day, as a dependency: `today`, ages of answers and modification times never ask the system directly.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::tree::Time;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The time of day.
    fn now(&self) -> Time;

    /// Time since some fixed moment, never going back.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::elapsed`] counts from now.
    pub fn new() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        time_of(SystemTime::now())
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The same moment as a [`Time`].
pub(super) fn time_of(at: SystemTime) -> Time {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => Time { secs: seconds(after), nanos: after.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            match before.subsec_nanos() {
                0 => Time { secs: -seconds(before), nanos: 0 },
                nanos => Time { secs: -seconds(before) - 1, nanos: 1_000_000_000 - nanos },
            }
        }
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_1970_count_their_nanoseconds_forward() {
        for (offset, before, expected) in [
            (Duration::new(5, 7), false, (5, 7)),
            (Duration::ZERO, true, (0, 0)),
            (Duration::new(2, 0), true, (-2, 0)),
            (Duration::new(1, 500_000_001), true, (-2, 499_999_999)),
        ] {
            let at = if before { UNIX_EPOCH - offset } else { UNIX_EPOCH + offset };
            let Time { secs, nanos } = time_of(at);
            assert_eq!((secs, nanos), expected, "{offset:?} before={before}");
        }
    }

    #[test]
    fn elapsed_never_goes_back() {
        let clock = SystemClock::new();
        let first = clock.elapsed();
        assert!(clock.elapsed() >= first);
    }
}
