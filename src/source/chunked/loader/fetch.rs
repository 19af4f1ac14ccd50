//! One ranged read and what becomes of it: its blobs are decoded on all cores and each lands as soon as it is done.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::ahead::Read;
use super::{Duty, Inner};
use crate::error::{Error, Kind, Result};
use crate::source::chunked::plan::{Batch, portions};
use crate::source::chunked::pool::Urgency;
use crate::source::chunked::shared::Room;
use crate::source::chunked::{BlobKind, Id, Place};

/// A fetch ends after this long whoever waits, so that a store that hangs does not hold its slot for ever.
const FETCH: Duration = Duration::from_secs(60);

/// Blobs are handed to the pool in jobs of at least this many stored bytes.
pub(super) const JOB: u64 = 256 * 1024;

/// Where stored bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The repository.
    Store,
    /// The disk cache.
    Cache,
}

/// Blobs that a place did not yield, and why.
type Failures = Vec<(Place, Duty, Error)>;

/// A slot of reading ahead. Given back, the next read begins.
struct Slot(Arc<Inner>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.ahead.done();
        self.0.begin_reads_ahead();
    }
}

impl Inner {
    /// Fetches what somebody waits for, as soon as there is room for it.
    pub(super) fn begin(self: &Arc<Self>, batch: Batch<Duty>) {
        let inner = Arc::clone(self);
        self.runtime.spawn(async move {
            if inner.packs.drawer().is_none() {
                return inner.fetch_stored(batch).await;
            }
            let room = Arc::new(inner.shared.room_for(batch.weight()).await);
            inner.fetch(Read { batch, room }).await;
        });
    }

    /// Fetches at once what was queued with this ticket, because somebody waits for it now.
    pub(super) fn hurry(self: &Arc<Self>, ticket: u64) {
        if let Some(read) = self.ahead.take(ticket) {
            self.begin_now(read);
        }
    }

    /// Queues a read ahead; `interest` is gone when nobody wants it any more.
    pub(super) fn begin_ahead(self: &Arc<Self>, read: Read, interest: Option<Weak<()>>) {
        if let Some(awaited) = self.ahead.push(read, interest) {
            self.begin_now(awaited);
        }
    }

    fn begin_now(self: &Arc<Self>, read: Read) {
        let inner = Arc::clone(self);
        self.runtime.spawn(async move { inner.fetch(read).await });
    }

    /// What is kept is decoded in the room that it has; for the rest there is to be room once its store may be asked.
    async fn fetch(self: &Arc<Self>, read: Read) {
        let rest = self.take_kept(read, Urgency::Awaited).await;
        let rest: Vec<_> = rest.into_iter().map(|Read { batch, .. }| self.fetch_stored(batch)).collect();
        join_all(rest).await;
    }

    async fn fetch_stored(self: &Arc<Self>, batch: Batch<Duty>) {
        let room = Arc::new(self.part.room_for(batch.weight()).await);
        let stored = self.read(&room, BlobKind::Data, &batch.pack, batch.offset, batch.length).await;
        self.unpack(Read { batch, room }, stored, Urgency::Awaited);
    }

    /// Begins as many of the queued reads as there are slots for.
    pub(super) fn begin_reads_ahead(self: &Arc<Self>) {
        while let Some(read) = self.ahead.next() {
            let slot = Slot(Arc::clone(self));
            self.runtime.spawn(async move {
                let inner = &slot.0;
                let reads = inner.take_kept(read, Urgency::Ahead).await.into_iter().map(|read| async move {
                    let Batch { pack, offset, length, .. } = read.batch;
                    let stored = read.room.lent(inner.in_time(BlobKind::Data, &pack, offset, length)).await;
                    // Decoding needs no slot: what waits for it is bounded by its room.
                    inner.unpack(read, stored, Urgency::Ahead);
                });
                join_all(reads).await;
            });
        }
    }

    pub(super) async fn in_time(&self, kind: BlobKind, pack: &Id, offset: u64, length: u64) -> Result<Bytes> {
        let read = self.packs.read(kind, pack, offset, length);
        let late = |_| Error::new(Kind::TimedOut, format!("pack {pack}: no answer in {} s", FETCH.as_secs()));
        tokio::time::timeout(FETCH, read).await.map_err(late)?
    }

