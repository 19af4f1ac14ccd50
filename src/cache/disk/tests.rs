//! The cache as a whole: what a crash, damage, a full disk and other processes may do to it.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::error::Kind;

const PATIENT: Duration = Duration::from_secs(60);

/// Content that differs at every offset and for every number.
fn content(n: u64, length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|at| (n.wrapping_mul(0x9E37_79B9).wrapping_add(at * 31) >> 3).to_le_bytes()[0])
        .collect()
}

fn folder(dir: &Path) -> Folder {
    Folder::open(&dir.join("cache")).unwrap()
}

fn disk(dir: &Path, bytes: u64) -> Arc<Disk> {
    Disk::open(&folder(dir), bytes).unwrap()
}

fn drawer(disk: &Arc<Disk>) -> Drawer {
    Drawer::new(Arc::clone(disk), "s3:https://host/bucket", "home")
}

fn key(n: u64) -> Key {
    Key::range(Owner::of("s3:https://host/bucket"), b"pack", n, 1)
}

fn put(drawer: &Drawer, class: Class, numbers: impl Iterator<Item = u64>, length: usize) {
    numbers.for_each(|n| drawer.put(key(n), class, &content(n, length)));
    drawer.disk.flush(PATIENT);
}

/// How many of these are there; whatever is there must be right.
fn there(disk: &Disk, numbers: std::ops::Range<u64>, length: usize) -> usize {
    let keys: Vec<Key> = numbers.clone().map(key).collect();
    let found = disk.files.read(&keys);
    for (n, found) in numbers.zip(&found) {
        assert!(found.as_ref().is_none_or(|found| found[..] == content(n, length)), "entry {n} is wrong");
    }
    found.iter().flatten().count()
}

fn stored(dir: &Path) -> PathBuf {
    dir.join("cache").join(FOLDER)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(stored(dir)).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|end| end == "data" || end == "meta")).collect();
    segments.sort();
    segments
}

fn bytes(dir: &Path) -> u64 {
    segments(dir).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

#[test]
fn what_was_put_is_there_for_this_process_and_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let disk = self::disk(dir.path(), 1 << 30);
    put(&drawer(&disk), Class::Data, 0..300, 5000);
    assert_eq!(there(&disk, 0..400, 5000), 300);
    let other = self::disk(dir.path(), 1 << 30);
    assert_eq!(there(&other, 0..400, 5000), 300);
    drop(disk);
    put(&drawer(&other), Class::Data, 300..400, 5000);
    assert_eq!(there(&other, 0..400, 5000), 400);
    assert_eq!(segments(dir.path()).len(), 1, "the second went on where the first stopped");
}

#[tokio::test]
async fn whole_objects_are_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = self::disk(dir.path(), 1 << 30);
    let drawer = drawer(&disk);
    drawer.put_object("keys/1", Class::Metadata, b"hostname: marker");
    drawer.put(key(1), Class::Data, b"stored as it is: marker");
    disk.flush(PATIENT);
    assert_eq!(drawer.object("keys/1").await.unwrap(), "hostname: marker");
    assert_eq!(drawer.object("keys/2").await, None);
    let [data, meta] = &segments(dir.path())[..] else { panic!("{:?}", segments(dir.path())) };
    let holds = |path: &Path| fs::read(path).unwrap().windows(6).any(|part| part == b"marker");
    assert!(holds(data) && !holds(meta));
    // Without its key it is a miss.
    fs::remove_file(stored(dir.path()).join("key")).unwrap();
    let other = self::disk(dir.path(), 1 << 30);
    assert_eq!(self::drawer(&other).object("keys/1").await, None);
}

