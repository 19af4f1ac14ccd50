//! The index as a whole: a stack in memory, and the same on a shelf, against a model.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::layout::PAGE;
use super::*;
use crate::cache::Folder;

fn id(n: u32) -> Id {
    Id(Sha256::digest(n.to_le_bytes()).into())
}

fn place(pack: u32, offset: u32) -> Place {
    let (length, size) = (offset + 100, offset + 68);
    Place { pack: id(pack), offset, length, size, compressed: offset % 2 == 1, standing: Standing::Live }
}

fn file(number: u32, blobs: &[(BlobKind, u32, Place)]) -> IndexFile {
    let mut file = IndexFile::new(id(number));
    for (kind, blob, place) in blobs {
        file.push(*kind, id(*blob), place);
    }
    file
}

/// Index file `number` of `count` data blobs, beginning with blob `first`, a hundred in a pack.
fn many(number: u32, first: u32, count: u32) -> IndexFile {
    let blobs: Vec<_> =
        (first..first + count).map(|n| (DATA, n, place(1_000_000 + n / 100, n % 100))).collect();
    file(number, &blobs)
}

fn listed(files: &[u32]) -> HashSet<Id> {
    files.iter().map(|n| id(*n)).collect()
}

fn new(files: Vec<IndexFile>) -> NewSegments {
    files.into_iter().collect()
}

const DATA: BlobKind = BlobKind::Data;
const TREE: BlobKind = BlobKind::Tree;

/// A cache directory that goes with the test.
struct Cache(tempfile::TempDir);

