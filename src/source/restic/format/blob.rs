//! Blobs: pieces of files, and trees. A blob is an encrypted unit of a pack, compressed or not, whose plaintext hashes
//! to its id.

use std::cell::RefCell;

use sha2::{Digest, Sha256};

use super::crypto::MasterKey;
use super::frame;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Id;

/// A thread keeps its buffer for compressed bytes between blobs up to this size.
const KEPT: usize = 16 << 20;

thread_local! {
    static COMPRESSED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The plaintext of the blob `id`, stored as `stored`; `plain_length` is what the index says, 0 for "not compressed".
///
/// Errors: `Corrupt` when it is not authentic, does not decompress to exactly `plain_length` bytes or is not the blob
/// called `id`; `System` without memory for it.
pub fn decode(key: &MasterKey, stored: &[u8], plain_length: u32, id: &Id) -> Result<Vec<u8>> {
    let plain = match usize::try_from(plain_length) {
        Ok(0) => key.open(stored)?,
        Ok(length) => COMPRESSED.with_borrow_mut(|compressed| {
            let plain = key.open_into(stored, compressed).and_then(|()| frame::exactly(compressed, length));
            if compressed.capacity() > KEPT {
                *compressed = Vec::new();
            }
            plain
        })?,
        Err(_) => return Err(Error::new(Kind::Unsupported, "a blob larger than this machine's memory")),
    };
    if Sha256::digest(&plain).as_slice() != id.0 {
        return Err(Error::new(Kind::Corrupt, "the content does not match the id"));
    }
    Ok(plain)
}
