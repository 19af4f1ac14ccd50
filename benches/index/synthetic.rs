//! A repository whose index files name blobs that are nowhere.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::writer::{Key, Repository, frame, id, node};

/// Blobs in an index file, as restic has it, and in a pack.
pub const PER_FILE: u64 = 50_000;
pub const PER_PACK: u64 = 20;

/// Writes a repository of one small snapshot and `blobs` more blobs in its index; answers in how many index files.
pub fn write(directory: &Path, blobs: u64) -> u64 {
    let mut repository = Repository::new(2);
    let data = repository.data(b"content");
    let names = (0..100).map(|n| node::with(node::file(&format!("file-{n}"), &[&data]), json!({"size": 7})));
    let tree = repository.tree(&names.collect::<Vec<_>>());
    repository.snapshot("/small", &tree);
    repository.write(directory);
    let files = blobs.div_ceil(PER_FILE);
    for file in 0..files {
        let first = file * PER_FILE;
        let json = index_file(first..blobs.min(first + PER_FILE));
        let plain = [&[2], &frame::plain(json.as_bytes())[..]].concat();
        let stored = Key::known().seal(u128::from(u64::MAX - file).to_be_bytes(), &plain);
        fs::write(directory.join("index").join(id(&stored)), stored).unwrap();
    }
    files
}

/// An index file of these blobs. Written by hand: a tree of JSON values would take minutes.
fn index_file(blobs: std::ops::Range<u64>) -> String {
    use std::fmt::Write;
    let mut json = String::from(r#"{"packs":["#);
    for blob in blobs.clone() {
        if blob % PER_PACK == 0 || blob == blobs.start {
            let separator = if blob == blobs.start { "" } else { "]}," };
            write!(json, r#"{separator}{{"id":"{}","blobs":["#, hex(pack_id(blob / PER_PACK))).unwrap();
        } else {
            json.push(',');
        }
        let (offset, length) = (blob % PER_PACK * 500_000, 400_000 + blob % 99_999);
        let kind = if blob % 10 == 0 { "tree" } else { "data" };
        write!(
            json,
            r#"{{"id":"{}","type":"{kind}","offset":{offset},"length":{length},"uncompressed_length":{}}}"#,
            hex(blob_id(blob)),
            length * 2
        )
        .unwrap();
    }
    json.push_str("]}]}");
    json
}

/// The id of blob number `n`: random to look at, and quick.
pub fn blob_id(n: u64) -> [u8; 32] {
    let mut state = n.wrapping_mul(0xD1B5_4A32_D192_ED03);
    let mut id = [0; 32];
    for part in id.as_chunks_mut::<8>().0 {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        *part = (mixed ^ (mixed >> 31)).to_le_bytes();
    }
    id
}

/// The id of pack number `n`.
pub fn pack_id(n: u64) -> [u8; 32] {
    blob_id(!n)
}

fn hex(id: [u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = id.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    digits.map(char::from).collect()
}
