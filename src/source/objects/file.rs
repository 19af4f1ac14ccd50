//! Objects as files: read at any offset, by many readers, with a window ahead of those who read on.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use super::pieces::{Object, PIECE, Pieces};
use crate::error::{Context, Error, Kind, Result};
use crate::source::chunked::Stream;
use crate::tree::{File, Reader, Step};

/// Pieces ahead of who reads on: at first. It doubles whenever a read has to wait.
const FIRST: u64 = 8;

/// Pieces that come with the beginning of a file: who reads that mostly reads on, and would wait for a round trip more.
const BEGINNING: u64 = 3;

/// The kernel asks out of order within about so many bytes.
const SLACK: u64 = 2 << 20;

/// So many who read one file are told apart.
const READERS: usize = 8;

/// A file.
pub(super) struct ObjectFile {
    pub object: Arc<Object>,
    pub pieces: Arc<Pieces>,
    /// For messages.
    pub title: Arc<str>,
}

impl File for ObjectFile {
    fn open(&self) -> Step<Arc<dyn Reader>> {
        Step::ok(Arc::new(ObjectReader {
            object: Arc::clone(&self.object),
            pieces: Arc::clone(&self.pieces),
            title: Arc::clone(&self.title),
            sequences: Mutex::default(),
        }))
    }
}

/// Somebody who reads on.
struct Sequence {
    /// The end of the furthest read.
    next: u64,
    /// Pieces kept ahead; 0 before the second read.
    window: u64,
    /// The first piece that was not asked for, and the first that was not let go of.
    planned: u64,
    behind: u64,
    /// Counts it among those who share the room for reading ahead.
    stream: Option<Stream>,
}

/// What a read calls for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Move {
    fetch: std::ops::Range<u64>,
    forget: std::ops::Range<u64>,
}

impl Sequence {
    fn beginning(read: &std::ops::Range<u64>) -> Self {
        let (planned, behind) = (read.end.div_ceil(PIECE), read.start / PIECE);
        Sequence { next: read.end, window: 0, planned, behind, stream: None }
    }

    fn is_continued_by(&self, read: &std::ops::Range<u64>) -> bool {
        read.start <= self.next.saturating_add(SLACK) && read.end.saturating_add(SLACK) >= self.next
    }

    /// Goes on with `read`, which had to wait or not; `most` pieces may be ahead.
    fn advance(&mut self, read: &std::ops::Range<u64>, waited: bool, most: u64) -> Move {
        let at = read.end.div_ceil(PIECE);
        // Reads out of order within a piece say nothing about how fast somebody is.
        let is_on = at > self.next.div_ceil(PIECE) || self.window == 0;
        self.next = self.next.max(read.end);
        if waited && is_on && self.window > 0 {
            self.window = self.window.saturating_mul(2);
        }
        self.window = self.window.clamp(FIRST.min(most), most);
        let behind = self.next.saturating_sub(SLACK) / PIECE;
        let forget = self.behind..behind.max(self.behind);
        self.behind = forget.end;
        let (from, to) = (self.planned.max(at), self.next.div_ceil(PIECE) + self.window);
        // Refilled in large steps: one request after the other would each wait for the way there and back.
        let is_due = to.saturating_sub(from) * 4 >= self.window || self.window < 4;
        Move { fetch: from..if is_due { to.max(from) } else { from }, forget }
    }
}

struct ObjectReader {
    object: Arc<Object>,
    pieces: Arc<Pieces>,
    title: Arc<str>,
    /// The one who read last first.
    sequences: Mutex<Vec<Sequence>>,
}

impl ObjectReader {
    /// Reads ahead of who reads `read`, and lets go of what lies behind.
    fn plan(&self, read: &std::ops::Range<u64>, waited: bool) {
        if self.object.size <= PIECE {
            return;
        }
        let mut sequences = self.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        let found = sequences.iter().position(|sequence| sequence.is_continued_by(read));
        let mut sequence = match found {
            Some(found) => sequences.remove(found),
            None => {
                sequences.truncate(READERS - 1);
                let mut sequence = Sequence::beginning(read);
                if read.start == 0 {
                    let beside = sequence.planned..sequence.planned + BEGINNING;
                    sequence.planned += self.pieces.announce(&self.object, beside);
                }
                sequences.insert(0, sequence);
                return;
            }
        };
        let shared = self.pieces.shared();
        sequence.stream.get_or_insert_with(|| shared.stream());
        let most = (shared.window().min(shared.kept_bytes() / 2) / PIECE).max(1);
        let Move { fetch, forget } = sequence.advance(read, waited, most);
        if !fetch.is_empty() {
            sequence.planned = fetch.start + self.pieces.announce(&self.object, fetch);
        }
        sequences.insert(0, sequence);
        let is_alone = sequences.len() == 1;
        drop(sequences);
        if is_alone {
            self.pieces.forget(&self.object, forget);
        }
    }

    fn explained(&self) -> impl Fn(Error) -> Error + Send + 'static {
        let (title, object) = (Arc::clone(&self.title), Arc::clone(&self.object));
        move |error| error.context(format!("{title}: {}", object.pinned.key.escape_debug()))
    }
}