#[test]
fn everything_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let disk = self::disk(dir.path(), 1 << 30);
    let drawer = drawer(&disk);
    put(&drawer, Class::Data, 0..3, 100);
    drawer.put_lists([("keys/", &Vec::new())]);
    disk.flush(PATIENT);
    let mut waiting = vec![dir.path().join("cache")];
    while let Some(path) = waiting.pop() {
        let meta = fs::metadata(&path).unwrap();
        let expected = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(meta.permissions().mode() & 0o7777, expected, "{}", path.display());
        if meta.is_dir() {
            waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

#[test]
fn what_others_planted_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let cache = folder(dir.path());
    std::os::unix::fs::symlink(&elsewhere, stored(dir.path())).unwrap();
    assert_eq!(Disk::open(&cache, 1 << 30).err().unwrap().kind(), Kind::Denied);
    fs::remove_file(stored(dir.path())).unwrap();

    let disk = self::disk(dir.path(), 1 << 30);
    put(&drawer(&disk), Class::Data, 0..10, 100);
    let segment = &segments(dir.path())[0];
    let copy = elsewhere.join("copy");
    fs::copy(segment, &copy).unwrap();
    fs::remove_file(segment).unwrap();
    std::os::unix::fs::symlink(&copy, segment).unwrap();
    let other = self::disk(dir.path(), 1 << 30);
    assert_eq!(there(&other, 0..10, 100), 0, "a link in place of a segment");
    put(&drawer(&other), Class::Data, 0..10, 100);
    assert_eq!(there(&other, 0..10, 100), 10);
    assert_eq!(fs::read(&copy).unwrap().len() as u64, fs::metadata(&copy).unwrap().len());
}

#[test]
fn it_never_takes_more_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let disk = self::disk(dir.path(), 4 << 20);
    let drawer = drawer(&disk);
    for round in 0..30 {
        put(&drawer, Class::Data, round * 50..round * 50 + 50, 9000);
        assert!(bytes(dir.path()) <= 4 << 20, "{} in round {round}", bytes(dir.path()));
    }
    assert!(there(&disk, 1400..1500, 9000) == 100, "what came last is there");
    assert!(there(&disk, 0..1500, 9000) > 200);
    assert_eq!(there(&disk, 0..50, 9000), 0, "what came first is gone");
}

#[test]
fn metadata_outlives_data_and_what_is_read_outlives_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let disk = self::disk(dir.path(), 4 << 20);
    let drawer = drawer(&disk);
    put(&drawer, Class::Metadata, 0..50, 9000);
    put(&drawer, Class::Data, 100..115, 9000);
    let age = |path: &Path, seconds| {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        fs::File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
    };
    segments(dir.path()).iter().for_each(|path| age(path, 5000));
    // Another process reads the old data meanwhile.
    assert_eq!(there(&self::disk(dir.path(), 4 << 20), 100..115, 9000), 15);
    for round in 0..7 {
        put(&drawer, Class::Data, 1000 + round * 50..1050 + round * 50, 9000);
        segments(dir.path()).iter().filter(|path| !fs::read(path).unwrap().is_empty()).for_each(|path| {
            if fs::metadata(path).unwrap().modified().unwrap() > SystemTime::now() - Duration::from_secs(1) {
                return;
            }
            age(path, 5000);
        });
    }
    put(&drawer, Class::Data, 5000..5200, 9000);
    assert_eq!(there(&disk, 0..50, 9000), 50, "all metadata is there");
}

#[test]
fn what_is_too_large_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let disk = self::disk(dir.path(), 16 << 20);
    let drawer = drawer(&disk);
    put(&drawer, Class::Data, 0..1, 900 << 10);
    assert_eq!(there(&disk, 0..1, 900 << 10), 1, "larger than a segment, but not than a sixteenth of all");
    put(&drawer, Class::Data, 1..2, 2 << 20);
    assert_eq!(there(&disk, 1..2, 2 << 20), 0);
}

#[test]
fn a_queue_that_is_full_takes_nothing_and_gives_back_what_it_took() {
    let waiting = Waiting::default();
    assert!(waiting.take(64 << 20), "alone, it may be larger than the queue");
    assert!(!waiting.take(1));
    let waiting = Waiting::default();
    assert!((0..32).all(|_| waiting.take((1 << 20) - 300)));
    assert!(!waiting.take(1 << 20) && waiting.take(100));
}

