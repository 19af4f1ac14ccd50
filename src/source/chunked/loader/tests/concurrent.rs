//! Many readers at a time, some of whom leave in the middle: what they get is right, and nothing is left behind.

use futures_util::future::select_all;
use proptest::prelude::*;
use tokio::task::JoinSet;

use super::*;
use crate::cache::Budget;
use crate::source::chunked::{ChunkReader, FileMap};
use crate::tree::Reader;

/// A file of blobs of many sizes, its content, and readers of it.
struct Sample {
    content: Vec<u8>,
    reader: Arc<ChunkReader>,
}

fn samples(count: u64, memory: u64) -> (Arc<Vault>, Loader, Vec<Sample>) {
    let files: Vec<Vec<Vec<u8>>> = (0..count)
        .map(|file| (0..30).map(|n| blob(file * 100 + n, 1 + (n * n * 977 % 90_000) as usize)).collect())
        .collect();
    let packs: Vec<Vec<Vec<u8>>> = files.iter().map(|blobs| blobs.to_vec()).collect();
    let vault = Vault::new(&packs);
    let loader = vault.loader(memory);
    let sample = |blobs: &Vec<Vec<u8>>| {
        let ids: Vec<Id> = blobs.iter().map(|blob| id_of(blob)).collect();
        let map = FileMap::new(&ids, &vault.index.load()).unwrap();
        let reader = Arc::new(ChunkReader::new(loader.clone(), Arc::new(map)));
        Sample { content: blobs.concat(), reader }
    };
    let samples = files.iter().map(sample).collect();
    (vault, loader, samples)
}

/// A sequence of numbers that looks random.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

async fn read_here_and_there(reader: Arc<ChunkReader>, content: Vec<u8>, seed: u64, reads: usize) {
    let mut number = numbers(seed);
    let mut next = 0;
    for _ in 0..reads {
        // Two of three go on where the last one ended.
        let from = if number(3) == 0 { number(content.len()) } else { next };
        let to = (from + 1 + number(200_000)).min(content.len());
        let got = reader.read_at(from as u64, to - from).resolve().await.unwrap();
        assert!(got == content[from..to], "{from}..{to}");
        next = if to == content.len() { 0 } else { to };
    }
}

async fn until_idle(loader: &Loader) {
    let idle = async {
        while !loader.is_idle() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let patience = std::time::Duration::from_secs(30);
    assert!(tokio::time::timeout(patience, idle).await.is_ok(), "something is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_readers_of_the_same_and_of_different_files_get_what_is_in_them() {
    for memory in [0, 400_000, 64 * MIB] {
        let (_vault, loader, samples) = samples(8, memory);
        let mut tasks = JoinSet::new();
        for (n, seed) in (0..64).zip(0u64..) {
            let Sample { content, reader } = &samples[n * n % 8];
            tasks.spawn(read_here_and_there(Arc::clone(reader), content.clone(), seed, 40));
        }
        tasks.join_all().await;
        drop(samples);
        until_idle(&loader).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_that_leave_in_the_middle_leave_nothing_behind() {
    let (vault, loader, samples) = samples(8, 8 * MIB);
    vault.shut();
    let mut tasks = JoinSet::new();
    for (n, seed) in (0..64).zip(0u64..) {
        let Sample { content, reader } = &samples[n % 8];
        tasks.spawn(read_here_and_there(Arc::clone(reader), content.clone(), seed, 1000));
    }
    for permits in [3, 20, 100] {
        vault.gate.add_permits(permits);
        tokio::task::yield_now().await;
    }
    vault.until(20).await;
    tasks.shutdown().await;
    drop(samples);
    vault.gate.add_permits(100_000);
    until_idle(&loader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_fails_now_and_then_leaves_nothing_behind_either() {
    let (vault, loader, samples) = samples(8, 8 * MIB);
    vault.is_down.store(true, Ordering::SeqCst);
    let mut tasks = JoinSet::new();
    for n in 0..32 {
        let reader = Arc::clone(&samples[n % 8].reader);
        tasks.spawn(async move { reader.read_at(n as u64 * 1000, 300_000).resolve().await });
    }
    for failed in tasks.join_all().await {
        assert_eq!(failed.unwrap_err().kind(), Kind::Unavailable);
    }
    vault.is_down.store(false, Ordering::SeqCst);
    for Sample { content, reader } in &samples {
        let got = reader.read_at(0, content.len()).resolve().await.unwrap();
        assert!(got == content[..]);
    }
    drop(samples);
    until_idle(&loader).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn any_mix_of_reading_ahead_and_reading_ends_with_every_blob(
        steps in prop::collection::vec((0usize..40, 0usize..40, any::<bool>(), any::<bool>()), 1..20),
        memory in prop::sample::select(vec![0u64, 100_000, 64 << 20]),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let blobs = blobs(40, 20_000);
            let vault = Vault::new(&[blobs[..20].to_vec(), blobs[20..].to_vec()]);
            let loader = vault.loader(memory);
            let interest = Arc::new(());
            for (from, count, owned, wait) in steps {
                let ids: Vec<Id> = blobs.iter().skip(from).take(count).map(|blob| id_of(blob)).collect();
                let owner = owned.then(|| Arc::downgrade(&interest));
                assert!(loader.read_ahead_for(ids.iter().copied(), owner) <= ids.len());
                if wait {
                    assert_eq!(loader.data(&id_of(&blobs[from])).await.unwrap(), blobs[from]);
                }
            }
            drop(interest);
            loader.sweep();
            until_idle(&loader).await;
            for blob in &blobs {
                assert_eq!(loader.data(&id_of(blob)).await.unwrap(), *blob);
            }
        });
    }
}

/// One loader of each of two vaults that share memory, with `blobs` in both.
fn pair(blobs: &[Vec<Vec<u8>>]) -> [(Arc<Vault>, Loader); 2] {
    let shared = Shared::new(Budget { blobs: 0, directories: 0, under_way: 0 });
    [(); 2].map(|()| {
        let vault = Vault::new(blobs);
        let packs: Arc<dyn Packs> = Arc::<Vault>::clone(&vault);
        (vault, Loader::new(packs, Arc::clone(&shared)))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_delays_no_other_repository() {
    // As much as may be under way at all, several times over.
    let packs: Vec<Vec<Vec<u8>>> = (0..30).map(|n| vec![blob(n, 1 << 20)]).collect();
    let ids: Vec<Id> = packs.iter().flatten().map(|blob| id_of(blob)).collect();
    let [(dead, loader), (_healthy, other)] = pair(&packs);
    dead.shut();
    loader.read_ahead(ids[20..].iter().copied());
    let hanging: Vec<_> = ids[..20].iter().map(|id| Box::pin(loader.unkept(BlobKind::Data, id))).collect();
    let reading = async {
        dead.until(2).await;
        for (id, blob) in ids.iter().zip(packs.iter().flatten()) {
            assert_eq!(other.data(id).await.unwrap(), *blob);
        }
    };
    tokio::select! {
        biased;
        _ = select_all(hanging) => panic!("the other waited until this one was given up"),
        () = reading => {}
    }
}
