//! zstd frames: never more output than was allowed, never a window larger than the output needs.
//!
//! Frames come without checksum or dictionary, often without content size, and from rustic with windows of up to
//! 128 MiB. Decoding in one call, straight into the output, needs no window at all; only output of unknown length is
//! streamed.

use std::cell::RefCell;
use std::io::{Cursor, Read};

use zstd::bulk::Decompressor;
use zstd::zstd_safe;

use crate::error::{Error, Kind, Result};

/// A window of 128 MiB, the largest that zstd's own levels use.
const WINDOW_LOG: u32 = 27;

/// No frame expands further: a block yields at most 128 KiB and takes at least four bytes.
const MAX_RATIO: u64 = 32 * 1024;

thread_local! {
    static CONTEXT: RefCell<Decompressor<'static>> = RefCell::default();
}

/// The `length` bytes that `frame` holds. `Corrupt` when it holds more or fewer, `System` without memory for them.
pub fn exactly(frame: &[u8], length: usize) -> Result<Vec<u8>> {
    if length as u64 > (frame.len() as u64).saturating_mul(MAX_RATIO) {
        return Err(Error::new(
            Kind::Corrupt,
            format!("{} compressed bytes cannot hold {length}", frame.len()),
        ));
    }
    let mut plain = Vec::new();
    plain
        .try_reserve_exact(length)
        .map_err(|e| Error::caused_by(Kind::System, format!("no memory for {length} bytes"), e))?;
    CONTEXT.with_borrow_mut(|context| context.decompress_to_buffer(frame, &mut plain)).map_err(corrupt)?;
    if plain.len() != length {
        return Err(Error::new(
            Kind::Corrupt,
            format!("{} bytes after decompression instead of {length}", plain.len()),
        ));
    }
    Ok(plain)
}

/// What `frame` holds, of unknown length but at most `limit` bytes. `Corrupt` when it is longer.
pub fn at_most(frame: &[u8], limit: usize) -> Result<Vec<u8>> {
    let too_long = || Error::new(Kind::Corrupt, format!("more than {limit} bytes after decompression"));
    if let Ok(Some(length)) = zstd_safe::get_frame_content_size(frame) {
        let length = usize::try_from(length).ok().filter(|&length| length <= limit).ok_or_else(too_long)?;
        return exactly(frame, length);
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(frame).map_err(corrupt)?;
    decoder.window_log_max(WINDOW_LOG).map_err(corrupt)?;
    let mut plain = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut plain).map_err(corrupt)?;
    if plain.len() > limit { Err(too_long()) } else { Ok(plain) }
}

/// How many bytes `frame` says that it holds, if it says so.
pub fn length(frame: &[u8]) -> Option<u64> {
    zstd_safe::get_frame_content_size(frame).ok().flatten()
}

/// What a frame holds, decompressed while it is read. Reading fails beyond a limit.
pub struct Stream {
    decoder: zstd::stream::read::Decoder<'static, Cursor<Vec<u8>>>,
    limit: usize,
    read: usize,
}

impl Stream {
    /// The content of the frame that begins at `offset` of `bytes`, at most `limit` bytes of it.
    pub fn new(bytes: Vec<u8>, offset: u64, limit: usize) -> Result<Self> {
        let mut frame = Cursor::new(bytes);
        frame.set_position(offset);
        let mut decoder = zstd::stream::read::Decoder::with_buffer(frame).map_err(corrupt)?;
        decoder.window_log_max(WINDOW_LOG).map_err(corrupt)?;
        Ok(Stream { decoder, limit, read: 0 })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.read += read;
        if self.read > self.limit {
            let says = format!("more than {} bytes after decompression", self.limit);
            return Err(std::io::Error::other(says));
        }
        Ok(read)
    }
}

fn corrupt(error: std::io::Error) -> Error {
    Error::caused_by(Kind::Corrupt, "decompression failed", error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::seal::{compress, compress_blind};
    use super::*;

    #[test]
    fn output_is_exactly_as_long_as_was_said() {
        let plain = b"some text, some text, some text";
        for frame in [compress(plain), compress_blind(plain, 10), compress_blind(plain, 27)] {
            assert_eq!(exactly(&frame, plain.len()).unwrap(), plain);
            for wrong in [0, 1, plain.len() - 1, plain.len() + 1, plain.len() + 4096] {
                assert_eq!(exactly(&frame, wrong).unwrap_err().kind(), Kind::Corrupt, "{wrong}");
            }
        }
        assert_eq!(exactly(&compress(b""), 0).unwrap(), b"");
    }

    #[test]
    fn a_length_beyond_any_compression_costs_no_memory() {
        let error = exactly(&compress(b"x"), usize::MAX).unwrap_err();
        assert!(error.to_string().contains("cannot hold"), "{error}");
        let zeros = vec![0; 8 << 20];
        let best = zstd::bulk::compress(&zeros, 19).unwrap();
        assert_eq!(exactly(&best, zeros.len()).unwrap(), zeros, "{} bytes", best.len());
    }

    #[test]
    fn matches_far_back_need_the_large_window() {
        // Random text, then the same again from 40 MiB before: levels of rustic up to 22 produce this.
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let block: Vec<u8> = (0..1 << 20).map(|_| random()).collect();
        let mut plain = block.clone();
        plain.resize(40 << 20, 0);
        plain.extend_from_slice(&block);
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.window_log(27).unwrap();
        std::io::Write::write_all(&mut encoder, &plain).unwrap();
        let frame = encoder.finish().unwrap();
        assert!(frame.len() < 3 << 19, "{} bytes: the encoder found no match", frame.len());
        assert!(exactly(&frame, plain.len()).unwrap() == plain);
        assert!(at_most(&frame, plain.len()).unwrap() == plain);
    }

    #[test]
    fn unknown_lengths_are_limited() {
        let plain = vec![1; 100_000];
        for frame in [compress(&plain), compress_blind(&plain, 12)] {
            assert_eq!(at_most(&frame, plain.len()).unwrap(), plain);
            assert_eq!(at_most(&frame, plain.len() - 1).unwrap_err().kind(), Kind::Corrupt);
        }
    }

    #[test]
    fn a_cut_frame_fails_and_the_next_one_succeeds() {
        let plain: Vec<u8> = (0..5000u32).flat_map(u32::to_le_bytes).collect();
        let frame = compress_blind(&plain, 15);
        for length in (0..frame.len()).step_by(97) {
            assert!(exactly(&frame[..length], plain.len()).is_err(), "{length}");
            assert!(at_most(&frame[..length], plain.len()).is_err() || length == 0, "{length}");
            assert_eq!(exactly(&frame, plain.len()).unwrap(), plain);
        }
    }

    proptest! {
        #[test]
        fn junk_never_yields_more_than_was_allowed(junk: Vec<u8>, length in 0usize..10_000) {
            for plain in [exactly(&junk, length), at_most(&junk, length)].into_iter().flatten() {
                prop_assert!(plain.len() <= length);
            }
        }
    }
}
