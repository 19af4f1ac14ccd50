//! The repository as it is written.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use backupfs::store::Memory;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::node::with;
use super::seal::{Key, Scrypt};
use super::{PASSWORD, frame};

/// The id of `bytes`.
pub fn id(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// How a blob lies in its pack.
pub enum Stored {
    /// As the version of the repository has it: compressed from 2 on.
    Usual,
    /// Encrypted, not compressed.
    Plain,
    /// Encrypted; this frame, of which the index says that it holds so many bytes.
    Frame(Vec<u8>, u64),
    /// These bytes, whatever they are.
    Raw(Vec<u8>),
}

/// A blob, with all that can be said of it.
pub struct Blob<'a> {
    /// `data`, `tree` or anything else.
    pub kind: &'a str,
    pub plain: &'a [u8],
    pub stored: Stored,
    /// Its id; `None` for the right one.
    pub id: Option<String>,
    /// Fields of its index entry that differ from the truth.
    pub entry: Value,
}

impl<'a> Blob<'a> {
    pub fn data(plain: &'a [u8]) -> Self {
        Blob { kind: "data", plain, stored: Stored::Usual, id: None, entry: json!({}) }
    }

    pub fn tree(plain: &'a [u8]) -> Self {
        Blob { kind: "tree", ..Blob::data(plain) }
    }
}

/// A repository in the making.
pub struct Repository {
    version: u8,
    key: Key,
    ivs: u128,
    objects: BTreeMap<String, Vec<u8>>,
    /// The open pack: its bytes, index entries and header.
    pack: Vec<u8>,
    entries: Vec<Value>,
    header: Vec<u8>,
    /// Packs that the next index file lists.
    packs: Vec<Value>,
    snapshots: u32,
}

impl Repository {
    /// An empty repository with a config and one key.
    pub fn new(version: u8) -> Self {
        let mut repository = Repository::bare(version);
        let key = repository.key.file(PASSWORD, Scrypt::QUICK);
        repository.stored("keys", key.to_string().as_bytes());
        let config =
            json!({"version": version, "id": id(b"hostile"), "chunker_polynomial": "25b468838dcb75"});
        let sealed = repository.seal(config.to_string().as_bytes());
        repository.put("config", &sealed);
        repository
    }

    /// Nothing at all, not even a config.
    pub fn bare(version: u8) -> Self {
        Repository {
            version,
            key: Key::known(),
            ivs: 0,
            objects: BTreeMap::new(),
            pack: Vec::new(),
            entries: Vec::new(),
            header: Vec::new(),
            packs: Vec::new(),
            snapshots: 0,
        }
    }

