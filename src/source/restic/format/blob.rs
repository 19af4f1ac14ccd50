//! Blobs: pieces of files, and trees. A blob is an encrypted unit of a pack, compressed or not, whose plaintext hashes
//! to its id.

use std::cell::RefCell;

use aws_lc_rs::digest::{Context, SHA256};

use super::crypto::{MasterKey, OVERHEAD};
use super::frame;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Id;

/// The longest plaintext that is read: one directory of some 700,000 entries. Writers end pieces of files at 8 MiB,
/// unless rustic is told otherwise.
pub const MAX_PLAIN: usize = 512 << 20;

/// A thread keeps its buffer for compressed bytes between blobs up to this size.
const KEPT: usize = 16 << 20;

thread_local! {
    static COMPRESSED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The plaintext of the blob `id`, stored as `stored`; `plain_length` is what the index says, 0 for "not compressed".
///
/// Errors: `Corrupt` when it is not authentic, does not decompress to exactly `plain_length` bytes or is not the blob
/// called `id`; `Unsupported` when it is longer than [`MAX_PLAIN`]; `System` without memory for it.
pub fn decode(key: &MasterKey, stored: &[u8], plain_length: u32, id: &Id) -> Result<Vec<u8>> {
    let mut hash = Context::new(&SHA256);
    let plain = match usize::try_from(plain_length) {
        Ok(0) if stored.len() <= MAX_PLAIN + OVERHEAD => {
            let mut plain = Vec::new();
            key.open_into(stored, &mut plain, |piece| hash.update(piece))?;
            plain
        }
        Ok(length @ 1..=MAX_PLAIN) => {
            let plain = COMPRESSED.with_borrow_mut(|compressed| {
                let plain = key
                    .open_into(stored, compressed, |_| {})
                    .and_then(|()| frame::exactly(compressed, length));
                if compressed.capacity() > KEPT {
                    *compressed = Vec::new();
                }
                plain
            })?;
            hash.update(&plain);
            plain
        }
        _ => return Err(Error::new(Kind::Unsupported, "a blob of more than 512 MiB")),
    };
    if hash.finish().as_ref() != id.0 {
        return Err(Error::new(Kind::Corrupt, "the content does not match the id"));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::seal::{compress, compress_blind, id, key, seal};
    use super::*;

    #[test]
    fn stored_bytes_become_the_blob_of_that_id() {
        let plain = b"content, content, content".repeat(100);
        let length = u32::try_from(plain.len()).unwrap();
        assert_eq!(decode(&key(), &seal(&plain), 0, &id(&plain)).unwrap(), plain);
        for frame in [compress(&plain), compress_blind(&plain, 23), compress_blind(&plain, 27)] {
            assert_eq!(decode(&key(), &seal(&frame), length, &id(&plain)).unwrap(), plain);
        }
        assert_eq!(decode(&key(), &seal(b""), 0, &id(b"")).unwrap(), b"");
    }

    #[test]
    fn a_forged_id_a_lying_length_and_damage_are_corrupt() {
        let plain = vec![b'x'; 1000];
        let frame = compress_blind(&plain, 10);
        let mut damaged = seal(&frame);
        damaged[30] ^= 0x80;
        for (what, stored, length, id) in [
            ("forged id", seal(&plain), 0, id(b"other")),
            ("forged id, compressed", seal(&frame), 1000, id(b"other")),
            ("too short", seal(&frame), 999, id(&plain)),
            ("too long", seal(&frame), 1001, id(&plain)),
            ("not compressed", seal(&plain), 1000, id(&plain)),
            ("compressed", seal(&frame), 0, id(&plain)),
            ("damaged", damaged, 1000, id(&plain)),
            ("cut", seal(&frame)[..40].to_vec(), 1000, id(&plain)),
        ] {
            assert_eq!(decode(&key(), &stored, length, &id).unwrap_err().kind(), Kind::Corrupt, "{what}");
        }
    }

    #[test]
    fn a_bomb_is_refused_before_memory_is_taken() {
        let plain = vec![0; 1 << 20];
        let stored = seal(&compress_blind(&plain, 20));
        assert_eq!(decode(&key(), &stored, 100, &id(&plain)).unwrap_err().kind(), Kind::Corrupt);
        assert_eq!(decode(&key(), &stored, u32::MAX, &id(&plain)).unwrap_err().kind(), Kind::Unsupported);
    }

    proptest! {
        #[test]
        fn any_content_comes_back(plain in proptest::collection::vec(any::<u8>(), 1..5000), compressed: bool) {
            let length = if compressed { u32::try_from(plain.len()).unwrap() } else { 0 };
            let stored = if compressed { seal(&compress_blind(&plain, 17)) } else { seal(&plain) };
            prop_assert_eq!(decode(&key(), &stored, length, &id(&plain)).unwrap(), plain);
        }
    }
}
