//! All wrappers together around a store that fails by rule, on a clock that goes when told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use proptest::prelude::*;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::error::{Again, Error, Kind, Result};
use crate::observe::links::{self, Link};
use crate::store::faulty::{Fault, FaultyStore, Rule};
use crate::store::{Memory, ObjectInfo, Pace};

const PATIENCE: Duration = Duration::from_secs(57);
const SECOND: Duration = Duration::from_secs(1);

/// A guarded store of one object, `key`, whose bytes are `0123456789`.
struct Bed {
    name: String,
    faults: Arc<FaultyStore>,
    store: Arc<dyn ObjectStore>,
}

impl Bed {
    fn new() -> Self {
        static BEDS: AtomicU64 = AtomicU64::new(0);
        let name = format!("test://{}", BEDS.fetch_add(1, Ordering::SeqCst));
        let memory = Memory::new();
        memory.insert("key", "0123456789").unwrap();
        memory.insert("other", "other").unwrap();
        let faults = FaultyStore::new(Arc::new(memory));
        let store = guarded(Arc::<FaultyStore>::clone(&faults), Endpoint::of(&name), PATIENCE);
        Bed { name, faults, store }
    }

    /// Every call on an object and every listing meets `fault`.
    fn fails(&self, fault: &Fault) -> [Arc<Rule>; 2] {
        [Rule::new(fault.clone()), Rule::new(fault.clone()).lists()].map(|rule| self.faults.add(rule))
    }

    async fn read(&self) -> Result<Bytes> {
        self.store.get_range("key", 2, 3).await
    }

    /// What `status` shows.
    fn link(&self) -> Link {
        links::all().into_iter().find(|link| link.name == self.name).unwrap()
    }

    /// Reads until the server is known to be down.
    async fn down(&self) -> [Arc<Rule>; 2] {
        let rules = self.fails(&lost());
        while !matches!(self.read().await.unwrap_err().again(), Again::Down(_)) {}
        rules
    }
}

fn failing(kind: Kind, again: Again) -> Fault {
    Fault::Error(Error::new(kind, "made to fail").worth(again))
}

fn lost() -> Fault {
    failing(Kind::Unavailable, Again::Soon)
}