    /// `plain` as an encrypted unit, each with an IV of its own.
    pub fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        self.ivs += 1;
        self.key.seal(self.ivs.to_be_bytes(), plain)
    }

    /// Adds a data blob; answers its id.
    pub fn data(&mut self, plain: &[u8]) -> String {
        self.add(Blob::data(plain))
    }

    /// Adds a tree of these nodes; answers its id.
    pub fn tree(&mut self, nodes: &[Value]) -> String {
        self.tree_text(json!({"nodes": nodes}).to_string().as_bytes())
    }

    /// Adds a tree of this text; answers its id.
    pub fn tree_text(&mut self, text: &[u8]) -> String {
        self.add(Blob::tree(text))
    }

    /// Adds a blob to the open pack; answers its id, or what it pretends to be.
    pub fn add(&mut self, blob: Blob) -> String {
        let (stored, length) = match blob.stored {
            Stored::Usual if self.version > 1 => {
                (self.seal(&frame::plain(blob.plain)), Some(blob.plain.len() as u64))
            }
            Stored::Usual | Stored::Plain => (self.seal(blob.plain), None),
            Stored::Frame(frame, length) => (self.seal(&frame), Some(length)),
            Stored::Raw(stored) => (stored, None),
        };
        let id = blob.id.unwrap_or_else(|| id(blob.plain));
        let mut entry =
            json!({"id": id, "type": blob.kind, "offset": self.pack.len(), "length": stored.len()});
        if let Some(length) = length {
            entry["uncompressed_length"] = length.into();
        }
        self.header_entry(blob.kind, &stored, length, &id);
        self.entries.push(with(entry, blob.entry));
        self.pack.extend(stored);
        id
    }

    fn header_entry(&mut self, kind: &str, stored: &[u8], length: Option<u64>, id: &str) {
        let compressed = u8::from(length.is_some()) << 1;
        self.header.push(compressed | u8::from(kind == "tree"));
        self.header.extend((stored.len() as u32).to_le_bytes());
        self.header.extend(length.iter().flat_map(|length| (*length as u32).to_le_bytes()));
        let bytes = (0..id.len() / 2).map(|at| u8::from_str_radix(&id[2 * at..][..2], 16).unwrap_or(0));
        self.header.extend(bytes);
    }

    /// Bytes in the open pack: where the next blob will begin.
    pub fn position(&self) -> usize {
        self.pack.len()
    }

    /// Closes the open pack. Answers its id and its entry of an index, which [`list`](Self::list) puts into the next
    /// index file.
    pub fn close(&mut self) -> (String, Value) {
        let header = std::mem::take(&mut self.header);
        let header = self.seal(&header);
        let mut pack = std::mem::take(&mut self.pack);
        pack.extend(&header);
        pack.extend((header.len() as u32).to_le_bytes());
        let id = id(&pack);
        self.put(&pack_key(&id), &pack);
        let entry = json!({"id": id, "blobs": std::mem::take(&mut self.entries)});
        (id, entry)
    }

    /// Lists a pack in the next index file.
    pub fn list(&mut self, pack: Value) {
        self.packs.push(pack);
    }

    /// Closes the open pack and lists it in the next index file; answers its key.
    pub fn flush(&mut self) -> String {
        let (id, entry) = self.close();
        self.list(entry);
        pack_key(&id)
    }

    /// Writes an index file of everything listed so far.
    pub fn index(&mut self) {
        let packs = std::mem::take(&mut self.packs);
        self.json("index", &json!({"packs": packs}));
    }

    /// Writes an encrypted file of this JSON below `folder`; answers its id.
    pub fn json(&mut self, folder: &str, json: &Value) -> String {
        self.unpacked(folder, json.to_string().as_bytes())
    }

    /// Writes an encrypted file of this plaintext below `folder`; answers its id.
    pub fn unpacked(&mut self, folder: &str, plain: &[u8]) -> String {
        let sealed = self.seal(plain);
        self.stored(folder, &sealed)
    }

    /// Writes a file of these bytes below `folder`, named by their hash; answers its id.
    pub fn stored(&mut self, folder: &str, bytes: &[u8]) -> String {
        let id = id(bytes);
        self.put(&format!("{folder}/{id}"), bytes);
        id
    }

    /// Writes a snapshot of host `hostile` whose `path` is the directory `tree`, a minute after the one before; answers
    /// its id.
    pub fn snapshot(&mut self, path: &str, tree: &str) -> String {
        let mut root = tree.to_owned();
        for name in path.split('/').rev().filter(|name| !name.is_empty()) {
            root = self.tree(&[super::node::dir(name, &root)]);
        }
        let (hour, minute) = (self.snapshots / 60, self.snapshots % 60);
        self.snapshots += 1;
        let time = format!("2026-01-01T{hour:02}:{minute:02}:00Z");
        self.json("snapshots", &json!({"time": time, "tree": root, "paths": [path], "hostname": "hostile"}))
    }

    /// Puts an object; `object` gives it back.
    pub fn put(&mut self, key: &str, bytes: &[u8]) {
        self.objects.insert(key.to_owned(), bytes.to_vec());
    }

    /// The bytes of an object, to be changed.
    pub fn object(&mut self, key: &str) -> &mut Vec<u8> {
        self.objects.get_mut(key).unwrap()
    }

    /// Takes an object out.
    pub fn remove(&mut self, key: &str) {
        self.objects.remove(key).unwrap();
    }

    fn finish(mut self) -> BTreeMap<String, Vec<u8>> {
        if !self.pack.is_empty() {
            self.flush();
        }
        if !self.packs.is_empty() {
            self.index();
        }
        self.objects
    }

    /// The repository in memory.
    pub fn into_store(self) -> Arc<Memory> {
        let store = Memory::new();
        for (key, bytes) in self.finish() {
            store.insert(&key, bytes).unwrap();
        }
        Arc::new(store)
    }

    /// The repository as files below `directory`.
    pub fn write(self, directory: &Path) {
        for (key, bytes) in self.finish() {
            let path = directory.join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

fn pack_key(id: &str) -> String {
    format!("data/{}/{id}", &id[..2])
}
