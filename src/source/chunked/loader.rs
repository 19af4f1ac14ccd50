//! Brings blobs into memory: each once however many want it, neighbours in a pack by one read, decoded in parallel.
//!
//! Model: a blob is in the cache, or under way (a flight), or to be fetched. Fetches run as tasks of their own: who waits
//! may give up at any time without disturbing the others. Nothing reaches the cache or a waiter before it was
//! authenticated and checked against its id. A place that fails is followed by the others that the index knows, after a
//! new listing of the index; an error is told to all who wait and then forgotten.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::plan::{Batch, batches};
use super::{BlobIndex, BlobKind, Boarding, Damage, Flights, Id, Landing, Place, Shared, Standing, Waiter};
use crate::error::{Error, Kind, Result};

/// What a chunk repository does for its loader.
pub trait Packs: Send + Sync + 'static {
    /// The repository's name in messages.
    fn name(&self) -> &str;

    /// Where damage is counted.
    fn damage(&self) -> &Damage;

    /// The index as it is now.
    fn index(&self) -> Arc<BlobIndex>;

    /// Exactly the stored bytes `[offset, offset + length)` of a pack.
    fn read<'a>(
        &'a self,
        kind: BlobKind,
        pack: &Id,
        offset: u64,
        length: u64,
    ) -> BoxFuture<'a, Result<Bytes>>;

    /// The plaintext of a blob from its stored bytes, authenticated and checked against `id` and `place.size`.
    fn decode(&self, id: &Id, place: &Place, stored: &[u8]) -> Result<Vec<u8>>;

    /// Told that bytes of a pack were wrong: true when there is another copy of it, which is read from now on.
    fn distrust(&self, kind: BlobKind, pack: &Id) -> bool;

    /// Lists the index again if that may help: the index may be newer afterwards. `seen` is the generation that did not
    /// suffice.
    fn relist(&self, seen: u64) -> BoxFuture<'_, ()>;
}

/// A fetch ends after this long whoever waits, so that a store that hangs does not hold its slot for ever.
const FETCH: Duration = Duration::from_secs(60);

/// Reads under way in one repository, and how many of them may be reading ahead.
const REQUESTS: usize = 16;
const AHEAD: usize = 8;

/// Blobs are handed to the pool in jobs of at least this many stored bytes.
const JOB: u64 = 256 * 1024;

/// A blob may not claim to be larger.
const LARGEST: u32 = 512 << 20;

/// A blob that was only being read ahead and failed is asked for again by who wants it, at most this often.
const TRIES: usize = 4;

/// So many places of a blob are tried.
const PLACES: usize = 16;

/// The loader of one repository. Cheap to clone.
#[derive(Clone)]
pub struct Loader(Arc<Inner>);

struct Inner {
    packs: Arc<dyn Packs>,
    shared: Arc<Shared>,
    number: u32,
    flights: Arc<Flights<Id, Result<Bytes>>>,
    runtime: Handle,
    requests: Arc<Semaphore>,
    ahead: Arc<Semaphore>,
}

/// A data blob that was asked for.
pub(super) enum Wanted {
    Here(Bytes),
    Coming(Coming),
}

/// A data blob under way.
pub(super) struct Coming {
    id: Id,
    waiter: Waiter<Result<Bytes>>,
    /// Whether nobody had asked for it before.
    pub is_first: bool,
}

/// The duty to bring a blob. Dropped, it is as if nobody had asked.
type Duty = Landing<Id, Result<Bytes>>;

impl Loader {
    /// A loader of the blobs in `packs`. Called within a runtime, on which it fetches.
    pub fn new(packs: Arc<dyn Packs>, shared: Arc<Shared>) -> Self {
        Loader(Arc::new(Inner {
            packs,
            number: shared.number(),
            shared,
            flights: Flights::new(),
            runtime: Handle::current(),
            requests: Arc::new(Semaphore::new(REQUESTS)),
            ahead: Arc::new(Semaphore::new(AHEAD)),
        }))
    }

    /// The number by which the caches tell its repository from others.
    pub fn number(&self) -> u32 {
        self.0.number
    }

