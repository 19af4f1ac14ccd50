//! Reads files made of blobs, and reads ahead of those who read in sequence.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use super::filemap::Piece;
use super::loader::Wanted;
use super::window::{Move, Sequence, Windows};
use super::{FileMap, Id, Loader, zeros};
use crate::error::{Error, Kind, Result};
use crate::tree::{Reader, Step};

/// A reader of one file.
pub struct ChunkReader {
    loader: Loader,
    map: Arc<FileMap>,
    windows: Mutex<Windows>,
}

impl ChunkReader {
    /// A reader of the file `map`.
    pub fn new(loader: Loader, map: Arc<FileMap>) -> Self {
        ChunkReader { loader, map, windows: Mutex::default() }
    }

    /// With `spent`, the one blob of the answer is not wanted any more.
    fn answer(&self, pieces: Vec<Piece>, wanted: Vec<Wanted>, spent: Option<Id>) -> Step<Bytes> {
        let here: Option<Vec<Bytes>> = wanted
            .iter()
            .map(|blob| match blob {
                Wanted::Here(blob) => Some(blob.clone()),
                Wanted::Coming(_) => None,
            })
            .collect();
        if let Some(here) = here {
            spend(&self.loader, spent, &here);
            return Step::Ready(assemble(&pieces, here));
        }
        let loader = self.loader.clone();
        Step::wait(async move {
            let mut blobs = Vec::with_capacity(wanted.len());
            for blob in wanted {
                blobs.push(match blob {
                    Wanted::Here(blob) => blob,
                    Wanted::Coming(coming) => loader.arrival(coming).await?,
                });
            }
            spend(&loader, spent, &blobs);
            assemble(&pieces, blobs)
        })
    }

    /// Notes a read. When it continues one before, reads ahead of it, and lets go of what lies behind.
    fn follow(&self, read: &Range<u64>, starved: bool) {
        // A small file is one read.
        if self.map.len() < 2 {
            return;
        }
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = match windows.continued_by(read) {
            Some(sequence) => self.go_on(sequence, read, starved),
            None => self.begin(read),
        };
        if windows.put(sequence) {
            self.loader.sweep();
        }
    }

    fn begin(&self, read: &Range<u64>) -> Sequence {
        let mut sequence = Sequence::beginning(&self.map, read);
        let fetch = sequence.beside(&self.map, read, self.loader.window());
        self.read_ahead(&mut sequence, fetch);
        sequence
    }

    fn go_on(&self, mut sequence: Sequence, read: &Range<u64>, starved: bool) -> Sequence {
        if sequence.stream.is_none() {
            sequence.stream = Some(self.loader.shared().stream());
        }
        let Move { fetch, forget } = sequence.advance(&self.map, read, starved, self.loader.window());
        forget.filter_map(|at| self.map.blob(at)).for_each(|blob| self.loader.forget(&blob));
        self.read_ahead(&mut sequence, fetch);
        sequence
    }

    /// Fetches the blobs `fetch` ahead of `sequence`, as far as there is room.
    fn read_ahead(&self, sequence: &mut Sequence, fetch: Range<usize>) {
        let blobs = fetch.clone().filter_map(|at| Some((at, self.map.blob(at)?)));
        let mut planned = fetch.end;
        if !fetch.is_empty() {
            let numbers: Vec<usize> = blobs.clone().map(|(at, _)| at).collect();
            let taken = self.loader.read_ahead_for(blobs.map(|(_, id)| id), Some(sequence.interest()));
            // What found no room is asked for again with the next read.
            planned = numbers.get(taken).copied().unwrap_or(planned);
        }
        sequence.has_planned(planned);
    }
}

impl Drop for ChunkReader {
    fn drop(&mut self) {
        *self.windows.get_mut().unwrap_or_else(PoisonError::into_inner) = Windows::default();
        self.loader.sweep();
    }
}

impl Reader for ChunkReader {
    fn read_at(&self, offset: u64, len: usize) -> Step<Bytes> {
        let end = offset.saturating_add(len as u64).min(self.map.size());
        if offset >= end {
            return Step::ok(Bytes::new());
        }
        let mut pieces = Vec::with_capacity(2);
        let mut blobs: Vec<Id> = Vec::new();
        for piece in self.map.cover(offset..end) {
            blobs.extend(piece.blob);
            pieces.push(piece);
        }
        let wanted = self.loader.want(&blobs);
        let starved = wanted.iter().any(|blob| matches!(blob, Wanted::Coming(_)));
        self.follow(&(offset..end), starved);
        let is_whole = self.map.len() == 1 && (offset, end) == (0, self.map.size());
        let spent = if is_whole { blobs.pop() } else { None };
        self.answer(pieces, wanted, spent)
    }

