//! Which ranged reads bring a set of blobs: neighbours in a pack are read together.

use bytes::Bytes;

use super::tuning::Tuning;
use super::{Id, Place};
use crate::error::{Error, Kind, Result};

/// One ranged read of a pack and the blobs in it, by offset.
#[derive(Debug, PartialEq)]
pub(super) struct Batch<T> {
    pub pack: Id,
    pub offset: u64,
    pub length: u64,
    pub blobs: Vec<(Place, T)>,
}

impl<T> Batch<T> {
    /// Bytes that the read and what is decoded from it take in memory.
    pub(super) fn weight(&self) -> u64 {
        self.length + self.blobs.iter().map(|(place, _)| u64::from(place.size)).sum::<u64>()
    }

    /// The blobs, each with its part of what the read brought.
    pub(super) fn with_parts(self, stored: &Bytes) -> Result<Vec<(Place, T, Bytes)>> {
        let of_place = |place: &Place| {
            part(stored, u64::from(place.offset).checked_sub(self.offset)?, place.length.into())
        };
        let with_part = |(place, blob)| {
            let part = of_place(&place).ok_or_else(short)?;
            Ok((place, blob, part))
        };
        self.blobs.into_iter().map(with_part).collect()
    }
}

/// `length` bytes from `from` of what was read, if it has so many.
pub(super) fn part(stored: &Bytes, from: u64, length: u64) -> Option<Bytes> {
    let from = usize::try_from(from).ok()?;
    let to = from.checked_add(usize::try_from(length).ok()?)?;
    (to <= stored.len()).then(|| stored.slice(from..to))
}

/// What is wrong when it has not.
pub(super) fn short() -> Error {
    Error::new(Kind::Internal, "a read that is shorter than asked for")
}

/// `blobs` in portions of at least `bytes` stored bytes.
pub(super) fn portions<T>(blobs: Vec<(Place, T, Bytes)>, bytes: u64) -> Vec<Vec<(Place, T, Bytes)>> {
    let mut portions: Vec<Vec<(Place, T, Bytes)>> = Vec::new();
    let mut filled = bytes;
    for blob in blobs {
        let length = u64::from(blob.0.length);
        match portions.last_mut() {
            Some(portion) if filled < bytes => {
                portion.push(blob);
                filled += length;
            }
            _ => {
                portions.push(vec![blob]);
                filled = length;
            }
        }
    }
    portions
}

/// The reads for `wanted`, in the order in which their first blob was asked for.
pub(super) fn batches<T>(wanted: Vec<(Place, T)>, tuning: &Tuning) -> Vec<Batch<T>> {
    let mut wanted: Vec<(usize, (Place, T))> = wanted.into_iter().enumerate().collect();
    wanted.sort_by_key(|(_, (place, _))| (place.pack, place.offset));
    let mut batches: Vec<(usize, Batch<T>)> = Vec::new();
    for (rank, (place, blob)) in wanted {
        let (start, end) = (u64::from(place.offset), u64::from(place.offset) + u64::from(place.length));
        match batches.last_mut() {
            Some((first, batch))
                if batch.pack == place.pack
                    && start <= batch.offset + batch.length + tuning.gap
                    && end.saturating_sub(batch.offset) <= tuning.longest =>
            {
                batch.length = batch.length.max(end - batch.offset);
                batch.blobs.push((place, blob));
                *first = rank.min(*first);
            }
            _ => {
                let length = end - start;
                batches.push((
                    rank,
                    Batch { pack: place.pack, offset: start, length, blobs: vec![(place, blob)] },
                ));
            }
        }
    }
    batches.sort_by_key(|(first, _)| *first);
    batches.into_iter().map(|(_, batch)| batch).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Standing;
    use super::*;
    use crate::store::Pace;
    use proptest::prelude::*;

    fn tuning() -> Tuning {
        Tuning { gap: 64 << 10, longest: 4 << 20, ..Tuning::of(Pace::LOCAL) }
    }

    fn place(pack: u8, offset: u32, length: u32) -> Place {
        let pack = Id([pack; 32]);
        Place { pack, offset, length, size: length, compressed: false, standing: Standing::Live }
    }

    fn ranges(wanted: &[Place]) -> Vec<(u8, u64, u64, Vec<usize>)> {
        batches(wanted.iter().copied().zip(0usize..).collect(), &tuning())
            .into_iter()
            .map(|b| (b.pack.0[0], b.offset, b.length, b.blobs.iter().map(|(_, n)| *n).collect()))
            .collect()
    }

    #[test]
    fn neighbours_in_a_pack_are_one_read_in_the_order_of_need() {
        let found = ranges(&[
            place(2, 5000, 100),
            place(1, 1000, 1000),
            place(1, 0, 1000),
            place(1, 2000 + 65536, 10),
            place(1, 2010 + 65536 + 65537, 10),
        ]);
        assert_eq!(
            found,
            [
                (2, 5000, 100, vec![0]),
                (1, 0, 2010 + 65536, vec![2, 1, 3]),
                (1, 2010 + 65536 + 65537, 10, vec![4]),
            ]
        );
    }

    #[test]
    fn a_read_is_not_made_too_long_but_a_long_blob_is_read_whole() {
        let mib = 1 << 20;
        let found = ranges(&[
            place(1, 0, 3 * mib),
            place(1, 3 * mib, mib),
            place(1, 4 * mib, 30 * mib),
            place(1, 34 * mib, 1),
        ]);
        let lengths: Vec<u64> = found.iter().map(|(_, _, length, _)| *length).collect();
        assert_eq!(lengths, [4 << 20, 30 << 20, 1]);
    }

    proptest! {
        #[test]
        fn every_blob_is_within_its_read_and_none_is_lost(
            wanted in prop::collection::vec((0u8..4, 0u32..20_000_000, 0u32..3_000_000), 0..60)
        ) {
            let wanted: Vec<Place> = wanted.into_iter().map(|(p, o, l)| place(p, o, l)).collect();
            let mut seen = vec![0; wanted.len()];
            for batch in batches(wanted.iter().copied().zip(0usize..).collect(), &tuning()) {
                for (place, number) in &batch.blobs {
                    seen[*number] += 1;
                    prop_assert_eq!(place.pack, batch.pack);
                    prop_assert!(u64::from(place.offset) >= batch.offset);
                    let end = u64::from(place.offset) + u64::from(place.length);
                    prop_assert!(end <= batch.offset + batch.length);
                }
            }
            prop_assert!(seen.iter().all(|n| *n == 1));
        }
    }
}
