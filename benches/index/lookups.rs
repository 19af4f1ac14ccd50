//! Looking blobs up, in memory and on disk.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use backupfs::cache::Folder;
use backupfs::source::chunked::{
    BlobIndex, BlobKind, Gathering, Id, IndexFile, Place, Shelf, Standing, Tender,
};

use crate::synthetic::{PER_FILE, PER_PACK, blob_id, pack_id};

/// Lookups of each sort.
const PROBES: u64 = 300_000;

/// Prints a line for indexes of several sizes up to `blobs`, each in memory and on disk.
pub fn table(place: &Path, blobs: u64) {
    println!("| blobs | where | made in | place of a blob | size of a blob | unknown blob |");
    println!("|---|---|---|---|---|---|");
    for blobs in [blobs / 100, blobs / 10, blobs] {
        line("memory", Tender::new(None), blobs);
        let cache = Folder::open(&place.join(format!("lookups-{blobs}"))).unwrap();
        let shelf = || Some(Arc::new(Shelf::open(&cache, "lookups", Arc::default()).unwrap()));
        line("disk", Tender::new(shelf()), blobs);
    }
}

fn line(place: &str, tender: Arc<Tender>, blobs: u64) {
    let started = Instant::now();
    let gathering = Gathering::new(tender.shelf());
    let files: Vec<u64> = (0..blobs.div_ceil(PER_FILE)).collect();
    for file in &files {
        let mut filled = gathering.begin(file_id(*file));
        fill(&mut filled, *file, blobs);
        gathering.add(filled).unwrap();
    }
    let listed: HashSet<Id> = files.iter().map(|file| file_id(*file)).collect();
    tender.update(&listed, &gathering.finish());
    tender.tend();
    while !tender.is_settled() || tender.is_busy() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let made = started.elapsed().as_secs_f64();
    let index = tender.index();
    // Blobs of a directory lie anywhere in the index.
    let random = |n: u64| u64::from_le_bytes(*pack_id(n).first_chunk().unwrap());
    let known = |n: u64| Id(blob_id(random(n) % blobs / 10 * 10 + 1));
    let found = nanoseconds(|n| assert!(index.find(BlobKind::Data, &known(n)).is_some()));
    let sized = nanoseconds(|n| assert!(index.size(BlobKind::Data, &known(n)).is_some()));
    let missed = nanoseconds(|n| assert!(is_unknown(&index, &Id(pack_id(random(n))))));
    println!("| {blobs} | {place} | {made:.2} s | {found} ns | {sized} ns | {missed} ns |");
}

fn is_unknown(index: &BlobIndex, id: &Id) -> bool {
    index.find(BlobKind::Data, id).is_none()
}

fn nanoseconds(look_up: impl Fn(u64)) -> u128 {
    let started = Instant::now();
    (0..PROBES).for_each(look_up);
    started.elapsed().as_nanos() / u128::from(PROBES)
}

fn file_id(number: u64) -> Id {
    Id(blob_id(1 << 63 | number))
}

fn fill(file: &mut IndexFile, number: u64, blobs: u64) {
    for blob in number * PER_FILE..blobs.min((number + 1) * PER_FILE) {
        let place = Place {
            pack: Id(pack_id(blob / PER_PACK)),
            offset: u32::try_from(blob % PER_PACK * 500_000).unwrap(),
            length: 400_000,
            size: 800_000,
            compressed: true,
            standing: Standing::Live,
        };
        file.push(BlobKind::Data, Id(blob_id(blob)), &place);
    }
}
