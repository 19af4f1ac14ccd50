//! Whether a server is held to be down: then nobody asks it but a probe now and then.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// It opens after failures of this weight without a success between them; one that took its whole time weighs double.
const ENOUGH: u32 = 5;

/// From opening to the first probe; the pause doubles up to the longest, so that a server which is back is noticed
/// within seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// After so many probes without an answer the server is down for certain, and callers need not wait for the next one: a
/// handful of failures in a row may be bad luck where some requests fail.
const CERTAIN: u32 = 3;

/// A circuit breaker: closed while requests succeed, open after several failures in a row.
pub(super) struct Breaker {
    state: Mutex<State>,
    /// Whether it is open.
    open: watch::Sender<bool>,
}

#[derive(Clone, Copy)]
enum State {
    Closed {
        failures: u32,
    },
    /// Of `probes` that went out nothing has come, except that one may be `out` still.
    Open {
        since: Instant,
        next_probe: Instant,
        pause: Duration,
        probes: u32,
        out: bool,
    },
}

impl State {
    fn open_for(&self) -> Option<Duration> {
        match self {
            State::Closed { .. } => None,
            State::Open { since, .. } => Some(since.elapsed()),
        }
    }
}

/// What [`Breaker::admit`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Ask.
    Through,
    /// Ask: the answer decides.
    Probe,
    /// Do not ask for so long. `certain` when there is no point in waiting for that.
    Refused { retry: Duration, certain: bool },
}

impl Breaker {
    pub(super) fn new() -> Self {
        Breaker { state: Mutex::new(State::Closed { failures: 0 }), open: watch::Sender::new(false) }
    }

    /// Whether a request may go out.
    pub(super) fn admit(&self) -> Admission {
        let now = Instant::now();
        match &mut *self.state() {
            State::Closed { .. } => Admission::Through,
            State::Open { next_probe, pause, probes, out, .. } if now >= *next_probe => {
                *next_probe = now + *pause;
                *pause = (*pause * 2).min(LONGEST_PAUSE);
                // The one before has had its time.
                *probes += u32::from(std::mem::replace(out, true));
                Admission::Probe
            }
            State::Open { next_probe, probes, .. } => {
                Admission::Refused { retry: *next_probe - now, certain: *probes >= CERTAIN }
            }
        }
    }

    /// The server answered. Tells for how long the breaker was open, when that closed it.
    pub(super) fn succeeded(&self) -> Option<Duration> {
        let was = std::mem::replace(&mut *self.state(), State::Closed { failures: 0 });
        self.open.send_if_modified(|open| std::mem::replace(open, false));
        was.open_for()
    }

    /// A request failed as one does when a server is down; `weight` is 1, or 2 when it took its whole time. True when
    /// that opened the breaker.
    pub(super) fn failed(&self, weight: u32) -> bool {
        let mut state = self.state();
        let State::Closed { failures } = &mut *state else { return false };
        *failures += weight;
        if *failures < ENOUGH {
            return false;
        }
        let since = Instant::now();
        let (next_probe, pause) = (since + FIRST_PAUSE, FIRST_PAUSE);
        *state = State::Open { since, next_probe, pause, probes: 0, out: false };
        self.open.send_replace(true);
        true
    }

    /// A probe failed.
    pub(super) fn probe_failed(&self) {
        if let State::Open { probes, out, .. } = &mut *self.state() {
            *probes += u32::from(std::mem::take(out));
        }
    }

    /// Whether the server is known to be down.
    pub(super) fn is_certain(&self) -> bool {
        matches!(*self.state(), State::Open { probes, .. } if probes >= CERTAIN)
    }

    /// For how long it has been open; `None` while it is closed.
    pub(super) fn open_for(&self) -> Option<Duration> {
        self.state().open_for()
    }

    /// Ends when it is open, or closed.
    pub(super) async fn becomes(&self, open: bool) {
        // The sender lives as long as this does.
        let _ = self.open.subscribe().wait_for(|now| *now == open).await;
    }