impl Reader for ObjectReader {
    fn read_at(&self, offset: u64, len: usize) -> Step<Bytes> {
        let end = self.object.size.min(offset.saturating_add(len as u64));
        if offset >= end {
            return Step::ok(Bytes::new());
        }
        let read = offset..end;
        let mut pieces = Vec::new();
        for number in offset / PIECE..end.div_ceil(PIECE) {
            pieces.push(self.pieces.get(&self.object, number));
        }
        let waited = pieces.iter().any(|piece| matches!(piece, Step::Wait(_)));
        self.plan(&read, waited);
        let explain = self.explained();
        if waited {
            return Step::wait(async move {
                let mut came = Vec::with_capacity(pieces.len());
                for piece in pieces {
                    came.push(piece.resolve().await.map_err(&explain)?);
                }
                cut(&came, &read).map_err(explain)
            });
        }
        let came: Result<Vec<Bytes>> = pieces
            .into_iter()
            .filter_map(|piece| match piece {
                Step::Ready(piece) => Some(piece),
                Step::Wait(_) => None,
            })
            .collect();
        Step::Ready(came.and_then(|came| cut(&came, &read)).map_err(explain))
    }

    fn next_hole(&self, _: u64) -> Step<u64> {
        Step::ok(self.object.size)
    }
}

/// What was asked for of the pieces that it lies in.
fn cut(pieces: &[Bytes], read: &std::ops::Range<u64>) -> Result<Bytes> {
    let wrong = || Error::new(Kind::Internal, "a piece is shorter than its object");
    let skip = usize::try_from(read.start % PIECE).map_err(|_| wrong())?;
    let length = usize::try_from(read.end - read.start).map_err(|_| wrong())?;
    if let [only] = pieces {
        let end = skip + length;
        return (end <= only.len()).then(|| only.slice(skip..end)).ok_or_else(wrong);
    }
    let mut whole = BytesMut::with_capacity(length);
    for (number, piece) in pieces.iter().enumerate() {
        let from = if number == 0 { skip } else { 0 };
        let part = piece.get(from..).ok_or_else(wrong)?;
        let wanted = (length - whole.len()).min(part.len());
        whole.extend_from_slice(part.get(..wanted).unwrap_or_default());
    }
    if whole.len() == length { Ok(whole.freeze()) } else { Err(wrong()) }
}

/// Part of a read's context, for whoever reads an object that is none of a file's.
pub(super) async fn whole(pieces: &Arc<Pieces>, object: &Arc<Object>, title: &str) -> Result<Bytes> {
    if object.size == 0 {
        return Ok(Bytes::new());
    }
    pieces.get(object, 0).resolve().await.context(|| format!("{title}: {}", object.pinned.key.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_lies_in_one_piece_or_in_several() {
        let size = usize::try_from(PIECE).unwrap();
        let pieces = [Bytes::from(vec![1; size]), Bytes::from(vec![2; size]), Bytes::from(vec![3; 10])];
        assert_eq!(cut(&pieces[..1], &(5..8)).unwrap(), vec![1; 3]);
        let across = cut(&pieces, &(PIECE - 1..2 * PIECE + 4)).unwrap();
        assert_eq!((across[0], across[1], across[size], across[size + 4]), (1, 2, 2, 3));
        assert_eq!(across.len(), size + 5);
        assert_eq!(cut(&pieces[2..], &(2 * PIECE + 5..2 * PIECE + 11)).unwrap_err().kind(), Kind::Internal);
        assert_eq!(cut(&pieces, &(0..2 * PIECE + 11)).unwrap_err().kind(), Kind::Internal);
    }

    #[test]
    fn the_window_grows_while_its_reader_waits() {
        let most = 64;
        let mut sequence = Sequence::beginning(&(0..PIECE));
        let mut windows = Vec::new();
        for number in 1..40 {
            let read = number * PIECE..(number + 1) * PIECE;
            assert!(sequence.is_continued_by(&read));
            let Move { fetch, .. } = sequence.advance(&read, true, most);
            sequence.planned = sequence.planned.max(fetch.end);
            windows.push(sequence.window);
        }
        assert_eq!(&windows[..5], [8, 16, 32, 64, 64]);
        let mut patient = Sequence::beginning(&(0..PIECE));
        for number in 1..40 {
            patient.advance(&(number * PIECE..(number + 1) * PIECE), false, most);
        }
        assert_eq!(patient.window, FIRST);
        assert!(!patient.is_continued_by(&(0..4096)) && !patient.is_continued_by(&(90 * PIECE..91 * PIECE)));
    }

    #[test]
    fn what_lies_behind_is_let_go_of_once() {
        let mut sequence = Sequence::beginning(&(0..PIECE));
        let mut gone = 0;
        for number in 1..20 {
            let Move { forget, .. } = sequence.advance(&(number * PIECE..(number + 1) * PIECE), false, 8);
            assert_eq!(forget.start, gone);
            gone = forget.end;
            assert!(gone + SLACK / PIECE <= number + 1, "{gone} at {number}");
        }
        assert!(gone > 15);
    }
}
