//! A chunk repository in memory for the tests of this room: counts reads, and breaks in the ways that real ones do.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::{BlobIndex, BlobKind, Damage, Id, IndexFile, Loader, Packs, Place, Shared, Standing};
use crate::cache::{Budget, Drawer};
use crate::error::{Error, Kind, Result};
use crate::store::Pace;

const TRAILER: usize = 32;

pub(super) struct Vault {
    pub packs: Mutex<HashMap<Id, Vec<u8>>>,
    pub index: ArcSwap<BlobIndex>,
    /// What a new listing finds.
    pub newer: Mutex<Option<BlobIndex>>,
    /// Every read: pack, offset, length.
    pub reads: Mutex<Vec<(Id, u64, u64)>>,
    pub relists: AtomicUsize,
    pub is_down: AtomicBool,
    /// Reads wait for a permit each.
    pub gate: Semaphore,
    pub drawer: OnceLock<Drawer>,
    pace: Pace,
    damage: Damage,
}

pub(super) fn id_of(blob: &[u8]) -> Id {
    Id(Sha256::digest(blob).into())
}

pub(super) fn pack_id(number: u8) -> Id {
    Id([number; 32])
}

/// A blob whose bytes tell where they stand.
pub(super) fn blob(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// A pack of `blobs`, and an index file that says where they lie.
pub(super) fn pack(number: u8, blobs: &[Vec<u8>], standing: Standing) -> (Vec<u8>, IndexFile) {
    let mut file = IndexFile::new(pack_id(number));
    let mut pack = Vec::new();
    for blob in blobs {
        let place = Place {
            pack: pack_id(number),
            offset: u32::try_from(pack.len()).unwrap(),
            length: u32::try_from(blob.len() + TRAILER).unwrap(),
            size: u32::try_from(blob.len()).unwrap(),
            compressed: false,
            standing,
        };
        file.push(BlobKind::Data, id_of(blob), &place);
        pack.extend_from_slice(blob);
        pack.extend_from_slice(&[0; TRAILER]);
    }
    (pack, file)
}

pub(super) fn index(files: Vec<IndexFile>, packs: &[u8]) -> BlobIndex {
    let listed: HashSet<Id> = packs.iter().map(|n| pack_id(*n)).collect();
    BlobIndex::default().updated(&listed, &files.into_iter().collect()).unwrap_or_default()
}

impl Vault {
    /// Packs 0, 1, … of these blobs, all in the index.
    pub(super) fn new(packs: &[Vec<Vec<u8>>]) -> Arc<Self> {
        Self::at(packs, Pace::LOCAL)
    }

    /// The same, behind a store of this pace: each read takes what it says.
    pub(super) fn at(packs: &[Vec<Vec<u8>>], pace: Pace) -> Arc<Self> {
        let mut stored = HashMap::new();
        let mut files = Vec::new();
        let numbers: Vec<u8> = (0..u8::try_from(packs.len()).unwrap()).collect();
        for (number, blobs) in numbers.iter().zip(packs) {
            let (bytes, file) = pack(*number, blobs, Standing::Live);
            stored.insert(pack_id(*number), bytes);
            files.push(file);
        }
        Arc::new(Vault {
            packs: Mutex::new(stored),
            index: ArcSwap::from_pointee(index(files, &numbers)),
            newer: Mutex::default(),
            reads: Mutex::default(),
            relists: AtomicUsize::new(0),
            is_down: AtomicBool::new(false),
            gate: Semaphore::new(100_000),
            drawer: OnceLock::new(),
            pace,
            damage: Damage::default(),
        })
    }

    pub(super) fn loader(self: &Arc<Self>, memory: u64) -> Loader {
        let packs: Arc<dyn Packs> = Arc::<Vault>::clone(self);
        Loader::new(packs, Shared::new(Budget { blobs: memory, directories: 0, under_way: memory / 2 }))
    }

    pub(super) fn flip(&self, number: u8, at: usize) {
        self.packs.lock().unwrap().get_mut(&pack_id(number)).unwrap()[at] ^= 1;
    }

    /// Lets no read go on until permits are added to the gate.
    pub(super) fn shut(&self) {
        self.gate.forget_permits(100_000);
    }

    /// Waits until so many reads have begun.
    pub(super) async fn until(&self, reads: usize) {
        while self.reads() < reads {
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn reads(&self) -> usize {
        self.reads.lock().unwrap().len()
    }
}

impl Packs for Vault {
    fn name(&self) -> &str {
        "vault"
    }

    fn damage(&self) -> &Damage {
        &self.damage
    }

    fn index(&self) -> Arc<BlobIndex> {
        self.index.load_full()
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    fn read<'a>(&'a self, _: BlobKind, pack: &Id, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        let pack = *pack;
        Box::pin(async move {
            self.reads.lock().unwrap().push((pack, offset, length));
            self.gate.acquire().await.unwrap().forget();
            if self.pace != Pace::LOCAL {
                tokio::time::sleep(self.pace.latency).await;
            }
            if self.is_down.load(Ordering::SeqCst) {
                return Err(Error::new(Kind::Unavailable, "down"));
            }
            let packs = self.packs.lock().unwrap();
            let stored = packs.get(&pack).ok_or_else(|| Error::new(Kind::NotFound, "no such pack"))?;
            let (from, to) = (usize::try_from(offset).unwrap(), usize::try_from(offset + length).unwrap());
            let part = stored.get(from..to).ok_or_else(|| Error::new(Kind::Corrupt, "truncated"))?;
            Ok(Bytes::copy_from_slice(part))
        })
    }

    fn drawer(&self) -> Option<&Drawer> {
        self.drawer.get()
    }

    fn decode(&self, id: &Id, place: &Place, stored: &[u8]) -> Result<Vec<u8>> {
        let plain = stored[..stored.len() - TRAILER].to_vec();
        if id_of(&plain) == *id && plain.len() == place.size as usize {
            Ok(plain)
        } else {
            Err(Error::new(Kind::Corrupt, "wrong id"))
        }
    }

    fn distrust(&self, _: BlobKind, _: &Id) -> bool {
        false
    }

    fn relist(&self, seen: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            assert!(seen <= self.index.load().generation() + 1);
            self.relists.fetch_add(1, Ordering::SeqCst);
            if let Some(newer) = self.newer.lock().unwrap().take() {
                self.index.store(Arc::new(newer));
            }
        })
    }
}
