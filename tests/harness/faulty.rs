//! A store that fails by rule.
//!
//! ```ignore
//! let store = FaultyStore::new(inner);
//! let rule = store.add(Rule::new(Fault::Fail(Kind::Unavailable)).keys("data/").after(2).times(3));
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backupfs::error::{Error, Kind, Result};
use backupfs::store::{Level, ObjectInfo, ObjectStore, Pace};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending};
use tokio::sync::Notify;

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The call fails with this kind.
    Fail(Kind),
    /// The call fails with this error.
    Error(Error),
    /// The call takes so much longer.
    Delay(Duration),
    /// The call never ends.
    Stall,
    /// The call waits for the notification, then goes on.
    Wait(Arc<Notify>),
    /// The object ends after so many bytes.
    Truncate(u64),
    /// The answer has the right length, and all its bytes are wrong: it was another's.
    Garble,
    /// The byte at this offset of the object has its lowest bit turned.
    Flip(u64),
}

/// Which calls go wrong: those on keys that start with `keys` (all, if empty), after the first `after` of them, `times`
/// times.
pub struct Rule {
    fault: Fault,
    keys: String,
    lists: bool,
    after: u64,
    times: u64,
    percent: u64,
    met: AtomicU64,
    hit: AtomicU64,
}

impl Rule {
    /// Every call on an object meets `fault`.
    pub fn new(fault: Fault) -> Self {
        Rule {
            fault,
            keys: String::new(),
            lists: false,
            after: 0,
            times: u64::MAX,
            percent: 100,
            met: AtomicU64::new(0),
            hit: AtomicU64::new(0),
        }
    }

    /// Only keys (or listed prefixes) that start so.
    pub fn keys(self, start: &str) -> Self {
        Rule { keys: start.into(), ..self }
    }

    /// Listings instead of objects.
    pub fn lists(self) -> Self {
        Rule { lists: true, ..self }
    }

    /// The first `calls` pass.
    pub fn after(self, calls: u64) -> Self {
        Rule { after: calls, ..self }
    }

    /// No more than so many calls are hit.
    pub fn times(self, calls: u64) -> Self {
        Rule { times: calls, ..self }
    }

    /// Only so many of a hundred calls, which looks random and is the same each time.
    pub fn percent(self, percent: u64) -> Self {
        Rule { percent, ..self }
    }

    /// How many calls were hit.
    pub fn hits(&self) -> u64 {
        self.hit.load(Ordering::SeqCst)
    }

    fn meets(&self, key: &str, list: bool) -> Option<Fault> {
        if list != self.lists || !key.starts_with(&self.keys) {
            return None;
        }
        let nth = self.met.fetch_add(1, Ordering::SeqCst);
        let is_hit =
            nth >= self.after && nth - self.after < self.times && scattered(nth) % 100 < self.percent;
        is_hit.then(|| {
            self.hit.fetch_add(1, Ordering::SeqCst);
            self.fault.clone()
        })
    }
}

/// A number that has nothing to do with its neighbours (splitmix64).
fn scattered(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A store whose calls meet rules; all rules that apply are met, in the order in which they were added.
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    rules: Mutex<Vec<Arc<Rule>>>,
}

impl FaultyStore {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(FaultyStore { inner, rules: Mutex::default() })
    }

    /// Adds a rule; what is returned tells how often it was met.
    pub fn add(&self, rule: Rule) -> Arc<Rule> {
        let rule = Arc::new(rule);
        self.rules.lock().unwrap().push(rule.clone());
        rule
    }

    /// Everything works again; calls that stall go on stalling.
    pub fn heal(&self) {
        self.rules.lock().unwrap().clear();
    }

    /// Fails or waits as the rules say; answers what is wrong with the object itself.
    async fn meet(&self, key: &str, list: bool) -> Result<Vec<Fault>> {
        let rules = self.rules.lock().unwrap().clone();
        let mut damage = Vec::new();
        for fault in rules.iter().filter_map(|rule| rule.meets(key, list)) {
            match fault {
                Fault::Fail(kind) => {
                    return Err(Error::new(kind, format!("{key}: fault injected by a test")));
                }
                Fault::Error(error) => return Err(error),
                Fault::Delay(by) => tokio::time::sleep(by).await,
                Fault::Stall => pending().await,
                Fault::Wait(go) => go.notified().await,
                fault @ (Fault::Truncate(_) | Fault::Flip(_) | Fault::Garble) => damage.push(fault),
            }
        }
        Ok(damage)
    }
}

fn size(size: u64, damage: &[Fault]) -> u64 {
    damage.iter().fold(size, |size, fault| match fault {
        Fault::Truncate(end) => size.min(*end),
        _ => size,
    })
}

/// `bytes`, which lie at `offset` of the object, as damage leaves them.
fn damaged(bytes: Bytes, offset: u64, damage: &[Fault]) -> Bytes {
    let mut bytes = BytesMut::from(bytes);
    for fault in damage {
        if let Fault::Garble = fault {
            bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        }
        if let Fault::Flip(at) = fault
            && let Some(byte) = at.checked_sub(offset).and_then(|at| bytes.get_mut(usize::try_from(at).ok()?))
        {
            *byte ^= 1;
        }
    }
    bytes.freeze()
}

impl ObjectStore for FaultyStore {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn pace(&self) -> Pace {
        self.inner.pace()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>> {
        async move {
            self.meet(prefix, true).await?;
            self.inner.list(prefix).await
        }
        .boxed()
    }

    fn list_level<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Level>> {
        async move {
            self.meet(prefix, true).await?;
            self.inner.list_level(prefix).await
        }
        .boxed()
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectInfo>> {
        async move {
            let damage = self.meet(key, false).await?;
            let info = self.inner.stat(key).await?;
            Ok(ObjectInfo { size: size(info.size, &damage), ..info })
        }
        .boxed()
    }

    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Bytes>> {
        async move {
            let damage = self.meet(key, false).await?;
            let mut bytes = self.inner.get(key, limit).await?;
            let end = usize::try_from(size(bytes.len() as u64, &damage));
            bytes.truncate(end.unwrap_or(usize::MAX));
            Ok(damaged(bytes, 0, &damage))
        }
        .boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        async move {
            let damage = self.meet(key, false).await?;
            if size(u64::MAX, &damage) < offset.saturating_add(length) {
                return Err(Error::new(Kind::Corrupt, format!("{key}: truncated by a test")));
            }
            Ok(damaged(self.inner.get_range(key, offset, length).await?, offset, &damage))
        }
        .boxed()
    }
}