impl Cache {
    fn new() -> Self {
        Cache(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("index/repository")
    }

    /// What a process that opens the repository now has.
    fn tender(&self) -> Arc<Tender> {
        let folder = Folder::open(self.0.path()).unwrap();
        Tender::new(Some(Arc::new(Shelf::open(&folder, "repository", Arc::default()).unwrap())))
    }

    /// The segments on disk, in order.
    fn segments(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<_> = all.filter(|path| path.extension().is_some_and(|e| e == "segment")).collect();
        all.sort();
        all
    }

    fn only_segment(&self) -> PathBuf {
        let [segment] = &self.segments()[..] else { panic!("{:?}", self.segments()) };
        segment.clone()
    }
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn finds_by_kind_and_id() {
    let blobs = [(DATA, 1, place(10, 5)), (TREE, 1, place(11, 6)), (DATA, 2, place(10, 7))];
    let index = BlobIndex::default().updated(&listed(&[100]), &new(vec![file(100, &blobs)])).unwrap();
    for (kind, blob, place) in blobs {
        assert_eq!(index.find(kind, &id(blob)), Some(place));
        assert_eq!(index.size(kind, &id(blob)), Some(place.size));
    }
    assert_eq!(index.find(TREE, &id(2)), None);
    assert_eq!(index.find(DATA, &id(3)), None);
    assert_eq!(index.usage(), (2, 5 + 7 + 2 * 68));
    assert_eq!(index.generation(), 1);
    assert!(index.updated(&listed(&[100]), &new(vec![])).is_none(), "nothing new");
}

#[test]
fn several_places_come_best_first() {
    let doomed = Place { standing: Standing::Deleted, ..place(1, 1) };
    let both = file(100, &[(DATA, 7, doomed), (DATA, 7, place(2, 2)), (DATA, 7, place(4, 2))]);
    let index = BlobIndex::default().updated(&listed(&[100]), &new(vec![both])).unwrap();
    assert_eq!(index.usage().0, 1, "counted once");
    let other = file(101, &[(DATA, 7, place(3, 3))]);
    let index = index.updated(&listed(&[100, 101]), &new(vec![other])).unwrap();
    let places = index.places(DATA, &id(7));
    assert_eq!(places.last(), Some(&doomed));
    assert_eq!(places.len(), 4);
    assert_eq!(index.find(DATA, &id(7)), Some(place(3, 3)));
}

#[test]
fn what_a_vanished_file_named_stays_as_last_resort_until_replaced() {
    for cache in [None, Some(Cache::new())] {
        let tender = cache.as_ref().map_or_else(|| Tender::new(None), Cache::tender);
        let first = || new(vec![file(100, &[(DATA, 1, place(1, 1)), (DATA, 2, place(1, 9))])]);
        assert!(tender.update(&listed(&[100]), &first()));
        tender.tend_now();
        assert!(tender.update(&listed(&[101]), &new(vec![file(101, &[(DATA, 1, place(5, 2))])])));
        let check = |index: &BlobIndex| {
            assert_eq!(index.find(DATA, &id(1)), Some(place(5, 2)));
            let stale = index.find(DATA, &id(2)).unwrap();
            assert_eq!((stale.pack, stale.standing), (id(1), Standing::Stale));
            assert_eq!(index.usage().0, 1);
        };
        check(&tender.index());
        assert_eq!(tender.index().files(), listed(&[100, 101]));
        tender.merge_all();
        check(&tender.index());
        assert_eq!(tender.index().places(DATA, &id(1)), [place(5, 2)], "replaced");
        assert_eq!(tender.index().files(), listed(&[101]), "not all of the other is here");
        assert!(tender.update(&listed(&[100, 101]), &first()));
        for _ in 0..2 {
            assert_eq!(tender.index().find(DATA, &id(2)), Some(place(1, 9)), "the file is listed again");
            assert_eq!(tender.index().places(DATA, &id(1)).len(), 2);
            tender.merge_all();
        }
    }
}

#[test]
fn many_small_updates_are_merged_and_nothing_is_lost() {
    for cache in [None, Some(Cache::new())] {
        let tender = cache.as_ref().map_or_else(|| Tender::new(None), Cache::tender);
        let files: Vec<u32> = (0..40).collect();
        for n in &files {
            let kind = if n % 2 == 0 { DATA } else { TREE };
            let known = listed(&files[..=*n as usize]);
            let blobs = if *n == 17 { vec![] } else { vec![(kind, *n, place(*n, *n))] };
            tender.update(&known, &new(vec![file(*n, &blobs)]));
            tender.tend_now();
            assert!(tender.index().layers().len() <= 6);
        }
        let check = |index: &BlobIndex| {
            assert_eq!(index.files(), listed(&files));
            for n in (0..40).filter(|n| *n != 17) {
                let kind = if n % 2 == 0 { DATA } else { TREE };
                assert_eq!(index.find(kind, &id(n)), Some(place(n, n)), "{n}");
            }
        };
        check(&tender.index());
        if let Some(cache) = cache {
            assert!(cache.segments().len() <= 6, "{:?}", cache.segments());
            let again = cache.tender();
            assert!(again.update(&listed(&files), &new(vec![])));
            check(&again.index());
        }
    }
}

#[test]
fn rows_are_written_a_few_times_only() {
    let cache = Cache::new();
    let tender = cache.tender();
    tender.update(&listed(&[0]), &new(vec![many(0, 0, 10_000)]));
    tender.tend_now();
    let large = cache.only_segment();
    let files: Vec<u32> = (0..100).collect();
    for n in 1..100 {
        tender.update(&listed(&files[..=n as usize]), &new(vec![many(n, n * 10_000, 20)]));
        tender.tend_now();
        assert!(large.exists(), "the large segment was rewritten for 20 blobs, update {n}");
        assert!(cache.segments().len() <= 6);
    }
}

#[test]
fn a_later_process_has_what_an_earlier_one_wrote() {
    let cache = Cache::new();
    let tender = cache.tender();
    let mut odd = many(101, 20_000, 300);
    odd.malformed = 7;
    tender.update(&listed(&[100, 101]), &new(vec![many(100, 0, 20_000), odd]));
    tender.tend_now();
    let named = tender.index();
    assert!(named.segments().all(|segment| segment.name().is_some()), "what was written is what is used");

    let later = cache.tender();
    assert_eq!(later.index().files(), listed(&[100, 101]));
    assert_eq!(later.index().find(DATA, &id(5)), None, "nothing counts before it was listed");
    assert!(later.update(&listed(&[100, 101]), &new(vec![])));
    let index = later.index();
    for n in 0..20_300 {
        assert_eq!(index.find(DATA, &id(n)), named.find(DATA, &id(n)));
        assert_eq!(index.find(DATA, &id(n)), Some(place(1_000_000 + n / 100, n % 100)));
    }
    for n in 20_300..21_000 {
        assert_eq!(index.find(DATA, &id(n)), None);
        assert_eq!(index.find(TREE, &id(n - 1000)), None);
    }
    assert_eq!(index.usage().0, 20_300);
    assert_eq!(index.malformed().collect::<Vec<_>>(), [(id(101), 7)]);
}

#[test]
fn a_later_process_shows_nothing_of_files_that_went_meanwhile_and_drops_them() {
    let cache = Cache::new();
    let tender = cache.tender();
    tender.update(&listed(&[1, 2, 3]), &new(vec![many(1, 0, 900), many(2, 900, 50), many(3, 950, 50)]));
    tender.tend_now();
    let before = fs::metadata(cache.only_segment()).unwrap().len();
    let later = cache.tender();
    later.update(&listed(&[3]), &new(vec![]));
    for n in 0..1000 {
        assert_eq!(later.index().find(DATA, &id(n)).is_some(), n >= 950, "{n}");
    }
    later.tend_now();
    assert_eq!(later.index().files(), listed(&[3]));
    assert!(later.index().find(DATA, &id(999)).is_some());
    assert!(fs::metadata(cache.only_segment()).unwrap().len() < before / 2);
}

#[test]
fn what_is_too_much_for_memory_goes_aside() {
    let cache = Cache::new();
    let tender = cache.tender();
    let gathering = Gathering::new(tender.shelf());
    let files: Vec<u32> = (0..30).collect();
    for n in &files {
        gathering.add(many(*n, n * 20_000, 20_000)).unwrap();
    }
    let new = gathering.finish();
    assert_eq!(new.0.len(), 3, "two runs and a rest");
    assert!(cache.segments().is_empty(), "no names before the whole is known");
    tender.update(&listed(&files), &new);
    let check = |index: &BlobIndex| {
        for n in (0..600_000).step_by(101) {
            assert_eq!(index.find(DATA, &id(n)), Some(place(1_000_000 + n / 100, n % 100)), "{n}");
        }
        assert_eq!(index.usage().0, 600_000);
    };
    check(&tender.index());
    tender.tend_now();
    check(&tender.index());
    assert!(fs::metadata(cache.only_segment()).unwrap().len() < 600_000 * 50);
}

#[test]
fn a_huge_index_file_goes_aside_while_it_is_read_and_counts_once_it_is_whole() {
    let cache = Cache::new();
    let tender = cache.tender();
    let gathering = Gathering::new(tender.shelf());
    let fill = |file: &mut IndexFile| {
        for n in 0..600_000 {
            file.push(DATA, id(n), &place(1_000_000 + n / 100, n % 100));
        }
        file.malformed += 5;
    };
    let (mut good, mut bad) = (gathering.begin(id(1)), gathering.begin(id(2)));
    fill(&mut good);
    fill(&mut bad);
    assert!(good.rows.len() < 100_000, "{}", good.rows.len());
    drop(bad);
    gathering.add(good).unwrap();
    gathering.add(file(3, &[(TREE, 7, place(1, 1))])).unwrap();
    tender.update(&listed(&[1, 2, 3]), &gathering.finish());
    let check = |index: &BlobIndex| {
        assert_eq!(index.files(), listed(&[1, 3]));
        assert_eq!(index.usage().0, 600_000);
        assert_eq!(index.malformed().collect::<Vec<_>>(), [(id(1), 5)]);
        for n in (0..600_000).step_by(101) {
            assert_eq!(index.places(DATA, &id(n)), [place(1_000_000 + n / 100, n % 100)], "{n}");
        }
    };
    check(&tender.index());
    tender.tend_now();
    check(&tender.index());
}

#[test]
fn damage_anywhere_is_found_and_repaired_from_the_index_files() {
    let cache = Cache::new();
    let fresh = || vec![many(1, 0, 300), many(2, 300, 300)];
    let tender = cache.tender();
    tender.update(&listed(&[1, 2]), &new(fresh()));
    tender.tend_now();
    let segment = cache.only_segment();
    let good = fs::read(&segment).unwrap();
    // Eight row pages, a page of packs, tables: every page, at its beginning, in the middle, and in its checksum.
    let places =
        (0..good.len()).step_by(PAGE).flat_map(|page| [page, page + 100, page + PAGE / 2, page + PAGE - 1]);
    for at in places.filter(|at| *at < good.len()).chain([good.len() - 1]) {
        change(&segment, |bytes| bytes[at] ^= 0x10);
        let tender = cache.tender();
        tender.update(&listed(&[1, 2]), &new(vec![]));
        for n in 0..600 {
            let found = tender.index().find(DATA, &id(n));
            let right = place(1_000_000 + n / 100, n % 100);
            assert!(found.is_none_or(|found| found == right), "byte {at}: wrong place of {n}");
            if found.is_none() {
                assert!(tender.index().files().is_empty(), "byte {at}: a loss is noticed");
            }
        }
        // What is no longer held is read again, written again, and then all is well.
        if tender.index().files().is_empty() {
            tender.update(&listed(&[1, 2]), &new(fresh()));
            assert!((0..600).all(|n| tender.index().find(DATA, &id(n)).is_some()), "byte {at}");
            tender.tend_now();
            assert_ne!(cache.only_segment(), segment);
            fs::remove_file(cache.only_segment()).unwrap();
        }
        fs::write(&segment, &good).unwrap();
    }
}

#[test]
fn a_segment_that_is_cut_short_is_no_segment() {
    let cache = Cache::new();
    let tender = cache.tender();
    tender.update(&listed(&[1]), &new(vec![many(1, 0, 300)]));
    tender.tend_now();
    let segment = cache.only_segment();
    let good = fs::read(&segment).unwrap();
    for length in (0..good.len()).step_by(509).chain([good.len() - 1]) {
        fs::write(&segment, &good[..length]).unwrap();
        assert!(cache.tender().index().files().is_empty(), "{length}");
    }
    fs::write(&segment, [&good[..], b"x"].concat()).unwrap();
    assert!(cache.tender().index().files().is_empty(), "one byte more");
}

#[test]
fn a_segment_that_is_cut_short_while_in_use_is_damage_and_no_signal() {
    let cache = Cache::new();
    let tender = cache.tender();
    tender.update(&listed(&[1]), &new(vec![many(1, 0, 3000)]));
    tender.tend_now();
    let file = fs::File::options().write(true).open(cache.only_segment()).unwrap();
    file.set_len(PAGE as u64 * 2).unwrap();
    let found = (0..3000).filter(|n| tender.index().find(DATA, &id(*n)).is_some()).count();
    assert!(found < 100, "{found}");
    assert!(tender.index().files().is_empty());
    tender.update(&listed(&[1]), &new(vec![many(1, 0, 3000)]));
    assert!((0..3000).all(|n| tender.index().find(DATA, &id(n)).is_some()));
}

#[test]
fn whatever_a_crash_leaves_is_cleaned_up_and_costs_nothing_but_time() {
    let cache = Cache::new();
    let tender = cache.tender();
    for n in [1, 2] {
        tender.update(&listed(&[1, 2][..n as usize]), &new(vec![many(n, n * 1000, 500 * (3 - n))]));
        tender.tend_now();
    }
    let inputs: Vec<(PathBuf, Vec<u8>)> =
        cache.segments().into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert_eq!(inputs.len(), 2);
    tender.merge_all();
    let merged = cache.only_segment();
    // Between the rename and the removals; a file that was being written; one that the disk never got.
    for (path, bytes) in &inputs {
        fs::write(path, bytes).unwrap();
    }
    let whole = fs::read(&merged).unwrap();
    for (name, bytes) in [("a.unfinished", &whole[..5000]), ("b.segment", &[0; 8192]), ("c.segment", b"")] {
        fs::write(cache.path().join(name), bytes).unwrap();
    }
    fs::write(cache.path().join("somebody's"), "").unwrap();
    let later = cache.tender();
    later.update(&listed(&[1, 2]), &new(vec![]));
    let check = |index: &BlobIndex| {
        assert!((1000..2000).chain(2000..2500).all(|n| index.places(DATA, &id(n)).len() == 1));
        assert_eq!(index.usage().0, 1500);
    };
    check(&later.index());
    later.tend_now();
    check(&later.index());
    assert_eq!(cache.only_segment(), merged);
    let mut left: Vec<_> =
        fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left.len(), 3, "{left:?}: the segment, the lock and what is not ours");
}

#[test]
fn processes_that_share_a_shelf_take_over_what_the_other_wrote() {
    let cache = Cache::new();
    let (one, other) = (cache.tender(), cache.tender());
    let first = || new(vec![many(1, 0, 1000)]);
    one.update(&listed(&[1]), &first());
    other.update(&listed(&[1]), &first());
    one.tend_now();
    let written = cache.only_segment();
    other.tend_now();
    assert_eq!(cache.only_segment(), written, "what is there is not written again");
    let name = written.file_name().unwrap().to_str();
    assert!(other.index().segments().all(|segment| segment.name() == name));

    // One merges away what the other uses, which reads on and then follows.
    one.update(&listed(&[1, 2]), &new(vec![many(2, 1000, 1000)]));
    one.tend_now();
    assert!(!written.exists());
    assert!((0..1000).all(|n| other.index().find(DATA, &id(n)).is_some()));
    assert_eq!(other.index().find(DATA, &id(1000)), None, "not listed here yet");
    other.tend_now();
    assert!((0..1000).all(|n| other.index().places(DATA, &id(n)).len() == 1));
    other.update(&listed(&[1, 2]), &new(vec![]));
    assert!((0..2000).all(|n| other.index().places(DATA, &id(n)).len() == 1));
    assert_eq!(cache.segments().len(), 1);
}

#[test]
fn who_finds_the_lock_taken_waits_for_another_occasion() {
    let cache = Cache::new();
    let tender = cache.tender();
    tender.update(&listed(&[1]), &new(vec![many(1, 0, 100)]));
    let held = tender.shelf().unwrap().lock().unwrap().unwrap();
    tender.tend_now();
    assert!(cache.segments().is_empty());
    assert!(tender.index().find(DATA, &id(1)).is_some());
    assert!(!tender.is_settled());
    drop(held);
    tender.tend_now();
    assert!(tender.is_settled());
    cache.only_segment();
}

#[test]
fn a_listing_during_a_merge_is_not_lost() {
    let cache = Cache::new();
    let tender = cache.tender();
    tender.update(&listed(&[1]), &new(vec![many(1, 0, 100)]));
    let before = tender.index();
    let from: Vec<_> = before.segments().collect();
    tender.update(&listed(&[1, 2]), &new(vec![many(2, 100, 100)]));
    let merged = merge::in_memory(&[(&from[0], &[stack::Shown::Current])]).unwrap();
    let after = tender.index().exchanged(&from, &[Arc::new(merged)]);
    assert!((0..200).all(|n| after.places(DATA, &id(n)).len() == 1));
    assert_eq!(after.generation(), tender.index().generation(), "the same places");
}

#[test]
fn threads_that_tend_and_update_at_once_lose_nothing() {
    let cache = Cache::new();
    let known: Vec<u32> = (0..16).collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let tender = cache.tender();
                for n in &known {
                    let listed = listed(&known[..=*n as usize]);
                    let missing = listed.difference(&tender.index().files()).count();
                    let files =
                        known[..=*n as usize].iter().filter(|n| !tender.index().files().contains(&id(**n)));
                    let files: Vec<_> = files.map(|n| many(*n, n * 300, 300)).collect();
                    assert_eq!(files.len(), missing);
                    tender.update(&listed, &new(files));
                    tender.tend();
                    assert!((0..(n + 1) * 300).all(|n| tender.index().places(DATA, &id(n)).len() == 1));
                }
                while tender.is_busy() {
                    std::thread::yield_now();
                }
            });
        }
    });
    let last = cache.tender();
    last.update(&listed(&known), &new(vec![]));
    assert!((0..16 * 300).all(|n| last.index().places(DATA, &id(n)).len() == 1));
}

