//! Brings blobs into memory: each once however many want it, neighbours in a pack by one read, decoded in parallel.
//!
//! Model: a blob is in the cache, or under way (a flight), or to be fetched. Fetches run as tasks of their own: who waits
//! may give up at any time without disturbing the others. Nothing reaches the cache or a waiter before it was
//! authenticated and checked against its id. A place that fails is followed by the others that the index knows, after a
//! new listing of the index; an error is told to all who wait and then forgotten.
//!
//! Stored bytes come from the disk cache where it has them, and what a store delivered goes there once it was checked.
//!
//! What somebody waits for and what is read ahead have slots and room of their own, so that the former never stands
//! behind the latter; what is read ahead changes sides when somebody comes to wait for it.

mod ahead;
mod fetch;
mod kept;
mod near;
mod plug;
mod rescue;
mod together;

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::ahead::Ahead;
use self::plug::Plug;
use super::plan::batches;
use super::tuning::Tuning;
use super::window::Bounds;
use super::{
    BlobIndex, BlobKind, Boarding, Damage, Flights, Id, Landing, Part, Place, Shared, Standing, Waiter, zeros,
};
use crate::cache::Drawer;
use crate::error::{Error, Kind, Result};
use crate::store::Pace;

/// What a chunk repository does for its loader.
pub trait Packs: Send + Sync + 'static {
    /// The repository's name in messages.
    fn name(&self) -> &str;

    /// Where damage is counted.
    fn damage(&self) -> &Damage;

    /// The index as it is now.
    fn index(&self) -> Arc<BlobIndex>;

    /// What a read of a pack costs.
    fn pace(&self) -> Pace;

    /// Exactly the stored bytes `[offset, offset + length)` of a pack.
    fn read<'a>(
        &'a self,
        kind: BlobKind,
        pack: &Id,
        offset: u64,
        length: u64,
    ) -> BoxFuture<'a, Result<Bytes>>;

    /// Where stored bytes are kept that were fetched before; `None` where the packs are as near as that.
    fn drawer(&self) -> Option<&Drawer> {
        None
    }

    /// The plaintext of a blob from its stored bytes, authenticated and checked against `id` and `place.size`.
    fn decode(&self, id: &Id, place: &Place, stored: &[u8]) -> Result<Vec<u8>>;

    /// Told that bytes of a pack were wrong: true when there is another copy of it, which is read from now on.
    fn distrust(&self, kind: BlobKind, pack: &Id) -> bool;

    /// Lists the index again if that may help: the index may be newer afterwards. `seen` is the generation that did not
    /// suffice.
    fn relist(&self, seen: u64) -> BoxFuture<'_, ()>;
}

/// A blob may not claim to be larger.
const LARGEST: u32 = 512 << 20;

/// A blob that was only being read ahead and failed is asked for again by who wants it, at most this often.
const TRIES: usize = 4;

/// What a blob costs in memory beside its bytes, stored and decoded.
const PER_BLOB: u64 = 512;

/// The loader of one repository. Cheap to clone.
#[derive(Clone)]
pub struct Loader(Arc<Inner>);

struct Inner {
    packs: Arc<dyn Packs>,
    shared: Arc<Shared>,
    number: u32,
    flights: Arc<Flights<Id, Result<Bytes>>>,
    runtime: Handle,
    tuning: Tuning,
    part: Part,
    requests: Semaphore,
    ahead: Ahead,
    plug: Plug,
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
}

/// The duty to bring a blob. Dropped, it is as if nobody had asked.
type Duty = Landing<Id, Result<Bytes>>;