/// Breaks what lies on the disk.
#[derive(Clone, Debug)]
enum Harm {
    Flip {
        segment: usize,
        at: usize,
        bit: u8,
    },
    Truncate {
        segment: usize,
        at: usize,
    },
    /// As a machine leaves it that lost power: a page that was never written.
    Zeros {
        segment: usize,
        at: usize,
        length: usize,
    },
    Append {
        segment: usize,
        bytes: Vec<u8>,
    },
    Remove {
        segment: usize,
    },
    Table {
        at: usize,
        bit: u8,
    },
    Swap,
}

fn harm() -> impl Strategy<Value = Harm> {
    let (segment, at) = (0usize..4, 0usize..200_000);
    prop_oneof![
        (segment.clone(), at.clone(), 0u8..8).prop_map(|(segment, at, bit)| Harm::Flip { segment, at, bit }),
        (segment.clone(), at.clone()).prop_map(|(segment, at)| Harm::Truncate { segment, at }),
        (segment.clone(), at.clone(), 1usize..9000).prop_map(|(segment, at, length)| Harm::Zeros {
            segment,
            at,
            length
        }),
        (segment.clone(), prop::collection::vec(any::<u8>(), 1..100))
            .prop_map(|(segment, bytes)| Harm::Append { segment, bytes }),
        segment.prop_map(|segment| Harm::Remove { segment }),
        (at, 0u8..8).prop_map(|(at, bit)| Harm::Table { at, bit }),
        Just(Harm::Swap),
    ]
}