/// Changes bytes of a segment, then makes all checksums right.
fn forge(bytes: &mut [u8], noise: &[(usize, u8)], shared_beginnings: bool) {
    use super::layout::{BODY, Header, checksum};
    use xxhash_rust::xxh3::xxh3_64;
    let header = Header::decode(bytes[..PAGE].try_into().unwrap()).unwrap();
    let tables = usize::try_from(header.tables_at().unwrap()).unwrap();
    for (at, byte) in noise {
        let at = PAGE + at % (bytes.len() - PAGE);
        bytes[at] = *byte;
    }
    if shared_beginnings {
        // The table of pages says that all begin alike: a search has to look at the pages themselves.
        let firsts = usize::try_from(header.row_pages() * 8).unwrap();
        bytes[tables..tables + firsts].fill(0x77);
    }
    for (number, page) in bytes[..tables].chunks_mut(PAGE).enumerate().skip(1) {
        let right = checksum(header.salt, number as u64, &page[..BODY]);
        page[BODY..].copy_from_slice(&right.to_le_bytes());
    }
    let header = Header { checksum: xxh3_64(&bytes[tables..]), ..header };
    bytes[..PAGE].copy_from_slice(&header.encode());
}

/// What happens to an index.
#[derive(Clone, Debug)]
enum Event {
    /// A listing: these of sixteen files.
    List(u16),
    Tend,
    MergeAll,
    /// The process ends and another begins.
    Reopen,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<u16>().prop_map(Event::List),
        2 => Just(Event::Tend),
        1 => Just(Event::MergeAll),
        1 => Just(Event::Reopen),
    ]
}