    /// The runtime it fetches on.
    pub fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// What all repositories share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// The index as it is now.
    pub fn index(&self) -> Arc<BlobIndex> {
        self.0.packs.index()
    }

    /// Lists the index again if that may help.
    pub async fn relist(&self, seen: u64) {
        self.0.packs.relist(seen).await;
    }

    /// A data blob, waited for.
    #[cfg(test)]
    async fn data(&self, id: &Id) -> Result<Bytes> {
        match self.want(&[*id]).pop() {
            Some(Wanted::Here(blob)) => Ok(blob),
            Some(Wanted::Coming(coming)) => self.arrival(coming).await,
            None => Err(Error::new(Kind::Internal, "asked for one blob and got none")),
        }
    }

    /// A blob of any kind that is not kept: for directories, which are kept parsed.
    pub async fn unkept(&self, kind: BlobKind, id: &Id) -> Result<Bytes> {
        self.0.anywhere(kind, id, Vec::new()).await
    }

    /// A data blob that is in memory.
    pub(super) fn cached(&self, id: &Id) -> Option<Bytes> {
        self.0.shared.blobs.get(&(self.0.number, *id))
    }

    /// Lets go of a data blob that was read to its end: the kernel keeps what it was given.
    pub(super) fn forget(&self, id: &Id) {
        self.0.shared.blobs.forget(&(self.0.number, *id));
    }

    /// Asks for data blobs; what is not here is fetched from now on.
    pub(super) fn want(&self, ids: &[Id]) -> Vec<Wanted> {
        let index = self.index();
        let mut fetch = Vec::new();
        let wanted = ids.iter().map(|id| self.ask(id, &index, &mut fetch)).collect();
        for batch in batches(fetch) {
            let inner = Arc::clone(&self.0);
            self.0.runtime.spawn(async move { inner.fetch(batch).await });
        }
        wanted
    }

    fn ask(&self, id: &Id, index: &BlobIndex, fetch: &mut Vec<(Place, Duty)>) -> Wanted {
        if let Some(blob) = self.cached(id) {
            return Wanted::Here(blob);
        }
        let landing = match self.0.flights.board(*id) {
            Boarding::Join(waiter) => return Wanted::Coming(Coming { id: *id, waiter, is_first: false }),
            Boarding::Lead(landing) => landing,
        };
        // It may have landed between the two looks.
        if let Some(blob) = self.cached(id) {
            return Wanted::Here(blob);
        }
        let coming = Coming { id: *id, waiter: landing.waiter(), is_first: true };
        match index.find(BlobKind::Data, id).filter(is_plausible) {
            Some(place) => fetch.push((place, landing)),
            None => {
                let inner = Arc::clone(&self.0);
                self.0.runtime.spawn(async move { inner.rescue(landing, Vec::new()).await });
            }
        }
        Wanted::Coming(coming)
    }

    /// Waits for a blob under way.
    pub(super) async fn arrival(&self, coming: Coming) -> Result<Bytes> {
        let Coming { id, mut waiter, .. } = coming;
        for _ in 0..TRIES {
            if let Some(result) = waiter.landed().await {
                return result;
            }
            match self.want(&[id]).pop() {
                Some(Wanted::Coming(again)) => waiter = again.waiter,
                Some(Wanted::Here(blob)) => return Ok(blob),
                None => break,
            }
        }
        Err(Error::new(Kind::Internal, format!("the fetch of blob {id} died")))
    }

    /// Whether reading ahead keeps up: when half of its slots are taken, there is no use in planning more.
    pub fn may_read_ahead(&self) -> bool {
        self.0.ahead.available_permits() > AHEAD / 2
    }

    /// Fetches those of `ids` that are neither here nor under way, as far as there are slots for reading ahead.
    pub fn read_ahead(&self, ids: impl IntoIterator<Item = Id>) {
        let index = self.index();
        let place = |id: Id| {
            let place = index.find(BlobKind::Data, &id)?;
            let worth =
                place.standing == Standing::Live && is_plausible(&place) && self.cached(&id).is_none();
            worth.then_some((place, id))
        };
        for batch in batches(ids.into_iter().filter_map(place).collect()) {
            let Ok(slot) = Arc::clone(&self.0.ahead).try_acquire_owned() else { return };
            let inner = Arc::clone(&self.0);
            let reads = batch.pick(|id| match inner.flights.board(id) {
                Boarding::Lead(duty) => Some(duty),
                Boarding::Join(_) => None,
            });
            self.0.runtime.spawn(async move {
                for read in reads {
                    Arc::clone(&inner).fetch(read).await;
                }
                drop(slot);
            });
        }
    }
}