fn busy() -> Fault {
    failing(Kind::Unavailable, Again::Slower(None))
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again() {
    for fault in [lost(), busy(), failing(Kind::TimedOut, Again::Soon), failing(Kind::Corrupt, Again::Soon)] {
        let bed = Bed::new();
        let rule = bed.faults.add(Rule::new(fault.clone()).times(2));
        assert_eq!(bed.read().await.unwrap(), "234", "{fault:?}");
        assert_eq!(rule.hits(), 2);
        assert_eq!((bed.link().retries, bed.link().failures, bed.link().requests), (2, 2, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_the_object_is_final() {
    for kind in [Kind::NotFound, Kind::Denied, Kind::Corrupt, Kind::Unsupported, Kind::Unavailable] {
        let bed = Bed::new();
        let rule = bed.faults.add(Rule::new(Fault::Fail(kind)));
        let begun = Instant::now();
        for _ in 0..100 {
            assert_eq!(bed.read().await.unwrap_err().kind(), kind);
        }
        assert_eq!((rule.hits(), begun.elapsed()), (100, Duration::ZERO));
        bed.faults.heal();
        assert_eq!(bed.read().await.unwrap(), "234", "{kind:?} does not mean that the server is down");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_always_wrong_fails_soon_and_alone() {
    let bed = Bed::new();
    let rule = bed.faults.add(Rule::new(failing(Kind::Corrupt, Again::Soon)).keys("key"));
    for round in 1..20 {
        assert_eq!(bed.read().await.unwrap_err().kind(), Kind::Corrupt);
        assert_eq!(rule.hits(), 3 * round);
    }
    assert_eq!(bed.store.get("other", 99).await.unwrap(), "other");
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_before_whoever_asked_has_gone() {
    for fault in [lost(), busy(), Fault::Stall, failing(Kind::Unavailable, Again::Slower(Some(SECOND * 3)))] {
        let bed = Bed::new();
        bed.read().await.unwrap();
        bed.fails(&fault);
        let begun = Instant::now();
        let results = join_all((0..200).map(|_| bed.read())).await;
        let took = begun.elapsed();
        assert!(took > PATIENCE / 2 && took <= PATIENCE, "{fault:?}: {took:?}");
        let kinds: Vec<Kind> = results.into_iter().map(|result| result.unwrap_err().kind()).collect();
        assert!(kinds.iter().all(|kind| matches!(kind, Kind::Unavailable | Kind::TimedOut)), "{kinds:?}");
        assert_eq!(bed.link().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answered_is_given_up_soon() {
    for fault in [lost(), busy()] {
        let bed = Bed::new();
        bed.fails(&fault);
        let begun = Instant::now();
        let error = bed.read().await.unwrap_err();
        assert!(error.to_string().contains("made to fail"), "{error}");
        assert!(begun.elapsed() <= SECOND * 10, "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_the_time_that_the_server_named() {
    let bed = Bed::new();
    bed.read().await.unwrap();
    let after = Again::Slower(Some(SECOND * 20));
    bed.faults.add(Rule::new(failing(Kind::Unavailable, after)).times(1));
    let begun = Instant::now();
    assert_eq!(bed.read().await.unwrap(), "234");
    assert!((SECOND * 20..SECOND * 21).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // Nobody waits that long: told at once.
    let rule = bed.faults.add(Rule::new(failing(Kind::Unavailable, Again::Slower(Some(SECOND * 60)))));
    let begun = Instant::now();
    assert_eq!(bed.read().await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!((rule.hits(), begun.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_the_server_is_down_is_told_at_once() {
    let bed = Bed::new();
    bed.down().await;
    let begun = Instant::now();
    for _ in 0..1000 {
        let listed = bed.store.list("").await.map(|objects| objects.len());
        let error = listed.and(bed.read().await.map(|_| 0)).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().contains("has not answered for"), "{error}");
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(bed.link().down_for.is_some() && bed.link().error.unwrap().contains("made to fail"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_less_is_up() {
    let bed = Bed::new();
    bed.faults.add(Rule::new(Fault::Delay(SECOND / 100)));
    bed.faults.add(Rule::new(busy()).times(20));
    let reads = join_all((0..20).map(|_| bed.read())).await;
    assert!(reads.into_iter().all(|read| read.unwrap() == "234"));
    assert_eq!((bed.link().down_for, bed.link().failures), (None, 20));
    assert!(bed.link().limit < 32);
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_says_nothing_about_the_server() {
    let bed = Bed::new();
    bed.down().await;
    bed.faults.heal();
    bed.faults.add(Rule::new(failing(Kind::Denied, Again::Unsent)));
    for _ in 0..20 {
        sleep(SECOND).await;
        assert!(bed.read().await.is_err());
    }
    assert!(bed.link().down_for.is_some());
    bed.faults.heal();
    sleep(SECOND * 4).await;
    assert_eq!(bed.read().await.unwrap(), "234");
}

#[tokio::test(start_paused = true)]
async fn an_outage_makes_no_storm() {
    for fault in [lost(), busy(), failing(Kind::TimedOut, Again::Soon)] {
        let bed = Bed::new();
        let rules = bed.fails(&fault);
        let begun = Instant::now();
        let users = (0..100).map(|_| async {
            while begun.elapsed() < SECOND * 60 {
                let kind = bed.read().await.unwrap_err().kind();
                assert!(matches!(kind, Kind::Unavailable | Kind::TimedOut), "{kind:?}");
                sleep(SECOND / 10).await;
            }
        });
        join_all(users).await;
        // All that were under way when it began, and a probe every four seconds.
        let sent: u64 = rules.iter().map(|rule| rule.hits()).sum();
        assert!(sent < 100, "{fault:?}: {sent} requests in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_back_is_read_within_seconds() {
    for outage in [1, 7, 60, 3600] {
        let bed = Bed::new();
        bed.down().await;
        sleep(SECOND * outage).await;
        bed.faults.heal();
        let back = Instant::now();
        while bed.read().await.is_err() {
            sleep(SECOND / 10).await;
        }
        assert!(back.elapsed() < SECOND * 5, "after {outage} s: {:?}", back.elapsed());
        assert_eq!(bed.link().down_for, None);
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_an_outage_left_dead_do_not_hide_that_it_is_over() {
    for dead in [1, 2] {
        let bed = Bed::new();
        bed.down().await;
        sleep(SECOND * 60).await;
        bed.faults.heal();
        // Each of them breaks once, when it is used again.
        bed.faults.add(Rule::new(lost()).times(dead));
        let back = Instant::now();
        while bed.read().await.is_err() {
            sleep(SECOND / 10).await;
        }
        assert!(back.elapsed() < SECOND, "{dead}: {:?}", back.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_let_through_before_an_outage_waits_for_its_end() {
    let bed = Bed::new();
    bed.read().await.unwrap();
    bed.fails(&lost());
    let waiting = async { join_all((0..50).map(|_| bed.read())).await };
    let healing = async {
        sleep(SECOND * 40).await;
        bed.faults.heal();
        Instant::now()
    };
    let (results, healed) = tokio::join!(waiting, healing);
    let good = results.into_iter().filter(Result::is_ok).count();
    assert_eq!(good, 50);
    assert!(healed.elapsed() < SECOND * 5, "{:?}", healed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nobody_sleeps_on_after_the_end_of_an_outage() {
    for fault in [lost(), busy(), failing(Kind::TimedOut, Again::Soon)] {
        let bed = Bed::new();
        bed.read().await.unwrap();
        bed.fails(&Fault::Delay(SECOND));
        bed.fails(&fault);
        // More than there are tokens for, all sent before anything failed.
        let waiting = async { join_all((0..bed.link().limit * 2).map(|_| bed.read())).await };
        let healing = async {
            sleep(SECOND * 20).await;
            bed.faults.heal();
            Instant::now()
        };
        let (results, healed) = tokio::join!(waiting, healing);
        assert!(results.iter().all(Result::is_ok), "{fault:?}: {:?}", results.iter().find(|r| r.is_err()));
        assert!(healed.elapsed() < SECOND * 6, "{fault:?}: {:?}", healed.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn some_failures_are_never_felt() {
    for percent in [5, 10, 20] {
        let bed = Bed::new();
        let rules = [lost(), busy()].map(|fault| bed.faults.add(Rule::new(fault).percent(percent / 2)));
        for _ in 0..100 {
            let results = join_all((0..30).map(|_| bed.read())).await;
            assert!(results.into_iter().all(|result| result.unwrap() == "234"), "at {percent} %");
        }
        let hit: u64 = rules.iter().map(|rule| rule.hits()).sum();
        assert!(hit > 3000 * percent / 200, "{hit} of some 3000 at {percent} %");
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_requests_keep_nobody_from_noticing_that_the_server_is_back() {
    let bed = Bed::new();
    // Whoever hangs holds a slot, and there are no more.
    bed.faults.add(Rule::new(Fault::Stall).keys("other"));
    let hanging = join_all((0..bed.link().limit).map(|_| bed.store.get("other", 9)));
    let others = async {
        sleep(SECOND).await;
        assert_eq!(bed.link().in_flight, bed.link().limit);
        // Those that hang fail here in the end; somebody else finds that out for the test.
        let endpoint = Endpoint::of(&bed.name);
        let error = Error::new(Kind::TimedOut, "no answer").worth(Again::Soon);
        for _ in 0..5 {
            endpoint.failed(&error);
        }
        sleep(SECOND).await;
        assert_eq!(bed.read().await.unwrap(), "234");
    };
    tokio::select! {
        _ = hanging => panic!("they hang"),
        () = others => {}
    }
}

#[tokio::test(start_paused = true)]
async fn abandoned_calls_leave_nothing_behind() {
    let bed = Bed::new();
    bed.fails(&Fault::Stall);
    for _ in 0..100 {
        let calls = join_all((0..100).map(|_| bed.read()));
        assert!(timeout(SECOND, calls).await.is_err());
        assert_eq!(bed.link().in_flight, 0);
    }
    bed.faults.heal();
    assert_eq!(bed.read().await.unwrap(), "234");
}

#[tokio::test(start_paused = true)]
async fn stores_at_one_address_find_out_together() {
    let bed = Bed::new();
    let sibling = guarded(Arc::new(Memory::new()), Endpoint::of(&bed.name), PATIENCE);
    let stranger = Bed::new();
    bed.down().await;
    assert!(matches!(sibling.get("key", 9).await.unwrap_err().again(), Again::Down(_)));
    assert_eq!(stranger.read().await.unwrap(), "234");
}

/// A store whose every attempt goes as a script says; beyond its end all go well.
struct Scripted {
    script: Mutex<Vec<Fault>>,
}

impl Scripted {
    async fn next<T>(&self, good: T) -> Result<T> {
        let step = self.script.lock().unwrap().pop();
        match step {
            Some(Fault::Error(error)) => Err(error),
            Some(Fault::Delay(by)) => {
                sleep(by).await;
                Ok(good)
            }
            _ => Ok(good),
        }
    }
}

impl ObjectStore for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn pace(&self) -> Pace {
        Pace::LOCAL
    }

    fn list<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>> {
        self.next(vec![ObjectInfo { key: "key".into(), size: 10 }]).boxed()
    }

    fn stat<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<ObjectInfo>> {
        self.next(ObjectInfo { key: "key".into(), size: 10 }).boxed()
    }

    fn get<'a>(&'a self, _: &'a str, _: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.next(Bytes::from_static(b"0123456789")).boxed()
    }

    fn get_range<'a>(&'a self, _: &'a str, _: u64, _: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.next(Bytes::from_static(b"234")).boxed()
    }
}

fn step() -> impl Strategy<Value = Fault> {
    let seconds = || (0..40_u64).prop_map(Duration::from_secs);
    let kind = prop_oneof![Just(Kind::Unavailable), Just(Kind::TimedOut), Just(Kind::Corrupt)];
    let again = prop_oneof![
        Just(Again::Soon),
        Just(Again::Soon),
        Just(Again::Slower(None)),
        seconds().prop_map(|after| Again::Slower(Some(after))),
        Just(Again::Never),
    ];
    prop_oneof![
        seconds().prop_map(Fault::Delay),
        (kind, again).prop_map(|(kind, again)| failing(kind, again)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever a server does: an answer is the right one, a failure is no "not found" and comes in time, and the
    /// server is asked again soon after.
    #[test]
    fn nothing_wrong_nothing_late_nothing_for_ever(script in prop::collection::vec(step(), 0..60)) {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let name = format!("scripted://{}", RUNS.fetch_add(1, Ordering::SeqCst));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let scripted = Scripted { script: Mutex::new(script) };
            let store = guarded(Arc::new(scripted), Endpoint::of(&name), PATIENCE);
            for _ in 0..10 {
                let begun = Instant::now();
                match store.get_range("key", 2, 3).await {
                    Ok(bytes) => assert_eq!(bytes, "234"),
                    Err(error) => assert_ne!(error.kind(), Kind::NotFound),
                }
                assert!(begun.elapsed() <= PATIENCE, "{:?}", begun.elapsed());
                match store.list("").await {
                    Ok(objects) => assert_eq!(objects.len(), 1),
                    Err(error) => assert_ne!(error.kind(), Kind::NotFound),
                }
            }
            // The script may go on for longer than anybody waits, but each attempt takes a step of it.
            let mut tries = 0;
            while store.get_range("key", 2, 3).await.is_err() {
                tries += 1;
                assert!(tries < 1000, "never asked again");
                sleep(SECOND).await;
            }
        });
    }
}
