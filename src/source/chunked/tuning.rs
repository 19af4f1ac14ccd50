//! What the pace of a store means for the reads that are made of it.

use std::time::Duration;

use crate::store::Pace;
use crate::tree::STRIDE;

/// The sizes and numbers that the planner works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuning {
    /// Blobs closer than this in a pack are read together with what lies between them.
    pub gap: u64,
    /// A read that brings several blobs is not made longer than this, so that the first of them need not wait for long
    /// and several reads can run at a time.
    pub longest: u64,
    /// Reads under way in one repository that somebody waits for.
    pub requests: usize,
    /// Reads under way in one repository that run ahead.
    pub ahead: usize,
    /// How far one reader is read ahead of, at most.
    pub window: u64,
    /// How far one who reads the beginning of a file is read ahead of, in case he goes on.
    pub beginning: u64,
    /// A read for a directory is made this long, by what lies before it.
    pub near: u64,
    /// How much of the files of a directory is worth announcing at a time.
    pub stride: u64,
    /// How long an announcement waits for others.
    pub patience: Duration,
}

/// No announcement waits for longer.
const MOST_PATIENCE: Duration = Duration::from_millis(10);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Tuning {
    /// For a store of this pace. What could have come while a request begins is what a gap may cost, and several times
    /// that is to be under way for a reader never to wait.
    pub(super) fn of(pace: Pace) -> Self {
        let idle = pace.latency.as_nanos().saturating_mul(pace.bandwidth.into()) / 1_000_000_000;
        let idle = u64::try_from(idle).unwrap_or(u64::MAX);
        let is_distant = pace.latency.as_millis() > 0;
        // A local store makes 16 calls at a time, listings and directories included.
        let requests = if is_distant { 32 } else { 8 };
        Tuning {
            gap: idle.clamp(64 * KIB, 2 * MIB),
            longest: idle.saturating_mul(2).clamp(2 * MIB, 16 * MIB),
            requests,
            ahead: requests / 2,
            window: idle.saturating_mul(8).clamp(8 * MIB, 64 * MIB),
            // As long as a request begins, this costs nobody the line.
            beginning: if is_distant { idle.min(4 * MIB) } else { 0 },
            near: if is_distant { idle.min(256 * KIB) } else { 0 },
            stride: idle.clamp(STRIDE, 4 * MIB),
            patience: if is_distant { (pace.latency / 8).min(MOST_PATIENCE) } else { Duration::ZERO },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuning(latency: Duration, bandwidth: u64) -> Tuning {
        Tuning::of(Pace { latency, bandwidth })
    }

    #[test]
    fn distant_stores_are_asked_for_more_at_a_time() {
        let local = Tuning::of(Pace::LOCAL);
        let s3 = tuning(Duration::from_millis(30), 100 * MIB);
        assert!(s3.gap >= MIB && local.gap <= 128 * KIB, "{s3:?} {local:?}");
        assert!(s3.longest > local.longest && s3.requests > local.requests && s3.window > local.window);
        assert!(local.beginning == 0 && s3.beginning >= MIB);
        assert!(local.near == 0 && local.patience.is_zero(), "what is near is not put off");
        assert!(s3.near > 0 && s3.patience < Duration::from_millis(5) && s3.stride > local.stride, "{s3:?}");
        let fast = tuning(Duration::from_millis(30), 1000 * MIB);
        assert!(fast.window > s3.window, "the window grows with bandwidth times delay");
    }

    #[test]
    fn any_pace_gives_sane_numbers() {
        for latency in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(5), Duration::MAX] {
            for bandwidth in [0, 1, MIB, u64::MAX] {
                let found = tuning(latency, bandwidth);
                assert!(found.gap <= found.longest && found.longest <= found.window, "{found:?}");
                assert!(
                    found.near <= found.gap.max(256 * KIB) && found.patience <= MOST_PATIENCE,
                    "{found:?}"
                );
                assert!(found.ahead > 0 && found.window <= 64 * MIB, "{found:?}");
            }
        }
    }
}