impl Loader {
    /// A loader of the blobs in `packs`. Called within a runtime, on which it fetches.
    pub fn new(packs: Arc<dyn Packs>, shared: Arc<Shared>) -> Self {
        let tuning = Tuning::of(packs.pace());
        Loader(Arc::new(Inner {
            packs,
            number: shared.number(),
            part: shared.part(),
            shared,
            flights: Flights::new(),
            runtime: Handle::current(),
            tuning,
            requests: Semaphore::new(tuning.requests),
            ahead: Ahead::new(tuning.ahead),
            plug: Plug::default(),
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
        let key = (self.0.number, *id);
        self.0.shared.blobs.get(&key).or_else(|| self.0.shared.spent.get(&key))
    }

    /// Makes room where a small data blob was read whole, so that the heap is not left full of holes of its size; it
    /// stays at hand for the next files of equal content.
    pub(super) fn spend(&self, id: &Id, blob: Bytes) {
        let key = (self.0.number, *id);
        self.0.shared.blobs.forget(&key);
        let size = blob.len() as u64;
        self.0.shared.spent.insert(key, blob, size);
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
        batches(fetch, &self.0.tuning).into_iter().for_each(|batch| self.0.begin(batch));
        wanted
    }

    fn ask(&self, id: &Id, index: &BlobIndex, fetch: &mut Vec<(Place, Duty)>) -> Wanted {
        if let Some(blob) = self.cached(id) {
            return Wanted::Here(blob);
        }
        let landing = match self.0.flights.board(*id) {
            Boarding::Join(waiter) => {
                self.0.hurry(waiter.ticket());
                return Wanted::Coming(Coming { id: *id, waiter });
            }
            Boarding::Lead(landing) => landing,
        };
        // It may have landed between the two looks.
        if let Some(blob) = self.cached(id) {
            return Wanted::Here(blob);
        }
        let coming = Coming { id: *id, waiter: landing.waiter() };
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
            if let Some(result) = waiter.await {
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

    /// How far one of the readers that stream now is read ahead of.
    pub(super) fn window(&self) -> Bounds {
        let Tuning { gap, stride, window, beginning, .. } = self.0.tuning;
        Bounds { beginning, first: gap.max(stride), largest: window.min(self.0.shared.window()) }
    }

    /// Fetches those of `ids` that are neither here nor under way, in few large reads, with less urgency than what
    /// somebody waits for. Returns at once how many of them, from the first, it took: the rest found no room, and is to
    /// be asked for again when some of these were read. What finds no slot is queued, and forgotten when it is still
    /// queued after ten seconds. Who holds `interest` wants them: when it is gone, what is queued is let go of.
    pub(super) fn read_ahead_for(
        &self,
        ids: impl IntoIterator<Item = Id>,
        interest: Option<Weak<()>>,
    ) -> usize {
        let (taken, fetch) = self.board_as_fits(ids);
        self.0.fetch_ahead(fetch, interest);
        taken
    }

    /// The same for nobody in particular.
    #[cfg(test)]
    pub(super) fn read_ahead(&self, ids: impl IntoIterator<Item = Id>) -> usize {
        self.read_ahead_for(ids, None)
    }

    /// Like [`Loader::read_ahead_for`] for nobody in particular; where requests take long, a moment later and together
    /// with what others announce until then. Who reads a hole asks for no blob: none is fetched for one.
    pub fn announce(&self, ids: impl IntoIterator<Item = Id>) {
        let index = self.index();
        let is_zero =
            |id: &Id| index.size(BlobKind::Data, id).is_some_and(|size| zeros::is_zero(id, size, true));
        let mut hole = false;
        let blobs = ids.into_iter().filter(|id| {
            hole = zeros::is_piece(id) || hole && is_zero(id);
            !hole
        });
        let (_, fetch) = self.board_as_fits(blobs);
        if self.0.tuning.patience.is_zero() {
            self.0.fetch_ahead(fetch, None);
        } else {
            self.0.plug(fetch);
        }
    }

    /// How many bytes are worth announcing at a time.
    pub fn stride(&self) -> u64 {
        self.0.tuning.stride
    }

    /// The duties to fetch those of `ids` that are neither here nor under way, from the first, as far as there is room;
    /// and how many of them were looked at.
    fn board_as_fits(&self, ids: impl IntoIterator<Item = Id>) -> (usize, Vec<(Place, Duty)>) {
        let index = self.index();
        let announced = self.0.plug.weight();
        let is_alone = announced == 0 && !self.0.shared.is_ahead();
        let mut free = self.0.shared.free_ahead().saturating_sub(announced);
        let (mut taken, mut fetch) = (0, Vec::new());
        for id in ids {
            if let Some((place, duty)) = self.board_ahead(id, &index) {
                let weight = weight(&place) + PER_BLOB;
                // What is larger than all room is read ahead alone.
                if weight > free && !(fetch.is_empty() && is_alone) {
                    break;
                }
                free = free.saturating_sub(weight);
                fetch.push((place, duty));
            }
            taken += 1;
        }
        (taken, fetch)
    }

    /// The duty to fetch a blob ahead, if it is worth it.
    fn board_ahead(&self, id: Id, index: &BlobIndex) -> Option<(Place, Duty)> {
        if self.cached(&id).is_some() {
            return None;
        }
        let place = index.find(BlobKind::Data, &id)?;
        if place.standing != Standing::Live || !is_plausible(&place) {
            return None;
        }
        match self.0.flights.board(id) {
            Boarding::Lead(duty) => Some((place, duty)),
            Boarding::Join(_) => None,
        }
    }

    /// Whether nothing is under way or queued.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let slots = self.0.requests.available_permits();
        let idle = self.0.flights.count() == 0 && self.0.ahead.load() == (0, 0);
        idle && self.0.plug.weight() == 0 && slots == self.0.tuning.requests && self.0.shared.is_idle()
    }

    /// Lets go of what is queued for readers that are gone.
    pub(super) fn sweep(&self) {
        self.0.ahead.sweep();
    }
}

/// What a blob takes in memory, stored and decoded.
fn weight(place: &Place) -> u64 {
    u64::from(place.length) + u64::from(place.size)
}

/// Whether a place claims sizes that a blob can have.
fn is_plausible(place: &Place) -> bool {
    place.length <= LARGEST && place.size <= LARGEST
}

#[cfg(test)]
mod tests;