impl Inner {
    /// One ranged read and all blobs in it.
    async fn fetch(self: Arc<Self>, batch: Batch<Duty>) {
        let room = self.shared.room_for(batch.weight()).await;
        let failed = match self.read(BlobKind::Data, &batch.pack, batch.offset, batch.length).await {
            Ok(stored) => Arc::clone(&self).decode_all(batch, stored).await,
            Err(error) => batch.blobs.into_iter().map(|(place, duty)| (place, duty, error.clone())).collect(),
        };
        // Given back before looking elsewhere, which takes room of its own.
        drop(room);
        for (place, duty, error) in failed {
            if duty.is_awaited() {
                self.rescue(duty, vec![(place, error)]).await;
            }
        }
    }

    /// Decodes the blobs of a read on all cores and lands each as soon as it is done; returns those that failed.
    async fn decode_all(self: Arc<Self>, batch: Batch<Duty>, stored: Bytes) -> Vec<(Place, Duty, Error)> {
        let jobs = batch.into_jobs(JOB).into_iter().map(|(offset, blobs)| {
            let (inner, stored) = (Arc::clone(&self), stored.clone());
            self.shared.pool.run(move || inner.decode(offset, blobs, &stored))
        });
        // Of a job that died the duties are gone with it, which its waiters notice.
        join_all(jobs).await.into_iter().flat_map(Result::unwrap_or_default).collect()
    }

    /// Decodes and lands `blobs` of a read that began at `offset`; returns those that failed.
    fn decode(&self, offset: u64, blobs: Vec<(Place, Duty)>, stored: &Bytes) -> Vec<(Place, Duty, Error)> {
        let mut failed = Vec::new();
        for (place, duty) in blobs {
            match self.decode_one(duty.key(), &place, offset, stored) {
                Ok(blob) => self.keep(duty, blob),
                Err(error) => failed.push((place, duty, error)),
            }
        }
        failed
    }

    fn decode_one(&self, id: &Id, place: &Place, offset: u64, stored: &Bytes) -> Result<Bytes> {
        let start = usize::try_from(u64::from(place.offset) - offset).unwrap_or(usize::MAX);
        let stored = stored.get(start..).and_then(|rest| rest.get(..place.length as usize));
        let stored =
            stored.ok_or_else(|| Error::new(Kind::Internal, "a read that is shorter than asked for"))?;
        Ok(Bytes::from(self.packs.decode(id, place, stored)?))
    }

    /// Puts a blob into the cache, then tells who waits.
    fn keep(&self, duty: Duty, blob: Bytes) {
        self.shared.blobs.insert((self.number, *duty.key()), blob.clone(), blob.len() as u64);
        duty.land(Ok(blob));
    }

    /// Brings a blob that its first place did not yield.
    async fn rescue(&self, duty: Duty, failures: Vec<(Place, Error)>) {
        match self.anywhere(BlobKind::Data, duty.key(), failures).await {
            Ok(blob) => self.keep(duty, blob),
            Err(error) => duty.land(Err(error)),
        }
    }

    /// A blob from whichever place yields it: current ones, those of a new listing, those marked for deletion, those of
    /// index files that are gone. `failures` are the places that failed already.
    async fn anywhere(&self, kind: BlobKind, id: &Id, mut failures: Vec<(Place, Error)>) -> Result<Bytes> {
        let index = self.packs.index();
        let current = index.places(kind, id).into_iter().filter(|place| place.standing == Standing::Live);
        if let Some(blob) = self.try_places(kind, id, current, &mut failures).await {
            return Ok(blob);
        }
        let missing = |(_, error): &(Place, Error)| matches!(error.kind(), Kind::NotFound | Kind::Corrupt);
        if failures.is_empty() || failures.iter().any(missing) {
            self.packs.relist(index.generation()).await;
        }
        let places = self.packs.index().places(kind, id).into_iter();
        match self.try_places(kind, id, places, &mut failures).await {
            Some(blob) => Ok(blob),
            None => Err(verdict(kind, id, failures)),
        }
    }

