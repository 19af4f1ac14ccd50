//! Keeping the kernel thread awake while requests come fast.
//!
//! Rousing a processor from idle is most of a short round trip, on a virtual machine above all. While requests come
//! fast and are answered at once, it is kept from idling; after a moment of silence, or when answers have to be waited
//! for, everything sleeps again: an idle mount uses no processor. There are two ways:
//!
//! * With three processors or more the kernel's door gets `O_NONBLOCK`, and the kernel thread, which tries again at
//!   `EAGAIN`, spins instead of sleeping, unless others want the processor that it spins on.
//! * With two, one would be taken from those who decode. Instead a thread of the lowest priority keeps the second busy,
//!   so that the kernel wakes our thread where the one who asks has just gone to sleep. It gives way to any other work,
//!   and keeps our thread off its own processor.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

use crate::error::{Error, Kind, Result};

/// Requests are looked at in portions; one that came within [`FAST`] is worth staying awake for. A copy to a disk asks
/// three times for each file and writes for 200 µs between.
const PORTION: u64 = 16;
const FAST: Duration = Duration::from_millis(4);

/// So long nobody may ask before everything sleeps again.
const SILENCE: Duration = Duration::from_millis(1);

/// While it spins the kernel thread may wait for a processor one part in so many of the time; else it rests from
/// spinning for so long.
const WAITING: u32 = 10;
const REST: Duration = Duration::from_millis(10);

/// The lowest priority.
const NICE: i32 = 19;

/// How fast requests come. Cheap enough to be told of every one of them.
pub(super) struct Pace {
    /// Requests answered at once.
    inline: AtomicU64,
    /// Requests whose answer had to be waited for since the last portion.
    waits: AtomicU64,
    /// When the last portion was full, in nanoseconds after `begun`.
    portion: AtomicU64,
    begun: Instant,
    awake: AtomicBool,
    /// The kernel thread.
    thread: AtomicI32,
    /// The processor that it ran on last.
    processor: AtomicUsize,
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
            awake: AtomicBool::new(false),
            thread: AtomicI32::new(0),
            processor: AtomicUsize::new(0),
            ends: AtomicBool::new(false),
            governor: OnceLock::new(),
        })
    }

    /// A request was answered at once. Called on the kernel thread.
    pub fn inline(&self) {
        let count = self.inline.fetch_add(1, Ordering::Relaxed);
        if !count.is_multiple_of(PORTION) {
            return;
        }
        self.processor.store(rustix::thread::sched_getcpu(), Ordering::Relaxed);
        if self.portion_is_fast(self.begun.elapsed())
            && !self.awake.swap(true, Ordering::Relaxed)
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

    /// Whether the portion that ends `now` came fast, and most answers at once.
    fn portion_is_fast(&self, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let before = self.portion.swap(now, Ordering::Relaxed);
        let waited = self.waits.swap(0, Ordering::Relaxed);
        waited < PORTION / 2 && Duration::from_nanos(now.saturating_sub(before)) < FAST
    }
}

/// How to stay awake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Spin,
    Occupy,
}

/// The way on a machine of so many processors. With one, whoever stays awake keeps from work who is to ask.
fn way(processors: usize) -> Option<Way> {
    match processors {
        ..2 => None,
        2 => Some(Way::Occupy),
        3.. => Some(Way::Spin),
    }
}

/// Keeps awake and lets sleep. Dropped, it lets sleep.
pub(super) struct Governor {
    pace: Arc<Pace>,
    thread: Option<JoinHandle<()>>,
}

impl Governor {
    /// Governs `door`, a duplicate of the descriptor that the one kernel thread reads.
    pub fn start(door: OwnedFd, pace: Arc<Pace>) -> Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Governor::with(door, pace, way(processors))
    }

    fn with(door: OwnedFd, pace: Arc<Pace>, way: Option<Way>) -> Result<Self> {
        let Some(way) = way else { return Ok(Governor { pace, thread: None }) };
        let watched = pace.clone();
        let thread = std::thread::Builder::new()
            .name("governor".into())
            .spawn(move || watch(&door, &watched, way))
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

fn watch(door: &OwnedFd, pace: &Pace, way: Way) {
    // One that cannot be nice would take the processor from others.
    let is_nice = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE).is_ok();
    while !pace.ends.load(Ordering::Relaxed) {
        if pace.awake.load(Ordering::Relaxed) {
            match way {
                Way::Spin => spin(door, pace),
                Way::Occupy if is_nice => occupy(pace),
                Way::Occupy => {}
            }
            pace.awake.store(false, Ordering::Relaxed);
        }
        std::thread::park();
    }
}

