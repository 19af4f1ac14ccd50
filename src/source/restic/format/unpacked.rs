//! Files that are one encrypted unit: snapshots, index files, the configuration.
//!
//! The plaintext is JSON, or a `2` and a zstd frame of JSON. Which of the two is seen from its first byte, whatever
//! the repository's version.

use sha2::{Digest, Sha256};

use super::crypto::MasterKey;
use super::frame;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Id;

/// An index file of two gibibytes would describe some fifteen million blobs; writers stop at 50,000.
const MAX_PLAIN: usize = 2 << 30;

/// The JSON in `stored`, the file called `id`. Errors: `Corrupt` when the bytes do not belong to that name, are not
/// authentic or do not decompress; `Unsupported` when the plaintext is of no known form.
pub fn open(key: &MasterKey, id: &Id, stored: &[u8]) -> Result<Vec<u8>> {
    if Sha256::digest(stored).as_slice() != id.0 {
        return Err(Error::new(Kind::Corrupt, "the content does not match the name"));
    }
    open_unnamed(key, stored)
}

/// The JSON in `stored`, a file whose name says nothing of its content: `config`. Errors as of [`open`].
pub fn open_unnamed(key: &MasterKey, stored: &[u8]) -> Result<Vec<u8>> {
    let plain = key.open(stored)?;
    match plain.split_first() {
        Some((b'{' | b'[', _)) => Ok(plain),
        Some((2, compressed)) => frame::at_most(compressed, MAX_PLAIN),
        Some((first, _)) => {
            Err(Error::new(Kind::Unsupported, format!("plaintext of unknown form (first byte {first:#04x})")))
        }
        None => Err(Error::new(Kind::Unsupported, "empty plaintext")),
    }
}