    fn next_data(&self, offset: u64) -> Step<Option<u64>> {
        Step::ok(self.map.next_data(offset))
    }

    fn next_hole(&self, offset: u64) -> Step<u64> {
        Step::ok(self.map.next_hole(offset))
    }
}

fn spend(loader: &Loader, spent: Option<Id>, blobs: &[Bytes]) {
    if let (Some(id), Some(blob)) = (spent, blobs.first()) {
        loader.spend(&id, blob.clone());
    }
}

/// The bytes of the pieces in a row: of one piece without a copy.
fn assemble(pieces: &[Piece], blobs: Vec<Bytes>) -> Result<Bytes> {
    let mut blobs = blobs.into_iter();
    let mut piece = |Piece { blob, part, size }: &Piece| {
        let Some(id) = blob else { return Ok(zeros::zeros(part.len())) };
        // Two places of a blob may tell different sizes: then the file has none that could be believed.
        let lied = || {
            Error::new(Kind::Corrupt, format!("data blob {id}: the index says both {size} bytes and others"))
        };
        let blob = blobs.next().filter(|blob| blob.len() == *size).ok_or_else(lied)?;
        Ok(blob.slice(part.clone()))
    };
    if let [only] = pieces {
        return piece(only);
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(|piece| piece.part.len()).sum());
    for part in pieces {
        whole.extend_from_slice(&piece(part)?);
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::super::vault::{Vault, blob, id_of};
    use super::*;
    use crate::store::Pace;
    use proptest::prelude::*;
    use std::time::Duration;

    fn reader(vault: &Arc<Vault>, blobs: &[Vec<u8>], memory: u64) -> ChunkReader {
        let ids: Vec<Id> = blobs.iter().map(|blob| id_of(blob)).collect();
        let map = FileMap::new(&ids, &vault.index.load()).unwrap();
        ChunkReader::new(vault.loader(memory), Arc::new(map))
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn reads_at_any_offset_are_exact(
            pieces in prop::collection::vec((0usize..3000, any::<bool>()), 0..20),
            reads in prop::collection::vec((any::<prop::sample::Index>(), 0usize..8000), 20),
            memory in prop::sample::select(vec![0u64, 5_000, 1 << 20]),
        ) {
            let blobs: Vec<Vec<u8>> = pieces
                .iter()
                .zip(0u64..)
                .map(|((size, zero), n)| if *zero { vec![0; 2048] } else { blob(n, *size) })
                .collect();
            let whole = blobs.concat();
            runtime().block_on(async {
                let half = blobs.len() / 2;
                let vault = Vault::new(&[blobs[..half].to_vec(), blobs[half..].to_vec()]);
                let reader = reader(&vault, &blobs, memory);
                for (offset, len) in reads {
                    let offset = offset.index(whole.len() + 10);
                    let end = whole.len().min(offset + len);
                    let expected = whole.get(offset..end).unwrap_or_default();
                    let got = reader.read_at(offset as u64, len).resolve().await.unwrap();
                    assert_eq!(got, expected, "{offset}+{len} of {}", whole.len());
                }
            });
        }
    }

    #[tokio::test]
    async fn a_hole_costs_no_read_and_a_hit_no_copy() {
        let blobs = [blob(1, 600), vec![0; 512 * 1024], vec![0; 512 * 1024]];
        let vault = Vault::new(&[blobs.to_vec()]);
        let reader = reader(&vault, &blobs, 1 << 20);
        let Step::Ready(hole) = reader.read_at(700, 900_000) else { panic!("a hole is at hand") };
        assert!(hole.unwrap().iter().all(|byte| *byte == 0));
        assert_eq!(vault.reads(), 0);
        reader.read_at(0, 600).resolve().await.unwrap();
        let (Step::Ready(a), Step::Ready(b)) = (reader.read_at(0, 100), reader.read_at(0, 100)) else {
            panic!("the blob is at hand")
        };
        assert_eq!(a.unwrap().as_ptr(), b.unwrap().as_ptr());
    }

    #[tokio::test]
    async fn a_small_file_that_was_read_makes_room_and_serves_its_like() {
        let blobs: Vec<_> = (0..20).map(|n| blob(n, 50_000)).collect();
        let vault = Vault::new(std::slice::from_ref(&blobs));
        let loader = vault.loader(1 << 20);
        let kept = |at: usize| loader.shared().blobs.get(&(loader.number(), id_of(&blobs[at]))).is_some();
        let reader = |at: usize| {
            let map = FileMap::new(&[id_of(&blobs[at])], &vault.index.load()).unwrap();
            ChunkReader::new(loader.clone(), Arc::new(map))
        };
        assert_eq!(reader(0).read_at(0, 100).resolve().await.unwrap(), blobs[0][..100]);
        assert!(kept(0), "the rest will be wanted");
        for (at, blob) in blobs.iter().enumerate() {
            assert_eq!(reader(at).read_at(0, 1 << 20).resolve().await.unwrap(), blob);
            assert!(!kept(at));
            assert_eq!(reader(at).read_at(0, 1 << 20).resolve().await.unwrap(), blob);
        }
        assert_eq!(vault.reads(), 20, "one of equal content costs no read");
        assert_eq!(reader(0).read_at(0, 1 << 20).resolve().await.unwrap(), blobs[0]);
        assert_eq!(vault.reads(), 21, "nor are they kept for ever");
    }

    #[tokio::test]
    async fn reading_in_sequence_brings_what_follows_in_few_reads() {
        let blobs: Vec<Vec<u8>> = (0..200).map(|n| blob(n, 64 * 1024)).collect();
        let whole = blobs.concat();
        let vault = Vault::new(&[blobs[..100].to_vec(), blobs[100..].to_vec()]);
        let reader = reader(&vault, &blobs, 64 << 20);
        for at in (0..whole.len()).step_by(128 * 1024) {
            let got = reader.read_at(at as u64, 128 * 1024).resolve().await.unwrap();
            assert_eq!(got, whole[at..(at + 128 * 1024).min(whole.len())]);
        }
        let reads = vault.reads();
        assert!(reads < 30, "{reads} reads for 200 blobs");
        let bytes: u64 = vault.reads.lock().unwrap().iter().map(|(_, _, length)| length).sum();
        assert_eq!(bytes, 200 * (64 * 1024 + 32), "nothing twice");
        let kept = blobs.iter().filter(|blob| reader.loader.cached(&id_of(blob)).is_some()).count();
        assert!(kept < 50, "{kept} blobs are kept behind the reader");
    }

    #[tokio::test]
    async fn from_afar_what_follows_the_beginning_comes_with_it() {
        let blobs: Vec<Vec<u8>> = (0..100).map(|n| blob(n, 64 * 1024)).collect();
        let pace = Pace { latency: Duration::from_millis(30), bandwidth: 20 << 20 };
        let vault = Vault::at(std::slice::from_ref(&blobs), pace);
        let afar = reader(&vault, &blobs, 64 << 20);
        afar.read_at(0, 4096).resolve().await.unwrap();
        let here = |at: usize| afar.loader.want(&[id_of(&blobs[at])]);
        for wanted in here(1).into_iter().chain(here(5)) {
            if let Wanted::Coming(coming) = wanted {
                afar.loader.arrival(coming).await.unwrap();
            }
        }
        assert_eq!(vault.reads(), 2, "one for what was read, one beside it");
        let later = reader(&vault, &blobs, 64 << 20);
        later.read_at(90 << 16, 4096).resolve().await.unwrap();
        assert_eq!(vault.reads(), 3, "in the middle nothing comes along");
    }

    #[tokio::test]
    async fn reading_here_and_there_brings_nothing_else() {
        let blobs: Vec<Vec<u8>> = (0..100).map(|n| blob(n, 1 << 20)).collect();
        let vault = Vault::new(std::slice::from_ref(&blobs));
        let reader = reader(&vault, &blobs, 64 << 20);
        for blob in [50, 3, 97, 20] {
            reader.read_at(blob << 20, 4096).resolve().await.unwrap();
        }
        assert_eq!(vault.reads(), 4);
    }
}