/// Keeps this thread's processor from idling.
fn occupy(pace: &Pace) {
    let mut seen = pace.inline.load(Ordering::Relaxed);
    let mut apart = Apart::new(pace.thread.load(Ordering::Relaxed));
    loop {
        let begun = Instant::now();
        while begun.elapsed() < SILENCE {
            std::hint::spin_loop();
        }
        match seen_since(pace, seen) {
            Some(now) => seen = now,
            None => return,
        }
        apart.keep(pace.processor.load(Ordering::Relaxed), rustix::thread::sched_getcpu());
    }
}

/// Keeps a thread off the processor that this one occupies. The kernel wakes a thread where it ran last: once there, it
/// would be woken there for as long as the requests come, while the processor of the one who asks idles.
struct Apart {
    thread: Option<Pid>,
    /// Where it may run; `None` when the kernel does not tell.
    allowed: Option<CpuSet>,
    is_kept: bool,
}

impl Apart {
    fn new(thread: i32) -> Self {
        let thread = Pid::from_raw(thread);
        let allowed = thread.and_then(|thread| sched_getaffinity(Some(thread)).ok());
        Apart { thread, allowed, is_kept: false }
    }

    /// The thread ran on processor `there` last, and this one runs on `here`.
    fn keep(&mut self, there: usize, here: usize) {
        match (&self.allowed, there == here) {
            (Some(allowed), true) => {
                let mut others = *allowed;
                others.unset(here);
                // Where there is no other processor it fails, and the thread stays.
                self.is_kept = sched_setaffinity(self.thread, &others).is_ok();
            }
            _ => self.free(),
        }
    }

    fn free(&mut self) {
        if let (Some(allowed), true) = (&self.allowed, self.is_kept) {
            let _ = sched_setaffinity(self.thread, allowed);
        }
        self.is_kept = false;
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.free();
    }
}

/// Makes the kernel thread spin.
fn spin(door: &OwnedFd, pace: &Pace) {
    let delays = format!("/proc/self/task/{}/schedstat", pace.thread.load(Ordering::Relaxed));
    let (mut seen, mut delay, mut begun) =
        (pace.inline.load(Ordering::Relaxed), delay_of(&delays), Instant::now());
    poll(door, true);
    let is_contended = loop {
        std::thread::sleep(SILENCE);
        let Some(now) = seen_since(pace, seen) else { break false };
        let delayed = delay_of(&delays);
        if delayed.saturating_sub(delay) * WAITING > begun.elapsed() {
            break true;
        }
        (seen, delay, begun) = (now, delayed, Instant::now());
    };
    poll(door, false);
    if is_contended {
        std::thread::sleep(REST);
    }
}

/// The requests seen so far, unless it is time to sleep: nobody asked since `seen`, or most answers had to be waited
/// for.
fn seen_since(pace: &Pace, seen: u64) -> Option<u64> {
    let now = pace.inline.load(Ordering::Relaxed);
    let goes_on = now - seen >= pace.waits.load(Ordering::Relaxed).max(1);
    (goes_on && !pace.ends.load(Ordering::Relaxed)).then_some(now)
}

