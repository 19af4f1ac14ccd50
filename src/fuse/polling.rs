//! Adaptive polling of the kernel's door.
//!
//! A thread that sleeps until the next request costs a wake-up per round trip, which is most of a short request. While
//! requests come fast and are answered at once, the door gets `O_NONBLOCK`, and the kernel thread, which tries again at
//! `EAGAIN`, spins instead of sleeping. After a moment of silence, when answers have to be waited for, or when others
//! want the processor that it spins on, it sleeps again: an idle mount uses no processor, and where all processors are
//! busy a wake-up is cheap while spinning holds up those who ask.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::error::{Error, Kind, Result};

/// Requests are looked at in portions; one that came within [`FAST`] is worth spinning for.
const PORTION: u64 = 16;
const FAST: Duration = Duration::from_millis(1);

/// So long nobody may ask before the thread sleeps again.
const SILENCE: Duration = Duration::from_millis(1);

/// The kernel thread may wait for a processor this share of the time while it spins; then it rests from spinning for so
/// long.
const WAITING: u32 = 10;
const REST: Duration = Duration::from_millis(10);

/// How fast requests come. Cheap enough to be told of every one of them.
pub(super) struct Pace {
    /// Requests answered at once.
    inline: AtomicU64,
    /// Requests whose answer had to be waited for since the last portion.
    waits: AtomicU64,
    /// When the last portion was full, in nanoseconds after `begun`.
    portion: AtomicU64,
    begun: Instant,
    spinning: AtomicBool,
    /// The kernel thread.
    thread: AtomicI32,
    ends: AtomicBool,
    governor: OnceLock<Thread>,
}

impl Pace {
    /// Nothing was asked yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Pace {
            inline: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            portion: AtomicU64::new(0),
            begun: Instant::now(),
            spinning: AtomicBool::new(false),
            thread: AtomicI32::new(0),
            ends: AtomicBool::new(false),
            governor: OnceLock::new(),
        })
    }

    /// A request was answered at once. Called on the kernel thread.
    pub fn inline(&self) {
        let count = self.inline.fetch_add(1, Ordering::Relaxed);
        if count.is_multiple_of(PORTION)
            && self.portion_is_fast(self.begun.elapsed())
            && !self.spinning.swap(true, Ordering::Relaxed)
            && let Some(governor) = self.governor.get()
        {
            self.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
            governor.unpark();
        }
    }

    /// The answer of a request has to be waited for.
    pub fn waits(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the portion that ends `now` came fast, and the answers at once.
    fn portion_is_fast(&self, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let before = self.portion.swap(now, Ordering::Relaxed);
        let waited = self.waits.swap(0, Ordering::Relaxed);
        waited == 0 && Duration::from_nanos(now.saturating_sub(before)) < FAST
    }
}

/// Makes the kernel thread spin and sleep. Dropped, it leaves it asleep.
pub(super) struct Governor {
    pace: Arc<Pace>,
    thread: Option<JoinHandle<()>>,
}

impl Governor {
    /// Governs `door`, a duplicate of the descriptor that the one kernel thread reads. On a single processor the
    /// spinning would keep from work whoever is to ask.
    pub fn start(door: OwnedFd, pace: Arc<Pace>) -> Result<Self> {
        let several = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        if !several {
            return Ok(Governor { pace, thread: None });
        }
        let watched = pace.clone();
        let thread = std::thread::Builder::new()
            .name("governor".into())
            .spawn(move || watch(&door, &watched))
            .map_err(|e| Error::caused_by(Kind::System, "cannot start a thread", e))?;
        pace.governor.get_or_init(|| thread.thread().clone());
        Ok(Governor { pace, thread: Some(thread) })
    }
}

