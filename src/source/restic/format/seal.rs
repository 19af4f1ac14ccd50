//! The writing side, for this room's own tests: just enough to make what the readers read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::crypto::MasterKey;
use crate::source::chunked::Id;

/// The parts of [`key`], none of them secret.
pub const PARTS: ([u8; 32], [u8; 16], [u8; 16]) = ([7; 32], [8; 16], [9; 16]);

/// The master key of all tests.
pub fn key() -> MasterKey {
    let (encrypt, k, r) = PARTS;
    MasterKey::from_parts(encrypt, k, r).unwrap()
}

/// `plain` as an encrypted unit of [`key`].
pub fn seal(plain: &[u8]) -> Vec<u8> {
    key().seal([3; 16], plain)
}

/// `plain` as one zstd frame that says its content size.
pub fn compress(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 3).unwrap()
}

/// `plain` as one zstd frame without a content size, for a window of `log` bits.
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

/// The plaintext in which a key file keeps [`key`].
pub fn master_key_json() -> String {
    let (encrypt, k, r) = PARTS;
    let [encrypt, k, r] = [&encrypt[..], &k, &r].map(|part| STANDARD.encode(part));
    format!(r#"{{"mac":{{"k":"{k}","r":"{r}"}},"encrypt":"{encrypt}"}}"#)
}

/// What scrypt makes of a password, as a key.
pub fn user_key(derived: &[u8; 64]) -> MasterKey {
    let part = |range: std::ops::Range<usize>| derived[range].to_vec();
    MasterKey::from_parts(
        part(0..32).try_into().unwrap(),
        part(32..48).try_into().unwrap(),
        part(48..64).try_into().unwrap(),
    )
    .unwrap()
}

/// A key file whose `data` is `plain` under what `password` gives with these parameters, and its id.
pub fn key_file(password: &[u8], (n, r, p): (u64, u32, u32), plain: &str) -> (Id, Bytes) {
    let salt = [5; 64];
    let mut derived = [0; 64];
    let parameters = scrypt::Params::new(u8::try_from(n.ilog2()).unwrap(), r, p).unwrap();
    scrypt::scrypt(password, &salt, &parameters, &mut derived).unwrap();
    let data = user_key(&derived).seal([6; 16], plain.as_bytes());
    key_file_of((n, r, p), &salt, &data)
}

/// A key file of these very parts, and its id.
pub fn key_file_of((n, r, p): (u64, u32, u32), salt: &[u8], data: &[u8]) -> (Id, Bytes) {
    let (salt, data) = (STANDARD.encode(salt), STANDARD.encode(data));
    let json = format!(
        r#"{{"created":"2026-01-01T00:00:00Z","username":"u","hostname":"h","kdf":"scrypt","N":{n},"r":{r},"p":{p},"salt":"{salt}","data":"{data}"}}"#
    );
    (id(json.as_bytes()), json.into())
}
