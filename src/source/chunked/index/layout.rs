//! A segment's file, byte by byte. All numbers are little-endian.
//!
//! | part | what |
//! |---|---|
//! | page 0 | magic, salt, number of rows, packs and files, checksum of the tables, checksum of these; the rest is zero |
//! | row pages | 85 rows of 48 bytes each, in order, the last page filled up with zeros |
//! | pack pages | 127 ids of packs each |
//! | tables | the first eight bytes of each row page's first id; then 64 bytes for each index file |
//!
//! A page has 4096 bytes, and the last eight are the checksum of the others: xxh3, plus the file's salt and the page's
//! number, so that a page of another file or from another place does not pass. The tables are read when the file is
//! opened, pages when they are needed. Checksums find damage; they do not stop whoever may write to the cache.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::xxh3_64;

use super::row::{MOST_PACKS, Row, id_at};
use super::segment::Covered;

pub(super) const PAGE: usize = 4096;
/// What a page holds beside its checksum.
pub(super) const BODY: usize = PAGE - 8;
/// Rows on a page.
pub(super) const ROWS: u64 = (BODY / Row::BYTES) as u64;
/// Ids of packs on a page.
pub(super) const IDS: u64 = BODY as u64 / 32;

/// Changes with the form: a file with another one is of no use.
const MAGIC: [u8; 16] = *b"backupfs index 1";

/// Bytes of a file in the tables.
const COVERED: usize = 64;

/// What page 0 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub salt: u64,
    pub rows: u64,
    pub packs: u32,
    pub files: u32,
    /// Of the tables.
    pub checksum: u64,
}

impl Header {
    /// Bytes of it on page 0, its own checksum included.
    const BYTES: usize = 64;

    pub(super) fn row_pages(&self) -> u64 {
        self.rows.div_ceil(ROWS)
    }

    fn pack_pages(&self) -> u64 {
        u64::from(self.packs).div_ceil(IDS)
    }

    /// The number of the page that holds pack `number`.
    pub(super) fn pack_page(&self, number: u32) -> u64 {
        1 + self.row_pages() + u64::from(number) / IDS
    }

    /// Where the tables begin; `None` when the numbers are none that a file could have.
    pub(super) fn tables_at(&self) -> Option<u64> {
        (1 + self.row_pages() + self.pack_pages()).checked_mul(PAGE as u64)
    }

    /// Bytes of the tables.
    pub(super) fn tables_len(&self) -> u64 {
        self.row_pages() * 8 + u64::from(self.files) * COVERED as u64
    }

    /// Page 0.
    pub(super) fn encode(&self) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        let parts = [
            &MAGIC[..],
            &self.salt.to_le_bytes(),
            &self.rows.to_le_bytes(),
            &self.packs.to_le_bytes(),
            &self.files.to_le_bytes(),
            &self.checksum.to_le_bytes(),
        ];
        let mut bytes = parts.concat();
        bytes.resize(Self::BYTES - 8, 0);
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        if let Some(start) = page.get_mut(..Self::BYTES) {
            start.copy_from_slice(&bytes);
        }
        page
    }

    /// Reads what `encode` wrote; `None` for anything else.
    pub(super) fn decode(page: &[u8; PAGE]) -> Option<Self> {
        let (said, checksum) = (page.get(..Self::BYTES - 8)?, number_at(page, Self::BYTES - 8));
        let good = said.starts_with(&MAGIC) && checksum == xxh3_64(said);
        let header = Header {
            salt: number_at(page, 16),
            rows: number_at(page, 24),
            packs: word_at(page, 32),
            files: word_at(page, 36),
            checksum: number_at(page, 40),
        };
        (good && header.packs <= MOST_PACKS && header.row_pages() < u64::from(u32::MAX)).then_some(header)
    }
}

