use std::sync::atomic::Ordering;

use futures_util::future::join_all;

use super::super::index::{IndexFile, NewSegments};
use super::super::vault::{Vault, blob, id_of, index, pack, pack_id};
use super::*;

mod ahead;
mod concurrent;
mod distant;
mod kept;

const MIB: u64 = 1 << 20;

fn blobs(count: u64, size: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| blob(n, size)).collect()
}

#[tokio::test]
async fn one_read_however_many_want_it() {
    let blobs = blobs(1, 1000);
    let vault = Vault::new(std::slice::from_ref(&blobs));
    let loader = vault.loader(MIB);
    let id = id_of(&blobs[0]);
    let all = join_all((0..50).map(|_| loader.data(&id))).await;
    assert!(all.iter().all(|got| got.as_ref().unwrap() == &blobs[0]));
    assert_eq!(vault.reads(), 1);
    assert_eq!(loader.data(&id).await.unwrap(), blobs[0]);
    assert_eq!(vault.reads(), 1, "kept");
}

#[tokio::test]
async fn who_gives_up_disturbs_nobody() {
    let blobs = blobs(1, 1000);
    let vault = Vault::new(std::slice::from_ref(&blobs));
    vault.shut();
    let loader = vault.loader(MIB);
    let id = id_of(&blobs[0]);
    let (first, second) = (loader.clone(), loader.clone());
    let impatient = tokio::spawn(async move { first.data(&id).await });
    let patient = tokio::spawn(async move { second.data(&id).await });
    while vault.reads() == 0 {
        tokio::task::yield_now().await;
    }
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    vault.gate.add_permits(10);
    assert_eq!(patient.await.unwrap().unwrap(), blobs[0]);
    assert_eq!(vault.reads(), 1);
}

#[tokio::test]
async fn neighbours_are_read_together_and_strangers_apart() {
    let first = blobs(20, 10_000);
    let vault = Vault::new(&[first.clone(), vec![blob(99, 10)]]);
    let loader = vault.loader(MIB);
    let mut ids: Vec<Id> = first.iter().rev().map(|blob| id_of(blob)).collect();
    ids.push(id_of(&blob(99, 10)));
    for (wanted, id) in loader.want(&ids).into_iter().zip(&ids) {
        let Wanted::Coming(coming) = wanted else { panic!("nothing is cached yet") };
        assert_eq!(id_of(&loader.arrival(coming).await.unwrap()), *id);
    }
    let mut reads = vault.reads.lock().unwrap().clone();
    reads.sort();
    assert_eq!(reads, [(pack_id(0), 0, 20 * 10_032), (pack_id(1), 0, 42)]);
}

#[tokio::test]
async fn an_error_is_shared_and_forgotten() {
    let blobs = blobs(1, 1000);
    let vault = Vault::new(std::slice::from_ref(&blobs));
    vault.is_down.store(true, Ordering::SeqCst);
    let loader = vault.loader(MIB);
    let id = id_of(&blobs[0]);
    let all = join_all((0..10).map(|_| loader.data(&id))).await;
    for got in all {
        assert_eq!(got.unwrap_err().kind(), Kind::Unavailable);
    }
    assert_eq!(vault.relists.load(Ordering::SeqCst), 0, "an outage is no reason to list");
    vault.is_down.store(false, Ordering::SeqCst);
    assert_eq!(loader.data(&id).await.unwrap(), blobs[0]);
}

#[tokio::test]
async fn a_flipped_bit_costs_its_blob_only() {
    let blobs = blobs(3, 1000);
    let vault = Vault::new(std::slice::from_ref(&blobs));
    vault.flip(0, 1032 + 500);
    let loader = vault.loader(MIB);
    let ids: Vec<Id> = blobs.iter().map(|blob| id_of(blob)).collect();
    let (a, b, c) = tokio::join!(loader.data(&ids[0]), loader.data(&ids[1]), loader.data(&ids[2]));
    assert_eq!((a.unwrap(), c.unwrap()), (blobs[0].clone().into(), blobs[2].clone().into()));
    let error = b.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    let text = error.to_string();
    assert!(text.contains(&ids[1].to_string()) && text.contains(&pack_id(0).to_string()), "{text}");
    vault.flip(0, 1032 + 500);
    assert_eq!(loader.data(&ids[1]).await.unwrap(), blobs[1], "the error was not kept");
}

