//! zstd frames, well formed and otherwise.

use std::io::Write;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The most that one block may hold.
pub const BLOCK: usize = 128 << 10;

/// `plain` in a frame as restic writes it.
pub fn plain(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 1).unwrap()
}

/// `plain` in a frame that asks for a window of 2^`log` bytes and does not say how much it holds.
pub fn windowed(plain: &[u8], log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// `blocks` times 128 KiB of zeros, four bytes each, in a frame that asks for a window of 2^`log` bytes: as dense as
/// the format allows.
pub fn bomb(blocks: usize, log: u8) -> Vec<u8> {
    let mut frame = MAGIC.to_vec();
    frame.extend([0, (log - 10) << 3]);
    for block in 1..=blocks {
        // Run of one byte; the last block is marked.
        let header = u32::try_from(BLOCK << 3 | 1 << 1 | usize::from(block == blocks)).unwrap();
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}
