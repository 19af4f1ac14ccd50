//! A file as its list of blobs: which bytes lie in which blob, and where the holes are.

use std::ops::Range;

use super::{BlobIndex, BlobKind, Id, zeros};

/// The blobs of a file with the offsets where they end. A read is a binary search in it.
#[derive(Debug)]
pub struct FileMap {
    blobs: Box<[Id]>,
    ends: Box<[u64]>,
    /// Which blobs are all zero; empty when none is.
    holes: Box<[bool]>,
}

impl FileMap {
    /// The map of a file of `blobs`, or the first of them that the index does not know.
    pub fn new(blobs: &[Id], index: &BlobIndex) -> Result<FileMap, Id> {
        let mut ends = Vec::with_capacity(blobs.len());
        let mut holes = Vec::with_capacity(blobs.len());
        let mut end = 0u64;
        pieces(blobs, index, |size, zero| {
            end += u64::from(size);
            ends.push(end);
            holes.push(zero);
        })?;
        let holes = if holes.contains(&true) { holes.into() } else { Box::default() };
        Ok(FileMap { blobs: blobs.into(), ends: ends.into(), holes })
    }

    /// Bytes of the file, and 512-byte units of it that hold data; without keeping a map.
    pub fn measure(blobs: &[Id], index: &BlobIndex) -> Result<(u64, u64), Id> {
        let (mut size, mut data) = (0u64, 0u64);
        pieces(blobs, index, |length, zero| {
            size += u64::from(length);
            data += if zero { 0 } else { u64::from(length) };
        })?;
        Ok((size, data.div_ceil(512)))
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// How many blobs it has.
    pub fn len(&self) -> usize {
        self.blobs.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// The pieces that cover `bytes`, which end within the file, in order.
    pub(super) fn cover(&self, bytes: Range<u64>) -> impl Iterator<Item = Piece> + '_ {
        self.blobs_in(bytes.clone()).filter_map(move |at| {
            let (start, end) = (self.start(at), *self.ends.get(at)?);
            let from = usize::try_from(bytes.start.max(start) - start).ok()?;
            let to = usize::try_from(bytes.end.min(end) - start).ok()?;
            let size = usize::try_from(end - start).ok()?;
            (from < to).then(|| Piece { blob: self.blob(at), part: from..to, size })
        })
    }

    /// The numbers of the blobs that touch `bytes`.
    pub(super) fn blobs_in(&self, bytes: Range<u64>) -> Range<usize> {
        let first = self.ends.partition_point(|end| *end <= bytes.start);
        let last = self.ends.partition_point(|end| *end < bytes.end);
        first..(last + 1).min(self.blobs.len()).max(first)
    }

    /// Blob number `at`, unless it is a hole or there is none.
    pub(super) fn blob(&self, at: usize) -> Option<Id> {
        self.blobs.get(at).filter(|_| !self.is_hole(at)).copied()
    }

    /// Where blob number `at` begins: the end of the file when there is none.
    pub(super) fn start(&self, at: usize) -> u64 {
        at.checked_sub(1).map_or(0, |before| self.ends.get(before).copied().unwrap_or_else(|| self.size()))
    }

    /// The first offset at or after `offset` that holds data.
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        self.next(offset, false)
    }

    /// The first offset at or after `offset` where a hole begins, the end of the file at the latest.
    pub fn next_hole(&self, offset: u64) -> u64 {
        self.next(offset, true).unwrap_or_else(|| self.size().max(offset))
    }

    fn next(&self, offset: u64, hole: bool) -> Option<u64> {
        let first = self.ends.partition_point(|end| *end <= offset);
        let at = (first..self.blobs.len()).find(|at| {
            self.is_hole(*at) == hole && self.ends.get(*at).is_some_and(|end| *end > self.start(*at))
        })?;
        Some(self.start(at).max(offset))
    }

    fn is_hole(&self, at: usize) -> bool {
        self.holes.get(at).copied().unwrap_or(false)
    }
}

/// A part of a file that lies in one blob or in one hole.
pub(super) struct Piece {
    /// The blob; `None` in a hole.
    pub blob: Option<Id>,
    /// The bytes of the blob that are asked for.
    pub part: Range<usize>,
    /// How long the whole blob is by the index that the map was made from.
    pub size: usize,
}