impl Drop for Governor {
    fn drop(&mut self) {
        self.pace.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn watch(door: &OwnedFd, pace: &Pace) {
    while !pace.ends.load(Ordering::Relaxed) {
        if pace.spinning.load(Ordering::Relaxed) {
            poll(door, true);
            let why = until_sleep_is_better(pace);
            poll(door, false);
            if why == Why::Contended {
                std::thread::sleep(REST);
            }
            pace.spinning.store(false, Ordering::Relaxed);
        }
        std::thread::park();
    }
}

#[derive(PartialEq, Eq)]
enum Why {
    Silent,
    Contended,
}

/// Returns when nobody asked for a while, most answers had to be waited for, or others want the processor.
fn until_sleep_is_better(pace: &Pace) -> Why {
    let delays = format!("/proc/self/task/{}/schedstat", pace.thread.load(Ordering::Relaxed));
    let mut seen = pace.inline.load(Ordering::Relaxed);
    let (mut waited, mut begun) = (waited(&delays), Instant::now());
    while !pace.ends.load(Ordering::Relaxed) {
        std::thread::sleep(SILENCE);
        let now = pace.inline.load(Ordering::Relaxed);
        if now - seen < pace.waits.load(Ordering::Relaxed).max(1) {
            return Why::Silent;
        }
        let waits = self::waited(&delays);
        if waits.saturating_sub(waited) * WAITING > begun.elapsed() {
            return Why::Contended;
        }
        (seen, waited, begun) = (now, waits, Instant::now());
    }
    Why::Silent
}

/// How long a thread has waited for a processor, by its `schedstat`: nothing where the kernel does not tell.
fn waited(schedstat: &str) -> Duration {
    let stat = std::fs::read_to_string(schedstat).unwrap_or_default();
    let delay = stat.split_whitespace().nth(1).and_then(|delay| delay.parse().ok());
    Duration::from_nanos(delay.unwrap_or_default())
}

fn poll(door: impl AsFd, on: bool) {
    let Ok(flags) = rustix::fs::fcntl_getfl(&door) else { return };
    let flags = if on { flags | OFlags::NONBLOCK } else { flags - OFlags::NONBLOCK };
    // Where it fails the thread sleeps, as it would have without this.
    let _ = rustix::fs::fcntl_setfl(&door, flags);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polls(door: impl AsFd) -> bool {
        rustix::fs::fcntl_getfl(door).unwrap().contains(OFlags::NONBLOCK)
    }

    fn until(what: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !what() {
            assert!(Instant::now() < end, "it never came");
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    #[test]
    fn a_portion_is_fast_when_it_came_within_a_moment_and_nobody_waited() {
        let pace = Pace::new();
        let at = Duration::from_micros;
        assert!(!pace.portion_is_fast(at(5_000)));
        assert!(pace.portion_is_fast(at(5_900)));
        assert!(!pace.portion_is_fast(at(7_000)));
        pace.waits();
        assert!(!pace.portion_is_fast(at(7_100)));
        assert!(pace.portion_is_fast(at(7_200)));
    }

    #[test]
    fn polls_while_requests_come_fast_and_sleeps_when_they_end() {
        if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
            return;
        }
        let (door, _other) = rustix::pipe::pipe().unwrap();
        let pace = Pace::new();
        let governor = Governor::start(door.try_clone().unwrap(), pace.clone()).unwrap();
        assert!(!polls(&door));
        until(|| {
            (0..PORTION * 4).for_each(|_| pace.inline());
            polls(&door)
        });
        until(|| !polls(&door));
        until(|| {
            (0..PORTION * 4).for_each(|_| pace.inline());
            polls(&door)
        });
        drop(governor);
        assert!(!polls(&door), "it sleeps when nobody governs it");
    }

    #[test]
    fn a_thread_that_waits_for_a_processor_is_told_of_in_schedstat() {
        assert_eq!(waited("/nowhere"), Duration::ZERO);
        let dir = tempfile::tempdir().unwrap();
        let stat = dir.path().join("schedstat");
        std::fs::write(&stat, "1200 34000000 7\n").unwrap();
        assert_eq!(waited(stat.to_str().unwrap()), Duration::from_millis(34));
    }

    #[test]
    fn few_requests_never_make_it_poll() {
        let (door, _other) = rustix::pipe::pipe().unwrap();
        let pace = Pace::new();
        let _governor = Governor::start(door.try_clone().unwrap(), pace.clone()).unwrap();
        // Fewer than a portion can never be fast.
        std::thread::sleep(FAST * 2);
        (0..PORTION).for_each(|_| pace.inline());
        assert!(!pace.spinning.load(Ordering::Relaxed) && !polls(&door));
    }
}