fn do_harm(dir: &Path, harm: &Harm) {
    let paths = segments(dir);
    let with = |segment: usize, change: &dyn Fn(&mut Vec<u8>)| {
        if let Some(path) = paths.get(segment % paths.len().max(1)) {
            let mut bytes = fs::read(path).unwrap();
            change(&mut bytes);
            fs::write(path, bytes).unwrap();
        }
    };
    match harm {
        Harm::Flip { segment, at, bit } => with(*segment, &|bytes| {
            let at = at % bytes.len().max(1);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
        }),
        Harm::Truncate { segment, at } => with(*segment, &|bytes| bytes.truncate(at % (bytes.len() + 1))),
        Harm::Zeros { segment, at, length } => with(*segment, &|bytes| {
            let at = at % bytes.len().max(1);
            bytes.iter_mut().skip(at).take(*length).for_each(|byte| *byte = 0);
        }),
        Harm::Append { segment, bytes: more } => with(*segment, &|bytes| bytes.extend(more)),
        Harm::Remove { segment } => {
            if let Some(path) = paths.get(segment % paths.len().max(1)) {
                fs::remove_file(path).unwrap();
            }
        }
        Harm::Table { at, bit } => {
            let table = fs::File::options().read(true).write(true).open(stored(dir).join("table")).unwrap();
            let at = *at as u64 % table.metadata().unwrap().len();
            let mut byte = [0];
            table.read_exact_at(&mut byte, at).unwrap();
            table.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
        }
        Harm::Swap => {
            if let [one, other, ..] = &paths[..] {
                let (first, second) = (fs::read(one).unwrap(), fs::read(other).unwrap());
                fs::write(one, second).unwrap();
                fs::write(other, first).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn damage_is_a_miss_and_what_is_put_again_is_there(
        harms in prop::collection::vec(harm(), 1..6), while_open in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let first = disk(dir.path(), 4 << 20);
        put(&drawer(&first), Class::Data, 0..40, 3000);
        put(&drawer(&first), Class::Metadata, 40..60, 3000);
        let first = while_open.then_some(first);
        harms.iter().for_each(|harm| do_harm(dir.path(), harm));
        let disk = first.unwrap_or_else(|| disk(dir.path(), 4 << 20));
        // Whatever is there is right, as `there` checks; and what was lost can be put back.
        there(&disk, 0..60, 3000);
        put(&drawer(&disk), Class::Data, 0..60, 3000);
        prop_assert_eq!(there(&disk, 0..60, 3000), 60);
        let again = self::disk(dir.path(), 4 << 20);
        prop_assert_eq!(there(&again, 0..60, 3000), 60);
    }

    #[test]
    fn a_process_that_is_killed_at_any_byte_leaves_what_was_whole(cut in 0usize..130_000) {
        let dir = tempfile::tempdir().unwrap();
        let length = 3000;
        put(&drawer(&disk(dir.path(), 4 << 20)), Class::Data, 0..40, length);
        let segment = &segments(dir.path())[0];
        let whole = fs::read(segment).unwrap();
        let cut = cut.min(whole.len());
        fs::write(segment, &whole[..cut]).unwrap();
        let record = (record::HEADER + length).next_multiple_of(16);
        let disk = self::disk(dir.path(), 4 << 20);
        let left = there(&disk, 0..40, length);
        prop_assert_eq!(left, (cut + record - record::HEADER - length) / record);
        put(&drawer(&disk), Class::Data, left as u64..40, length);
        prop_assert_eq!(there(&disk, 0..40, length), 40);
    }
}

#[test]
fn several_write_and_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let disks: Vec<_> = (0..4).map(|_| disk(dir.path(), 64 << 20)).collect();
    std::thread::scope(|scope| {
        for (first, disk) in (0..).step_by(100).zip(&disks) {
            scope.spawn(move || {
                for n in (first..first + 100).step_by(10) {
                    put(&drawer(disk), Class::Data, n..n + 10, 2000);
                    there(disk, 0..400, 2000);
                }
            });
        }
    });
    // Two that write to one bucket at once may cost an entry.
    assert!(disks.iter().all(|disk| there(disk, 0..400, 2000) > 380));
    assert_eq!(segments(dir.path()).len(), 4, "each has its own");
}

#[test]
fn a_cache_that_others_empty_meanwhile_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = self::disk(dir.path(), 64 << 20);
    put(&drawer(&disk), Class::Data, 0..100, 2000);
    assert_eq!(there(&disk, 0..100, 2000), 100);
    assert!(clear(&folder(dir.path())).unwrap() > 200_000);
    assert_eq!((there(&disk, 0..100, 2000), bytes(dir.path())), (0, 0));
    put(&drawer(&disk), Class::Data, 0..100, 2000);
    assert_eq!(there(&disk, 0..100, 2000), 100);
    assert!(bytes(dir.path()) > 200_000);

    fs::remove_dir_all(dir.path().join("cache")).unwrap();
    put(&drawer(&disk), Class::Data, 100..200, 2000);
    there(&disk, 0..200, 2000);
}

#[test]
fn one_store_is_purged_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let disk = self::disk(dir.path(), 64 << 20);
    let (home, other) = (drawer(&disk), Drawer::new(Arc::clone(&disk), "rest:http://other/", "other"));
    put(&home, Class::Data, 0..50, 2000);
    let kept = other.range(b"pack", 0, 7);
    other.put(kept, Class::Data, b"content");
    home.put_lists([("keys/", &Vec::new())]);
    put(&home, Class::Metadata, 50..60, 2000);
    let summary = summary(&folder(dir.path())).unwrap();
    let names: Vec<_> =
        summary.parts.iter().map(|part| (part.names.clone(), part.entries, part.bytes)).collect();
    assert!(
        names.contains(&(Some(("s3:https://host/bucket".into(), "home".into())), 60, 120_000)),
        "{names:?}"
    );
    assert!(names.contains(&(None, 1, 7)) && names.len() == 2, "{names:?}");
    assert_eq!(summary.metadata + summary.data, bytes(dir.path()));

    assert_eq!(purge(&folder(dir.path()), "nothing").unwrap(), None);
    let marks = vec![home.mark(), Owner::of("home").mark()];
    assert_eq!(purge(&folder(dir.path()), "home").unwrap(), Some(Purged { bytes: 120_000, marks }));
    assert_eq!(there(&disk, 0..60, 2000), 0);
    assert_eq!(disk.files.read(&[kept]), [Some(Bytes::from_static(b"content"))]);
    let marker = &content(7, 2000)[..100];
    let left = segments(dir.path())
        .iter()
        .any(|path| fs::read(path).unwrap().windows(100).any(|part| part == marker));
    assert!(!left, "its content is gone from the disk");
    assert_eq!(self::summary(&folder(dir.path())).unwrap().parts.len(), 1);
    let purged = purge(&folder(dir.path()), "rest:http://other/").unwrap().unwrap();
    assert_eq!((purged.bytes, purged.marks.contains(&other.mark())), (7, true));
    put(&home, Class::Data, 0..50, 2000);
    assert_eq!(there(&disk, 0..50, 2000), 50);
}