    /// Has the blobs of a read decoded, or looked for elsewhere.
    fn unpack(self: &Arc<Self>, read: Read, stored: Result<Bytes>, urgency: Urgency) {
        let Read { batch, room } = read;
        match stored {
            Ok(stored) => match batch.with_parts(&stored) {
                Ok(blobs) => self.decode_all(blobs, Origin::Store, &room, urgency),
                Err(error) => tracing::error!("{}: {error}", self.packs.name()),
            },
            Err(error) => {
                // Given back before looking elsewhere, which takes room of its own.
                drop(room);
                let failed = batch.blobs.into_iter().map(|(place, duty)| (place, duty, error.clone()));
                self.look_elsewhere(failed.collect(), Origin::Store);
            }
        }
    }

    /// Has blobs decoded, several at a time.
    pub(super) fn decode_all(
        self: &Arc<Self>,
        blobs: Vec<(Place, Duty, Bytes)>,
        origin: Origin,
        room: &Arc<Room>,
        urgency: Urgency,
    ) {
        for blobs in portions(blobs, JOB) {
            let (inner, room) = (Arc::clone(self), Arc::clone(room));
            let is_awaited = blobs.iter().any(|(_, duty, _)| duty.is_awaited());
            let urgency = if is_awaited { Urgency::Awaited } else { urgency };
            self.shared.pool.submit(urgency, move || {
                let failed = inner.decode(blobs, origin);
                drop(room);
                inner.look_elsewhere(failed, origin);
            });
        }
    }

    /// Decodes and lands `blobs`; returns those that failed.
    fn decode(&self, blobs: Vec<(Place, Duty, Bytes)>, origin: Origin) -> Failures {
        let (mut done, mut failed) = (Vec::with_capacity(blobs.len()), Vec::new());
        for (place, duty, stored) in blobs {
            // Small ones land together: who reads them one after the other is woken once and not for each.
            if u64::from(place.size) > JOB {
                self.keep_all(&mut done);
            }
            match self.decode_one(BlobKind::Data, duty.key(), &place, &stored, origin) {
                Ok(blob) => done.push((duty, blob)),
                Err(error) => failed.push((place, duty, error)),
            }
        }
        self.keep_all(&mut done);
        failed
    }

    fn keep_all(&self, done: &mut Vec<(Duty, Bytes)>) {
        done.drain(..).for_each(|(duty, blob)| self.keep(duty, blob));
    }

    /// A blob from its stored bytes. Those that a store delivered are kept, and those that were kept and are wrong forgotten.
    pub(super) fn decode_one(
        &self,
        kind: BlobKind,
        id: &Id,
        place: &Place,
        stored: &[u8],
        origin: Origin,
    ) -> Result<Bytes> {
        let plain = self.packs.decode(id, place, stored);
        match (&plain, origin) {
            (Ok(_), Origin::Store) => self.keep_stored(kind, place, stored),
            (Err(_), Origin::Cache) => self.forget_stored(place),
            _ => {}
        }
        Ok(Bytes::from(plain?))
    }

    /// Puts a blob into the cache, then tells who waits.
    pub(super) fn keep(&self, duty: Duty, blob: Bytes) {
        self.shared.blobs.insert((self.number, *duty.key()), blob.clone(), blob.len() as u64);
        duty.land(Ok(blob));
    }

    /// Looks for the blobs that somebody waits for in their other places, and where only what was kept of them was wrong, in
    /// this one. Of the rest it is as if nobody had asked.
    fn look_elsewhere(self: &Arc<Self>, failed: Failures, origin: Origin) {
        if failed.iter().all(|(_, duty, _)| !duty.is_awaited()) {
            return;
        }
        let inner = Arc::clone(self);
        self.runtime.spawn(async move {
            for (place, duty, error) in failed {
                let failures = match origin {
                    Origin::Store => vec![(place, error)],
                    Origin::Cache => Vec::new(),
                };
                if duty.is_awaited() {
                    inner.rescue(duty, failures).await;
                }
            }
        });
    }
}
