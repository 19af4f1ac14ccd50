//! One entry as it lies in a segment, byte by byte. All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0–3 | magic |
//! | 4–7 | 1 if the payload is sealed with the cache's own key |
//! | 8–15 | whose it is |
//! | 16–31 | its key |
//! | 32–39 | bytes of the payload |
//! | 40–47 | checksum: xxh3 of what stands before it and of the payload |
//! | 48– | the payload, filled up with zeros to a multiple of 16 |
//!
//! An entry is believed when magic, key, length and checksum are right; nothing that points to it needs to be.

use xxhash_rust::xxh3::Xxh3Default;

use super::key::{Key, Owner};

/// Where records begin.
pub(super) const ALIGN: u64 = PADDED as u64;
const PADDED: usize = 16;

/// What stands before a payload.
pub(super) const HEADER: usize = 48;

/// Changes with the form.
const MAGIC: [u8; 4] = *b"bfs1";

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub sealed: bool,
    pub owner: Owner,
    pub key: Key,
    pub length: u64,
    checksum: u64,
}

/// Appends a record to `to`, which begins where a record may.
pub(super) fn append(to: &mut Vec<u8>, owner: Owner, key: &Key, sealed: bool, payload: &[u8]) {
    let start = to.len();
    to.extend(MAGIC);
    to.extend(u32::from(sealed).to_le_bytes());
    to.extend(owner.0.to_le_bytes());
    to.extend(key.0);
    to.extend((payload.len() as u64).to_le_bytes());
    let checksum = checksum(to.get(start..).unwrap_or_default(), payload);
    to.extend(checksum.to_le_bytes());
    to.extend(payload);
    to.resize(to.len().next_multiple_of(PADDED), 0);
}

/// Bytes of a record from its beginning to the end of its payload.
pub(super) fn length_of(payload: u64) -> u64 {
    HEADER as u64 + payload
}

/// Reads a header; `None` for what is none.
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let flags = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let header = Header {
        sealed: flags == 1,
        owner: Owner(number(8)?),
        key: Key(*bytes.get(16..)?.first_chunk()?),
        length: number(32)?,
        checksum: number(40)?,
    };
    (bytes.starts_with(&MAGIC) && flags <= 1).then_some(header)
}

/// The header of the record that `bytes` are, if they are the good record of `key` and nothing else.
pub(super) fn check(bytes: &[u8], key: &Key) -> Option<Header> {
    let header = header(bytes).filter(|header| header.key == *key)?;
    let (said, payload) = (bytes.get(..HEADER - 8)?, bytes.get(HEADER..)?);
    (header.length == payload.len() as u64 && header.checksum == checksum(said, payload)).then_some(header)
}

fn checksum(said: &[u8], payload: &[u8]) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.update(said);
    hash.update(payload);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(payload: &[u8]) -> (Key, Vec<u8>) {
        let key = Key::whole(Owner(7), "x");
        let mut bytes = Vec::new();
        append(&mut bytes, Owner(7), &key, true, payload);
        assert_eq!(bytes.len() as u64 % ALIGN, 0);
        bytes.truncate(usize::try_from(length_of(payload.len() as u64)).unwrap());
        (key, bytes)
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let (key, bytes) = record(b"payload");
        let header = check(&bytes, &key).unwrap();
        assert_eq!((header.sealed, header.owner, header.length), (true, Owner(7), 7));
        assert_eq!(&bytes[HEADER..], b"payload");
        assert!(check(&bytes, &Key::whole(Owner(7), "y")).is_none(), "it is another's");
        assert_eq!(check(&record(b"").1, &key).unwrap().length, 0);
    }

    #[test]
    fn no_bit_of_it_may_change_and_no_byte_be_missing() {
        let (key, bytes) = record(b"some payload");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&damaged, &key).is_none(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(check(&bytes[..end], &key).is_none(), "{end} bytes");
        }
    }

    proptest! {
        #[test]
        fn anything_else_is_no_record(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(check(&bytes, &Key::whole(Owner(7), "x")).is_none());
        }
    }
}
