//! Blobs that come from the disk cache.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::super::vault::{Vault, blob, id_of, pack_id};
use super::super::*;
use crate::cache::{Class, Disk, Folder};

struct Bed {
    dir: tempfile::TempDir,
    vault: Arc<Vault>,
    disk: Arc<Disk>,
    blobs: Vec<Vec<u8>>,
}

fn bed(count: u64, size: usize) -> Bed {
    let blobs: Vec<_> = (0..count).map(|n| blob(n, size)).collect();
    let vault = Vault::new(std::slice::from_ref(&blobs));
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(&Folder::open(dir.path()).unwrap(), 1 << 30).unwrap();
    assert!(vault.drawer.set(Drawer::new(Arc::clone(&disk), "vault", "vault")).is_ok());
    Bed { dir, vault, disk, blobs }
}

impl Bed {
    /// All blobs, asked for at once by a process that has none in memory.
    async fn all(&self) -> usize {
        self.some(0..self.blobs.len()).await
    }

    async fn some(&self, which: std::ops::Range<usize>) -> usize {
        let before = self.vault.reads();
        let loader = self.vault.loader(64 << 20);
        let ids: Vec<Id> = self.blobs[which.clone()].iter().map(|blob| id_of(blob)).collect();
        for (wanted, blob) in loader.want(&ids).into_iter().zip(&self.blobs[which]) {
            let found = match wanted {
                Wanted::Here(found) => found,
                Wanted::Coming(coming) => loader.arrival(coming).await.unwrap(),
            };
            assert_eq!(found, blob[..]);
        }
        self.disk.flush(Duration::from_secs(60));
        self.vault.reads() - before
    }

    /// Changes every record of the segment on the disk.
    fn damage(&self, change: impl Fn(&mut Vec<u8>)) {
        for file in std::fs::read_dir(self.dir.path().join("stored")).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some() {
                let mut bytes = std::fs::read(&path).unwrap();
                change(&mut bytes);
                std::fs::write(path, bytes).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_once_is_read_from_the_cache_alone() {
    let bed = bed(40, 3000);
    assert_eq!(bed.all().await, 1);
    bed.vault.is_down.store(true, Ordering::SeqCst);
    assert_eq!(bed.all().await, 0);
    for n in 0..40 {
        assert_eq!(bed.some(n..n + 1).await, 0, "singly, what was fetched together");
    }
    let tree = bed.vault.loader(0).unkept(BlobKind::Data, &id_of(&bed.blobs[7])).await.unwrap();
    assert_eq!(tree, bed.blobs[7][..]);
    assert_eq!(bed.vault.relists.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_not_kept_is_read() {
    let bed = bed(60, 100_000);
    assert_eq!(bed.some(20..25).await, 1);
    assert!(bed.all().await > 1, "around what is kept");
    let read: u64 = bed.vault.reads.lock().unwrap().iter().map(|(_, _, length)| length).sum();
    let stored = 60 * 100_032;
    // What is kept lies in a gap that is read over, or is not read again.
    assert!(read <= stored + 5 * 100_032, "{read}");
    assert_eq!(bed.all().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_ahead_takes_it_too() {
    let bed = bed(40, 3000);
    bed.all().await;
    bed.vault.is_down.store(true, Ordering::SeqCst);
    let loader = bed.vault.loader(64 << 20);
    let ids: Vec<Id> = bed.blobs.iter().map(|blob| id_of(blob)).collect();
    assert_eq!(loader.read_ahead(ids.clone()), 40);
    for (id, blob) in ids.iter().zip(&bed.blobs) {
        assert_eq!(loader.data(id).await.unwrap(), blob[..]);
    }
    while !loader.is_idle() {
        tokio::task::yield_now().await;
    }
    let (landed, ids) = (Arc::new(std::sync::Mutex::new(0)), ids.into_iter());
    let count = Arc::clone(&landed);
    loader.together(BlobKind::Data, ids, move |_, _| *count.lock().unwrap() += 1).await;
    assert_eq!(*landed.lock().unwrap(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_the_cache_is_fetched_again_and_never_an_error() {
    let bed = bed(40, 3000);
    bed.all().await;
    bed.damage(|bytes| (60..bytes.len()).step_by(1000).for_each(|at| bytes[at] ^= 1));
    assert!(bed.all().await > 0);
    assert_eq!(bed.all().await, 0, "and kept again");
    bed.damage(|bytes| bytes.truncate(50_000));
    assert!(bed.all().await > 0);
    assert_eq!(bed.all().await, 0);
    assert_eq!(bed.vault.damage().count(), 0, "the repository is not damaged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_entry_is_fetched_again_too() {
    let bed = bed(3, 3000);
    // Whole by its checksum, but not what it says it is.
    let drawer = bed.vault.drawer.get().unwrap();
    for n in 0..3 {
        drawer.put(drawer.range(&pack_id(0).0, n * 3032, 3032), Class::Data, &[7; 3032]);
    }
    bed.disk.flush(Duration::from_secs(60));
    assert!(bed.all().await > 0);
    assert_eq!(bed.all().await, 0);
    drawer.put(drawer.range(&pack_id(0).0, 0, 3032), Class::Data, &[7; 3032]);
    bed.disk.flush(Duration::from_secs(60));
    let plain = bed.vault.loader(0).unkept(BlobKind::Data, &id_of(&bed.blobs[0])).await.unwrap();
    assert_eq!(plain, bed.blobs[0][..]);
    assert_eq!(bed.vault.damage().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_damaged_when_it_came_is_not_kept() {
    let bed = bed(1, 3000);
    bed.vault.flip(0, 100);
    let loader = bed.vault.loader(64 << 20);
    assert_eq!(loader.data(&id_of(&bed.blobs[0])).await.unwrap_err().kind(), Kind::Corrupt);
    bed.disk.flush(Duration::from_secs(60));
    bed.vault.flip(0, 100);
    assert_eq!(bed.all().await, 1);
}