    /// Ends when it closes: at once never, later when it is open now or opens meanwhile.
    pub(super) async fn recovers(&self) {
        let mut open = self.open.subscribe();
        for wanted in [true, false] {
            drop(open.wait_for(|now| *now == wanted).await);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Breaker {
        let breaker = Breaker::new();
        let opening: Vec<bool> = (0..ENOUGH).map(|_| breaker.failed(1)).collect();
        assert_eq!(opening.iter().filter(|opened| **opened).count(), 1, "told once: {opening:?}");
        assert!(opening[opening.len() - 1]);
        breaker
    }

    fn is_refused(breaker: &Breaker) -> bool {
        matches!(breaker.admit(), Admission::Refused { .. })
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_only() {
        let breaker = Breaker::new();
        for _ in 0..100 {
            (1..ENOUGH).for_each(|_| assert!(!breaker.failed(1)));
            breaker.succeeded();
        }
        assert_eq!(breaker.admit(), Admission::Through);
        assert_eq!(breaker.open_for(), None);
        assert!(is_refused(&opened()));
        let slow = Breaker::new();
        assert_eq!([slow.failed(2), slow.failed(2), slow.failed(2)], [false, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_certain_only_after_probes() {
        let breaker = opened();
        let mut certain = Vec::new();
        for _ in 0..4 {
            let Admission::Refused { retry, certain: now } = breaker.admit() else { panic!("admitted") };
            certain.push(now);
            tokio::time::advance(retry).await;
            assert_eq!(breaker.admit(), Admission::Probe);
            assert!(!breaker.is_certain() || certain.len() == 4, "a probe that is out says nothing yet");
            assert!(is_refused(&breaker), "one probe at a time");
            breaker.probe_failed();
            assert!(!breaker.failed(1), "open already");
        }
        assert_eq!(certain, [false, false, false, true]);
        assert!(breaker.is_certain());
        breaker.succeeded();
        assert_eq!((breaker.admit(), breaker.is_certain()), (Admission::Through, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_an_answer_counts_when_the_next_one_goes_out() {
        let breaker = opened();
        for sent in 1..=4 {
            assert!(!breaker.is_certain(), "{sent}");
            let Admission::Refused { retry, .. } = breaker.admit() else { panic!("admitted") };
            tokio::time::advance(retry).await;
            assert_eq!(breaker.admit(), Admission::Probe);
        }
        assert!(breaker.is_certain());
        breaker.probe_failed();
        breaker.probe_failed();
        assert!(breaker.succeeded().is_some());
        breaker.probe_failed();
        assert!(!breaker.is_certain(), "late words about an outage that is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_server_is_probed_rarely_but_often_enough() {
        let (breaker, begun) = (opened(), Instant::now());
        let (mut probes, mut longest, mut last) = (0, Duration::ZERO, begun);
        while begun.elapsed() < Duration::from_secs(600) {
            tokio::time::advance(Duration::from_millis(10)).await;
            if breaker.admit() == Admission::Probe {
                probes += 1;
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
        }
        assert!((140..160).contains(&probes), "{probes}");
        assert!(longest <= Duration::from_secs(5), "a server that is back is noticed: {longest:?}");
        assert_eq!(breaker.open_for(), Some(begun.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_change_is_told_of_it() {
        let breaker = Breaker::new();
        breaker.becomes(false).await;
        tokio::join!(breaker.becomes(true), async { assert!(breaker.failed(ENOUGH)) });
        tokio::join!(breaker.becomes(false), async {
            tokio::time::advance(Duration::from_secs(7)).await;
            assert_eq!(breaker.succeeded(), Some(Duration::from_secs(7)));
        });
        assert_eq!(breaker.succeeded(), None, "it was closed");
        tokio::join!(breaker.recovers(), async {
            assert!(breaker.failed(ENOUGH));
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(breaker.succeeded().is_some());
        });
    }
}
