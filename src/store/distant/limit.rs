//! How many requests a server is sent at a time: more while it keeps up, half as many when it does not.
//!
//! Additive increase, multiplicative decrease, as TCP does it. A server that asks for fewer requests, or that leaves
//! one without an answer, has too many; so has one whose answers to small requests take many times as long as they did
//! when it had little to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Requests at a time: at first, at least and at most.
const FIRST: usize = 32;
const LEAST: usize = 2;
const MOST: usize = 64;

/// Slow answers alone never make it fewer than this: what is slow may be the way, which fewer requests do not shorten.
const LEAST_WHEN_SLOW: usize = 8;

/// An answer is slow when it takes so many times the quickest of late, and that much longer.
const SLOW_TIMES: u32 = 8;
const SLOW_BY: Duration = Duration::from_millis(250);

/// The quickest answer is forgotten after this, because the way to a server changes.
const OF_LATE: Duration = Duration::from_secs(60);

/// Answers up to this size tell how busy the server is; larger ones how wide the way is.
const SMALL: u64 = 64 << 10;

/// A limit on requests in flight that follows what the server can take.
pub(super) struct Limit {
    slots: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    limit: usize,
    in_flight: usize,
    /// Slots that are to go when they are given back.
    owed: usize,
    /// Answers in time since the limit was changed last, and whether it was reached.
    in_time: usize,
    reached: bool,
    lowered: Option<Instant>,
    quickest: Option<(Duration, Instant)>,
}

/// How a request went, as far as its server's load is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// An answer of so many bytes.
    Answered(u64),
    /// The server asks for fewer requests, or left this one without an answer.
    TooMuch,
    /// Nothing that says anything about it.
    Unknown,
}

/// A request in flight. Dropped without [`Slot::done`] it tells nothing.
pub(super) struct Slot<'a> {
    limit: &'a Limit,
    begun: Instant,
    permit: Option<OwnedSemaphorePermit>,
}

impl Limit {
    pub(super) fn new() -> Self {
        let state = State {
            limit: FIRST,
            in_flight: 0,
            owed: 0,
            in_time: 0,
            reached: false,
            lowered: None,
            quickest: None,
        };
        Limit { slots: Arc::new(Semaphore::new(FIRST)), state: Mutex::new(state) }
    }

    /// Waits for a slot: first come, first served.
    pub(super) async fn enter(&self) -> Slot<'_> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.slots).acquire_owned().await.ok();
        self.begin(permit)
    }

    /// A request beyond the limit: a probe must not wait for slots that hanging requests hold.
    pub(super) fn beyond(&self) -> Slot<'_> {
        self.begin(None)
    }

    fn begin(&self, permit: Option<OwnedSemaphorePermit>) -> Slot<'_> {
        let mut state = self.state();
        state.in_flight += 1;
        state.reached |= state.in_flight >= state.limit;
        drop(state);
        Slot { limit: self, begun: Instant::now(), permit }
    }

    /// Requests in flight, and how many there may be.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        let state = self.state();
        (state.in_flight, state.limit)
    }

    /// Whether there cannot be fewer.
    pub(super) fn is_least(&self) -> bool {
        self.state().limit <= LEAST
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, begun: Instant, load: Load) {
        let mut state = self.state();
        let too_much = match load {
            Load::Unknown => return,
            Load::TooMuch => Some(LEAST),
            Load::Answered(size) if size <= SMALL && state.is_slow(begun.elapsed()) => Some(LEAST_WHEN_SLOW),
            Load::Answered(_) => None,
        };
        match too_much {
            Some(least) => self.lower(&mut state, begun, least),
            None => self.raise(&mut state),
        }
    }

    /// One more at a time, once the limit was reached and as many were answered.
    fn raise(&self, state: &mut State) {
        state.in_time += 1;
        if state.in_time < state.limit || state.limit >= MOST || !state.reached {
            return;
        }
        (state.limit, state.in_time, state.reached) = (state.limit + 1, 0, false);
        match state.owed.checked_sub(1) {
            Some(owed) => state.owed = owed,
            None => self.slots.add_permits(1),
        }
    }

    /// Half as many; once for all requests that were under way together.
    fn lower(&self, state: &mut State, begun: Instant, least: usize) {
        if state.lowered.is_some_and(|lowered| begun < lowered) {
            return;
        }
        let limit = (state.limit / 2).max(least).min(state.limit);
        let fewer = state.limit - limit;
        state.owed += fewer - self.slots.forget_permits(fewer);
        (state.limit, state.in_time, state.reached) = (limit, 0, false);
        state.lowered = Some(Instant::now());
    }
}

impl State {
    /// Whether a small answer took too long; remembers the quickest.
    fn is_slow(&mut self, took: Duration) -> bool {
        let now = Instant::now();
        match self.quickest {
            Some((quickest, at)) if now - at < OF_LATE && took > quickest => {
                took > (quickest * SLOW_TIMES).max(quickest + SLOW_BY)
            }
            _ => {
                self.quickest = Some((took, now));
                false
            }
        }
    }
}