/// The blobs of one of sixteen files: duplicates within a file and between files, both kinds, packs that go.
type Contents = Vec<Vec<(bool, u8, u8, bool)>>;

fn contents() -> impl Strategy<Value = Contents> {
    let blob = (any::<bool>(), 0u8..40, 0u8..6, prop::bool::weighted(0.2));
    prop::collection::vec(prop::collection::vec(blob, 0..30), 16)
}

/// Ids that share long beginnings, which guesses by value get wrong, and some that do not.
fn awkward(blob: u8) -> Id {
    if blob.is_multiple_of(4) {
        id(blob.into())
    } else {
        Id(std::array::from_fn(|at| if at == 31 { blob } else { 9 }))
    }
}

fn blobs_of(contents: &Contents, number: u16) -> Vec<(BlobKind, Id, Place)> {
    let blobs = contents[usize::from(number)].iter().enumerate();
    let blob = |(at, (tree, blob, pack, deleted)): (usize, &(bool, u8, u8, bool))| {
        let kind = if *tree { TREE } else { DATA };
        let standing = if *deleted { Standing::Deleted } else { Standing::Live };
        // A pack of its own for each file, so that equal places tell where they come from.
        let pack = u32::from(number) * 100 + u32::from(*pack);
        (kind, awkward(*blob), Place { standing, ..place(pack, u32::try_from(at).unwrap()) })
    };
    blobs.map(blob).collect()
}

