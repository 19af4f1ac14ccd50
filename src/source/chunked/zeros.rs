//! Blobs of nothing but zero bytes, known by their id without reading them: holes in sparse files.
//!
//! restic cuts a run of zeros into pieces of exactly 512 KiB, so a hole is that one id again and again, and what is left
//! of it at the end of the file is shorter. Writers that cut at fixed sizes repeat another id. Only those two shapes are
//! looked for; the hash of each length is computed once.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Id;

/// restic's smallest piece, and so the length of a piece of a hole.
const PIECE: u32 = 512 * 1024;

/// SHA-256 of 512 KiB of zeros.
const PIECE_ID: Id = Id([
    0x07, 0x85, 0x4d, 0x2f, 0xef, 0x29, 0x7a, 0x06, 0xba, 0x81, 0x68, 0x5e, 0x66, 0x0c, 0x33, 0x2d, 0xe3,
    0x6d, 0x5d, 0x18, 0xd5, 0x46, 0x92, 0x7d, 0x30, 0xda, 0xad, 0x6d, 0x7f, 0xda, 0x15, 0x41,
]);

/// Longer pieces are never looked at, and no more lengths than [`MOST_LENGTHS`]: the lengths come from the repository.
const LONGEST: u32 = 64 * 1024 * 1024;
const MOST_LENGTHS: usize = 4096;

static KNOWN: LazyLock<Mutex<HashMap<u32, Id>>> = LazyLock::new(Mutex::default);

/// Zero bytes to answer from: allocated as zero pages, so they cost no memory until written, which is never.
static ZEROS: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![0; 1024 * 1024]));

/// Whether the blob `id` of `size` bytes is all zero. `suspect` says that it stands where a hole may be: beside itself,
/// or last behind a hole.
pub(super) fn is_zero(id: &Id, size: u32, suspect: bool) -> bool {
    if is_piece(id) {
        return size == PIECE;
    }
    suspect && size <= LONGEST && id_of_zeros(size).is_some_and(|zeros| zeros == *id)
}

/// Whether the blob is a piece of a hole, whatever an index says of its size.
pub(super) fn is_piece(id: &Id) -> bool {
    *id == PIECE_ID
}

/// `len` zero bytes.
pub(super) fn zeros(len: usize) -> Bytes {
    if len <= ZEROS.len() { ZEROS.slice(..len) } else { Bytes::from(vec![0; len]) }
}

fn id_of_zeros(size: u32) -> Option<Id> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(id) = known.get(&size) {
        return Some(*id);
    }
    if known.len() >= MOST_LENGTHS {
        return None;
    }
    let mut hash = Sha256::new();
    let mut left = size as usize;
    while left > 0 {
        let piece = left.min(ZEROS.len());
        hash.update(zeros(piece));
        left -= piece;
    }
    let id = Id(hash.finalize().into());
    known.insert(size, id);
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constant_is_the_hash_of_512_kib_of_zeros() {
        assert_eq!(id_of_zeros(PIECE), Some(PIECE_ID));
        assert!(is_zero(&PIECE_ID, PIECE, false));
        assert!(!is_zero(&PIECE_ID, PIECE - 1, true), "a lying size");
        assert!(is_piece(&PIECE_ID) && !is_piece(&Id([1; 32])));
    }

    #[test]
    fn other_lengths_are_known_where_a_hole_may_be() {
        let data = vec![0u8; 3 * 1024 * 1024 + 17];
        let id = Id(Sha256::digest(&data).into());
        let size = u32::try_from(data.len()).unwrap();
        assert!(is_zero(&id, size, true));
        assert!(!is_zero(&id, size, false));
        assert!(!is_zero(&id, size + 1, true));
        assert!(!is_zero(&Id([1; 32]), size, true));
    }

    #[test]
    fn zeros_come_in_any_length() {
        for len in [0, 1, 1024 * 1024, 1024 * 1024 + 1] {
            let zeros = zeros(len);
            assert_eq!(zeros.len(), len);
            assert!(zeros.iter().all(|byte| *byte == 0));
        }
    }
}