impl Slot<'_> {
    /// Tells how it went.
    pub(super) fn done(self, load: Load) {
        self.limit.learn(self.begun, load);
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.limit.state();
        state.in_flight -= 1;
        if let Some(permit) = self.permit.take()
            && let Some(owed) = state.owed.checked_sub(1)
        {
            state.owed = owed;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    /// As many requests as may be at a time, all with this outcome after `took`.
    async fn round(limit: &Limit, took: Duration, load: Load) -> usize {
        let mut slots = Vec::new();
        while let Some(slot) = limit.enter().now_or_never() {
            slots.push(slot);
        }
        let count = slots.len();
        assert_eq!(limit.in_flight(), (count, count));
        tokio::time::advance(took).await;
        slots.into_iter().for_each(|slot| slot.done(load));
        count
    }

    const QUICK: Duration = Duration::from_millis(30);
    const ANSWERED: Load = Load::Answered(1000);

    #[tokio::test(start_paused = true)]
    async fn it_grows_by_one_a_round_and_halves_once_a_round() {
        let limit = Limit::new();
        let mut rounds = Vec::new();
        for load in [ANSWERED, ANSWERED, Load::TooMuch, Load::TooMuch, ANSWERED, ANSWERED] {
            rounds.push(round(&limit, QUICK, load).await);
        }
        assert_eq!(rounds, [32, 33, 34, 17, 8, 9]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_stays_between_its_bounds() {
        let limit = Limit::new();
        for _ in 0..100 {
            round(&limit, QUICK, ANSWERED).await;
        }
        assert_eq!(limit.in_flight(), (0, MOST));
        for _ in 0..100 {
            round(&limit, QUICK, Load::TooMuch).await;
        }
        assert_eq!(limit.in_flight(), (0, LEAST));
        for _ in 0..10 {
            round(&limit, QUICK, Load::Unknown).await;
        }
        assert_eq!(limit.in_flight(), (0, LEAST), "what says nothing changes nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_grow_slow_lower_it_a_little() {
        let limit = Limit::new();
        round(&limit, QUICK, ANSWERED).await;
        for _ in 0..10 {
            round(&limit, QUICK * 20, ANSWERED).await;
        }
        assert_eq!(limit.in_flight().1, LEAST_WHEN_SLOW);
        for _ in 0..10 {
            round(&limit, QUICK * 20, Load::Answered(SMALL + 1)).await;
        }
        assert!(limit.in_flight().1 > LEAST_WHEN_SLOW, "a large answer takes its time");
        // What was quick once is not expected for ever.
        tokio::time::advance(OF_LATE).await;
        let before = limit.in_flight().1;
        round(&limit, QUICK * 20, ANSWERED).await;
        assert_eq!(limit.in_flight().1, before + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_limit_does_not_grow() {
        let limit = Limit::new();
        for _ in 0..1000 {
            limit.enter().await.done(ANSWERED);
        }
        assert_eq!(limit.in_flight(), (0, FIRST));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_needs_no_slot_and_leaves_none_behind() {
        let limit = Limit::new();
        let held: Vec<_> = (0..FIRST).filter_map(|_| limit.enter().now_or_never()).collect();
        assert!(limit.enter().now_or_never().is_none());
        limit.beyond().done(Load::TooMuch);
        assert_eq!(limit.in_flight(), (FIRST, FIRST / 2));
        drop(held);
        assert_eq!(round(&limit, QUICK, ANSWERED).await, FIRST / 2);
    }

    proptest! {
        /// Whatever happens, in whatever order, there are as many slots as the limit says once nothing is under way.
        #[test]
        fn no_slot_is_lost_or_made(steps in prop::collection::vec((0..4_u8, 0..80_usize), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let (limit, mut held) = (Limit::new(), Vec::new());
                for (what, which) in steps {
                    tokio::time::advance(QUICK).await;
                    match what {
                        0 | 1 => held.extend(limit.enter().now_or_never()),
                        2 if !held.is_empty() => {
                            let slot: Slot = held.swap_remove(which % held.len());
                            slot.done(if which % 3 == 0 { Load::TooMuch } else { ANSWERED });
                        }
                        3 if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                        _ => {}
                    }
                    assert_eq!(limit.in_flight().0, held.len());
                }
                held.clear();
                let (in_flight, most) = limit.in_flight();
                assert_eq!(in_flight, 0);
                assert!((LEAST..=MOST).contains(&most));
                let mut slots = Vec::new();
                while let Some(slot) = limit.enter().now_or_never() {
                    slots.push(slot);
                }
                assert_eq!(slots.len(), most);
            });
        }
    }
}
