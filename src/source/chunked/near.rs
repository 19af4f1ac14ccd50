//! Stretches of packs that were read beyond what was asked for, kept for a moment.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::Id;
use super::plan::part;

/// How many stretches are kept: a quarter of a megabyte each at most.
const KEPT: usize = 16;

/// The latest stretches, the last one first.
#[derive(Default)]
pub(super) struct Near(Mutex<VecDeque<Stretch>>);

struct Stretch {
    /// The repository's number.
    repository: u32,
    pack: Id,
    offset: u64,
    stored: Bytes,
}

impl Near {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Stretch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes `[offset, offset + length)` of a pack of repository number `repository`, if they are in one stretch.
    pub fn find(&self, repository: u32, pack: &Id, offset: u64, length: u64) -> Option<Bytes> {
        let stretches = self.lock();
        let mut of_pack = stretches.iter().filter(|kept| kept.repository == repository && kept.pack == *pack);
        of_pack.find_map(|kept| part(&kept.stored, offset.checked_sub(kept.offset)?, length))
    }

    /// Keeps what lies at `offset` of a pack.
    pub fn keep(&self, repository: u32, pack: Id, offset: u64, stored: Bytes) {
        let mut stretches = self.lock();
        stretches.truncate(KEPT - 1);
        stretches.push_front(Stretch { repository, pack, offset, stored });
    }

    /// Lets go of a pack.
    pub fn forget(&self, repository: u32, pack: &Id) {
        self.lock().retain(|kept| kept.repository != repository || kept.pack != *pack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: Id = Id([1; 32]);

    #[test]
    fn what_lies_in_one_stretch_is_found_in_its_repository_only() {
        let near = Near::default();
        near.keep(1, PACK, 100, Bytes::from_static(b"0123456789"));
        near.keep(1, PACK, 500, Bytes::from_static(b"abc"));
        assert_eq!(near.find(1, &PACK, 103, 4).unwrap(), "3456");
        assert_eq!(near.find(1, &PACK, 500, 3).unwrap(), "abc");
        assert_eq!(near.find(1, &PACK, 107, 3).unwrap(), "789");
        for (repository, pack, offset, length) in [
            (2, PACK, 103, 4),
            (1, Id([2; 32]), 103, 4),
            (1, PACK, 99, 4),
            (1, PACK, 107, 4),
            (1, PACK, u64::MAX, 1),
            (1, PACK, 103, u64::MAX),
        ] {
            assert_eq!(near.find(repository, &pack, offset, length), None);
        }
        near.forget(2, &PACK);
        assert!(near.find(1, &PACK, 103, 4).is_some());
        near.forget(1, &PACK);
        assert!(near.find(1, &PACK, 103, 4).is_none() && near.find(1, &PACK, 500, 3).is_none());
    }

    #[test]
    fn only_the_latest_are_kept() {
        let near = Near::default();
        for at in 0..100 {
            near.keep(1, PACK, at * 10, Bytes::from_static(b"0123456789"));
        }
        let kept = (0..100).filter(|at| near.find(1, &PACK, at * 10, 10).is_some());
        assert!(kept.eq(100 - KEPT as u64..100));
    }
}
