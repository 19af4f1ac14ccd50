//! Blobs whose stored bytes lie on a disk of this machine. What is wrong there is a miss.

use std::sync::Arc;

use bytes::Bytes;

use super::ahead::Read;
use super::fetch::Origin;
use super::{BlobKind, Id, Inner, Place, weight};
use crate::cache::{Class, Drawer, Key};
use crate::source::chunked::plan::{Batch, batches};
use crate::source::chunked::pool::Urgency;

/// A pack is named by its content: so is a part of it by pack, offset and length.
fn key(drawer: &Drawer, place: &Place) -> Key {
    drawer.range(&place.pack.0, place.offset.into(), place.length.into())
}

impl Inner {
    /// Takes out of a read what is kept, and has that decoded. Returns the reads that are left to make.
    pub(super) async fn take_kept(self: &Arc<Self>, read: Read, urgency: Urgency) -> Vec<Read> {
        let Read { batch, room } = read;
        let (here, rest) = self.split(BlobKind::Data, batch).await;
        self.decode_all(here, Origin::Cache, &room, urgency);
        rest.into_iter().map(|batch| Read { batch, room: Arc::clone(&room) }).collect()
    }

    /// The blobs of a read that are kept, and the reads that are left to make.
    pub(super) async fn split<T>(
        &self,
        kind: BlobKind,
        batch: Batch<T>,
    ) -> (Vec<(Place, T, Bytes)>, Vec<Batch<T>>) {
        let found = self.kept(batch.blobs.iter().map(|(place, _)| place)).await;
        if found.iter().all(Option::is_none) {
            return (Vec::new(), vec![batch]);
        }
        let (mut here, mut rest) = (Vec::new(), Vec::new());
        for ((place, blob), stored) in batch.blobs.into_iter().zip(found) {
            match stored {
                Some(stored) => here.push((place, blob, stored)),
                None => rest.push((place, blob)),
            }
        }
        tracing::trace!(
            "{}: {} {kind:?} blobs of {} are in the cache",
            self.packs.name(),
            here.len(),
            here.len() + rest.len()
        );
        (here, batches(rest, &self.tuning))
    }

    /// What is kept of blobs, each in its place.
    async fn kept(&self, places: impl Iterator<Item = &Place>) -> Vec<Option<Bytes>> {
        match self.packs.drawer() {
            Some(drawer) => drawer.read(places.map(|place| key(drawer, place)).collect()).await,
            None => Vec::new(),
        }
    }

    /// A blob from what is kept of it.
    pub(super) async fn kept_blob(&self, kind: BlobKind, id: Id, place: Place) -> Option<Bytes> {
        self.packs.drawer()?;
        let _room = self.shared.room_for(weight(&place)).await;
        let stored = self.kept(std::iter::once(&place)).await.pop()??;
        let packs = Arc::clone(&self.packs);
        let plain = self.shared.pool.run(move || packs.decode(&id, &place, &stored)).await;
        match plain.and_then(|plain| plain) {
            Ok(plain) => Some(Bytes::from(plain)),
            Err(error) => {
                tracing::debug!("{}: {kind:?} blob {id} in the cache: {error}", self.packs.name());
                self.forget_stored(&place);
                None
            }
        }
    }

    /// Keeps the stored bytes of a blob, which were found to be good.
    pub(super) fn keep_stored(&self, kind: BlobKind, place: &Place, stored: &[u8]) {
        let class = match kind {
            BlobKind::Data => Class::Data,
            BlobKind::Tree => Class::Metadata,
        };
        if let Some(drawer) = self.packs.drawer() {
            drawer.put(key(drawer, place), class, stored);
        }
    }

    pub(super) fn forget_stored(&self, place: &Place) {
        if let Some(drawer) = self.packs.drawer() {
            drawer.forget(&key(drawer, place));
        }
    }
}