/// How long a thread has waited for a processor, by its `schedstat`: nothing where the kernel does not tell.
fn delay_of(schedstat: &str) -> Duration {
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

    fn burst(pace: &Pace) {
        (0..PORTION * 4).for_each(|_| pace.inline());
    }

    fn is_awake(pace: &Pace) -> bool {
        pace.awake.load(Ordering::Relaxed)
    }

    #[test]
    fn a_portion_is_fast_when_it_came_within_a_moment_and_few_waited() {
        let pace = Pace::new();
        let at = Duration::from_micros;
        assert!(!pace.portion_is_fast(at(5_000)));
        assert!(pace.portion_is_fast(at(5_900)));
        assert!(!pace.portion_is_fast(at(10_000)));
        (0..PORTION / 2).for_each(|_| pace.waits());
        assert!(!pace.portion_is_fast(at(10_100)), "most waited");
        pace.waits();
        assert!(pace.portion_is_fast(at(10_200)));
    }

    #[test]
    fn the_way_follows_from_the_processors() {
        assert_eq!(
            [0, 1, 2, 3, 64].map(way),
            [None, None, Some(Way::Occupy), Some(Way::Spin), Some(Way::Spin)]
        );
    }

    #[test]
    fn polls_while_requests_come_fast_and_sleeps_when_they_end() {
        let (door, _other) = rustix::pipe::pipe().unwrap();
        let pace = Pace::new();
        let governor = Governor::with(door.try_clone().unwrap(), pace.clone(), Some(Way::Spin)).unwrap();
        assert!(!polls(&door));
        for _ in 0..2 {
            until(|| {
                burst(&pace);
                polls(&door)
            });
            until(|| !polls(&door) && !is_awake(&pace));
        }
        drop(governor);
        assert!(!polls(&door), "it sleeps when nobody governs it");
    }

    #[test]
    fn occupies_a_processor_no_longer_than_requests_come() {
        let (door, _other) = rustix::pipe::pipe().unwrap();
        let pace = Pace::new();
        let _governor = Governor::with(door.try_clone().unwrap(), pace.clone(), Some(Way::Occupy)).unwrap();
        until(|| {
            burst(&pace);
            is_awake(&pace)
        });
        assert!(!polls(&door), "the door stays as it is");
        until(|| !is_awake(&pace));
        until(|| {
            burst(&pace);
            is_awake(&pace)
        });
        // Answers that have to be waited for end it, however many others there are.
        until(|| {
            pace.inline();
            (0..1000).for_each(|_| pace.waits());
            !is_awake(&pace)
        });
    }

    #[test]
    fn a_thread_is_kept_off_one_processor_until_it_is_free() {
        let thread = rustix::thread::gettid();
        let allowed = || sched_getaffinity(Some(thread)).unwrap();
        let all = allowed();
        let mut processors = (0..CpuSet::MAX_CPU).filter(|processor| all.is_set(*processor));
        let (Some(here), Some(other)) = (processors.next(), processors.next()) else {
            let mut apart = Apart::new(thread.as_raw_nonzero().get());
            apart.keep(0, 0);
            assert_eq!(allowed(), all, "the only processor stays");
            return;
        };
        let mut apart = Apart::new(thread.as_raw_nonzero().get());
        apart.keep(here, other);
        assert_eq!(allowed(), all);
        apart.keep(here, here);
        assert!(!allowed().is_set(here) && allowed().is_set(other));
        apart.keep(other, here);
        assert_eq!(allowed(), all);
        apart.keep(other, other);
        assert!(!allowed().is_set(other));
        drop(apart);
        assert_eq!(allowed(), all);
    }

    #[test]
    fn a_thread_that_waits_for_a_processor_is_told_of_in_schedstat() {
        assert_eq!(delay_of("/nowhere"), Duration::ZERO);
        let dir = tempfile::tempdir().unwrap();
        let stat = dir.path().join("schedstat");
        std::fs::write(&stat, "1200 34000000 7\n").unwrap();
        assert_eq!(delay_of(stat.to_str().unwrap()), Duration::from_millis(34));
    }

    #[test]
    fn few_requests_never_keep_it_awake() {
        let (door, _other) = rustix::pipe::pipe().unwrap();
        let pace = Pace::new();
        let _governor = Governor::start(door.try_clone().unwrap(), pace.clone()).unwrap();
        // Fewer than a portion can never be fast.
        std::thread::sleep(FAST * 2);
        (0..PORTION).for_each(|_| pace.inline());
        assert!(!is_awake(&pace) && !polls(&door));
    }
}
