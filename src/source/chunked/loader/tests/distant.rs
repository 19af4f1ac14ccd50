//! What is done otherwise where requests take long.

use std::time::Duration;

use super::*;

const AFAR: Pace = Pace { latency: Duration::from_millis(30), bandwidth: 100 << 20 };

/// One pack of 100 directories of 1000 bytes each.
fn directories(pace: Pace) -> (Arc<Vault>, Vec<Vec<u8>>) {
    let trees = blobs(100, 1000);
    let vault = Vault::at(std::slice::from_ref(&trees), pace);
    let mut file = IndexFile::new(pack_id(0));
    for tree in &trees {
        let id = id_of(tree);
        let place = vault.index.load().find(BlobKind::Data, &id).unwrap();
        file.push(BlobKind::Tree, id, &place);
    }
    vault.index.store(Arc::new(index(vec![file], &[0])));
    (vault, trees)
}

#[tokio::test(start_paused = true)]
async fn a_directory_brings_those_that_lie_before_it() {
    let (vault, trees) = directories(AFAR);
    let loader = vault.loader(MIB);
    for tree in trees.iter().rev() {
        assert_eq!(loader.unkept(BlobKind::Tree, &id_of(tree)).await.unwrap(), *tree);
    }
    assert_eq!(*vault.reads.lock().unwrap(), [(pack_id(0), 0, 100 * 1032)]);
    let near = directories(Pace::LOCAL).0;
    let loader = near.loader(MIB);
    for tree in trees.iter().rev().take(3) {
        loader.unkept(BlobKind::Tree, &id_of(tree)).await.unwrap();
    }
    assert_eq!(near.reads(), 3, "a near one is read alone");
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_came_wrong_with_another_is_fetched_again() {
    let (vault, trees) = directories(AFAR);
    let loader = vault.loader(MIB);
    vault.flip(0, 50 * 1032);
    loader.unkept(BlobKind::Tree, &id_of(&trees[99])).await.unwrap();
    vault.flip(0, 50 * 1032);
    assert_eq!(loader.unkept(BlobKind::Tree, &id_of(&trees[50])).await.unwrap(), trees[50]);
    assert_eq!(vault.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_in_one_moment_comes_by_one_read() {
    let files = blobs(100, 1000);
    let vault = Vault::at(std::slice::from_ref(&files), AFAR);
    let loader = vault.loader(64 * MIB);
    let ids: Vec<Id> = files.iter().map(|file| id_of(file)).collect();
    for directory in ids.chunks(10) {
        loader.announce(directory.iter().copied());
    }
    for (id, file) in ids.iter().zip(&files) {
        assert_eq!(loader.data(id).await.unwrap(), *file);
    }
    assert_eq!(*vault.reads.lock().unwrap(), [(pack_id(0), 0, 100 * 1032)]);
    while !loader.is_idle() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_of_a_hole_that_is_announced() {
    let (data, hole, rest) = (blobs(1, 1000).remove(0), vec![0; 512 * 1024], vec![0; 3000]);
    let vault = Vault::at(&[vec![data.clone(), hole.clone(), rest.clone()]], AFAR);
    let loader = vault.loader(64 * MIB);
    loader.announce([&hole, &rest, &data].map(|blob| id_of(blob)));
    assert_eq!(loader.data(&id_of(&data)).await.unwrap(), data);
    while !loader.is_idle() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(*vault.reads.lock().unwrap(), [(pack_id(0), 0, 1032)]);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_announced_than_there_is_room_for() {
    let files = blobs(30, 1 << 20);
    let vault = Vault::at(std::slice::from_ref(&files), AFAR);
    let loader = vault.loader(16 * MIB);
    let ids: Vec<Id> = files.iter().map(|file| id_of(file)).collect();
    ids.iter().for_each(|id| loader.announce([*id]));
    while !loader.is_idle() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let brought: u64 = vault.reads.lock().unwrap().iter().map(|(_, _, length)| length).sum();
    assert!((1..=4).contains(&(brought >> 20)), "{brought} bytes in 6 MiB of stored and decoded ones");
}
