//! The writing side, for this room's own tests: just enough to make what the readers read.

use sha2::{Digest, Sha256};

use super::crypto::MasterKey;
use crate::source::chunked::Id;

/// A key that is not secret.
pub fn key() -> MasterKey {
    MasterKey::from_parts([7; 32], [8; 16], [9; 16]).unwrap()
}

/// `plain` as an encrypted unit of [`key`].
pub fn seal(plain: &[u8]) -> Vec<u8> {
    key().seal([3; 16], plain)
}

/// `plain` as one zstd frame that says its content size.
pub fn compress(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 3).unwrap()
}

/// `plain` as one zstd frame without a content size, with a window of `log` bits.
pub fn compress_blind(plain: &[u8], log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.window_log(log).unwrap();
    std::io::Write::write_all(&mut encoder, plain).unwrap();
    encoder.finish().unwrap()
}

/// The id of `bytes`.
pub fn id(bytes: &[u8]) -> Id {
    Id(Sha256::digest(bytes).into())
}