/// What a process must find: places by blob, those of files that are gone apart, because a merge may drop them.
#[derive(Default)]
struct Model {
    must: BTreeMap<(BlobKind, Id), Vec<Place>>,
    may: BTreeMap<(BlobKind, Id), Vec<Place>>,
}

fn model(contents: &Contents, listed: u16, seen: u16) -> Model {
    let mut model = Model::default();
    for number in 0..16 {
        let (is_listed, is_seen) = (listed >> number & 1 == 1, seen >> number & 1 == 1);
        for (kind, id, place) in blobs_of(contents, number) {
            if is_listed {
                model.must.entry((kind, id)).or_default().push(place);
            } else if is_seen {
                let place = Place { standing: Standing::Stale, ..place };
                model.may.entry((kind, id)).or_default().push(place);
            }
        }
    }
    model
}

fn check(index: &BlobIndex, model: &Model) -> Result<(), TestCaseError> {
    let none = Vec::new();
    for blob in 0..41 {
        for kind in [DATA, TREE] {
            let key = (kind, awkward(blob));
            let (must, may) = (model.must.get(&key).unwrap_or(&none), model.may.get(&key).unwrap_or(&none));
            let found = index.places(kind, &key.1);
            prop_assert!(found.is_sorted_by_key(|place| place.standing));
            let (stale, current): (Vec<Place>, Vec<Place>) =
                found.iter().partition(|place| place.standing == Standing::Stale);
            let order = |place: &Place| (place.pack, place.offset);
            let sorted = |places: &[Place]| {
                let mut places = places.to_vec();
                places.sort_by_key(order);
                places
            };
            prop_assert_eq!(sorted(&current), sorted(must));
            prop_assert!(stale.iter().all(|place| may.contains(place)));
            // A last resort is dropped only where a live place has come.
            let is_live = must.iter().any(|place| place.standing == Standing::Live);
            let best = found.first().map(|place| place.standing);
            prop_assert_eq!(index.find(kind, &key.1).map(|place| place.standing), best);
            prop_assert_eq!(index.size(kind, &key.1).is_some(), best.is_some());
            if !is_live {
                prop_assert!(best.is_some() || must.is_empty());
            }
        }
    }
    Ok(())
}