/// Visits the size of each blob and whether it is all zero.
fn pieces(blobs: &[Id], index: &BlobIndex, mut visit: impl FnMut(u32, bool)) -> Result<(), Id> {
    let mut before: Option<(Id, u32, bool)> = None;
    for (at, id) in blobs.iter().enumerate() {
        let next = blobs.get(at + 1);
        let (size, zero) = match before {
            Some((same, size, zero)) if same == *id => (size, zero),
            _ => {
                let size = index.size(BlobKind::Data, id).ok_or(*id)?;
                let behind_hole = next.is_none() && before.is_some_and(|(_, _, zero)| zero);
                (size, zeros::is_zero(id, size, behind_hole || next == Some(id)))
            }
        };
        visit(size, zero);
        before = Some((*id, size, zero));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{IndexFile, Place, Standing};
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    /// The ids of `blobs`, and an index that knows them.
    fn indexed(blobs: &[Vec<u8>]) -> (Vec<Id>, BlobIndex) {
        let ids: Vec<Id> = blobs.iter().map(|blob| Id(Sha256::digest(blob).into())).collect();
        let mut file = IndexFile::new(Id([9; 32]));
        for (id, blob) in ids.iter().zip(blobs) {
            let size = u32::try_from(blob.len()).unwrap();
            let place = Place {
                pack: Id([1; 32]),
                offset: 0,
                length: size + 32,
                size,
                compressed: false,
                standing: Standing::Live,
            };
            file.push(BlobKind::Data, *id, &place);
        }
        let index =
            BlobIndex::default().updated(&[Id([9; 32])].into(), &[file].into_iter().collect()).unwrap();
        (ids, index)
    }

    const PIECE: usize = 512 * 1024;

    #[test]
    fn holes_are_pieces_of_zeros_and_the_rest_of_them_at_the_end() {
        let blobs =
            [vec![7; 1000], vec![0; PIECE], vec![0; PIECE], vec![8; 10], vec![0; PIECE], vec![0; 3000]];
        let (ids, index) = indexed(&blobs);
        let map = FileMap::new(&ids, &index).unwrap();
        let (first, piece) = (1000, PIECE as u64);
        let size = 1010 + 3 * piece + 3000;
        assert_eq!(map.size(), size);
        assert_eq!(FileMap::measure(&ids, &index), Ok((size, 2)));
        assert_eq!(map.next_data(0), Some(0));
        assert_eq!(map.next_hole(0), first);
        assert_eq!(map.next_data(first + 5), Some(first + 2 * piece));
        assert_eq!(map.next_hole(first + 5), first + 5);
        assert_eq!(map.next_hole(first + 2 * piece), first + 2 * piece + 10);
        assert_eq!(map.next_data(size - 1), None);
        assert_eq!(map.cover(0..size).filter(|piece| piece.blob.is_none()).count(), 4);
    }

    #[test]
    fn zeros_that_stand_alone_are_data_and_repeated_ones_a_hole() {
        let (ids, index) = indexed(&[vec![0; 100]]);
        assert_eq!(FileMap::measure(&ids, &index), Ok((100, 1)));
        let (ids, index) = indexed(&[vec![0; 4096], vec![0; 4096], vec![5; 4096]]);
        assert_eq!(FileMap::measure(&ids, &index), Ok((3 * 4096, 8)));
        let (ids, index) = indexed(&[vec![6; 4096], vec![6; 4096]]);
        assert_eq!(FileMap::measure(&ids, &index), Ok((2 * 4096, 16)), "repeated, but not zero");
    }

    #[test]
    fn an_empty_file_and_an_unknown_blob() {
        let (_, index) = indexed(&[]);
        let map = FileMap::new(&[], &index).unwrap();
        assert_eq!((map.size(), map.len(), map.is_empty()), (0, 0, true));
        assert_eq!(map.next_data(0), None);
        assert_eq!(map.next_hole(0), 0);
        assert_eq!(FileMap::new(&[Id([3; 32])], &index).unwrap_err(), Id([3; 32]));
    }

    proptest! {
        #[test]
        fn pieces_cover_exactly_what_is_asked(
            sizes in prop::collection::vec(0usize..50, 1..20),
            (a, b) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let blobs: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(n, size)| vec![u8::try_from(n + 1).unwrap(); *size]).collect();
            let whole = blobs.concat();
            let (ids, index) = indexed(&blobs);
            let map = FileMap::new(&ids, &index).unwrap();
            prop_assert_eq!(map.size(), whole.len() as u64);
            let (a, b) = (a.index(whole.len() + 1), b.index(whole.len() + 1));
            let asked = a.min(b)..a.max(b);
            let mut found = Vec::new();
            for Piece { blob, part, size } in map.cover(asked.start as u64..asked.end as u64) {
                let number = ids.iter().position(|id| Some(*id) == blob).unwrap();
                prop_assert_eq!(size, sizes[number]);
                found.extend_from_slice(&blobs[number][part]);
            }
            prop_assert_eq!(&found, &whole[asked]);
        }
    }
}
