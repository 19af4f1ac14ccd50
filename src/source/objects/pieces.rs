//! Bytes of objects in pieces: each fetched once however many want it, kept for a while, asked for ahead of readers.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::error::{Error, Kind, Result};
use crate::source::chunked::{Boarding, Flights, Id, Landing, Part, Shared, Waiter};
use crate::store::bucket::{Bucket, Pinned};
use crate::tree::Step;

/// How much is fetched at a time. What is read before a file is opened is one of them.
pub(super) const PIECE: u64 = 1 << 20;

/// Requests for what nobody waits for yet.
const AHEAD: usize = 56;

/// A fetch that ended without a word is begun anew, at most this often.
const TRIES: usize = 3;

/// An object to be read: always the same bytes.
pub(super) struct Object {
    pub pinned: Pinned,
    pub size: u64,
    /// What its pieces are known by.
    id: Id,
}

/// The pieces of a bucket's objects.
pub(super) struct Pieces {
    bucket: Arc<dyn Bucket>,
    shared: Arc<Shared>,
    number: u32,
    part: Part,
    flights: Arc<Flights<Id, Result<Bytes>>>,
    ahead: Arc<Semaphore>,
    runtime: Handle,
}

type Duty = Landing<Id, Result<Bytes>>;

impl Object {
    /// `size` bytes.
    pub(super) fn new(pinned: Pinned, size: u64) -> Self {
        let version = pinned.version.as_deref().unwrap_or_default();
        let parts = [pinned.key.as_bytes(), version.as_bytes(), pinned.etag.as_bytes(), &size.to_le_bytes()];
        let id = Id::of(&parts);
        Object { pinned, size, id }
    }

    fn piece(&self, number: u64) -> Id {
        Id::of(&[&self.id.0, &number.to_le_bytes()])
    }

    /// Where a piece begins, and its length: none behind the end.
    fn span(&self, number: u64) -> (u64, u64) {
        let offset = number.saturating_mul(PIECE);
        (offset, self.size.saturating_sub(offset).min(PIECE))
    }
}

impl Pieces {
    /// Those of `bucket`, kept under `number`. Within a runtime.
    pub(super) fn new(bucket: Arc<dyn Bucket>, shared: Arc<Shared>, number: u32) -> Arc<Self> {
        Arc::new(Pieces {
            bucket,
            number,
            part: shared.part(),
            shared,
            flights: Flights::new(),
            ahead: Arc::new(Semaphore::new(AHEAD)),
            runtime: Handle::current(),
        })
    }

    /// What all share.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A piece of an object.
    pub(super) fn get(self: &Arc<Self>, object: &Arc<Object>, number: u64) -> Step<Bytes> {
        if let Some(piece) = self.kept(object, number) {
            return Step::ok(piece);
        }
        let (pieces, object) = (Arc::clone(self), Arc::clone(object));
        let waiter = self.begin(&object, number);
        Step::wait(async move { pieces.arrival(waiter, object, number).await })
    }

    fn kept(&self, object: &Object, number: u64) -> Option<Bytes> {
        self.shared.blobs.get(&(self.number, object.piece(number)))
    }

    fn begin(self: &Arc<Self>, object: &Arc<Object>, number: u64) -> Waiter<Result<Bytes>> {
        match self.flights.board(object.piece(number)) {
            Boarding::Join(waiter) => waiter,
            Boarding::Lead(duty) => {
                let waiter = duty.waiter();
                let (pieces, object) = (Arc::clone(self), Arc::clone(object));
                self.runtime.spawn(async move {
                    let (_, length) = object.span(number);
                    let room = pieces.part.room_for(length).await;
                    let fetched = room.lent(pieces.fetch(&object, number)).await;
                    pieces.land(duty, fetched);
                });
                waiter
            }
        }
    }

    async fn arrival(
        self: Arc<Self>,
        mut waiter: Waiter<Result<Bytes>>,
        object: Arc<Object>,
        number: u64,
    ) -> Result<Bytes> {
        for _ in 0..TRIES {
            if let Some(answer) = waiter.await {
                return answer;
            }
            waiter = self.begin(&object, number);
        }
        Err(Error::new(Kind::Internal, format!("{}: a fetch died", object.pinned.key)))
    }

    fn land(&self, duty: Duty, fetched: Result<Bytes>) {
        if let Ok(piece) = &fetched {
            self.shared.blobs.insert((self.number, *duty.key()), piece.clone(), piece.len() as u64);
        }
        duty.land(fetched);
    }

    async fn fetch(&self, object: &Object, number: u64) -> Result<Bytes> {
        // It may have landed between the look and the boarding.
        if let Some(piece) = self.kept(object, number) {
            return Ok(piece);
        }
        let (offset, length) = object.span(number);
        let read = self.bucket.read(&object.pinned, offset, length).await;
        read.map_err(|error| match error.kind() {
            // It was listed.
            Kind::NotFound => error.with_kind(Kind::Stale),
            _ => error,
        })
    }

    /// Asks for those of `numbers` that are neither here nor under way, as far as there is room; answers how many of
    /// them, from the first, are here or coming.
    pub(super) fn announce(self: &Arc<Self>, object: &Arc<Object>, numbers: std::ops::Range<u64>) -> u64 {
        let first = numbers.start;
        for number in numbers.clone() {
            let (_, length) = object.span(number);
            if length == 0 || self.kept(object, number).is_some() {
                continue;
            }
            let Some(room) = self.shared.room_ahead(length) else { return number - first };
            let Boarding::Lead(duty) = self.flights.board(object.piece(number)) else { continue };
            let (pieces, object, slots) = (Arc::clone(self), Arc::clone(object), Arc::clone(&self.ahead));
            self.runtime.spawn(async move {
                let _slot = slots.acquire_owned().await;
                let fetched = pieces.fetch(&object, number).await;
                drop(room);
                pieces.land(duty, fetched);
            });
        }
        numbers.end - first
    }

    /// Lets go of what was read to its end: the kernel keeps what it was given.
    pub(super) fn forget(&self, object: &Object, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.shared.blobs.forget(&(self.number, object.piece(number)));
        }
    }
}