/// Lists files as a process does: what is not held is read.
fn list(tender: &Tender, contents: &Contents, files: u16) {
    let names: HashSet<Id> = (0..16).filter(|n| files >> n & 1 == 1).map(|n| id(500 + n)).collect();
    let held = tender.index().files();
    let missing = (0..16u16)
        .filter(|n| names.contains(&id(500 + u32::from(*n))) && !held.contains(&id(500 + u32::from(*n))));
    let read = missing.map(|number| {
        let mut file = IndexFile::new(id(500 + u32::from(number)));
        blobs_of(contents, number).iter().for_each(|(kind, id, place)| file.push(*kind, *id, place));
        file
    });
    tender.update(&names, &read.collect());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn disk_memory_and_model_agree_whatever_happens(
        contents in contents(), events in prop::collection::vec(event(), 1..25),
    ) {
        let cache = Cache::new();
        let (mut disk, memory) = (cache.tender(), Tender::new(None));
        let (mut listed, mut seen, mut ever) = (0, 0, 0);
        for event in events {
            match event {
                Event::List(files) => {
                    (listed, seen, ever) = (files, seen | files, ever | files);
                    list(&disk, &contents, files);
                    list(&memory, &contents, files);
                }
                Event::Tend => [&disk, &memory].into_iter().for_each(|tender| tender.tend_now()),
                Event::MergeAll => [&disk, &memory].into_iter().for_each(|tender| tender.merge_all()),
                Event::Reopen => {
                    disk = cache.tender();
                    seen = listed;
                    list(&disk, &contents, listed);
                }
            }
            check(&disk.index(), &model(&contents, listed, seen))?;
            check(&memory.index(), &model(&contents, listed, ever))?;
        }
    }

    #[test]
    fn what_passes_the_checksums_and_is_nonsense_breaks_nothing(
        noise in prop::collection::vec((0usize..40_000, any::<u8>()), 1..40), shared_beginnings: bool,
    ) {
        let cache = Cache::new();
        let tender = cache.tender();
        tender.update(&listed(&[1, 2]), &new(vec![many(1, 0, 300), many(2, 300, 300)]));
        tender.tend_now();
        change(&cache.only_segment(), |bytes| forge(bytes, &noise, shared_beginnings));
        let later = cache.tender();
        later.update(&listed(&[1, 2]), &new(vec![]));
        for n in 0..600 {
            for kind in [DATA, TREE] {
                let places = later.index().places(kind, &id(n));
                prop_assert!(later.index().find(kind, &id(n)).is_none() || !places.is_empty());
            }
        }
        later.merge_all();
        later.merge_all();
    }

    #[test]
    fn any_bytes_are_opened_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..9000), cut: bool) {
        let cache = Cache::new();
        let tender = cache.tender();
        tender.update(&listed(&[1]), &new(vec![many(1, 0, 200)]));
        tender.tend_now();
        change(&cache.only_segment(), |good| {
            if cut { bytes.truncate(good.len()) } else { bytes.resize(good.len(), 0) }
            for (byte, noise) in good.iter_mut().skip(PAGE).zip(&bytes).filter(|(_, noise)| **noise > 250) {
                *byte ^= *noise;
            }
            if cut { *good = bytes }
        });
        let later = cache.tender();
        later.update(&listed(&[1]), &new(vec![]));
        for n in 0..200 {
            let found = later.index().find(DATA, &id(n));
            prop_assert!(found.is_none_or(|found| found == place(1_000_000 + n / 100, n % 100)));
        }
    }
}
