//! One place of one blob, as segments hold it: 48 bytes in memory and on disk.

use super::{BlobKind, Place, Standing};
use crate::source::chunked::Id;

/// A blob's place. Rows are ordered by id, then kind; of one blob, places in packs that will stay come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub id: Id,
    /// Three flags above the number of the pack in its segment.
    pack: u32,
    offset: u32,
    length: u32,
    size: u32,
}

const TREE: u32 = 1 << 31;
const DELETED: u32 = 1 << 30;
const COMPRESSED: u32 = 1 << 29;

/// No segment has more packs.
pub(super) const MOST_PACKS: u32 = COMPRESSED;

impl Row {
    /// Bytes of a row on disk.
    pub(super) const BYTES: usize = 48;

    /// `place` in pack number `pack`, which is below [`MOST_PACKS`].
    pub(super) fn new(kind: BlobKind, id: Id, pack: u32, place: &Place) -> Self {
        let flags = if kind == BlobKind::Tree { TREE } else { 0 }
            | if place.standing == Standing::Live { 0 } else { DELETED }
            | if place.compressed { COMPRESSED } else { 0 };
        let Place { offset, length, size, .. } = *place;
        Row { id, pack: pack & (MOST_PACKS - 1) | flags, offset, length, size }
    }

    pub(super) fn kind(&self) -> BlobKind {
        if self.pack & TREE == 0 { BlobKind::Data } else { BlobKind::Tree }
    }

    /// Whether its pack is marked for deletion.
    pub(super) fn is_deleted(&self) -> bool {
        self.pack & DELETED != 0
    }

    /// Plaintext bytes.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// The number of its pack.
    pub(super) fn pack(&self) -> u32 {
        self.pack & (MOST_PACKS - 1)
    }

    /// The same place when its pack has another number.
    pub(super) fn in_pack(self, number: u32) -> Self {
        Row { pack: self.pack & !(MOST_PACKS - 1) | number & (MOST_PACKS - 1), ..self }
    }

    /// What it says, for a pack of this id.
    pub(super) fn place(&self, pack: Id, standing: Standing) -> Place {
        let Row { offset, length, size, .. } = *self;
        Place { pack, offset, length, size, compressed: self.pack & COMPRESSED != 0, standing }
    }

    /// The form on disk.
    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (id, numbers) = bytes.split_at_mut(32);
        id.copy_from_slice(&self.id.0);
        let (words, _) = numbers.as_chunks_mut::<4>();
        for (word, number) in words.iter_mut().zip([self.pack, self.offset, self.length, self.size]) {
            *word = number.to_le_bytes();
        }
        bytes
    }

    /// Reads what `encode` wrote.
    pub(super) fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let number = |at: usize| {
            let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
            u32::from_le_bytes(word.copied().unwrap_or_default())
        };
        Row { id: id_at(bytes), pack: number(32), offset: number(36), length: number(40), size: number(44) }
    }
}

/// The id that `bytes` begin with.
pub(super) fn id_at(bytes: &[u8]) -> Id {
    Id(bytes.first_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_row_is_read_as_it_was_written(
            id: [u8; 32], number in 0..MOST_PACKS, offset: u32, length: u32, size: u32,
            compressed: bool, live: bool, tree: bool,
        ) {
            let kind = if tree { BlobKind::Tree } else { BlobKind::Data };
            let standing = if live { Standing::Live } else { Standing::Deleted };
            let place = Place { pack: Id([9; 32]), offset, length, size, compressed, standing };
            let row = Row::new(kind, Id(id), number, &place);
            let read = Row::decode(&row.encode());
            prop_assert_eq!(read, row);
            prop_assert_eq!(read.place(Id([9; 32]), standing), place);
            prop_assert_eq!((read.kind(), read.pack(), read.is_deleted()), (kind, number, !live));
            let moved = row.in_pack(MOST_PACKS - 1);
            prop_assert_eq!((moved.pack(), moved.in_pack(number)), (MOST_PACKS - 1, row));
        }
    }

    #[test]
    fn rows_are_ordered_by_id_then_kind_then_standing() {
        let place =
            |standing| Place { pack: Id([0; 32]), offset: 0, length: 0, size: 0, compressed: true, standing };
        let row = |id, kind, standing| Row::new(kind, Id([id; 32]), 5, &place(standing));
        let ordered = [
            row(1, BlobKind::Data, Standing::Live),
            row(1, BlobKind::Data, Standing::Deleted),
            row(1, BlobKind::Tree, Standing::Live),
            row(2, BlobKind::Data, Standing::Live),
        ];
        assert!(ordered.is_sorted());
        assert_eq!(size_of::<Row>(), Row::BYTES);
    }
}
