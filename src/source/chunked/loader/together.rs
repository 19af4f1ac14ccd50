//! Blobs that are not kept, many at a time: directories that are about to be walked.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::super::plan::{Batch, batches, portions};
use super::fetch::{JOB, Origin};
use super::{BlobKind, Id, Inner, Loader, Place, Standing, is_plausible};

impl Loader {
    /// Brings `ids` by few reads of neighbours. `landed` gets each on the pool as soon as it is decoded and checked. What
    /// fails is left out: whoever wants it asks for it alone, and hears why. Returns when all is done.
    pub async fn together(
        &self,
        kind: BlobKind,
        ids: impl IntoIterator<Item = Id>,
        landed: impl Fn(Id, Bytes) + Send + Sync + 'static,
    ) {
        let index = self.index();
        let place = |id: Id| {
            let place = index.find(kind, &id).filter(is_plausible)?;
            (place.standing == Standing::Live).then_some((place, id))
        };
        let landed = Arc::new(landed);
        let reads = batches(ids.into_iter().filter_map(place).collect(), &self.0.tuning)
            .into_iter()
            .map(|batch| self.0.unkept(kind, batch, &landed));
        join_all(reads).await;
    }
}

impl Inner {
    /// One ranged read and all blobs in it.
    async fn unkept(
        self: &Arc<Self>,
        kind: BlobKind,
        batch: Batch<Id>,
        landed: &Arc<impl Fn(Id, Bytes) + Send + Sync + 'static>,
    ) {
        let reads = match self.packs.drawer() {
            Some(_) => {
                let _room = self.shared.room_for(batch.weight()).await;
                let (here, reads) = self.split(kind, batch).await;
                self.land(kind, here, Origin::Cache, landed).await;
                reads
            }
            None => vec![batch],
        };
        let reads = reads.into_iter().map(|batch| async move {
            let room = self.part.room_for(batch.weight()).await;
            let read = self.read(&room, kind, &batch.pack, batch.offset, batch.length);
            let Ok(stored) = read.await else { return };
            let Ok(blobs) = batch.with_parts(&stored) else { return };
            self.land(kind, blobs, Origin::Store, landed).await;
        });
        join_all(reads).await;
    }

    /// Decodes blobs and hands them over.
    async fn land(
        self: &Arc<Self>,
        kind: BlobKind,
        blobs: Vec<(Place, Id, Bytes)>,
        origin: Origin,
        landed: &Arc<impl Fn(Id, Bytes) + Send + Sync + 'static>,
    ) {
        let jobs = portions(blobs, JOB).into_iter().map(|blobs| {
            let (inner, landed) = (Arc::clone(self), Arc::clone(landed));
            self.shared.pool.run(move || {
                for (place, id, stored) in blobs {
                    if let Ok(plain) = inner.decode_one(kind, &id, &place, &stored, origin) {
                        landed(id, plain);
                    }
                }
            })
        });
        join_all(jobs).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::super::vault::{Vault, blob, id_of};
    use super::*;

    async fn landed(vault: &Arc<Vault>, ids: Vec<Id>) -> Vec<(Id, Bytes)> {
        let found: Arc<Mutex<Vec<(Id, Bytes)>>> = Arc::default();
        let into = Arc::clone(&found);
        let keep = move |id, bytes| into.lock().unwrap().push((id, bytes));
        vault.loader(1 << 20).together(BlobKind::Data, ids, keep).await;
        std::mem::take(&mut *found.lock().unwrap())
    }

    #[tokio::test]
    async fn neighbours_come_by_one_read() {
        let blobs: Vec<_> = (0..20).map(|n| blob(n, 1000)).collect();
        let vault = Vault::new(&[blobs[..10].to_vec(), blobs[10..].to_vec()]);
        let ids: Vec<Id> = blobs.iter().map(|blob| id_of(blob)).collect();
        let mut found = landed(&vault, ids.clone()).await;
        assert_eq!(vault.reads(), 2);
        assert!(found.iter().all(|(id, bytes)| id_of(bytes) == *id));
        let mut expected = ids;
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn what_fails_is_left_out_and_nothing_is_listed_again() {
        let blobs: Vec<_> = (0..3).map(|n| blob(n, 100)).collect();
        let vault = Vault::new(&[blobs.clone(), vec![blob(9, 100)]]);
        vault.packs.lock().unwrap().values_mut().for_each(|pack| pack[0] ^= 1);
        let ids = [&blobs[0], &blobs[1], &blob(50, 1), &blob(9, 100)].map(|blob| id_of(blob));
        let found = landed(&vault, ids.to_vec()).await;
        assert_eq!(found.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [ids[1]]);
        assert_eq!(vault.relists.load(std::sync::atomic::Ordering::SeqCst), 0);
        vault.is_down.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(landed(&vault, ids.to_vec()).await.is_empty());
    }
}