/// The checksum of page `number` of a file.
pub(super) fn checksum(salt: u64, number: u64, body: &[u8]) -> u64 {
    xxh3_64(body).wrapping_add(salt).wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Whether a page is what was written there.
pub(super) fn is_good(salt: u64, number: u64, page: &[u8]) -> bool {
    page.get(..BODY).is_some_and(|body| checksum(salt, number, body) == number_at(page, BODY))
}

/// A file of the tables.
pub(super) fn encode_covered(file: &Covered) -> [u8; COVERED] {
    let Covered { id, first_pack, whole, blobs, bytes, malformed } = *file;
    let mut encoded = [0; COVERED];
    let numbers =
        [u64::from(first_pack) | u64::from(whole) << 32, blobs, bytes, malformed].map(u64::to_le_bytes);
    encoded.copy_from_slice(&[&id.0[..], numbers.as_flattened()].concat());
    encoded
}

/// The files of the tables; `None` when their packs are not in order.
pub(super) fn decode_covered(bytes: &[u8], packs: u32) -> Option<Vec<Covered>> {
    let (files, _) = bytes.as_chunks::<COVERED>();
    let decode = |file: &[u8; COVERED]| Covered {
        id: id_at(file),
        first_pack: word_at(file, 32),
        whole: word_at(file, 36) == 1,
        blobs: number_at(file, 40),
        bytes: number_at(file, 48),
        malformed: number_at(file, 56),
    };
    let files: Vec<Covered> = files.iter().map(decode).collect();
    let ordered = files.is_sorted_by_key(|file| file.first_pack);
    (ordered && files.iter().all(|file| file.first_pack <= packs)).then_some(files)
}

/// Eight bytes of `bytes` as a number; zero beyond the end.
pub(super) fn number_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default())
}

fn word_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default())
}

/// A number that no other file has, in all likelihood.
pub(super) fn salt() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let parts = [&now.to_le_bytes()[..], &count.to_le_bytes(), &std::process::id().to_le_bytes()];
    xxh3_64(&parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::chunked::Id;

    #[test]
    fn a_header_is_read_as_it_was_written_and_no_bit_may_change() {
        let header = Header { salt: 7, rows: 10_000_000, packs: 600_000, files: 200, checksum: 9 };
        let page = header.encode();
        assert_eq!(Header::decode(&page), Some(header));
        for bit in 0..Header::BYTES * 8 {
            let mut damaged = page;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&damaged), None, "bit {bit}");
        }
        let absurd = Header { packs: MOST_PACKS + 1, ..header };
        assert_eq!(Header::decode(&absurd.encode()), None);
        let absurd = Header { rows: u64::MAX, ..header };
        assert_eq!(Header::decode(&absurd.encode()), None);
    }

    #[test]
    fn ten_million_blobs_take_49_bytes_each() {
        let header = Header { salt: 0, rows: 10_000_000, packs: 600_000, files: 200, checksum: 0 };
        let all = header.tables_at().unwrap() + header.tables_len();
        assert!(all < header.rows * 51, "{all}");
    }

    #[test]
    fn files_are_read_as_they_were_written() {
        let file = |n: u8, first_pack| Covered {
            id: Id([n; 32]),
            first_pack,
            whole: n == 2,
            blobs: u64::MAX,
            bytes: 1 << 50,
            malformed: 3,
        };
        let files = [file(1, 0), file(2, 0), file(3, 7)];
        let bytes = files.iter().flat_map(encode_covered).collect::<Vec<u8>>();
        assert_eq!(decode_covered(&bytes, 7), Some(files.to_vec()));
        assert_eq!(decode_covered(&bytes, 6), None, "a pack beyond the last");
        let bytes = files.iter().rev().flat_map(encode_covered).collect::<Vec<u8>>();
        assert_eq!(decode_covered(&bytes, 7), None, "out of order");
    }

    #[test]
    fn a_page_passes_only_in_its_place_of_its_file() {
        let mut page = [5; PAGE];
        page[BODY..].copy_from_slice(&checksum(1, 2, &[5; BODY]).to_le_bytes());
        assert!(is_good(1, 2, &page));
        assert!(!is_good(1, 3, &page) && !is_good(2, 2, &page) && !is_good(1, 2, &page[1..]));
    }
}
