//! What the requests of a distant store cost, measured from those that were made.
//!
//! Latency is the lower quartile of the last first-byte times: a queue, a new connection or a busy server makes some
//! requests late, and none makes one early. Bandwidth is the best of the last stretches in which bodies arrived, over
//! all that arrived together: a stretch is slower than the line whenever nobody asked for more.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Pace;

/// How many measurements count.
const KEPT: usize = 32;

/// A stretch ends with this much, or when nothing arrives any more.
const STRETCH: u64 = 4 << 20;

/// Shorter stretches tell more about buffers than about the line.
const SHORTEST: u64 = 256 << 10;

/// What a line may look like at most: beyond it nothing would be planned otherwise.
const FASTEST: u64 = 8 << 30;

/// Measures the requests of one store.
pub(super) struct Meter {
    /// What is said before anything was measured.
    assumed: Pace,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// First-byte times.
    latencies: VecDeque<Duration>,
    /// Bytes a second of stretches.
    bandwidths: VecDeque<u64>,
    /// Bodies that are arriving.
    arriving: usize,
    /// The present stretch: when it began, and what came since.
    since: Option<Instant>,
    bytes: u64,
}

impl Meter {
    /// Says `assumed` until there is something better.
    pub(super) fn new(assumed: Pace) -> Self {
        Meter { assumed, state: Mutex::default() }
    }

    /// What requests cost as far as is known.
    pub(super) fn pace(&self) -> Pace {
        let state = self.state();
        let mut latencies: Vec<_> = state.latencies.iter().copied().collect();
        latencies.sort_unstable();
        Pace {
            latency: latencies.get(latencies.len() / 4).copied().unwrap_or(self.assumed.latency),
            bandwidth: state.bandwidths.iter().copied().max().unwrap_or(self.assumed.bandwidth),
        }
    }

    /// An answer began so long after its request, and its body follows.
    pub(super) fn answered(&self, after: Duration) -> Arrival<'_> {
        self.answered_at(after, Instant::now())
    }

    fn answered_at(&self, after: Duration, now: Instant) -> Arrival<'_> {
        let mut state = self.state();
        keep(&mut state.latencies, after);
        state.arriving += 1;
        state.since.get_or_insert(now);
        Arrival { meter: self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Numbers cannot be left half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body on its way; dropped when it ended, however it did.
pub(super) struct Arrival<'a> {
    meter: &'a Meter,
}

impl Arrival<'_> {
    /// So many bytes of it came.
    pub(super) fn came(&self, bytes: u64) {
        self.came_at(bytes, Instant::now());
    }

    fn came_at(&self, bytes: u64, now: Instant) {
        let mut state = self.meter.state();
        state.bytes += bytes;
        if state.bytes >= STRETCH {
            state.end_stretch(now);
            state.since = Some(now);
        }
    }

    fn end_at(&self, now: Instant) {
        let mut state = self.meter.state();
        state.arriving = state.arriving.saturating_sub(1);
        if state.arriving == 0 {
            state.end_stretch(now);
        }
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.end_at(Instant::now());
    }
}

impl State {
    fn end_stretch(&mut self, now: Instant) {
        let (since, bytes) = (self.since.take(), std::mem::take(&mut self.bytes));
        let Some(since) = since.filter(|_| bytes >= SHORTEST) else { return };
        let took = now.saturating_duration_since(since).as_nanos().max(1);
        let rate = u128::from(bytes) * 1_000_000_000 / took;
        keep(&mut self.bandwidths, u64::try_from(rate).unwrap_or(FASTEST).min(FASTEST));
    }
}

fn keep<T>(kept: &mut VecDeque<T>, new: T) {
    if kept.len() >= KEPT {
        kept.pop_front();
    }
    kept.push_back(new);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSUMED: Pace = Pace { latency: Duration::from_millis(30), bandwidth: 100 << 20 };
    const MIB: u64 = 1 << 20;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A body of `bytes` that took `took` after an answer that took `after`.
    fn request(meter: &Meter, after: Duration, bytes: u64, took: Duration) {
        let began = Instant::now();
        let arrival = meter.answered_at(after, began);
        arrival.came_at(bytes, began + took);
        arrival.end_at(began + took);
        std::mem::forget(arrival);
    }

    #[test]
    fn says_what_is_assumed_until_something_was_measured() {
        let meter = Meter::new(ASSUMED);
        assert_eq!(meter.pace(), ASSUMED);
        request(&meter, ms(5), 1000, ms(1));
        assert_eq!(
            meter.pace(),
            Pace { latency: ms(5), ..ASSUMED },
            "a small body says nothing of bandwidth"
        );
    }

    #[test]
    fn late_answers_are_not_the_latency() {
        let meter = Meter::new(ASSUMED);
        request(&meter, ms(90), 0, ms(0));
        for after in [31, 500, 30, 33, 2000, 32, 800] {
            request(&meter, ms(after), 0, ms(0));
        }
        assert_eq!(meter.pace().latency, ms(32));
    }

    #[test]
    fn a_line_that_changes_is_followed() {
        let meter = Meter::new(ASSUMED);
        for (after, took) in [(10, 10), (200, 100)] {
            for _ in 0..KEPT {
                request(&meter, ms(after), MIB, ms(took));
            }
        }
        assert_eq!(meter.pace(), Pace { latency: ms(200), bandwidth: 10 * MIB });
    }

    #[test]
    fn bodies_that_arrive_together_share_the_line() {
        let meter = Meter::new(ASSUMED);
        let began = Instant::now();
        let arrivals: Vec<_> = (0..4).map(|_| meter.answered_at(ms(1), began)).collect();
        for arrival in arrivals {
            arrival.came_at(MIB / 2, began + ms(10));
            arrival.end_at(began + ms(20));
            std::mem::forget(arrival);
        }
        assert_eq!(meter.pace().bandwidth, 100 * MIB, "2 MiB in 20 ms");
    }

    #[test]
    fn a_long_body_is_measured_while_it_arrives() {
        let meter = Meter::new(ASSUMED);
        let began = Instant::now();
        let arrival = meter.answered_at(ms(1), began);
        for n in 1..=8 {
            arrival.came_at(MIB, began + ms(n * 100));
        }
        assert_eq!(meter.pace().bandwidth, 10 * MIB);
    }

    #[test]
    fn the_fastest_of_the_last_stretches_counts() {
        let meter = Meter::new(ASSUMED);
        for took in [1000, 10, 1000] {
            request(&meter, ms(1), MIB, ms(took));
        }
        assert_eq!(meter.pace().bandwidth, 100 * MIB);
        request(&meter, ms(1), MIB, ms(0));
        assert_eq!(meter.pace().bandwidth, FASTEST, "nothing is infinitely fast");
    }
}