#[tokio::test]
async fn a_missing_pack_is_listed_again_and_found_in_its_new_place() {
    let blobs = blobs(4, 1000);
    let vault = Vault::new(std::slice::from_ref(&blobs));
    let loader = vault.loader(MIB);
    let (moved, file) = pack(7, &blobs, Standing::Live);
    let newer = vault.index.load().updated(&[pack_id(7)].into(), &[file].into_iter().collect());
    *vault.newer.lock().unwrap() = newer;
    *vault.packs.lock().unwrap() = [(pack_id(7), moved)].into();
    assert_eq!(loader.data(&id_of(&blobs[2])).await.unwrap(), blobs[2]);
    assert_eq!(vault.relists.load(Ordering::SeqCst), 1);
    assert_eq!(vault.reads(), 2);
}

#[tokio::test]
async fn duplicates_then_doomed_then_vanished_places_are_tried() {
    let blobs = blobs(1, 1000);
    let id = id_of(&blobs[0]);
    let vault = Vault::new(&[]);
    let numbered = |number, standing| pack(number, &blobs, standing);
    let files: Vec<IndexFile> = vec![
        numbered(1, Standing::Live).1,
        numbered(2, Standing::Live).1,
        numbered(3, Standing::Deleted).1,
        numbered(4, Standing::Live).1,
    ];
    // The index file of pack 4 is gone.
    let all = index(files, &[1, 2, 3, 4]);
    let listed = [1, 2, 3].map(pack_id).into();
    vault.index.store(Arc::new(all.updated(&listed, &NewSegments::default()).unwrap()));
    for (number, relists) in [(2, 0), (3, 1), (4, 1)] {
        let bytes = numbered(number, Standing::Live).0;
        *vault.packs.lock().unwrap() = [(pack_id(number), bytes)].into();
        let loader = vault.loader(MIB);
        vault.relists.store(0, Ordering::SeqCst);
        assert_eq!(loader.data(&id).await.unwrap(), blobs[0], "pack {number}");
        assert_eq!(vault.relists.load(Ordering::SeqCst), relists, "pack {number}");
    }
    vault.packs.lock().unwrap().clear();
    let error = vault.loader(MIB).data(&id).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "never NotFound: {error}");
}

#[tokio::test]
async fn a_blob_in_no_index_is_damage_after_one_listing() {
    let vault = Vault::new(&[blobs(1, 10)]);
    let error = vault.loader(MIB).data(&Id([3; 32])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert_eq!((vault.relists.load(Ordering::SeqCst), vault.reads()), (1, 0));
}

#[tokio::test]
async fn what_is_larger_than_the_cache_is_served_all_the_same() {
    let blobs = blobs(8, 100_000);
    let vault = Vault::new(std::slice::from_ref(&blobs));
    let loader = vault.loader(1000);
    for blob in blobs.iter().chain(&blobs) {
        assert_eq!(loader.data(&id_of(blob)).await.unwrap(), *blob);
    }
}

#[tokio::test]
async fn a_lying_index_entry_is_refused_before_any_read() {
    let vault = Vault::new(&[]);
    let mut file = IndexFile::new(pack_id(0));
    let (id, size) = (Id([5; 32]), LARGEST + 1);
    let standing = Standing::Live;
    let place = Place { pack: pack_id(0), offset: 0, length: 100, size, compressed: true, standing };
    file.push(BlobKind::Data, id, &place);
    vault.index.store(Arc::new(index(vec![file], &[0])));
    let error = vault.loader(MIB).data(&id).await.unwrap_err();
    assert_eq!((error.kind(), vault.reads()), (Kind::Corrupt, 0));
}

#[tokio::test]
async fn what_is_read_ahead_is_there_and_its_failure_hurts_nobody() {
    let blobs = blobs(10, 1000);
    let vault = Vault::new(&[blobs.clone(), blobs.clone()]);
    let best = vault.index.load().find(BlobKind::Data, &id_of(&blobs[4])).unwrap().pack;
    vault.flip(best.0[0], 4 * 1032);
    let loader = vault.loader(MIB);
    loader.read_ahead(blobs.iter().map(|blob| id_of(blob)));
    for blob in &blobs {
        assert_eq!(loader.data(&id_of(blob)).await.unwrap(), *blob);
    }
    let reads = vault.reads();
    assert!(reads <= 3, "{reads} reads");
}