#[test]
fn a_limit_holds_for_all_who_use_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let disk = self::disk(dir.path(), 64 << 20);
    put(&drawer(&disk), Class::Data, 0..1000, 9000);
    drop(disk);
    assert!(bytes(dir.path()) > 8 << 20);
    assert!(limit(&folder(dir.path()), Some(2 << 20)).unwrap() > 6 << 20);
    assert!(bytes(dir.path()) <= 2 << 20);
    let disk = self::disk(dir.path(), 64 << 20);
    put(&drawer(&disk), Class::Data, 1000..2000, 9000);
    assert!(bytes(dir.path()) <= 2 << 20, "{}", bytes(dir.path()));
    assert_eq!(limit(&folder(dir.path()), None).unwrap(), 0);
}

#[test]
fn a_cache_that_nobody_used_is_empty_and_stays_unmade() {
    let dir = tempfile::tempdir().unwrap();
    let cache = folder(dir.path());
    assert_eq!(summary(&cache).unwrap(), Summary::default());
    assert_eq!((clear(&cache).unwrap(), purge(&cache, "x").unwrap()), (0, None));
    assert!(!stored(dir.path()).join("table").exists());
}

#[test]
fn opening_reads_no_segment() {
    let dir = tempfile::tempdir().unwrap();
    put(&drawer(&disk(dir.path(), 64 << 20)), Class::Data, 0..100, 2000);
    let segment = segments(dir.path()).remove(0);
    // A pipe: opening it for reading would wait for ever, were it not refused.
    fs::remove_file(&segment).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &segment, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let disk = disk(dir.path(), 64 << 20);
    let before = fs::metadata(stored(dir.path())).unwrap();
    assert_eq!(there(&disk, 0..100, 2000), 0);
    assert_eq!(fs::metadata(stored(dir.path())).unwrap().mtime(), before.mtime());
}

#[test]
fn a_share_holds_one_store_back_and_takes_nothing_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let disk = self::disk(dir.path(), 64 << 20);
    let share = Share::new("greedy", 4 << 20);
    let greedy = drawer(&disk).within(Some(share));
    put(&drawer(&disk), Class::Data, 0..100, 5000);
    put(&drawer(&disk), Class::Metadata, 100..110, 5000);
    for start in (1000..9000).step_by(500) {
        put(&greedy, Class::Data, start..start + 500, 5000);
    }
    assert_eq!((there(&disk, 0..100, 5000), there(&disk, 100..110, 5000)), (100, 10));
    let kept = there(&disk, 1000..9000, 5000) as u64 * 5000;
    assert!(kept > 2 << 20 && kept <= 4 << 20, "{kept}");
    assert!(there(&disk, 8500..9000, 5000) > 400, "what is newest stays");
    // The next process goes on with it.
    drop((greedy, disk));
    let later = self::disk(dir.path(), 64 << 20);
    let greedy = drawer(&later).within(Some(share));
    for start in (9000..11_000).step_by(500) {
        put(&greedy, Class::Data, start..start + 500, 5000);
    }
    let kept = there(&later, 1000..11_000, 5000) as u64 * 5000;
    assert!(kept <= 4 << 20, "{kept}");
    assert_eq!(there(&later, 0..100, 5000), 100);
    put(&drawer(&later), Class::Data, 200..300, 5000);
    let marked = fs::read_dir(stored(dir.path()).join("shares")).unwrap().count();
    assert!(marked < segments(dir.path()).len(), "what is everybody's is not marked");
}
