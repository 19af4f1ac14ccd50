//! Files that are one encrypted unit: snapshots, index files, the configuration.
//!
//! The plaintext is JSON, or a `2` and a zstd frame of JSON. Which of the two is seen from its first byte, whatever
//! the repository's version.

use sha2::{Digest, Sha256};

use super::crypto::MasterKey;
use super::frame::{self, Stream};
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Id;

/// The longest plaintext that is read: an index of two gibibytes describes some fifteen million blobs.
const MAX_PLAIN: usize = 2 << 30;

/// What a file may expand to whatever its size, and how far it may expand beyond: half of an index is hashes, which
/// do not compress.
const FREE_PLAIN: usize = 64 << 20;
const MAX_RATIO: usize = 32;

/// What decompresses to more is read as a stream: twice what restic puts into an index file.
const WHOLE: u64 = 16 << 20;

/// The JSON in `stored`, the file called `id`. Errors: `Corrupt` when the bytes do not belong to that name, are not
/// authentic or do not decompress; `Unsupported` when the plaintext is of no known form.
pub fn open(key: &MasterKey, id: &Id, stored: &[u8]) -> Result<Vec<u8>> {
    check_name(id, stored)?;
    open_unnamed(key, stored)
}

/// The JSON of a file.
pub enum Json {
    /// All of it.
    Whole(Vec<u8>),
    /// So much that it is decompressed while it is read.
    Stream(Stream),
}

/// Like [`open`], for files that may be too large for memory when they are decompressed: index files.
pub fn open_large(key: &MasterKey, id: &Id, stored: &[u8]) -> Result<Json> {
    check_name(id, stored)?;
    let plain = key.open(stored)?;
    match plain.split_first() {
        Some((2, compressed)) if frame::length(compressed).is_none_or(|length| length > WHOLE) => {
            let limit = plausible(compressed);
            Ok(Json::Stream(Stream::new(plain, 1, limit)?))
        }
        _ => decompressed(plain).map(Json::Whole),
    }
}

/// The JSON in `stored`, a file whose name says nothing of its content: `config`. Errors as of [`open`].
pub fn open_unnamed(key: &MasterKey, stored: &[u8]) -> Result<Vec<u8>> {
    decompressed(key.open(stored)?)
}

/// Checks that `stored` is what the name `id` says. Errors: `Corrupt`.
pub fn check_name(id: &Id, stored: &[u8]) -> Result<()> {
    if Sha256::digest(stored).as_slice() == id.0 {
        return Ok(());
    }
    Err(Error::new(Kind::Corrupt, "the content does not match the name"))
}

/// How much a frame may hold.
fn plausible(compressed: &[u8]) -> usize {
    compressed.len().saturating_mul(MAX_RATIO).clamp(FREE_PLAIN, MAX_PLAIN)
}

fn decompressed(plain: Vec<u8>) -> Result<Vec<u8>> {
    match plain.split_first() {
        Some((b'{' | b'[', _)) => Ok(plain),
        Some((2, compressed)) => frame::at_most(compressed, plausible(compressed)),
        Some((first, _)) => {
            Err(Error::new(Kind::Unsupported, format!("plaintext of unknown form (first byte {first:#04x})")))
        }
        None => Err(Error::new(Kind::Unsupported, "empty plaintext")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::seal::{compress, compress_blind, id, key, seal};
    use super::*;

    fn opened(plain: &[u8]) -> Result<Vec<u8>> {
        let stored = seal(plain);
        open(&key(), &id(&stored), &stored)
    }

    #[test]
    fn json_is_taken_as_it_is_and_a_two_means_zstd() {
        for json in [&br#"{"a":1}"#[..], b"[1]"] {
            assert_eq!(opened(json).unwrap(), json);
            assert_eq!(opened(&[&[2], &compress(json)[..]].concat()).unwrap(), json);
            assert_eq!(opened(&[&[2], &compress_blind(json, 20)[..]].concat()).unwrap(), json);
        }
    }

    #[test]
    fn other_first_bytes_are_unsupported() {
        for plain in [&b""[..], b" {}", b"\x01{}", b"\x03{}", b"null"] {
            assert_eq!(opened(plain).unwrap_err().kind(), Kind::Unsupported, "{}", plain.escape_ascii());
        }
    }

    #[test]
    fn the_name_must_be_the_hash_of_the_file() {
        let (stored, other) = (seal(b"{}"), seal(b"[]"));
        let error = open(&key(), &id(&other), &stored).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (Kind::Corrupt, "the content does not match the name".into())
        );
        assert_eq!(open_unnamed(&key(), &stored).unwrap(), b"{}");
        let mut damaged = stored;
        damaged[20] ^= 1;
        assert_eq!(open(&key(), &id(&damaged), &damaged).unwrap_err().kind(), Kind::Corrupt);
    }

    #[test]
    fn what_is_large_comes_as_a_stream_with_the_same_limits() {
        let large = |plain: &[u8]| {
            let stored = seal(plain);
            open_large(&key(), &id(&stored), &stored)
        };
        let json = [&b"{"[..], &vec![b' '; usize::try_from(WHOLE).unwrap()], b"}"].concat();
        for frame in [compress(&json), compress_blind(&json, 20), compress_blind(b"{}", 20)] {
            let Ok(Json::Stream(mut stream)) = large(&[&[2], &frame[..]].concat()) else {
                panic!("no stream")
            };
            let mut read = Vec::new();
            stream.read_to_end(&mut read).unwrap();
            assert!(read == json || read == b"{}", "{} bytes", read.len());
        }
        for small in [&b"{}"[..], &[&[2], &compress(b"{}")[..]].concat()] {
            assert!(matches!(large(small), Ok(Json::Whole(json)) if json == b"{}"));
        }
        assert!(matches!(large(b"\x03{}"), Err(error) if error.kind() == Kind::Unsupported));
        let stored = seal(b"{}");
        let renamed = open_large(&key(), &id(b"other"), &stored);
        assert!(matches!(renamed, Err(error) if error.kind() == Kind::Corrupt));
        let bomb = compress_blind(&vec![b'0'; FREE_PLAIN + 1], 20);
        let Ok(Json::Stream(mut stream)) = large(&[&[2], &bomb[..]].concat()) else { panic!("no stream") };
        let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("more than 67108864 bytes"), "{error}");
    }

    #[test]
    fn a_file_expands_only_so_far() {
        let zeros = vec![b'0'; FREE_PLAIN + 1];
        for bomb in [compress(&zeros), compress_blind(&zeros, 20)] {
            let error = opened(&[&[2], &bomb[..]].concat()).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
            assert!(error.to_string().contains("more than 67108864 bytes"), "{error}");
        }
        let fits = compress_blind(&zeros[1..], 20);
        assert_eq!(opened(&[&[2], &fits[..]].concat()).unwrap().len(), FREE_PLAIN);
    }
}
