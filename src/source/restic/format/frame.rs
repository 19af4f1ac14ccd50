//! zstd frames: never more output than was allowed, never a window larger than the output needs.
//!
//! Frames come without checksum or dictionary, often without content size, and from rustic with windows of up to
//! 128 MiB. Decoding in one call, straight into the output, needs no window at all; only output of unknown length is
//! streamed.

use std::cell::RefCell;
use std::io::Read;

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

fn corrupt(error: std::io::Error) -> Error {
    Error::caused_by(Kind::Corrupt, "decompression failed", error)
}
