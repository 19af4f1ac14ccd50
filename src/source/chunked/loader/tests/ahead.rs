//! Reading ahead: how it is planned, how it gives way, how it is let go of.

use std::time::Duration;

use super::*;
use crate::cache::Budget;

fn ids(blobs: &[Vec<u8>]) -> Vec<Id> {
    blobs.iter().map(|blob| id_of(blob)).collect()
}

async fn until_idle(loader: &Loader) {
    while !loader.is_idle() {
        tokio::task::yield_now().await;
    }
}

/// Packs of one blob of a megabyte each.
fn strangers(count: u64) -> (Arc<Vault>, Vec<Vec<u8>>) {
    let blobs = blobs(count, 1 << 20);
    let vault = Vault::new(&blobs.iter().map(|blob| vec![blob.clone()]).collect::<Vec<_>>());
    (vault, blobs)
}

#[tokio::test]
async fn a_directory_of_small_files_is_one_read() {
    let blobs = blobs(100, 4096);
    let vault = Vault::new(std::slice::from_ref(&blobs));
    let loader = vault.loader(64 * MIB);
    assert_eq!(loader.read_ahead(ids(&blobs)), 100);
    for blob in &blobs {
        assert_eq!(loader.data(&id_of(blob)).await.unwrap(), *blob);
    }
    assert_eq!(*vault.reads.lock().unwrap(), [(pack_id(0), 0, 100 * (4096 + 32))]);
    until_idle(&loader).await;
}

#[tokio::test]
async fn what_finds_no_room_is_not_taken_and_is_when_asked_for_again() {
    let blobs = blobs(30, 1 << 20);
    let vault = Vault::new(std::slice::from_ref(&blobs));
    vault.shut();
    let loader = vault.loader(64 * MIB);
    let all = ids(&blobs);
    let first = loader.read_ahead(all.iter().copied());
    assert!((6..11).contains(&first), "{first} of 30 MiB in 21 MiB of stored and decoded bytes");
    assert_eq!(loader.read_ahead(all.iter().copied()), first, "no more than was under way already");
    vault.gate.add_permits(100);
    let mut taken = first;
    while taken < all.len() {
        taken += loader.read_ahead(all[taken..].iter().copied());
        tokio::task::yield_now().await;
    }
    until_idle(&loader).await;
    let bytes: u64 = vault.reads.lock().unwrap().iter().map(|(_, _, length)| length).sum();
    assert_eq!(bytes, 30 * ((1 << 20) + 32), "nothing twice");
}

#[tokio::test]
async fn a_blob_larger_than_all_room_is_read_ahead_alone() {
    let blobs = blobs(2, 9 << 20);
    let vault = Vault::new(std::slice::from_ref(&blobs));
    vault.shut();
    let loader = vault.loader(MIB);
    assert_eq!(loader.read_ahead(ids(&blobs)), 1);
    vault.gate.add_permits(10);
    until_idle(&loader).await;
    assert_eq!(vault.reads(), 1);
}

#[tokio::test]
async fn who_waits_goes_before_all_that_is_read_ahead() {
    let (vault, blobs) = strangers(30);
    vault.shut();
    let loader = vault.loader(400 * MIB);
    let all = ids(&blobs);
    assert_eq!(loader.read_ahead(all[..25].iter().copied()), 25);
    let slots = loader.0.tuning.ahead;
    vault.until(slots).await;
    assert_eq!(loader.0.ahead.load(), (25 - slots, slots), "the others are queued");
    // One that is queued and one that nobody thought of.
    let (queued, stranger) = (loader.clone(), loader.clone());
    let (a, b) = (all[24], all[29]);
    let waiting = [
        tokio::spawn(async move { queued.data(&a).await }),
        tokio::spawn(async move { stranger.data(&b).await }),
    ];
    vault.until(slots + 2).await;
    let begun: Vec<Id> = vault.reads.lock().unwrap()[slots..].iter().map(|read| read.0).collect();
    assert!(begun.contains(&pack_id(24)) && begun.contains(&pack_id(29)), "{begun:?}");
    vault.gate.add_permits(100);
    for (waiting, number) in waiting.into_iter().zip([24, 29]) {
        assert_eq!(waiting.await.unwrap().unwrap(), blobs[number]);
    }
    until_idle(&loader).await;
    assert_eq!(vault.reads(), 26, "each once");
}

#[tokio::test]
async fn what_is_queued_for_a_reader_goes_with_it_unless_somebody_waits() {
    let (vault, blobs) = strangers(30);
    vault.shut();
    let loader = vault.loader(400 * MIB);
    let reader = Arc::new(());
    loader.read_ahead_for(ids(&blobs[..20]), Some(Arc::downgrade(&reader)));
    loader.read_ahead(ids(&blobs[20..22]));
    let slots = loader.0.tuning.ahead;
    vault.until(slots).await;
    loader.sweep();
    assert_eq!(loader.0.ahead.load(), (22 - slots, slots), "the reader is there");
    drop(reader);
    loader.sweep();
    assert_eq!(loader.0.ahead.load(), (2, slots));
    assert_eq!(loader.0.flights.count(), slots + 2, "no flight is left of what was let go of");
    vault.gate.add_permits(100);
    until_idle(&loader).await;
    assert_eq!(vault.reads(), slots + 2);
    assert_eq!(loader.data(&id_of(&blobs[15])).await.unwrap(), blobs[15], "fetched when it is wanted");
}

#[tokio::test]
async fn what_is_queued_for_too_long_is_let_go_of() {
    let (vault, blobs) = strangers(20);
    vault.shut();
    let loader = vault.loader(400 * MIB);
    loader.read_ahead(ids(&blobs));
    let slots = loader.0.tuning.ahead;
    vault.until(slots).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    vault.gate.add_permits(100);
    until_idle(&loader).await;
    assert_eq!(vault.reads(), slots);
}

/// A store 30 ms away through which 100 MB flow in a second.
const DISTANT: Pace = Pace { latency: Duration::from_millis(30), bandwidth: 100_000_000 };

#[tokio::test(start_paused = true)]
async fn over_a_distance_gaps_of_a_megabyte_are_read_over() {
    let blobs = [blob(1, 4096), blob(2, 1 << 20), blob(3, 4096), blob(4, 3 << 20), blob(5, 4096)];
    for (pace, reads) in [(DISTANT, 2), (Pace::LOCAL, 3)] {
        let vault = Vault::at(&[blobs.to_vec()], pace);
        let loader = vault.loader(64 * MIB);
        let wanted = [0, 2, 4].map(|n| id_of(&blobs[n]));
        assert_eq!(loader.read_ahead(wanted), 3);
        for id in &wanted {
            loader.data(id).await.unwrap();
        }
        assert_eq!(vault.reads(), reads, "{pace:?}");
    }
}

#[tokio::test]
async fn a_loader_within_a_small_budget_reads_ahead_a_little() {
    let vault = Vault::new(&[blobs(100, 4096)]);
    let packs: Arc<dyn Packs> = Arc::<Vault>::clone(&vault);
    let loader = Loader::new(packs, Shared::new(Budget::of(0)));
    assert_eq!(loader.read_ahead(ids(&blobs(100, 4096))), 100);
    until_idle(&loader).await;
}
