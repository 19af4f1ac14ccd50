//! What fuzzing starts from: everything in the fixtures, decrypted.

use std::fs;
use std::path::{Path, PathBuf};

use backupfs::source::chunked::Id;
use backupfs::source::restic::format::crypto::MasterKey;
use backupfs::source::restic::format::index::IndexedBlob;
use backupfs::source::restic::format::{blob, index, keys, unpacked};
use bytes::Bytes;

/// The plaintext of repositories, by kind.
#[derive(Default)]
pub struct Plain {
    pub keys: Vec<Vec<u8>>,
    pub configs: Vec<Vec<u8>>,
    pub indexes: Vec<Vec<u8>>,
    pub snapshots: Vec<Vec<u8>>,
    pub trees: Vec<Vec<u8>>,
    /// Compressed as stored, with the length that the index tells.
    pub frames: Vec<(Vec<u8>, u32)>,
}

/// Everything in the fixtures.
pub fn of_fixtures() -> Plain {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixtures = ["tests/fixtures", "../tests/fixtures"].map(|folder| root.join(folder));
    let fixtures = fixtures.into_iter().find(|folder| folder.is_dir()).expect("fixtures");
    let mut plain = Plain::default();
    for name in ["restic-v1", "restic-v2", "rustic-hotcold"] {
        plain.add(&fixtures.join(name));
    }
    plain
}

fn files(folder: &Path) -> Vec<(Id, Vec<u8>)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|e| e.expect("a file").path()).collect();
    paths.sort();
    let file = |path: PathBuf| {
        let id = path.file_name()?.to_str()?.parse().ok()?;
        Some((id, fs::read(path).ok()?))
    };
    paths.into_iter().filter_map(file).collect()
}

impl Plain {
    fn add(&mut self, fixture: &Path) {
        let password = fs::read(fixture.join("password")).expect("a password");
        let repository = fixture.join("repo");
        let stored = files(&repository.join("keys"));
        let candidates: Vec<_> = stored.iter().map(|(id, file)| (*id, Bytes::from(file.clone()))).collect();
        let key = keys::unlock(&candidates, password.trim_ascii(), None).expect("the right password").key;
        self.keys.extend(stored.into_iter().map(|(_, file)| file));
        let config = fs::read(repository.join("config")).expect("a config");
        self.configs.push(unpacked::open_unnamed(&key, &config).expect("a good config"));
        let open = |folder: &str| {
            let files = files(&repository.join(folder)).into_iter();
            files.map(|(id, file)| unpacked::open(&key, &id, &file).expect("a good file")).collect::<Vec<_>>()
        };
        self.snapshots.extend(open("snapshots"));
        let indexes = open("index");
        for json in &indexes {
            index::parse(json, &mut |entry| self.add_blob(&key, &repository, entry)).expect("a good index");
        }
        self.indexes.extend(indexes);
    }

    fn add_blob(&mut self, key: &MasterKey, repository: &Path, entry: IndexedBlob) {
        let pack = entry.pack.to_string();
        let Ok(pack) = fs::read(repository.join("data").join(&pack[..2]).join(&pack)) else { return };
        let unit = &pack[entry.offset as usize..][..entry.length as usize];
        let plain = blob::decode(key, unit, entry.plain_length, &entry.id).expect("a good blob");
        if entry.plain_length > 0 && plain.len() < 5000 {
            self.frames.push((key.open(unit).expect("a good unit"), entry.plain_length));
        }
        if entry.tree {
            self.trees.push(plain);
        }
    }
}