    async fn try_places(
        &self,
        kind: BlobKind,
        id: &Id,
        places: impl Iterator<Item = Place>,
        failures: &mut Vec<(Place, Error)>,
    ) -> Option<Bytes> {
        for place in places.take(PLACES) {
            if failures.iter().any(|(tried, _)| tried.pack == place.pack && tried.offset == place.offset) {
                continue;
            }
            match self.read_place(kind, id, place).await {
                Ok(blob) => {
                    self.tell_of_rescue(id, failures);
                    return Some(blob);
                }
                Err(error) => failures.push((place, error)),
            }
        }
        None
    }

    async fn read_place(&self, kind: BlobKind, id: &Id, place: Place) -> Result<Bytes> {
        if !is_plausible(&place) {
            return Err(Error::new(Kind::Corrupt, format!("claims {} bytes", place.size)));
        }
        let answer = self.read_copy(kind, *id, place).await;
        match &answer {
            Err(error) if error.kind() == Kind::Corrupt && self.packs.distrust(kind, &place.pack) => {
                self.tell_of_rescue(id, &[(place, error.clone())]);
                self.read_copy(kind, *id, place).await
            }
            _ => answer,
        }
    }

    async fn read_copy(&self, kind: BlobKind, id: Id, place: Place) -> Result<Bytes> {
        let _room = self.shared.room_for(u64::from(place.length) + u64::from(place.size)).await;
        let stored = self.read(kind, &place.pack, u64::from(place.offset), u64::from(place.length)).await?;
        let packs = Arc::clone(&self.packs);
        let plain = self.shared.pool.run(move || packs.decode(&id, &place, &stored)).await??;
        Ok(Bytes::from(plain))
    }

    /// A ranged read in its slot, within its time.
    async fn read(&self, kind: BlobKind, pack: &Id, offset: u64, length: u64) -> Result<Bytes> {
        let closed = |_| Error::new(Kind::Internal, "the loader was closed");
        let _slot = self.requests.acquire().await.map_err(closed)?;
        let read = self.packs.read(kind, pack, offset, length);
        let late = |_| Error::new(Kind::TimedOut, format!("pack {pack}: no answer in {} s", FETCH.as_secs()));
        tokio::time::timeout(FETCH, read).await.map_err(late)?
    }

    fn tell_of_rescue(&self, id: &Id, failures: &[(Place, Error)]) {
        let Some((place, error)) = failures.iter().find(|(_, error)| error.kind() == Kind::Corrupt) else {
            return;
        };
        if self.packs.damage().first((place.pack, place.offset)) {
            let repository = self.packs.name();
            tracing::warn!(
                "{repository}: pack {} at {}: {error}; blob {id} was read elsewhere",
                place.pack,
                place.offset
            );
        }
    }
}

/// Whether a place claims sizes that a blob can have.
fn is_plausible(place: &Place) -> bool {
    place.length <= LARGEST && place.size <= LARGEST
}

/// Why a blob could not be had: what may pass with time goes before what is lost, and a missing pack is damage.
fn verdict(kind: BlobKind, id: &Id, failures: Vec<(Place, Error)>) -> Error {
    let what = match kind {
        BlobKind::Data => "data blob",
        BlobKind::Tree => "tree blob",
    };
    let lost = |error: &Error| matches!(error.kind(), Kind::NotFound | Kind::Corrupt);
    let places = failures.len();
    match failures.into_iter().min_by_key(|(_, error)| lost(error)) {
        None => Error::new(Kind::Corrupt, format!("{what} {id} is in no index file")),
        Some((place, error)) => {
            let kind = if lost(&error) { Kind::Corrupt } else { error.kind() };
            let others =
                if places > 1 { format!(" (and {} more places)", places - 1) } else { String::new() };
            let at = format!("{what} {id} at {} of pack {}{others}", place.offset, place.pack);
            error.with_kind(kind).context(at)
        }
    }
}

mod together;

#[cfg(test)]
mod tests;
